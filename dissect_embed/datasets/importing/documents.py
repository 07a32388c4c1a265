"""Read JSON files of annotations; what is wrong is named by file and place."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from dissect_embed.errors import DatasetError
from dissect_embed.parallel import map_in_threads

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_document(path: Path, encoding: str = "utf-8") -> dict[str, Any]:
    """Return what a JSON file holds.

    Parameters
    ----------
    encoding
        Of what is not in UTF-8.

    Raises
    ------
    DatasetError
        If it cannot be read, is broken, or holds no object.
    """
    try:
        content = path.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode(encoding)
        document = json.loads(text)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); name a JSON file"
        raise DatasetError(msg) from error
    except json.JSONDecodeError as error:
        msg = (
            f"{path}:{error.lineno}: broken JSON ({error.msg}, column {error.colno}); save or "
            "fetch the file again"
        )
        raise DatasetError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: no JSON in UTF-8 ({error}); save or fetch the file again"
        raise DatasetError(msg) from error
    if not isinstance(document, dict):
        msg = f"{path}: expected an object ({{…}}), found a {type(document).__name__}"
        raise DatasetError(msg)
    return document


def read_field(where: str, parent: Any, key: str, kind: type | tuple[type, ...]) -> Any:
    """Return what an object has under a key.

    Raises
    ------
    DatasetError
        If it is no object, has no such key, or has something else there.
    """
    value = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join({"str": "text", "dict": "object"}.get(k.__name__, k.__name__)
                            for k in kinds)  # fmt: skip
        found = "is missing" if value is None else f"is {str(value)[:40]!r}"
        found += ", a text" * isinstance(value, str)
        msg = f"{where}: {key!r} {found}, expected {names}; correct it or export it again"
        raise DatasetError(msg)
    return value


def read_points(where: str, values: Any, least: int) -> tuple[tuple[float, float], ...]:
    """Return points (x, y) of a list of pairs.

    Raises
    ------
    DatasetError
        If they are none, or less than the least, or not all numbers.
    """
    if not isinstance(values, list) or any(isinstance(v, int | float) for v in values):
        what = "a flat list" if isinstance(values, list) else "no list"
        msg = (
            f"{where}: points are {what}, {str(values)[:40]}; expected pairs of x and y: redraw it"
        )
        raise DatasetError(msg)
    points = []
    for n, pair in enumerate(values, start=1):
        try:
            x, y = map(float, pair)
        except (TypeError, ValueError, OverflowError):
            x = y = math.nan
        # Far enough for any image.
        if not (abs(x) < 1e7 and abs(y) < 1e7):
            what = "too far from any image" if math.isfinite(x + y) else "not a number each"
            msg = f"{where}: point {n} of {len(values)} (x, y) is {pair}: {what}; redraw it"
            raise DatasetError(msg)
        points.append((x, y))
    if len(points) < least:
        msg = f"{where}: {len(points)} points, expected {least} or more pairs of numbers; redraw it"
        raise DatasetError(msg)
    return tuple(points)


def look_at_all(
    look: Callable[[Item], Result], items: Sequence[Item], what: str, n_threads: int | None = None
) -> list[Result]:
    """Return what a function makes of each item, with a progress bar.

    Parameters
    ----------
    what
        The items are, in plural.

    Raises
    ------
    DatasetError
        That which the first of them raises, when all were looked at, with how many others do.
    """

    def attempt(item: Item) -> tuple[list[Result], str]:
        try:
            return [look(item)], ""
        except DatasetError as error:
            return [], str(error)

    results, faults = [], []
    looked = map_in_threads(attempt, items, n_threads=n_threads)
    for result, fault in tqdm(looked, f"look at {what}", len(items), disable=None):
        results += result
        faults += [fault] if fault else []
    if faults:
        others = f"; {len(faults) - 1} more of {len(items)} {what} are faulty"
        raise DatasetError(faults[0] + others * (len(faults) > 1))
    return results


def index_by_id(where: str, document: Any, key: str) -> dict[int, Any]:
    """Return the objects of a list by their ``id``.

    Raises
    ------
    DatasetError
        If there is no such list, or an object without an id or with another's.
    """
    found: dict[int, Any] = {}
    for n, item in enumerate(read_field(where, document, key, list), start=1):
        number = read_field(f"{where}: {key}, number {n}", item, "id", int)
        if number in found:
            msg = f"{where}: {key}: id {number} stands there twice; give each its own"
            raise DatasetError(msg)
        found[number] = item
    return found
