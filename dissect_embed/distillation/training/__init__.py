"""Train a network of the zoo, or one of your own, so that it can be resumed bit for bit."""
