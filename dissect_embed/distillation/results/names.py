"""The names of trainings on disk: each is written and read by one function.

::

    teachers/<teacher>-seed<seed>.{json,pt}         a teacher
    priors/<teacher>.h5, <teacher>.similarity.h5    its prior, and P
    <teacher>-<student>/<row>-seed<seed>.{json,pt}  a student

A row is a method (``kd``), or one of which something was changed: ``skd-uniform``, ``skd-random``,
``skd-permuted``, ``skd-similarity``, ``skd-beta5``, ``skd-temperature0.1``. A network of one's own,
``package.module:function``, is written ``package+module@function``. Imported by the Snakefile, so
nothing here imports torch.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from dissect_embed.distillation.methods.registry import CONTROLS, METHODS, list_methods
from dissect_embed.distillation.results.rows import Row, spell

TEACHERS: Final = "teachers"
PRIORS: Final = "priors"
# What ``controls`` of a config may name: β = 0 is a control too, though S is in its place.
CONFIG_CONTROLS: Final = ("beta0", *CONTROLS)
# The networks of the zoo, which itself needs torch.
ZOO: Final = (
    "resnet20", "resnet32", "resnet56", "resnet110", "resnet8x4", "resnet32x4",
    "wrn-16-2", "wrn-40-2", "vgg8", "vgg13",
)  # fmt: skip
_NUMBER: Final = "[0-9.e+-]+"
_CHANGE: Final = f"{'|'.join(CONTROLS)}|beta{_NUMBER}|temperature{_NUMBER}"
# Of a row in a path.
ROW_PATTERN: Final = f"({'|'.join(METHODS)})(-({_CHANGE}))?"


class Pair(NamedTuple):
    """A teacher and its student: a column of the table."""

    teacher: str
    student: str


def check_network(name: str) -> str:
    """Return the name of a network that is one of the zoo's, or that of a function.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if name not in ZOO and not re.fullmatch(r"[\w.]+:\w+", name):
        msg = f"expected one of {', '.join(ZOO)}, or 'package.module:function'"
        raise ValueError(msg)
    return name


def write_network(name: str) -> str:
    """Return a network's name as files and folders have it.

    Examples
    --------
    >>> write_network("wrn-16-2"), write_network("my.networks:small")
    ('wrn-16-2', 'my+networks@small')
    """
    # Neither sign can stand in a name of Python's, so nothing else is written like that.
    return name.replace(".", "+").replace(":", "@")


def read_network(text: str) -> str:
    """Return the network that ``write_network`` wrote.

    Examples
    --------
    >>> read_network("my+networks@small")
    'my.networks:small'
    """
    return text.replace("+", ".").replace("@", ":")


def write_pair(pair: Pair) -> str:
    """Return the name of a pair's folder.

    Examples
    --------
    >>> write_pair(Pair("wrn-40-2", "wrn-16-2"))
    'wrn-40-2-wrn-16-2'
    """
    return "-".join(map(write_network, pair))


def read_pair(folder: str, student: str) -> Pair:
    """Return the pair of a folder, given its student: names have hyphens themselves.

    Raises
    ------
    ValueError
        If the folder is no student's of this name.

    Examples
    --------
    >>> read_pair("wrn-40-2-wrn-16-2", "wrn-16-2")
    Pair(teacher='wrn-40-2', student='wrn-16-2')
    """
    end = f"-{write_network(student)}"
    teacher = folder.removesuffix(end)
    if not teacher or teacher == folder:
        msg = f"its student is {student}; expected it in a folder <teacher>{end}"
        raise ValueError(msg)
    return Pair(read_network(teacher), student)


def write_row(row: Row) -> str:
    """Return the name of a row.

    Raises
    ------
    ValueError
        If more than one thing is changed: no file is named so.

    Examples
    --------
    >>> write_row(Row("kd")), write_row(Row("skd", "random")), write_row(Row("skd", beta=5))
    ('kd', 'skd-random', 'skd-beta5')
    """
    if len(row.changes) > 1:
        msg = f"row: {' and '.join(row.changes)} are changed of {row.method}; expected one change"
        raise ValueError(msg)
    return "-".join([row.method, *(change.replace("=", "") for change in row.changes)])


def read_row(text: str) -> Row:
    """Return the row that ``write_row`` wrote.

    Raises
    ------
    ValueError
        If it is no row's name.

    Examples
    --------
    >>> read_row("skd-temperature0.1")
    Row(method='skd', control=None, beta=None, temperature=0.1)
    """
    if not re.fullmatch(ROW_PATTERN, text):
        msg = f"row: unknown {text!r}; expected a name like kd, skd, skd-random or skd-beta5"
        raise ValueError(msg)
    method, _, change = text.partition("-")
    numbers = {
        key: float(change.removeprefix(key))
        for key in ("beta", "temperature")
        if change.startswith(key)
    }
    control = None if numbers else change or None
    return Row(method, control, numbers.get("beta"), numbers.get("temperature"))


