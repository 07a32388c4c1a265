"""Fit the tensors of a file to a network: which of them are its weights, and under what names.

Training scripts keep a state_dict under a key of their own (``state_dict``, ``model``, ``teacher``)
and wrap the network, which puts prefixes before its names (``module.``, ``model._orig_mod.``). No
list knows them all. So every dictionary of tensors is tried with every prefix that leads to a name
of the network; the one that fits wholly is taken.
"""

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dissect_embed.errors import ModelError

Tables = Mapping[str, Mapping[str, Tensor]]

# Old versions of torch did not count batches; the count is used for nothing here.
COUNTER = "num_batches_tracked"
# Words in a key that tell an average over the training from the network itself.
AVERAGES = {"ema", "swa", "avg", "average", "averaged", "shadow"}

# What is taken out of names if they do not fit as they are, one after the other.
RENAMINGS = [
    # Wrappers of a part of the network alone, as of the convolutions of AlexNet and VGG.
    (r"(^|\.)(?:(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.)+", r"\1"),
    # DenseNet in torchvision's own files, of the time when names could hold dots.
    (r"(denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2"),
]


class Fit(NamedTuple):
    """Weights of a network, found within a file."""

    state: dict[str, Tensor]  # by the network's own names
    missing: tuple[str, ...]  # names that the file lacks
    note: str  # which of the file's tensors they are


class _Try(NamedTuple):
    """A dictionary of a file, read with a prefix."""

    place: str
    prefix: str
    renamed: bool  # by RENAMINGS
    state: dict[str, Tensor]
    missing: list[str]
    wrong: list[str]  # of another shape or kind
    unknown: list[str]  # by the file's names
    outside: list[str]  # without the prefix, or of another module in the place of one

    def fits(self) -> int:
        return len([key for key in self.state if not key.endswith(COUNTER)]) - len(self.wrong)

    def rank(self) -> tuple[bool, int, int]:
        whole = not (self.missing or self.wrong or self.unknown)
        return whole, self.fits(), -len(self.wrong) - len(self.unknown)

    def where(self) -> str:
        key = f"key {self.place!r}" if self.place else "the file's own keys"
        prefix = f", prefix {self.prefix!r}" if self.prefix else ""
        return f"{key}{prefix}{', names adapted' if self.renamed else ''}"

    def is_average(self) -> bool:
        return bool(AVERAGES & set(re.split(r"[^a-z]+", f"{self.place}.{self.prefix}".lower())))


def fit_weights(
    own: Mapping[str, Tensor],
    tables: Tables,
    *,
    path: Path | str,
    name: str,
    head: Collection[str] = (),
) -> Fit:
    """Find the weights of a network among the tensors of a file.

    Parameters
    ----------
    own
        The network's state_dict, of which names, shapes and kinds of numbers count.
    tables
        The file's tensors, as ``checkpoints.read_weights`` returns them.
    path, name
        Of the file (or its address) and of the network, for messages.
    head
        Names of weights that may have any number of rows: the classifier's.

    Returns
    -------
    The weights. Names that lie outside of a prefix (a loss, another network) are left out, and
    those of another module in the place of one of which the file has nothing (a classifier). Of a
    network and its average over the training the network is taken. What the file lacks is listed,
    if all else fits; it is for the caller to judge (``gaps.check_missing``).

    Raises
    ------
    ModelError
        If the file's weights are another network's, or several that differ fit.

    Examples
    --------
    >>> weight = torch.ones(2, 3)
    >>> tables = {"model": {"module.fc.weight": weight, "module.fc.bias": torch.zeros(2)}}
    >>> own = nn.ModuleDict({"fc": nn.Linear(3, 2)}).state_dict()
    >>> fit = fit_weights(own, tables, path=Path("net.pth"), name="net")
    >>> sorted(fit.state), fit.missing, fit.note
    (['fc.bias', 'fc.weight'], (), "weights from key 'model', prefix 'module.'")
    """
    tries = [t for place, table in tables.items() for t in _try_all(own, place, table, head)]
    best = max(tries, key=_Try.rank, default=None)
    if best is None or best.wrong or best.unknown:
        raise ModelError(_misfit(best, own, tables, path, name))
    fitting = [t for t in tries if t.rank() == best.rank()]
    first, *others = [t for n, t in enumerate(fitting) if not any(_same(t, u) for u in fitting[:n])]
    note = ""
    if others:
        plain = [t for t in (first, *others) if not t.is_average()]
        if len(plain) != 1:
            places = "; ".join(t.where() for t in (first, *others))
            msg = (
                f"{path}: several weights that differ fit {name} ({places}); save those you mean: "
                "from dissect_embed.networks.checkpoints import read_weights; "
                f"w = read_weights({str(path)!r})[{first.place!r}]; "
                f"w = {{k: w[k] for k in w if k.startswith({first.prefix!r})}}; "
                "torch.save(w, 'chosen.pth')"
            )
            raise ModelError(msg)
        averages = [t.where() for t in (first, *others) if t is not plain[0]]
        first, note = plain[0], f"; not the average ({'; '.join(averages)})"
    note = f"weights from {first.where()}{note}"
    if first.outside:
        note += f"; left out {_list(first.outside)}"
    if first.missing:
        note += f"; the file lacks {_list(first.missing)}"
    return Fit(first.state, tuple(first.missing), note)


def find_head(construct: Callable[[int], nn.Module]) -> tuple[dict[str, Tensor], list[str]]:
    """Return a classifier's state_dict, without numbers, and which of it follow the classes.

    Parameters
    ----------
    construct
        Returns the network for a number of classes.

    Examples
    --------
    >>> find_head(lambda n: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, n, 1)))[1]
    ['1.weight', '1.bias']
    """
    own, wider = (_shapes(construct, n) for n in (1000, 1001))
    return own, [key for key in own if own[key].shape != wider[key].shape]


