"""Labelled images: reading, rendering and fetching them."""
