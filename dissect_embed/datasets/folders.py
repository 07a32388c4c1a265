"""Put a data set's folder in place: whole, and never over something of the user's own."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from dissect_embed.errors import DatasetError

# Says that a folder was made by this package, and so may be made again in its place.
NOTE = "made-by-dissect-embed.json"


def check_replaceable(root: Path) -> None:
    """Check that nothing of the user's own lies at ``root``.

    Raises
    ------
    DatasetError
        If it is a file, or a folder that is neither empty nor made by this package.
    """
    if not root.exists() or (root / NOTE).is_file():
        return
    if not root.is_dir() or any(root.iterdir()):
        msg = (
            f"{root}: exists already, and was not made by dissect-embed; "
            "move or delete it, or name another folder"
        )
        raise DatasetError(msg)


def move_into_place(part: Path, root: Path, note: Mapping[str, object]) -> None:
    """Rename a finished folder to ``root``, with a note of how it was made."""
    check_replaceable(root)
    (part / NOTE).write_text(json.dumps(note, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if root.exists():
        shutil.rmtree(root)
    part.rename(root)


def walk_files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every file below a folder: its path with forward slashes, and what the system says.

    Links are followed, but for those that lead back to a folder above them.
    """
    stack: list[tuple[Path, str, tuple[str, ...]]] = [(folder, "", ())]
    while stack:
        path, prefix, above = stack.pop()
        if not path.is_dir() or (real := str(path.resolve())) in above:
            continue
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir():
                    stack.append((Path(entry.path), f"{prefix}{entry.name}/", (*above, real)))
                elif entry.is_file():
                    yield prefix + entry.name, entry.stat()


def list_files(folder: Path) -> dict[str, int]:
    """Return the size in bytes of every file below a folder, by its path with forward slashes."""
    return {name: stat.st_size for name, stat in walk_files(folder)}
