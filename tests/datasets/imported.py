"""What the tests of imports share."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.importing.writing import Source
from dissect_embed.datasets.pixels import read_regions
from dissect_embed.datasets.settings import Import

SMALL = Import(size=8, label_size=4)
RED, BLUE = (210, 30, 35), (30, 60, 200)


def labels_of(root: Path, place: int = 0) -> list[list[str]]:
    """Return the classes at each pixel of an image's label maps, '+' between several."""
    data = load_broden(root)
    regions = read_regions(data, data.rows[place])
    said: list[list[str]] = [[] for _ in range(regions.n_regions)]
    for region, concept in zip(regions.member_region, regions.member_concept, strict=True):
        if data.concepts[concept].category != "color":
            said[region].append(data.concepts[concept].name)
    return [["+".join(sorted(said[r])) for r in line] for line in regions.region]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dissect_embed", "import", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def files_of(
    monkeypatch: pytest.MonkeyPatch, module: str, read: Callable[[Path], int]
) -> set[Path]:
    """Return the files that an import names as those it reads, by which it goes on."""
    named: list[Source] = []
    with monkeypatch.context() as patch:
        patch.setattr(
            f"dissect_embed.datasets.importing.{module}.write_dataset",
            lambda root, source, *rest: named.append(source),
        )
        read(Path("nowhere"))
    return {*named[0].tables, *(path for paths in named[0].files for path in paths)}
