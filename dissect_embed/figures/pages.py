"""What all figures share: the title that says what was run, and files of the same bytes."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from dissect_embed.artefacts.files import atomic_path
from dissect_embed.artefacts.profiles import Profiles

# Of figures of many small images: the side of one, and little room between them.
PANEL_INCHES = 1.5
TIGHT = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)


def run_title(profiles: Profiles) -> str:
    """Return model, weights, data set, N, C and D of ``profiles.h5`` in a line."""
    config = profiles.config
    units = sum(len(profiles[layer]) for layer in profiles.layers)
    data = config["dataset"]
    return (
        f"{config['model']['name']} ({config['model']['weights']}) on {data['name']}, "
        f"split {data['split']}: {data['images']:,} images, {units:,} units, "
        f"{len(profiles.concepts):,} concepts"
    )


def wrap_title(title: str) -> str:
    """Break a title into lines that fit above five panels."""
    return "\n".join(textwrap.wrap(title, 125))


@contextmanager
def reproducible_style() -> Iterator[None]:
    """Draw so that the same input gives the same bytes, with text as text in SVG."""
    settings: Any = {"svg.hashsalt": "dissect-embed", "svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context(settings):
        yield


def save_figure(figure: Figure, stem: Path) -> None:
    """Write ``stem.svg`` and ``stem.png``, without dates and versions."""
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
        with atomic_path(stem.with_suffix(suffix)) as part:
            figure.savefig(part, format=suffix[1:], dpi=160, metadata=metadata)
