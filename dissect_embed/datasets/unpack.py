"""Unpacking an archive without trusting it."""

import lzma
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from dissect_embed.datasets.fetch import BLOCK, byte_bar, check_room
from dissect_embed.datasets.folders import check_replaceable, is_junk, move_into_place
from dissect_embed.errors import DatasetError, DiskSpaceError

MAX_RATIO = 100  # unpacked ÷ packed; photographs and tables stay far below
# What zipfile raises on a damaged archive, besides the OSError of an impossible offset.
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
)


def unpack_zip(archive: Path, root: Path) -> Path:
    """Unpack the one top folder of a zip archive as `root`, trusting nothing in it.

    The files land in `<root>.part`, which is renamed when all have passed their checksums; what an
    earlier call left there is removed. What file managers add (`__MACOSX`, `Thumbs.db`) stays out.

    Parameters
    ----------
    archive
        A zip file with exactly one top folder, which holds `index.csv`.
    root
        What that folder becomes; an empty one, or one that was unpacked before, is replaced.

    Raises
    ------
    DatasetError
        `root` holds something else; the archive is damaged, encrypted, or has another layout; an
        entry would land outside `root`, is a link, or unpacks to more than an honest archive can
        hold.
    DiskSpaceError
        The files do not fit on the disk.
    """
    part = root.with_name(f"{root.name}.part")
    check_replaceable(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    if part.exists():
        shutil.rmtree(part)
    try:
        with zipfile.ZipFile(archive) as source:
            entries = _check_entries(archive, source.infolist())
            # Files take whole blocks of the disk, which shows where there are many small ones.
            check_room(root, sum(-(-entry.file_size // 4096) * 4096 for entry in entries))
            _extract(source, entries, part)
        move_into_place(part, root, {"archive": archive.name, "bytes": archive.stat().st_size})
    except DAMAGED as error:
        message = f"{archive}: not a whole zip archive ({error}); delete it and fetch it again"
        raise DatasetError(message) from error
    except DiskSpaceError:
        raise
    except OSError as error:
        message = (
            f"{archive}: cannot be unpacked to {root} ({error}); check disk, paths and archive"
        )
        raise DatasetError(message) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return root


def _check_entries(archive: Path, entries: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """Return the files to unpack, if every entry is harmless and the layout is Broden's."""
    wanted = {}
    for entry in entries:
        name = entry.orig_filename  # `filename` is what zipfile has made of it
        path = PurePosixPath(name)
        problem = None
        if path.is_absolute() or ".." in path.parts or re.search(r"[\\\0]|(^|/)[A-Za-z]:", name):
            problem = "would land outside the folder"
        elif stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            problem = "is a link or a device"
        elif entry.flag_bits & 1:
            problem = "is encrypted"
        if problem:
            message = f"{archive}: entry {name!r} {problem}; nothing was unpacked, do not trust it"
            raise DatasetError(message)
        if path.parts and not name.endswith("/") and not any(map(is_junk, path.parts)):
            wanted[path] = entry
    tops = {path.parts[0] for path in wanted}
    if len(tops) != 1 or PurePosixPath(*tops, "index.csv") not in wanted:
        found = ", ".join(sorted(tops)[:5]) or "nothing"
        message = f"{archive}: expected one top folder with index.csv in it, got {found}"
        raise DatasetError(message)
    unpacked, packed = sum(entry.file_size for entry in wanted.values()), archive.stat().st_size
    if unpacked > MAX_RATIO * packed:
        message = f"{archive}: {packed:,} bytes would unpack to {unpacked:,}; do not trust it"
        raise DatasetError(message)
    return list(wanted.values())


def _extract(source: zipfile.ZipFile, entries: list[zipfile.ZipInfo], part: Path) -> None:
    # zipfile gives no more bytes of an entry than it declares, and checks their CRC.
    with byte_bar("unpack", sum(entry.file_size for entry in entries)) as bar:
        for entry in entries:
            place = part.joinpath(*PurePosixPath(entry.filename).parts[1:])
            place.parent.mkdir(parents=True, exist_ok=True)
            with source.open(entry) as packed, place.open("xb") as file:
                while block := packed.read(BLOCK):
                    file.write(block)
                    bar.update(len(block))
