"""Room on the disk: checked before a long run, told when it ran out."""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


# Bytes of a write that HDF5 may read back: its tables and heaps, and chunks of compressed data.
LARGEST_KEPT = 1 << 20


class PatientFile(io.FileIO):
    """A new file that takes every write; the first one that failed is kept, not raised.

    For HDF5 to write to: it loses errors where a dataset is closed that nobody holds, and crashes
    where one is closed after its file. After a failure it reads back what it wrote of its own
    tables, as if they lay on the disk. Other processes that open the file see that it is locked.
    """

    def __init__(self, path: Path) -> None:
        """Make or empty a file, for writing and reading back."""
        super().__init__(path, "w+")
        self.error: OSError | None = None
        self._unwritten: list[tuple[int, bytes]] = []
        try:
            import fcntl

            fcntl.flock(self.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (ImportError, OSError):
            pass  # no such locks on this system or this disk

    def write(self, data: Any, /) -> int:
        """Write all of some bytes, or keep the reason why not."""
        view, start = memoryview(data).cast("B"), self.tell()
        written = 0
        try:
            while written < len(view) and self.error is None:
                written += super().write(view[written:]) or 0
        except OSError as error:
            self.error = error
        if self.error is not None:
            if len(view) <= LARGEST_KEPT:
                self._unwritten.append((start, bytes(view)))
            self.seek(start + len(view))
        return len(view)

    def readinto(self, buffer: Any, /) -> int:
        """Read what was written, on the disk or not."""
        view, start = memoryview(buffer).cast("B"), self.tell()
        n_read = super().readinto(view) or 0
        if self.error is None:
            return n_read
        view[n_read:] = bytes(len(view) - n_read)
        for offset, data in self._unwritten:
            begin, end = max(offset, start), min(offset + len(data), start + len(view))
            if begin < end:
                view[begin - start : end - start] = data[begin - offset : end - offset]
        self.seek(start + len(view))
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the size, or keep the reason why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return self.tell() if size is None else size

    def check(self) -> None:
        """Raise what was kept."""
        if self.error is not None:
            raise self.error


@contextmanager
def sync_early(file: PatientFile, every: int = 256_000_000) -> Iterator[Callable[[int], None]]:
    """Bring a growing file to disk beside the work that writes it, not all of it at the end.

    Yields a function to be told of bytes that were written.

    Raises
    ------
    OSError
        If the disk did not take them; from that function, or when the block ends.
    """
    waiting = 0
    asked: list[Future[None]] = []

    def tell(n_bytes: int) -> None:
        nonlocal waiting
        file.check()
        waiting += n_bytes
        if waiting >= every:
            waiting = 0
            asked.append(syncing.submit(os.fsync, file.fileno()))

    with ThreadPoolExecutor(1) as syncing:
        yield tell
    for sync in asked:
        if isinstance(error := sync.exception(), OSError):
            file.error = file.error or error
    file.check()


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
