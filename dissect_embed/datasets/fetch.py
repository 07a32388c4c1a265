"""Fetching a file over a line that breaks.

A download grows in `<target>.part`, with a note beside it (`<target>.part.json`) of what the server
said, so that a later run asks for the missing bytes only. No rule declares these two as outputs, so
nothing deletes them when a job fails. What has the final name is whole.
"""

import hashlib
import http.client
import json
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dissect_embed import __version__
from dissect_embed.errors import DatasetError, DiskSpaceError

BLOCK = 1 << 18  # bytes
WAITS = (1.0, 3.0, 9.0)  # seconds before each further try at a source that breaks


class _SourceError(Exception):
    """Why a source cannot give the file; the next one is tried."""


class _BrokenError(_SourceError):
    """A connection that broke; the same source is worth another try."""


def fetch_file(
    sources: Sequence[str],
    target: Path,
    *,
    sha256: str | None,
    size: int | None,
    timeout: float = 30.0,
) -> Path:
    """Fetch one file from the first of several sources that can give it, and return its path.

    A broken download is continued, by this call or a later one, as long as the same source still
    has the same file. Nothing has the name `target` before it is complete and checked.

    Parameters
    ----------
    sources
        Tried in this order; each an http(s) address or the path of a local copy.
    target
        Where the file goes. If it is there already, with the right size and hash, it is kept.
    sha256, size
        Expected hash (64 hexadecimal digits) and size in bytes. Without a hash the computed one is
        printed on stderr, so that it can be pinned.
    timeout
        Seconds without any byte after which a connection counts as broken.

    Raises
    ------
    DatasetError
        No source gave the file (each is listed with its reason), a source is neither an http(s)
        address nor a path, or `target` exists and is something else.
    DiskSpaceError
        The missing bytes do not fit on the disk.
    """
    _check_request(sources, target, sha256)
    if target.exists():
        if problem := _mismatch(target, _hash(target), sha256, size):
            message = f"{target}: {problem}; delete it to fetch it again"
            raise DatasetError(message)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part, note = _parts(target)
    reasons = ""
    for source in sources:
        try:
            if _is_address(source):
                _download(source, target, size, timeout)
            else:
                _copy(source, target, size)
        except _SourceError as error:
            reasons += f"  {source}: {error}\n"
            continue
        digest = _hash(part)
        if problem := _mismatch(part, digest, sha256, size):
            _discard(target)
            reasons += f"  {source}: {problem} (deleted)\n"
            continue
        part.replace(target)
        note.unlink(missing_ok=True)
        if sha256 is None:
            _say(f"{target}: not checked, as no sha256 was given; to pin this file: {digest}")
        return target
    message = (
        f"{target}: no source gave the file:\n{reasons}"
        "Name a mirror or a local copy in the config (dataset.sources) or with --source."
    )
    raise DatasetError(message)


def check_room(place: Path, needed: int) -> None:
    """Check that ``needed`` bytes fit on the disk where ``place`` will lie.

    Raises
    ------
    DiskSpaceError
        If they do not; needed and free are named.
    """
    free = shutil.disk_usage(place.parent).free
    if needed > free:
        message = f"{place}: needs {needed:,} bytes, {free:,} are free; make room on that disk"
        raise DiskSpaceError(message)


def byte_bar(label: str, total: int, done: int = 0) -> Any:
    """Return a progress bar in bytes, silent where the output is no terminal."""
    return tqdm(desc=label, total=total, initial=done, unit="B", unit_scale=True, disable=None)


def _check_request(sources: Sequence[str], target: Path, sha256: str | None) -> None:
    """Refuse at once what could only fail after everything is downloaded."""
    problem = "" if sources else "no source to fetch it from; name one in dataset.sources"
    for source in sources:
        if "://" in source and not _is_address(source):
            problem = f"source {source!r} is neither an http(s) address nor a local path"
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        problem = f"sha256 must be 64 hexadecimal digits, got {sha256!r}"
    if problem:
        message = f"{target}: {problem}"
        raise DatasetError(message)


