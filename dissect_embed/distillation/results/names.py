"""The names of trainings on disk: each is written and read by one function.

::

    teachers/<teacher>-seed<seed>.{json,pt}         a teacher
    priors/<teacher>.h5, <teacher>.similarity.h5    its prior, and P
    <teacher>-<student>/<row>-seed<seed>.{json,pt}  a student

A row is a method (``kd``), or one of which something was changed: ``skd-uniform``,
``skd-shuffled``, ``skd-random``, ``skd-similarity``, ``skd-beta5``, ``skd-temperature0.1``. A
network of one's own, ``package.module:function``, is written ``package+module@function``. Imported
by the Snakefile, so nothing here imports torch.
"""

import re
from typing import Final, NamedTuple

from dissect_embed.distillation.methods.registry import CONTROLS, METHODS, known_control
from dissect_embed.distillation.results.rows import Row

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


def check_control(name: str) -> str:
    """Return the name of a control that a config may have.

    Raises
    ------
    ValueError
        If there is no such control.
    """
    return known_control(name, CONFIG_CONTROLS)


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
