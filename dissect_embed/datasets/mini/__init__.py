"""Mini-Broden: a rendered data set in Broden's format, made in a minute and without a download.

A picture is composed by `scenes` from things (`nature`, `town`, `furniture`) and surfaces
(`textures`, `materials`) painted on a `canvas`, which keeps the labels; `write` makes the files.
"""

from dissect_embed.datasets.mini.write import render_mini

__all__ = ["render_mini"]
