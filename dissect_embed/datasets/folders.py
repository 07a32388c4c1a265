"""Put a data set's folder in place: whole, and never over something of the user's own."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dissect_embed.errors import DatasetError

# Says that a folder was made by this package, and so may be made again in its place.
NOTE = "made-by-dissect-embed.json"
# What file managers and archivers leave in folders, and ._NAME beside each NAME.
JUNK = {".ds_store", "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini"}


def check_replaceable(root: Path, *sources: Path) -> None:
    """Check that nothing of the user's own lies at ``root``, nor what it is to be made of.

    Raises
    ------
    DatasetError
        If it is a file, or a folder that is neither empty nor made by this package; if it holds a
        source or lies within one.
    """
    made = root.resolve()
    for source in map(Path.resolve, sources):
        if made == source or made in source.parents or source in made.parents:
            msg = f"{root}: lies within {source} or holds it; name a folder beside it (--output)"
            raise DatasetError(msg)
    if not root.exists() or (root / NOTE).is_file():
        return
    if not root.is_dir() or any(root.iterdir()):
        msg = (
            f"{root}: exists already, and was not made by dissect-embed; "
            "move or delete it, or name another folder"
        )
        raise DatasetError(msg)


def check_origin(root: Path, note: Mapping[str, object]) -> None:
    """Check that a data set that lies at ``root`` was made from the same as that which is to be.

    Parameters
    ----------
    note
        What says where the new one comes from, as its note will.

    Raises
    ------
    DatasetError
        If it was made from something else, and may be the only one of its kind.
    """
    path = root / NOTE
    if not path.is_file():
        return
    try:
        before = _tell_origin(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError, AttributeError, KeyError):
        before = f"what {path} should say, which is damaged"
    if before != (now := _tell_origin(note)):
        msg = (
            f"{root}: holds a data set made from {before}, and this is to be made from {now}; name "
            "another folder, or delete it"
        )
        raise DatasetError(msg)


def _tell_origin(note: Mapping[str, Any]) -> str:
    """Return what a data set was made from, for people; of all settings nothing."""
    if "sources" in note:
        of = [f"{source['name']}={Path(source['folder']).resolve()}" for source in note["sources"]]
        return f"the data sets {', '.join(of)}"
    if "source" in note:
        places = [Path(note[key]).resolve() for key in ("source", "labels", "masks") if key in note]
        return " ".join([*([note["format"]] if "format" in note else []), *map(str, places)])
    return f"the archive {note['archive']}" if "archive" in note else "nothing (rendered)"


def move_into_place(part: Path, root: Path, note: Mapping[str, object]) -> None:
    """Rename a finished folder to ``root``, with a note of how it was made."""
    check_replaceable(root)
    (part / NOTE).write_text(json.dumps(note, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if root.exists():
        shutil.rmtree(root)
    part.rename(root)


def is_junk(name: str) -> bool:
    """Tell whether a file or folder is what a file manager or an archiver leaves."""
    return name.startswith("._") or name.lower() in JUNK


def walk_files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every file below a folder: its path with forward slashes, and what the system says.

    Links are followed, but for those that lead back to a folder above them. What file managers
    leave is passed over.
    """
    stack: list[tuple[Path, str, tuple[str, ...]]] = [(folder, "", ())]
    while stack:
        path, prefix, above = stack.pop()
        if not path.is_dir() or (real := str(path.resolve())) in above:
            continue
        with os.scandir(path) as entries:
            for entry in entries:
                if is_junk(entry.name):
                    continue
                if entry.is_dir():
                    stack.append((Path(entry.path), f"{prefix}{entry.name}/", (*above, real)))
                elif entry.is_file():
                    yield prefix + entry.name, entry.stat()


def list_files(folder: Path) -> dict[str, int]:
    """Return the size in bytes of every file below a folder, by its path with forward slashes."""
    return {name: stat.st_size for name, stat in walk_files(folder)}
