"""What a config's table is made of: its pairs and rows, and the files and options of each training.

Imported by the Snakefile, so nothing here imports torch.
"""

from collections.abc import Mapping
from typing import Any

from dissect_embed.distillation.methods.registry import METHODS, list_methods
from dissect_embed.distillation.results.names import (
    Pair,
    own_teacher,
    prior_paths,
    read_row,
    teacher_path,
    write_pair,
    write_row,
)
from dissect_embed.distillation.results.rows import Row, spell


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


def has_priors(settings: Mapping[str, Any]) -> bool:
    """Return whether SKD or one of its controls is among the rows of a config.

    If so, every student is told how far from SKD's targets it ended, and needs the prior for it.
    """
    return any(METHODS[read_row(row).method].guide == "prior" for row in list_rows(settings))


def row_inputs(
    name: str, pair: Mapping[str, Any], folder: str, *, with_prior: bool
) -> dict[str, str]:
    """Return the files of the teacher that a row needs, by their options.

    Parameters
    ----------
    with_prior
        Whether the prior and P are read by whatever method, see ``has_priors``.

    Examples
    --------
    >>> row_inputs("skd-random", {"teacher": "resnet56"}, "r/distillation", with_prior=False)
    {'prior': 'r/distillation/priors/resnet56.h5'}
    """
    row, teacher = read_row(name), pair["teacher"]
    guide, files = METHODS[row.method].guide, prior_paths(folder, teacher)
    needed = {"teacher": teacher_path(folder, teacher, 0) + ".pt"} if guide == "teacher" else {}
    if with_prior or row.control == "similarity":
        return needed | files
    return needed | ({"prior": files["prior"]} if guide == "prior" else {})


def row_options(name: str, pair: Mapping[str, Any], folder: str, *, with_prior: bool) -> list[str]:
    """Return the options of ``dissect-embed distil`` for a row; its files as ``row_inputs``.

    Examples
    --------
    >>> pair = {"teacher": "vgg13", "student": "vgg8", "beta": 0.05}
    >>> row_options("skd-temperature0.1", pair, "results", with_prior=False)[2:]
    ['--prior=results/priors/vgg13.h5', '--beta=0.05', '--temperature=0.1']
    """
    row = read_row(name)
    files = row_inputs(name, pair, folder, with_prior=with_prior)
    options = {"student": pair["student"], "method": row.method, **files}
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