def _shapes(construct: Callable[[int], nn.Module], n_classes: int) -> dict[str, Tensor]:
    try:
        with torch.device("meta"):
            return construct(n_classes).state_dict()
    except NotImplementedError:  # RegNet computes its widths with tensors
        return construct(n_classes).state_dict()


def count_classes(fit: Fit, head: Sequence[str]) -> int | None:
    """Return how many classes the weights of a classifier tell apart; None if they lack it.

    Raises
    ------
    ModelError
        If its weights contradict each other.
    """
    rows = {key: fit.state[key].shape[0] for key in head if key in fit.state}
    if len(set(rows.values())) > 1:
        msg = f"model.weights: rows of the classifier differ, {rows}; take other weights"
        raise ModelError(msg)
    return next(iter(rows.values()), None)


def _try_all(
    own: Mapping[str, Tensor], place: str, table: Mapping[str, Tensor], head: Collection[str]
) -> Iterator[_Try]:
    """Read a dictionary with each prefix by which any of the network's names is found."""
    own = {key: value for key, value in own.items() if isinstance(value, Tensor)}
    inners = _common_prefixes(list(own))
    for (renamed, named), inner in itertools.product(enumerate(_rename(table)), inners):
        bare = {key.removeprefix(inner): key for key in own}
        ends = ((key, key[match.end() :]) for key in named for match in re.finditer(r"^|\.", key))
        for prefix in dict.fromkeys(key.removesuffix(end) for key, end in ends if end in bare):
            state, unknown, outside = {}, [], []
            for key, value in named.items():
                if not key.startswith(prefix):
                    outside.append(key)
                elif (ours := bare.get(key.removeprefix(prefix))) is not None:
                    state[ours] = value
                elif not key.endswith(COUNTER):
                    unknown.append(key)
            wrong = [key for key in state if not _alike(key, own[key], state[key], head)]
            missing = [key for key in own if key not in state and not key.endswith(COUNTER)]
            # Another classifier in the place of the network's (``fc.1.weight``) is one it lacks.
            gone = _modules(missing) - _modules(state)
            other = {k for k in unknown if gone & _modules([inner + k.removeprefix(prefix)])}
            unknown = [key for key in unknown if key not in other]
            outside += sorted(other)
            yield _Try(place, prefix, renamed > 0, state, missing, wrong, unknown, outside)


def _modules(keys: Iterable[str]) -> set[str]:
    """Return all modules that weights lie in: of 'a.b.weight' both 'a' and 'a.b'."""
    return {key[: match.start()] for key in keys for match in re.finditer(r"\.", key)}


def _rename(table: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """Yield a dictionary as it is, and by the names that RENAMINGS lead to."""
    yield table
    for pattern, replacement in RENAMINGS:
        named = {re.sub(pattern, replacement, key): value for key, value in table.items()}
        if len(named) == len(table) and named.keys() != table.keys():
            table = named
            yield table


def _common_prefixes(keys: Sequence[str]) -> list[str]:
    """Return what all names begin with, in whole parts: '' and, of a wrapped network, 'module.'."""
    prefixes = [""]
    while keys and "." in (rest := keys[0].removeprefix(prefixes[-1])):
        longer = prefixes[-1] + rest.partition(".")[0] + "."
        if not all(key.startswith(longer) for key in keys):
            break
        prefixes.append(longer)
    return prefixes


def _alike(key: str, own: Tensor, found: Tensor, head: Collection[str]) -> bool:
    """Say whether a tensor can take the place of the network's: quantised numbers cannot."""
    first = 1 if key in head and own.ndim == found.ndim else 0
    return own.shape[first:] == found.shape[first:] and (
        own.is_floating_point() == found.is_floating_point() or key.endswith(COUNTER)
    )


def _same(one: _Try, other: _Try) -> bool:
    return one.state.keys() == other.state.keys() and all(
        value is other.state[key] or torch.equal(value, other.state[key])
        for key, value in one.state.items()
    )


def _misfit(
    best: _Try | None, own: Mapping[str, Tensor], tables: Tables, path: Path | str, name: str
) -> str:
    if best is None:
        theirs = next(iter(next(iter(tables.values()))))
        return (
            f"{path}: no weights of {name}: none of its keys, as {theirs!r}, is one of the "
            f"network's, as {next(iter(own), '')!r}; check model.name"
        )
    n_own = len([key for key in own if not key.endswith(COUNTER)])
    if best.wrong:
        found, ours = best.state[best.wrong[0]], own[best.wrong[0]]
        shapes = f"is {tuple(found.shape)}, expected {tuple(ours.shape)}"
        kinds = f"is {found.dtype}, expected {ours.dtype}"
        first = f"{best.wrong[0]!r} {kinds if found.shape == ours.shape else shapes}"
    else:
        first = f"it has {best.unknown[0]!r}, which the network lacks"
    lacks = f"; it lacks {_list(best.missing)}" if best.missing else ""
    return (
        f"{path}: no weights of {name} (best try: {best.where()}: {best.fits()} of {n_own} keys "
        f"fit; {first}{lacks}; {len(best.unknown)} unknown, {len(best.wrong)} of another shape); "
        "check model.name"
    )


def _list(keys: Sequence[str]) -> str:
    shown = ", ".join(map(repr, keys[:3]))
    return f"{shown}, … ({len(keys)} keys)" if len(keys) > 3 else shown
