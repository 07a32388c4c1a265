"""Room on the disk: checked before a long run, told when it ran out."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from dissect_embed.errors import DiskSpaceError


def check_disk_space(path: Path, needed: int) -> int:
    """Check that ``needed`` bytes fit where ``path`` will lie, and return the free bytes.

    Raises
    ------
    DiskSpaceError
        If they do not; needed and free are named.
    """
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        msg = (
            f"{path}: needs {format_bytes(needed)}, {folder.resolve()} has {format_bytes(free)} "
            "free; make room, choose fewer layers, or put results/ on another disk"
        )
        raise DiskSpaceError(msg)
    return free


@contextmanager
def sync_early(path: Path, every: int = 256_000_000) -> Iterator[Callable[[int], None]]:
    """Bring a growing file to disk beside the work that writes it, not all of it at the end.

    Yields a function to be told of bytes that were written.
    """
    waiting = 0
    descriptor = os.open(path, os.O_RDONLY)

    def tell(n_bytes: int) -> None:
        nonlocal waiting
        waiting += n_bytes
        if waiting >= every:
            waiting = 0
            syncing.submit(os.fsync, descriptor)

    try:
        with ThreadPoolExecutor(1) as syncing:
            yield tell
    finally:
        os.close(descriptor)


def format_bytes(n_bytes: int) -> str:
    """Return a number of bytes for people: 1.5 GB.

    Examples
    --------
    >>> format_bytes(1_530_000_000)
    '1.5 GB'
    """
    amount = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def full_disk_message(path: Path) -> str:
    """Return what to tell of a disk that ran full while ``path`` was written."""
    folder = path.parent.resolve()
    free = format_bytes(shutil.disk_usage(folder).free)
    return f"{path}: the disk ran full ({free} free in {folder}); make room and run again"
