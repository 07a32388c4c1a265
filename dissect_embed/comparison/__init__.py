"""Runs side by side: which compare, what each says of itself, what two say of each other."""