def write_training(name: str, seed: int | str) -> str:
    """Return the name of a training without its suffix; ``name`` is a row's or a teacher's.

    Examples
    --------
    >>> write_training("skd-random", 0)
    'skd-random-seed0'
    """
    return f"{name}-seed{seed}"


def read_training(stem: str) -> tuple[str, int]:
    """Return the name and the seed that ``write_training`` wrote.

    Raises
    ------
    ValueError
        If there is no seed.

    Examples
    --------
    >>> read_training("skd-random-seed0")
    ('skd-random', 0)
    """
    found = re.fullmatch(r"(.+)-seed(\d+)", stem)
    if not found:
        msg = f"training: unknown {stem!r}; expected a name like skd-random-seed0"
        raise ValueError(msg)
    return found[1], int(found[2])


def teacher_path(folder: str, teacher: str, seed: int | str) -> str:
    """Return the path of a teacher without its suffix, in a run's folder of distillation."""
    return f"{folder}/{TEACHERS}/{write_training(write_network(teacher), seed)}"


def own_teacher(teacher: str) -> dict[str, str]:
    """Return the option that a teacher of one's own needs: its code is run only where it is named.

    Examples
    --------
    >>> own_teacher("my.networks:small"), own_teacher("resnet56")
    ({'teacher-network': 'my.networks:small'}, {})
    """
    return {"teacher-network": teacher} if ":" in teacher else {}


def student_path(folder: str, pair: str, row: str, seed: int | str) -> str:
    """Return the path of a student without its suffix; pair and row by their names."""
    return f"{folder}/{pair}/{write_training(row, seed)}"


def prior_paths(folder: str, teacher: str) -> dict[str, str]:
    """Return the paths of a teacher's prior and of its P, by their options."""
    stem = f"{folder}/{PRIORS}/{write_network(teacher)}"
    return {"prior": f"{stem}.h5", "similarity": f"{stem}.similarity.h5"}


def list_pairs(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return teacher, student and β of each pair of a config, by the name of its folder."""
    return {
        write_pair(Pair(pair["teacher"], pair["student"])): {
            **pair,
            "beta": settings["beta"] if pair.get("beta") is None else pair["beta"],
        }
        for pair in settings["pairs"]
    }


def list_rows(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of a config's rows: methods, controls and ablations.

    Examples
    --------
    >>> settings = {"methods": ["plain", "skd"], "controls": ["beta0", "random"]}
    >>> list_rows(settings | {"ablations": {"temperature": [0.1], "beta": [5]}})
    ['plain', 'skd', 'skd-beta0', 'skd-random', 'skd-temperature0.1', 'skd-beta5']
    """
    rows = list(settings["methods"])
    for method in list_methods("prior"):
        rows += [f"{method}-{control}" for control in settings["controls"]]
        for key, values in settings["ablations"].items():
            rows += [write_row(Row(method)._replace(**{key: value})) for value in values]
    return rows


def row_inputs(name: str, pair: Mapping[str, Any], folder: str) -> dict[str, str]:
    """Return the files of the teacher that a row needs, by their options.

    Examples
    --------
    >>> row_inputs("skd-random", {"teacher": "resnet56"}, "results/mini/distillation")
    {'prior': 'results/mini/distillation/priors/resnet56.h5'}
    """
    row, teacher = read_row(name), pair["teacher"]
    guide = METHODS[row.method].guide
    if guide == "none":
        return {}
    if guide == "teacher":
        return {"teacher": teacher_path(folder, teacher, 0) + ".pt"}
    files = prior_paths(folder, teacher)
    return files if row.control == "similarity" else {"prior": files["prior"]}


def row_options(name: str, pair: Mapping[str, Any], folder: str) -> list[str]:
    """Return the options of ``dissect-embed distil`` for a row.

    Examples
    --------
    >>> pair = {"teacher": "vgg13", "student": "vgg8", "beta": 0.05}
    >>> row_options("skd-temperature0.1", pair, "results")[2:]
    ['--prior=results/priors/vgg13.h5', '--beta=0.05', '--temperature=0.1']
    """
    row = read_row(name)
    options = {"student": pair["student"], "method": row.method, **row_inputs(name, pair, folder)}
    if "teacher" in options:
        options |= own_teacher(pair["teacher"])
    beta = row.beta
    if beta is None and METHODS[row.method].guide == "prior":
        beta = pair["beta"]  # a config states SKD's; those of the others are published
    numbers = [("beta", beta), ("temperature", row.temperature)]
    options |= {key: spell(value) for key, value in numbers if value is not None}
    if row.control:
        options["control"] = row.control
    return [f"--{key}={value}" for key, value in options.items()]