def _is_address(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


def _parts(place: Path) -> tuple[Path, Path]:
    return place.with_name(f"{place.name}.part"), place.with_name(f"{place.name}.part.json")


def _discard(target: Path) -> None:
    # The part first: a kill in between leaves a note without bytes, never bytes without their note.
    for path in _parts(target):
        path.unlink(missing_ok=True)


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file, byte_bar(f"hash {path.name}", path.stat().st_size) as bar:
        while block := file.read(BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def _mismatch(path: Path, digest: str, sha256: str | None, size: int | None) -> str | None:
    got = path.stat().st_size
    if size not in (None, got):
        return f"expected {size} bytes, got {got}"
    if sha256 is not None and digest != sha256.lower():
        return f"expected sha256 {sha256.lower()}, got {digest}"
    return None


def _copy(source: str, target: Path, size: int | None) -> None:
    path = Path(source).expanduser()
    try:
        stream = path.open("rb")
    except OSError as error:
        raise _SourceError(error.strerror) from error
    with stream:
        _store(stream, target, {"source": source, "total": path.stat().st_size}, size)


def _download(source: str, target: Path, size: int | None, timeout: float) -> None:
    """Continue a download until it is whole, or several tries in a row bring nothing new."""
    farthest, waits = 0, iter(WAITS)
    while True:
        try:
            return _download_rest(source, target, size, timeout)
        except _BrokenError as error:
            done, _ = _read_progress(source, target, size)
            if done > farthest:
                farthest, waits = done, iter(WAITS)
            wait = next(waits, None)
            if wait is None:
                raise
            _say(f"{source}: {error}; trying again in {wait:g} s")
            time.sleep(wait)


def _download_rest(source: str, target: Path, size: int | None, timeout: float) -> None:
    done, said = _read_progress(source, target, size)
    if said and done == said["total"]:
        return
    headers = {"User-Agent": f"dissect-embed/{__version__}"}
    if done:
        headers["Range"] = f"bytes={done}-"
        # If-Range takes no weak ETag, and no date where there is an ETag (RFC 9110, 13.1.5).
        condition = said["etag"] or said["modified"]
        if condition and not condition.startswith("W/"):
            headers["If-Range"] = condition
    with _ask(source, headers, timeout) as answer:
        says = {"etag": answer.headers["ETag"], "modified": answer.headers["Last-Modified"]}
        problem = None
        if answer.status == 200:
            note = {"source": source, "total": answer.length or size or 0, **says}
            done = 0
        elif answer.status == 206 and done:
            note = said
            rest = f"bytes {done}-{said['total'] - 1}/{said['total']}"
            changed = any(says[key] and said[key] and says[key] != said[key] for key in says)
            if changed or answer.headers["Content-Range"] != rest:
                _discard(target)
                message = "the file there is not the one whose download began"
                raise _BrokenError(message)
        else:
            problem = f"answered HTTP {answer.status}, not the file"
        if (answer.headers["Content-Type"] or "").startswith("text/html"):
            problem = "answered with a web page, not the file"
        if problem:
            raise _SourceError(problem)
        _store(answer, target, note, size, done)


def _read_progress(source: str, target: Path, size: int | None) -> tuple[int, dict[str, Any]]:
    """Tell how many bytes from `source` are here, and what the server said of the whole."""
    part, note = _parts(target)
    try:
        done, said = part.stat().st_size, json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0, {}
    if said["source"] != source or size not in (None, said["total"]) or done > said["total"]:
        return 0, {}
    return done, said


def _ask(source: str, headers: dict[str, str], timeout: float) -> Any:
    try:
        request = urllib.request.Request(source, headers=headers)
        return urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        passing = error.code >= 500 or error.code in (408, 425, 429)
        message = f"HTTP {error.code} {error.reason}"
        raise (_BrokenError if passing else _SourceError)(message) from error
    except (http.client.InvalidURL, ValueError) as error:
        raise _SourceError(str(error)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(str(getattr(error, "reason", error))) from error


def _store(
    stream: Any, target: Path, note: dict[str, Any], size: int | None, done: int = 0
) -> None:
    """Append what `stream` gives to the part file, which has `done` bytes of the whole."""
    part, note_path = _parts(target)
    total = note["total"]
    if size not in (None, total) or total == 0:
        message = f"expected {size or 'some'} bytes, it offers {total} or does not say"
        raise _SourceError(message)
    check_room(target, total - (part.stat().st_size if part.exists() else 0))
    if done == 0:
        _discard(target)
        note_path.write_text(json.dumps(note), encoding="utf-8")
    with part.open("ab") as file, byte_bar(target.name, total, done) as bar:
        while done < total:
            try:
                # Not read(), which loses what it has gathered when the line breaks.
                block = stream.read1(min(BLOCK, total - done))
                reason = "the connection was closed"
            except (OSError, http.client.HTTPException) as error:
                block, reason = b"", str(error)
            if not block:
                message = f"broke off at {done} of {total} bytes: {reason}"
                raise _BrokenError(message)
            file.write(block)
            done += len(block)
            bar.update(len(block))
        file.flush()
        os.fsync(file.fileno())
