"""Which concepts of several data sets are the same: by name, a table, and their other names."""

import difflib
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.index import MAX_NUMBER, Concept
from dissect_embed.datasets.tables import read_table
from dissect_embed.errors import DatasetError, first_of

COLUMNS = ("name", "concept")


class Names(NamedTuple):
    """What concepts of several sources are called when they are one data set."""

    merged: dict[str, dict[str, str]]  # of each source, each concept's new name by its own
    category: dict[str, str]  # of each new name
    synonyms: dict[str, str]  # other names of each new name, joined by ';'


def name_concepts(data: Mapping[str, Broden], table: Path | None = None) -> Names:
    """Return what each concept of some sources is called where they are one.

    As the table says; else by its own name; but where no earlier source has that, by the name of
    the one concept of theirs, of the same category, that has it among its other names (``syns`` of
    ``label.csv``) or is among its own. What merges so is told; a row that names a concept itself
    keeps it apart.

    Raises
    ------
    DatasetError
        If a new name is of two categories, or the table will not do (``read_synonyms``).
    """
    renamed = read_synonyms(table, data) if table else {}
    merged: dict[str, dict[str, str]] = {}
    held: dict[str, list[tuple[str, Concept]]] = defaultdict(list)
    others: dict[str, set[str]] = defaultdict(set)
    for source, of in data.items():
        syns = _read_syns(of.root)
        own = {
            c.name: renamed.get((source, c.name), renamed.get(("", c.name))) for c in of.concepts
        }
        taken = {new or name for name, new in own.items()}
        names: dict[str, str] = {}
        for concept in of.concepts:
            name = concept.name
            new = own[name]
            if new is None and name not in held:
                near = [
                    known
                    for known, (first, *_) in held.items()
                    if (name in others[known] or known in syns[name])
                    and known not in taken
                    and first[1].category == concept.category
                ]
                if len(near) == 1:
                    new = near[0]
                    logging.info("%s: %r is %r, by syns of label.csv", source, name, new)
            names[name] = new or name
        merged[source] = names
        for concept in of.concepts:
            held[names[concept.name]].append((source, concept))
            others[names[concept.name]] |= {concept.name, *syns[concept.name]}
    _check_one_category(held)
    _tell_shared(data, merged)
    _tell_alike(merged)
    synonyms = {name: ";".join(sorted(others[name] - held.keys())) for name in held}
    return Names(merged, {name: of[0][1].category for name, of in held.items()}, synonyms)


def number_concepts(names: Names, categories: Sequence[str]) -> dict[str, int]:
    """Return a number for each concept of a merged data set, category after category.

    Raises
    ------
    DatasetError
        If they are more than a label map holds.
    """
    order = sorted(names.category, key=lambda name: categories.index(names.category[name]))
    if len(order) > MAX_NUMBER:
        msg = f"{len(order)} concepts; a label map holds at most {MAX_NUMBER}: merge fewer sources"
        raise DatasetError(msg)
    return {name: number for number, name in enumerate(order, start=1)}


def read_synonyms(path: Path, data: Mapping[str, Broden]) -> dict[tuple[str, str], str]:
    """Return the new name of each (source, name); source '' is all that no other row tells of.

    The file is a CSV with the columns ``name,concept``, and ``source`` if it is wanted.

    Raises
    ------
    DatasetError
        If it cannot be read, a row names what is not there, or two rows contradict each other.
    """
    if not path.is_file():
        msg = f"{path}: no such file; name a CSV with the columns {','.join(COLUMNS)}[,source]"
        raise DatasetError(msg)
    found: dict[tuple[str, str], str] = {}
    lines: dict[tuple[str, str], int] = {}
    for line, row in read_table(path, COLUMNS):
        source, name, concept = (row.get(c, "").strip() for c in ("source", *COLUMNS))
        if source and source not in data:
            msg = f"{path}:{line}: no source {source!r}; there are {', '.join(data)}"
            raise DatasetError(msg)
        asked = [data[source]] if source else data.values()
        known = sorted({c.name for of in asked for c in of.concepts})
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[:5]
            where = source or "any source"
            msg = f"{path}:{line}: no concept {name!r} in {where}; there are {', '.join(near)}"
            raise DatasetError(msg)
        if not concept:
            msg = f"{path}:{line}: {name!r} has no concept; write what it shall be called"
            raise DatasetError(msg)
        if (source, name) in found:
            msg = f"{path}:{line}: {name!r} is renamed in line {lines[source, name]}; keep one"
            raise DatasetError(msg)
        found[source, name], lines[source, name] = concept, line
    for (source, name), concept in found.items():
        for key in {(source, concept), ("", concept)} & found.keys():
            if found[key] != concept:
                msg = (
                    f"{path}:{lines[source, name]}: {name!r} becomes {concept!r}, which line "
                    f"{lines[key]} renames {found[key]!r}; write what it shall be called in the end"
                )
                raise DatasetError(msg)
    return found


def _read_syns(root: Path) -> dict[str, set[str]]:
    """Return other names of each concept; none where ``label.csv`` has no such column."""
    found: dict[str, set[str]] = defaultdict(set)
    for _, row in read_table(root / "label.csv", ("name",)):
        found[row["name"]] |= {s.strip() for s in row.get("syns", "").split(";") if s.strip()}
    return found


def _check_one_category(held: Mapping[str, list[tuple[str, Concept]]]) -> None:
    odd = [name for name, of in held.items() if len({concept.category for _, concept in of}) > 1]
    if odd:
        name = odd[0]
        what = ", ".join(
            f"{concept.category} in {source} ({concept.frequency} images)"
            for source, concept in held[name]
        )
        source, concept = held[name][-1]
        more = f"; so are {first_of(odd[1:])}" if odd[1:] else ""
        msg = (
            f"concept {name!r} is {what}{more}: {len(odd)} of {len(held)} concepts; one name has "
            "one category: rename them in the table of synonyms (--synonyms), as in "
            f"'name,concept,source', '{concept.name},{name} ({concept.category}),{source}', or "
            "import one source again with another --category"
        )
        raise DatasetError(msg)


def _tell_shared(data: Mapping[str, Broden], merged: Mapping[str, Mapping[str, str]]) -> None:
    """Say of each category of several sources what they share: it may mean different things."""
    for category in dict.fromkeys(c for of in data.values() for c in of.categories):
        sets = {
            source: {merged[source][c.name] for c in of.concepts if c.category == category}
            for source, of in data.items()
            if category in of.categories
        }
        if len(sets) < 2:
            continue
        counts = ", ".join(f"{source} has {len(names)}" for source, names in sets.items())
        every = list(sets.values())
        shared = sorted(n for n in set.union(*every) if sum(n in names for names in every) > 1)
        if shared:
            told = f"several share {len(shared)} ({first_of(shared)})"
        else:
            told = (
                "none is of two of them; if this category does not mean the same in each, import "
                "one again with another --category"
            )
        logging.info("%s: of its concepts %s; %s", category, counts, told)


def _tell_alike(merged: Mapping[str, Mapping[str, str]]) -> None:
    """Say which names of different sources differ in capitals, hyphens and the like alone."""
    alike: dict[str, dict[str, str]] = defaultdict(dict)
    for source, names in merged.items():
        for name in names.values():
            alike["".join(filter(str.isalnum, name.casefold()))].setdefault(name, source)
    for spelt in alike.values():
        if len(set(spelt.values())) > 1:
            what = ", ".join(f"{name!r} ({source})" for name, source in spelt.items())
            logging.info("not merged, though spelt alike: %s; see --synonyms", what)
