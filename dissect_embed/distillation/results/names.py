"""The cells of Table 1 as the pipeline names them, and what each asks of ``dissect-embed distil``.

A cell is a pair, a variant and a seed. A variant is a method (``kd``), or SKD with something
changed: ``skd-uniform``, ``skd-random``, ``skd-permuted``, ``skd-similarity``, ``skd-beta5``,
``skd-temperature0.1``. Imported by the Snakefile, so nothing here imports torch.
"""

from collections.abc import Mapping
from typing import Any

# Of a variant in a path.
PATTERN = r"[a-z]+(-(uniform|random|permuted|similarity|beta[0-9.e-]+|temperature[0-9.e-]+))?"


def list_pairs(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return teacher, student and β of each pair of a config, by the name of its folder."""
    return {
        f"{pair['teacher']}-{pair['student']}": {"beta": settings["beta"], **pair}
        for pair in settings["pairs"]
    }


def list_variants(settings: Mapping[str, Any]) -> list[str]:
    """Return the variants of a config: methods, controls and ablations.

    Examples
    --------
    >>> settings = {"methods": ["plain", "skd"], "controls": ["beta0", "random"]}
    >>> list_variants(settings | {"ablations": {"temperature": [0.1], "beta": [5]}})
    ['plain', 'skd', 'skd-beta0', 'skd-random', 'skd-temperature0.1', 'skd-beta5']
    """
    changes = [*settings["controls"]]
    changes += [
        f"{key}{value:g}" for key, values in settings["ablations"].items() for value in values
    ]
    return [*settings["methods"], *(f"skd-{change}" for change in changes)]


def cell_inputs(variant: str, pair: Mapping[str, Any], folder: str) -> dict[str, str]:
    """Return the files of the teacher that a variant needs, by their options.

    Examples
    --------
    >>> cell_inputs("skd-random", {"teacher": "resnet56"}, "results/mini/distillation")
    {'prior': 'results/mini/distillation/priors/resnet56.h5'}
    """
    if variant == "plain":
        return {}
    teacher = pair["teacher"]
    if not variant.startswith("skd"):
        return {"teacher": f"{folder}/teachers/{teacher}-seed0.pt"}
    files = {"prior": f"{folder}/priors/{teacher}.h5"}
    if variant == "skd-similarity":
        files["similarity"] = f"{folder}/priors/{teacher}.similarity.h5"
    return files


def cell_options(variant: str, pair: Mapping[str, Any], folder: str) -> list[str]:
    """Return the options of ``dissect-embed distil`` for a variant.

    Examples
    --------
    >>> pair = {"teacher": "vgg13", "student": "vgg8", "beta": 0.05}
    >>> cell_options("skd-temperature0.1", pair, "results")[2:]
    ['--prior=results/priors/vgg13.h5', '--beta=0.05', '--temperature=0.1']
    """
    method, _, change = variant.partition("-")
    options = {"student": pair["student"], "method": method}
    options |= cell_inputs(variant, pair, folder)
    if method == "skd":
        options["beta"] = pair["beta"]
    for key in ("beta", "temperature"):
        if change.startswith(key):
            options[key] = change.removeprefix(key)
            change = ""
    if change:
        options["control"] = change
    return [f"--{key}={value}" for key, value in options.items()]
