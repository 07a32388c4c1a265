"""Make a data set image by image, so that what was killed goes on where it stopped.

While ``DIR`` is made its images lie in ``DIR.part``, and ``DIR.part.jsonl`` has a line that says
what it is made of, and a line for each image whose files are written. The same command finds them
there and makes the others, and those whose own files were changed since; where anything that
matters to all is another, it begins anew.
"""

import errno
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import PIL
from tqdm import tqdm

from dissect_embed import __version__
from dissect_embed.artefacts.disk import full_disk_message
from dissect_embed.datasets.tables import Entry
from dissect_embed.errors import DatasetError, DiskSpaceError
from dissect_embed.parallel import map_in_threads


class Progress(NamedTuple):
    """A data set that is being made."""

    part: Path  # the folder
    record: FileIO  # what stands in DIR.part.jsonl
    done: dict[int, Entry]  # the images that are made, by their place
    stamps: Sequence[str]  # of each image's own files

    @property
    def left(self) -> list[int]:
        """The images that are to be made."""
        return [place for place in range(len(self.stamps)) if place not in self.done]


@contextmanager
def keep_progress(
    root: Path, made_of: Mapping[str, object], files: Sequence[Sequence[Path]]
) -> Iterator[Progress]:
    """Open ``DIR.part`` with what an interrupted run left of the same; close it when it is moved.

    Parameters
    ----------
    root
        The folder to make, ``DIR``.
    made_of
        All that has a say in the files of every image, as JSON can hold it; the versions of what
        writes them are added.
    files
        Those that each image is made of.

    Raises
    ------
    DatasetError
        If another process is making it.
    DiskSpaceError
        If the disk ran full within the block.
    """
    part, path = (root.with_name(root.name + ending) for ending in (".part", ".part.jsonl"))
    root.parent.mkdir(parents=True, exist_ok=True)
    made_of = {**made_of, "version": [__version__, PIL.__version__]}
    stamps = [stamp_files(paths) for paths in files]
    with FileIO(path, "a+") as record:
        _lock(record, root)
        done = _read_done(part, record, made_of, stamps)
        if not done:
            shutil.rmtree(part, ignore_errors=True)
            record.truncate(0)
        try:
            (part / "images").mkdir(parents=True, exist_ok=True)
            if not done:
                _write_line(record, made_of)
            else:
                logging.info("%s: goes on after the %d images that are made", part, len(done))
            yield Progress(part, record, done, stamps)
        except BaseException as error:
            # With all images made, what is wrong is not mended image by image.
            if done and not (len(done) == len(stamps) and isinstance(error, DatasetError)):
                logging.info(
                    "%s: %d images are made; the same command goes on from there, unless a file "
                    "that all images share is changed", part, len(done),
                )  # fmt: skip
            else:
                shutil.rmtree(part, ignore_errors=True)
                path.unlink()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskSpaceError(full_disk_message(root)) from error
            raise
        path.unlink()


def make_images(
    progress: Progress,
    make: Callable[[int], Entry],
    what: str,
    n_threads: int | None = None,
) -> list[Entry]:
    """Return the entries of all images, made in threads unless an earlier run has.

    Parameters
    ----------
    make
        Writes the files of the n-th image below ``images/`` and returns its entry.
    what
        Is done, for the progress bar.
    """
    part, record, done, stamps = progress

    def work(place: int) -> tuple[int, Entry, int | None]:
        entry = make(place)
        return place, entry, _count_bytes(part, entry)

    made = map_in_threads(work, progress.left, n_threads=n_threads)
    bar = tqdm(made, what, len(stamps), initial=len(done), unit=" images", disable=None)
    for place, entry, n_bytes in bar:
        pixels = [[*key, n] for key, n in entry.pixels.items()]
        _write_line(record, [place, stamps[place], n_bytes, entry.row, pixels])
        done[place] = entry
    return [done[place] for place in range(len(stamps))]


def stamp_files(paths: Iterable[Path]) -> str:
    """Return a hash of files' names, sizes and times of change."""
    digest = hashlib.sha256()
    for path in paths:
        if not path.is_file():
            continue  # who reads it says so
        stat = path.stat()
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _lock(record: FileIO, root: Path) -> None:
    try:
        import fcntl

        fcntl.flock(record.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        msg = f"{root}: another process is making it; wait for that one or stop it"
        raise DatasetError(msg) from error
    except (ImportError, OSError):
        pass  # no such locks on this system or this disk


def _write_line(record: FileIO, content: object) -> None:
    line = json.dumps(content, ensure_ascii=False).encode() + b"\n"
    # A disk that runs full takes a part of it and raises nothing.
    if record.write(line) != len(line):
        raise OSError(errno.ENOSPC, "No space left on device")


def _read_done(
    part: Path, record: FileIO, made_of: Mapping[str, object], stamps: Sequence[str]
) -> dict[int, Entry]:
    """Return the images that are made; none where the record is of something else."""
    record.seek(0)
    *lines, torn = record.readall().split(b"\n")
    if torn:
        record.truncate(record.tell() - len(torn))
    if not lines:
        return {}
    now = json.loads(json.dumps(made_of))
    try:
        before, *images = map(json.loads, lines)
        changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        entries = {
            place: (n_bytes, Entry(row, {(category, number): n for category, number, n in pixels}))
            for place, stamp, n_bytes, row, pixels in images
            if changed or stamp == stamps[place]
        }
    except (ValueError, TypeError, AttributeError, IndexError):
        logging.info("%s: its record is damaged; begins anew", part)
        return {}
    if changed:
        logging.info("%s: begun with other %s; begins anew", part, ", ".join(changed))
        return {}
    # After a power cut a file may be empty or gone that was written before the record was.
    return {
        place: entry
        for place, (n_bytes, entry) in entries.items()
        if _count_bytes(part, entry) == n_bytes
    }


def _count_bytes(part: Path, entry: Entry) -> int | None:
    """Return the bytes of an image's files; None if one is missing."""
    cells = [str(cell) for column, cell in entry.row.items() if column != "split"]
    names = [name for cell in cells for name in cell.split(";") if name and not name.isdigit()]
    try:
        return sum((part / "images" / name).stat().st_size for name in names)
    except FileNotFoundError:
        return None
