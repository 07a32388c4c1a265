"""An import of many images: time, memory, and what a kill in the middle costs.

    python benchmarks/importing.py FOLDER [--images 20000]

Draws images of differing size with masks of thirty classes into FOLDER, a quarter of them as a set
of its own; imports the quarter and all; imports all once more, kills that in the middle, lets it go
on, and compares every file with those of the import that nobody disturbed.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import typer
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from dissect_embed.datasets.folders import list_files
from dissect_embed.parallel import map_in_threads

CLASSES = 30


def main(folder: Path, images: int = 20_000) -> None:
    table = Table(title=f"import masks, 224 × 224 pixels, {os.cpu_count()} cores")
    for column in ("", "images made", "s", "images/s", "peak MB"):
        table.add_column(column, justify="right" if column else "left")

    def run(what: str, n_images: int, name: str, kill_after: int | None = None) -> Path:
        source, out = folder / f"source-{n_images}", folder / name
        draw_source(source, n_images)
        before = count_made(out)
        seconds, peak = import_images(source, out, kill_after)
        made = (count_made(out) if kill_after else n_images) - before
        table.add_row(what, f"{made:,}", f"{seconds:.0f}", f"{made / seconds:.0f}", f"{peak:.0f}")
        return out

    run("a quarter", images // 4, "quarter")
    whole = run("all", images, "all")
    run("all, killed", images, "again", kill_after=images // 2)
    again = run("the same command again", images, "again")
    Console(width=100).print(table)
    names = list_files(whole)
    assert names == list_files(again), "other files"
    differing = sum((whole / n).read_bytes() != (again / n).read_bytes() for n in names)
    print(f"{len(names)} files, {differing} of them differ between the two")


def import_images(source: Path, out: Path, kill_after: int | None) -> tuple[float, float]:
    """Return seconds and peak memory in MB of the command; kill it after so many images."""
    command = [
        sys.executable, "-m", "dissect_embed", "import", "masks", source / "images",
        source / "masks", "--classes", source / "classes.csv", "-o", out,
    ]  # fmt: skip
    start = time.perf_counter()
    child = subprocess.Popen(command)
    while kill_after and count_made(out) < kill_after:
        time.sleep(0.1)
    if kill_after:
        child.send_signal(signal.SIGKILL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == (-signal.SIGKILL if kill_after else 0), child.returncode
    return time.perf_counter() - start, used.ru_maxrss / 1024


def count_made(out: Path) -> int:
    """Return how many images an import that was interrupted has made."""
    record = out.with_name(out.name + ".part.jsonl")
    return max(record.read_bytes().count(b"\n") - 1, 0) if record.is_file() else 0


def draw_source(source: Path, n_images: int) -> None:
    """Draw images, their masks and the class list, unless they are there."""
    if (source / "classes.csv").is_file():
        return
    for _ in map_in_threads(lambda n: draw_image(source, n), range(n_images)):
        pass
    rows = "".join(f"{n},shape {n}\n" for n in range(1, CLASSES + 1))
    (source / "classes.csv").write_text(f"number,name\n{rows}", "utf-8")


def draw_image(source: Path, number: int) -> None:
    """Draw ellipses and rectangles on soft noise; a class is a shape and about a colour."""
    generator = np.random.default_rng([7, number])
    width, height = generator.integers(256, 400, 2).tolist()
    noise = generator.integers(0, 60, (height // 4, width // 4, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    mask = Image.new("L", image.size)
    pens = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    for n in generator.integers(1, CLASSES + 1, generator.integers(4, 14)).tolist():
        tint = np.array([53, 97, 151]) * n % 200 + generator.integers(0, 56, 3)
        left, top = generator.integers(0, (width, height)).tolist()
        across, down = generator.integers(20, 160, 2).tolist()
        for pen, fill in zip(pens, (tuple(tint.tolist()), n), strict=True):
            shape = pen.ellipse if n % 2 else pen.rectangle
            shape((left, top, left + across, top + down), fill=fill)
    for kind, drawn, suffix in (("images", image, ".jpg"), ("masks", mask, ".png")):
        path = source / kind / f"{number // 1000:03d}" / f"{number:06d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.save(path)


if __name__ == "__main__":
    typer.run(main)
