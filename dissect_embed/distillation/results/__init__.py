"""What came of all trainings: the names of their files, and the table that they make."""
