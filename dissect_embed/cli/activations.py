"""Commands of ``pipelines/activations.smk``: the network, and what its layers put out."""

import json
import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dissect_embed.cli.options import (
    Arguments,
    Axes,
    Checkpoint,
    Chosen,
    Data,
    Device,
    Given,
    Layers,
    Log,
    Name,
    Network,
    Out,
    PrefixTokens,
    Split,
    Threads,
    Weights,
    log_to,
    read_dataset,
    read_network,
    read_yaml,
    setting,
)
from dissect_embed.config import Activations
from dissect_embed.networks.settings import Model, ModelInput


def train(
    dataset: Data,
    output: Out,
    model: Network = "resnet18",
    arguments: Arguments = "",
    given: Given = "",
    subset: Chosen = "",
    epochs: int = setting(Model, "epochs"),
    seed: int = 0,
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Train a network on the data set's train split to tell which concepts are present."""
    from dissect_embed.errors import DatasetError
    from dissect_embed.pretraining import train_model

    log_to(log)
    settings = Model(
        name=model, arguments=read_yaml(arguments, "--arguments"),
        input=ModelInput(**read_yaml(given, "--input")), epochs=epochs,
    )  # fmt: skip
    split = read_dataset(dataset, "train", subset)
    try:
        val = read_dataset(dataset, "val", subset)
    except DatasetError:
        val = None  # no split to hold out: the provenance says so
    done = train_model(output, settings, split, val, seed=seed, device=device, n_threads=threads)
    logging.info("%s: %s", output, json.dumps(done))


def activations(
    dataset: Data,
    output: Out,
    layer: Layers,
    name: Name = "",
    split: Split = "all",
    subset: Chosen = "",
    model: Network = "resnet18",
    weights: Weights = "random",
    checkpoint: Checkpoint = None,
    arguments: Arguments = "",
    given: Given = "",
    axes: Axes = "",
    prefix_tokens: PrefixTokens = None,
    batch_size: int = setting(Activations, "batch_size"),
    dtype: str = setting(Activations, "dtype"),
    compression: str = setting(Activations, "compression"),
    precision: str = setting(Activations, "precision"),
    cache: Annotated[
        list[str],
        typer.Option(help="'all', 'none', or a layer whose maps to store; repeat for more."),
    ] = ["all"],  # noqa: B006
    shard: Annotated[str, typer.Option(help="2-of-7: only this part of the images.")] = "",
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Run the network over the data set and keep what its layers put out."""
    from dissect_embed.activations import write_activations

    log_to(log)
    settings = Activations(
        batch_size=batch_size, dtype=dtype, compression=compression, precision=precision,
        cache=cache[0] if cache in (["all"], ["none"]) else cache,
    )  # fmt: skip
    of_model = Model(
        name=model, weights=weights, arguments=read_yaml(arguments, "--arguments"),
        input=ModelInput(**read_yaml(given, "--input")), layers=tuple(layer),
        axes=read_yaml(axes, "--axes"), prefix_tokens=prefix_tokens,
    )  # fmt: skip
    loaded = read_network(model, weights, checkpoint, arguments)
    write_activations(
        output, read_dataset(dataset, split, subset), loaded.model, of_model, settings,
        name=name, shard=shard or None, missing=loaded.missing,
        weights_provenance=_weights_provenance(checkpoint) or {"taken": loaded.note}
        if loaded.note else None, device=device, n_threads=threads,
    )  # fmt: skip
    logging.info("%s: layers %s", output, ", ".join(layer))


def _weights_provenance(checkpoint: Path | None) -> dict[str, Any] | None:
    import torch

    if checkpoint is None:
        return None
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return dict(json.loads(content["provenance"])) if "provenance" in content else None


def gather(
    stage: Literal["activations", "profiles", "chance", "similarity"],
    shards: list[Path],
    output: Out,
    activations: Annotated[
        Path | None, typer.Option(help="Those of all shards; for every stage but this.")
    ] = None,
    profiles: Annotated[Path | None, typer.Option(help="Of all shards, for chance.")] = None,
    log: Log = None,
) -> None:
    """Put the files of all shards together."""
    from dissect_embed.gathering import gather as gather_files

    log_to(log)
    gather_files(output, shards, stage, activations_path=activations, profiles_path=profiles)
    logging.info("%s: %d shards", output, len(shards))
