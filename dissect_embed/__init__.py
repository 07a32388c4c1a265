"""Semantic vectors for the units of vision networks, and how much meaning they hold.

    import dissect_embed as de
    run = de.open_run("results/mini")
    run.units("tree")

What is public is named here and loaded when it is first asked for: importing the package loads
neither torch nor h5py.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dissect_embed.comparing import compare
    from dissect_embed.config import (
        Activations,
        Chance,
        Dissection,
        Embedding,
        Figure2,
        Words,
    )
    from dissect_embed.making import dissect
    from dissect_embed.run import Run, open_run

__version__ = "0.1.0"

# Where each public name is made.
_PUBLIC = {
    "Activations": "config",
    "Chance": "config",
    "Dissection": "config",
    "Embedding": "config",
    "Figure2": "config",
    "Run": "run",
    "Words": "config",
    "compare": "comparing",
    "dissect": "making",
    "open_run": "run",
}

__all__ = [
    "Activations",
    "Chance",
    "Dissection",
    "Embedding",
    "Figure2",
    "Run",
    "Words",
    "compare",
    "dissect",
    "open_run",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        msg = f"module 'dissect_embed' has no attribute {name!r}; it has {', '.join(_PUBLIC)}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"dissect_embed.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
