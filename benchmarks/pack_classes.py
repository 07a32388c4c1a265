"""Pack images in class folders tight: every class whole in one of several tar files.

    python benchmarks/pack_classes.py SOURCE … --output PART.tar.gz --output PART.tar.gz

The files are what ``dissect-embed classes --source`` reads. A tar file alone spends a third of its
size on headers and padding around images so small; compressed, these take 5 bytes an image.
"""

import gzip
import io
import tarfile
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from dissect_embed.datasets.sources import Entry, read_source


def read_webp(entry: Entry) -> bytes:
    """Return an image as lossless WebP: its own bytes if it is WebP."""
    content = entry.content
    if isinstance(content, np.ndarray):
        image = Image.fromarray(content)
    else:
        content = content.read_bytes() if isinstance(content, Path) else content
        assert content is not None
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return content
        image = Image.open(io.BytesIO(content)).convert("RGB")
    packed = io.BytesIO()
    image.save(packed, "WebP", lossless=True, quality=100, method=6, exact=True)
    return packed.getvalue()


def main(
    sources: list[Path],
    output: Annotated[list[Path], typer.Option(help="A part; repeat for more.")],
) -> None:
    entries = [e for source in sources for e in read_source(source) if e.name]
    classes = sorted({e.class_name for e in entries})
    entries.sort(key=lambda e: (e.class_name, e.split, e.name))
    part_of = {name: n * len(output) // len(classes) for n, name in enumerate(classes)}
    for n, path in enumerate(output):
        # No time in it: the same images give the same file.
        with (
            gzip.GzipFile(path, "wb", compresslevel=9, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            for entry in entries:
                if part_of[entry.class_name] != n:
                    continue
                data = read_webp(entry)
                name = PurePosixPath(entry.split, entry.class_name, entry.name)
                member = tarfile.TarInfo(str(name.with_suffix(".webp")))
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


if __name__ == "__main__":
    typer.run(main)
