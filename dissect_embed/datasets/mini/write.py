"""Writing mini-Broden: images, label images and tables, in Broden's format."""

import csv
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed
from PIL import Image
from tqdm import tqdm

from dissect_embed import __version__
from dissect_embed.datasets.folders import check_replaceable, move_into_place
from dissect_embed.datasets.mini.concepts import CONCEPTS, NUMBERS
from dissect_embed.datasets.mini.scenes import LabelMap, render_picture
from dissect_embed.errors import DatasetError

_SIZE = 224


class _Entry(NamedTuple):
    """A row of the index, and how many pixels each (category, number) has in its image."""

    row: dict[str, str | int]
    pixels: dict[tuple[str, int], int]


def render_mini(root: Path, n_images: int = 2000, seed: int = 0, n_jobs: int = -1) -> None:
    """Render mini-Broden into a folder.

    Images are 224 x 224 pixels, labels 112 x 112. The folder is made under another name beside
    `root` and renamed when it is whole; what an interrupted run left there is removed.

    Parameters
    ----------
    root
        The folder to make; an empty one, or one that was rendered before, is replaced.
    n_images
        How many images. Image i is the same however many there are.
    seed
        The same seed gives the same pixels, whatever `n_jobs`.
    n_jobs
        Processes to render with, as joblib counts them: -1 is one a core.

    Raises
    ------
    DatasetError
        If `root` holds something else, or `n_images` is less than 1.
    """
    if n_images < 1:
        message = f"mini-Broden of {n_images} images: expected at least 1; raise the number."
        raise DatasetError(message)
    check_replaceable(root)
    part = root.with_name(root.name + ".part")
    if part.exists():
        shutil.rmtree(part)
    (part / "images").mkdir(parents=True)
    work = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_render_entry)(part / "images", index, seed) for index in range(n_images)
    )
    entries = list(tqdm(work, total=n_images, desc="render mini", unit="image", disable=None))
    _write_tables(part, entries)
    move_into_place(part, root, {"images": n_images, "seed": seed, "version": __version__})


def _render_entry(images: Path, index: int, seed: int) -> _Entry:
    """Render one picture and write its files."""
    picture = render_picture(index, seed, _SIZE)
    stem = f"{picture.source}/{index:05d}"
    (images / picture.source).mkdir(exist_ok=True)
    Image.fromarray(picture.rgb).save(images / f"{stem}.jpg", quality=90, subsampling=0)
    half = _SIZE // 2
    row: dict[str, str | int] = {"image": f"{stem}.jpg", "split": picture.split}
    row |= {"ih": _SIZE, "iw": _SIZE, "sh": half, "sw": half}
    pixels: Counter[tuple[str, int]] = Counter()
    for category, labels in picture.labels.items():
        cell = []
        for depth, label in enumerate(labels, start=1):
            if isinstance(label, int):
                cell.append(str(label))
                pixels[category, label] += half * half
            else:
                # As in Broden, only categories that can have several files number them.
                suffix = f"{category}_{depth}" if category == "part" else category
                cell.append(f"{stem}_{suffix}.png")
                _write_label(images / cell[-1], label)
                counts = np.bincount(label.ravel())
                pixels.update({(category, int(n)): int(counts[n]) for n in np.flatnonzero(counts)})
        pixels.pop((category, 0), None)
        row[category] = ";".join(cell)
    return _Entry(row, dict(pixels))


def _write_label(path: Path, label: LabelMap) -> None:
    """Write numbers as red + 256 * green; there are fewer than 256 concepts here."""
    rgb = np.zeros((*label.shape, 3), np.uint8)
    rgb[..., 0] = label
    Image.fromarray(rgb).save(path, compress_level=6)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_tables(root: Path, entries: Sequence[_Entry]) -> None:
    """Write index.csv, label.csv, category.csv and a c_*.csv for each category.

    `frequency` is in images; `coverage` is in whole images, the sum of the shares of pixels.
    """
    frequency: Counter[tuple[str, int]] = Counter()
    covered: Counter[tuple[str, int]] = Counter()
    images_with: Counter[int] = Counter()
    for entry in entries:
        frequency.update(entry.pixels.keys())
        covered.update(entry.pixels)
        images_with.update({number for _, number in entry.pixels})

    def coverage(pixels: int) -> str:
        # Fixed notation: Broden's readers do not take exponents for numbers.
        return f"{pixels / (_SIZE // 2) ** 2:.6f}"

    header = list(entries[0].row)
    _write_table(root / "index.csv", header, ([e.row[key] for key in header] for e in entries))

    rows = []
    for name, number in NUMBERS.items():
        categories = [category for category, names in CONCEPTS.items() if name in names]
        share = ";".join(f"{c}({frequency[c, number]})" for c in categories)
        total = coverage(sum(covered[c, number] for c in categories))
        rows.append((number, name, share, images_with[number], total, ""))
    label_header = ("number", "name", "category", "frequency", "coverage", "syns")
    _write_table(root / "label.csv", label_header, rows)

    summary = []
    for category, names in CONCEPTS.items():
        numbers = [NUMBERS[name] for name in names]
        total_frequency = sum(frequency[category, n] for n in numbers)
        summary.append((category, min(numbers), max(numbers), len(numbers), total_frequency))
        _write_table(
            root / f"c_{category}.csv",
            ("code", "number", "name", "frequency", "coverage"),
            (
                (code, n, name, frequency[category, n], coverage(covered[category, n]))
                for code, (n, name) in enumerate(zip(numbers, names, strict=True), start=1)
            ),
        )
    _write_table(root / "category.csv", ("name", "first", "last", "count", "frequency"), summary)
