"""What the commands share: options, checks, and where notes go."""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from dissect_embed.datasets.settings import Dataset, Subset
from dissect_embed.errors import ConfigError, ModelError
from dissect_embed.networks.settings import Model
from dissect_embed.settings import Section


def setting(section: type[Section], key: str) -> Any:
    """Return an option with the default and the help of a setting; the section checks its bounds.

    Examples
    --------
    >>> setting(Model, "name").default
    'resnet18'
    """
    field = section.model_fields[key]
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return typer.Option(default, help=field.description)


def option(section: type[Section], key: str, name: str) -> Any:
    """Return the same under a name of its own, as ``--seed`` for each of ``seeds``."""
    field = section.model_fields[key]
    return typer.Option(list(field.default), name, help=f"{field.description} Repeat for more.")


Layers = Annotated[list[str], typer.Option("--layer", help="A module to probe; repeat for more.")]
Out = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]
Log = Annotated[Path | None, typer.Option(help="Write notes to this file as well.")]
Data = Annotated[Path, typer.Option("--dataset", help=Dataset.model_fields["root"].description)]
Split = Annotated[str, typer.Option(help=Dataset.model_fields["split"].description)]
Chosen = Annotated[
    str,
    typer.Option(
        "--subset",
        metavar="YAML",
        help="Which images and labels, as dataset of a config: '{limit: 500, exclude: [sky]}'.",
    ),
]
Name = Annotated[str, typer.Option(help=Dataset.model_fields["name"].description)]
Arguments = Annotated[
    str,
    typer.Option(
        metavar="YAML",
        help=f"{Model.model_fields['arguments'].description} As '{{img_size: 112}}'.",
    ),
]
Network = Annotated[str, typer.Option("--model", help=Model.model_fields["name"].description)]
Weights = Annotated[str, typer.Option(help=Model.model_fields["weights"].description)]
Given = Annotated[
    str,
    typer.Option(
        "--input",
        metavar="YAML",
        help="What the network is given, as model.input of a config: "
        "'{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}'.",
    ),
]
Axes = Annotated[
    str,
    typer.Option(
        metavar="YAML",
        help=f"{Model.model_fields['axes'].description} As '{{encoder: image token unit}}'.",
    ),
]
PrefixTokens = Annotated[
    int | None, typer.Option(help=Model.model_fields["prefix_tokens"].description)
]
Device = Annotated[
    str,
    typer.Option(
        help="'cpu', 'cuda', 'cuda:1', …, 'mps' (to run a network), or 'auto': a CUDA device if "
        "there is one."
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Cores to compute on, by default all there are.")
]
Checkpoint = Annotated[
    Path | None, typer.Option(help="The file made by 'train', for --weights trained alone.")
]
Expect = Annotated[
    list[str],
    typer.Option("--expect", help="KEY=VALUE that the input must have been made with."),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder, results/<run>.")]
Moved = Annotated[
    Path | None, typer.Option("--dataset", help="Where the run's data set lies now, if moved.")
]
Similarity = Annotated[
    str | None,
    typer.Option(help="What vectors were learned from, 'image' or 'dataset'; the run's first."),
]
Again = Annotated[
    Path | None,
    typer.Option("--dataset", help="For layers that are not cached: the folder with index.csv."),
]


def log_to(path: Path | None) -> None:
    """Send notes to the terminal, and to a file if one is named."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w"))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers, force=True)


def read_expected(pairs: list[str]) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as a dictionary."""
    for pair in pairs:
        if "=" not in pair:
            msg = f"--expect {pair}: expected KEY=VALUE, for example model.weights=random"
            raise typer.BadParameter(msg)
    return dict(pair.split("=", 1) for pair in pairs)


def read_yaml(text: str, option: str) -> dict[str, Any]:
    """Return what an option says in the words of a config: ``{mean: [0.5], std: [0.5]}``.

    Raises
    ------
    ConfigError
        If it is no YAML, or no settings by name.
    """
    import yaml

    try:
        values = yaml.safe_load(text or "{}")
    except yaml.YAMLError as error:
        msg = f"{option} {text!r}: no YAML ({str(error).splitlines()[0]}); expected {{key: value}}"
        raise ConfigError(msg) from error
    if not isinstance(values, dict):
        msg = f"{option} {text!r}: expected settings by name, as in {{key: value}}"
        raise ConfigError(msg)
    return values


def read_dataset(root: Path, split: str, subset: str) -> Any:
    """Return the data set that ``--dataset``, ``--split`` and ``--subset`` name.

    Raises
    ------
    ConfigError, DatasetError
        If the subset is no settings by name, or the data set will not do.
    """
    from dissect_embed.datasets.broden import load_broden

    return load_broden(root, split, Subset(**read_yaml(subset, "--subset")))


def read_network(model: str, weights: str, checkpoint: Path | None, arguments: str) -> Any:
    """Return the network that ``--model``, ``--weights`` and so on name, with what it lacks.

    Raises
    ------
    ConfigError
        If the arguments are no settings by name.
    ModelError
        If a checkpoint is named with other weights than ``trained``, or is missing with these.
    """
    from dissect_embed.networks.models import load_network

    if weights == "trained" and checkpoint is None:
        msg = "--weights trained needs --checkpoint, the file that 'dissect-embed train' makes"
        raise ModelError(msg)
    if weights != "trained" and checkpoint is not None:
        msg = (
            f"--checkpoint {checkpoint}: goes with --weights trained, not {weights!r}; name it as "
            f"--weights {checkpoint} instead, or leave one out"
        )
        raise ModelError(msg)
    return load_network(
        model, str(checkpoint) if checkpoint else weights, read_yaml(arguments, "--arguments"),
        trained=checkpoint is not None,
    )  # fmt: skip


def read_again(
    dataset: Path | None,
    split: str,
    subset: str,
    model: str,
    weights: str,
    checkpoint: Path | None,
    arguments: str,
) -> dict[str, Any]:
    """Return data set and network, for layers whose maps are computed once more."""
    if dataset is None:
        return {}
    return {
        "dataset": read_dataset(dataset, split, subset),
        "model": read_network(model, weights, checkpoint, arguments).model,
    }
