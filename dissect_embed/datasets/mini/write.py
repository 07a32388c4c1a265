"""Writing mini-Broden: images, label images and tables, in Broden's format."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dissect_embed import __version__
from dissect_embed.datasets.decoding import write_label_png
from dissect_embed.datasets.folders import check_replaceable, move_into_place
from dissect_embed.datasets.mini.concepts import CONCEPTS, NUMBERS
from dissect_embed.datasets.mini.scenes import render_picture
from dissect_embed.datasets.tables import Entry, write_tables
from dissect_embed.errors import DatasetError
from dissect_embed.processes import map_in_processes

_SIZE = 224
_CONCEPTS = {c: {name: NUMBERS[name] for name in names} for c, names in CONCEPTS.items()}


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
    arguments = ((part / "images", index, seed) for index in range(n_images))
    work = map_in_processes(_render_entry, arguments, n_jobs)
    entries = list(tqdm(work, total=n_images, desc="render mini", unit="image", disable=None))
    write_tables(part, entries, _CONCEPTS)
    move_into_place(part, root, {"images": n_images, "seed": seed, "version": __version__})


def _render_entry(images: Path, index: int, seed: int) -> Entry:
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
                write_label_png(images / cell[-1], label)
                counts = np.bincount(label.ravel())
                pixels.update({(category, int(n)): int(counts[n]) for n in np.flatnonzero(counts)})
        pixels.pop((category, 0), None)
        row[category] = ";".join(cell)
    return Entry(row, dict(pixels))
