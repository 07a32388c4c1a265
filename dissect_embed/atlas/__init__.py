"""The atlas of units: a folder with an interactive page, opened from disk without a network."""
