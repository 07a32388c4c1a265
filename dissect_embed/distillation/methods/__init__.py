"""The methods of distillation: their table, their losses, and what they train beside a student."""
