"""Commands from labelled images to the profiles of units."""

import json
import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dissect_embed.cli.options import (
    Checkpoint,
    Data,
    Device,
    Expect,
    Layers,
    Log,
    Out,
    Split,
    Weights,
    log_to,
    read_expected,
    read_network,
)

Name = Annotated[str, typer.Option(help="The data set's name in titles.")]
Again = Annotated[
    Path | None,
    typer.Option("--dataset", help="For layers that are not cached: the folder with index.csv."),
]


def labels(
    dataset: Data, output: Out, name: Name = "", split: Split = "all", log: Log = None
) -> None:
    """Decode all label maps of the data set, once for all networks."""
    from dissect_embed.datasets.broden import load_broden
    from dissect_embed.labels import write_labels

    log_to(log)
    data = load_broden(dataset, split)
    config = {"dataset": {"name": name or dataset.name, "split": split, "images": len(data.rows)}}
    write_labels(output, data, config=config)
    logging.info("%s: %d images, %d concepts", output, len(data.rows), len(data.concepts))


def activations(
    dataset: Data,
    output: Out,
    layer: Layers,
    name: Name = "",
    split: Split = "all",
    model: str = "resnet18",
    weights: Weights = "random",
    checkpoint: Checkpoint = None,
    batch_size: int = 16,
    dtype: Literal["float16", "float32"] = "float16",
    compression: Literal["none", "gzip", "lz4", "zstd"] = "none",
    precision: Annotated[
        Literal["float32", "tf32", "bfloat16"],
        typer.Option(help="What the network computes in; tf32 on CUDA devices only."),
    ] = "float32",
    cache: Annotated[
        list[str],
        typer.Option(help="'all', 'none', or a layer whose maps to store; repeat for more."),
    ] = ["all"],  # noqa: B006
    shard: Annotated[str, typer.Option(help="2-of-7: only this part of the images.")] = "",
    device: Device = "auto",
    log: Log = None,
) -> None:
    """Run the network over the data set and keep what its layers put out."""
    from dissect_embed.activations import write_activations
    from dissect_embed.datasets.broden import load_broden

    log_to(log)
    network = read_network(model, weights, checkpoint)
    provenance = _weights_provenance(checkpoint)
    data = load_broden(dataset, split)
    settings: dict[str, Any] = {
        "batch_size": batch_size, "dtype": dtype, "compression": compression, "precision": precision
    }  # fmt: skip
    config: dict[str, Any] = {
        "dataset": {"name": name or dataset.name, "split": split, "images": len(data.rows)},
        "model": {"name": model, "weights": weights},
        "layers": layer,
        "activations": settings,
    }
    cached = layer if cache == ["all"] else [] if cache == ["none"] else cache
    write_activations(
        output, data, network, layer, config=config, **settings,
        cached=cached, shard=shard or None, weights_provenance=provenance, device=device,
    )  # fmt: skip
    logging.info("%s: layers %s", output, ", ".join(layer))


def _weights_provenance(checkpoint: Path | None) -> dict[str, Any] | None:
    import torch

    if checkpoint is None:
        return None
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return dict(json.loads(content["provenance"])) if "provenance" in content else None


def thresholds(
    activations: Path,
    output: Out,
    quantile: float = 0.005,
    dataset: Again = None,
    split: Split = "all",
    model: str = "resnet18",
    weights: Weights = "random",
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    log: Log = None,
) -> None:
    """Find the thresholds of all units, for shards to be dissected with."""
    from dissect_embed.dissection import write_thresholds

    log_to(log)
    again = read_again(dataset, split, model, weights, checkpoint)
    write_thresholds(output, activations, quantile=quantile, device=device, **again)
    logging.info("%s: done", output)


def dissect(
    activations: Path,
    labels: Path,
    output: Out,
    quantile: float = 0.005,
    detector_iou: float = 0.04,
    null_seed: Annotated[int, typer.Option(help="Draws what masks meet by chance.")] = 0,
    thresholds: Annotated[Path | None, typer.Option(help="For shards: those of all.")] = None,
    dataset: Again = None,
    split: Split = "all",
    model: str = "resnet18",
    weights: Weights = "random",
    checkpoint: Checkpoint = None,
    expect: Expect = [],  # noqa: B006
    device: Device = "auto",
    log: Log = None,
) -> None:
    """Score every unit by its IoU with every concept."""
    from dissect_embed.dissection import write_profiles

    log_to(log)
    again = read_again(dataset, split, model, weights, checkpoint)
    write_profiles(
        output, activations, labels, quantile=quantile, detector_iou=detector_iou,
        null_seed=null_seed, thresholds_path=thresholds, expected=read_expected(expect),
        device=device, **again,
    )  # fmt: skip
    logging.info("%s: done", output)


def read_again(
    dataset: Path | None, split: str, model: str, weights: str, checkpoint: Path | None
) -> dict[str, Any]:
    """Return data set and network, for layers whose maps are computed once more."""
    from dissect_embed.datasets.broden import load_broden

    if dataset is None:
        return {}
    return {
        "dataset": load_broden(dataset, split),
        "model": read_network(model, weights, checkpoint),
    }


def gather(
    stage: Literal["activations", "profiles", "similarity"],
    shards: list[Path],
    output: Out,
    log: Log = None,
) -> None:
    """Put the files of all shards together."""
    from dissect_embed.gathering import gather as gather_files

    log_to(log)
    gather_files(output, shards, stage)
    logging.info("%s: %d shards", output, len(shards))


def units(profiles: Path, output: Out, log: Log = None) -> None:
    """Write a table of the units and their best concepts."""
    from dissect_embed.tally import write_units

    log_to(log)
    write_units(output, profiles)
    logging.info("%s: done", output)
