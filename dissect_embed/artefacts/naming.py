"""What a user calls a concept or a unit, found among those of a file."""

import difflib
import re
from collections.abc import Mapping, Sequence

from dissect_embed.errors import ArtefactError


def parse_unit(text: str, n_units: Mapping[str, int], where: str) -> tuple[str, int]:
    """Read ``LAYER:UNIT`` and check that there is such a unit.

    Parameters
    ----------
    n_units
        The number of units of each layer.
    where
        The file, named in errors.

    Raises
    ------
    ArtefactError
        If it is malformed, or there is no such layer or unit.

    Examples
    --------
    >>> parse_unit("layer4:137", {"layer4": 512}, "profiles.h5")
    ('layer4', 137)
    """
    layer, _, number = text.rpartition(":")
    if not layer or not re.fullmatch("[0-9]+", number):
        example = f"{next(iter(n_units))}:0"
        msg = f"--unit {text}: expected LAYER:UNIT, for example {example}"
        raise ArtefactError(msg)
    if layer not in n_units:
        msg = f"{where}: no layer {layer!r}; it has {', '.join(n_units)}"
        raise ArtefactError(msg)
    if int(number) >= n_units[layer]:
        msg = f"{where}: {layer} has the units 0 to {n_units[layer] - 1}, not {number}"
        raise ArtefactError(msg)
    return layer, int(number)


def match_concepts(names: Sequence[str], wanted: str, where: str) -> list[int]:
    """Return the indices of the concepts that a name means.

    The exact name comes first, then the name in any case, then without the ``-c`` and ``-s`` that
    Broden's colours and scenes end in. Several concepts can have one name.

    Raises
    ------
    ArtefactError
        If there is none; names that are near are listed.

    Examples
    --------
    >>> match_concepts(["red-c", "Dog", "dog"], "dog", "profiles.h5")
    [2]
    >>> match_concepts(["red-c", "Dog", "dog"], "RED", "profiles.h5")
    [0]
    """

    def bare(name: str) -> str:
        return re.sub("-[cs]$", "", name.lower())

    for key in (str, str.lower, bare):
        found = [i for i, name in enumerate(names) if key(name) == key(wanted)]
        if found:
            return found
    # Near as it is typed, and names that have it as a part ("table" in "pool table").
    spelled = {name.lower(): name for name in reversed(names)}
    near = [spelled[n] for n in difflib.get_close_matches(wanted.lower(), spelled, n=5)]
    near += [name for name in names if wanted.lower() in name.lower() and wanted]
    near = list(dict.fromkeys(near))[:8]
    hint = f"did you mean {', '.join(near)}?" if near else "no name is near"
    msg = f"{where}: none of its {len(names):,} concepts is {wanted!r}; {hint}"
    raise ArtefactError(msg)
