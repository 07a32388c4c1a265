"""Static knowledge distillation: the vectors of a teacher's units teach a student."""
