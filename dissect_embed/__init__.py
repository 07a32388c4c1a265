"""Semantic vectors for the units of vision networks, and how much meaning they hold."""

from importlib.metadata import version

__version__ = version("dissect-embed")
