"""Semantic vectors for the units of vision networks, and how much meaning they hold."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("dissect-embed")
except PackageNotFoundError:  # a checkout that is run without being installed
    __version__ = "0+checkout"
