"""Commands that make a data set, a network, and its activations."""

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from dissect_embed.cli.options import Data, Layers, Log, Out, Split, log_to
from dissect_embed.errors import ModelError


def mini(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    images: Annotated[int, typer.Option(min=10)] = 2000,
    seed: int = 0,
    log: Log = None,
) -> None:
    """Render the embedded data set in Broden's format."""
    from dissect_embed.datasets.mini import render_mini

    log_to(log)
    render_mini(output, n_images=images, seed=seed)
    logging.info("%s: %d images", output, images)


def fetch(
    source: Annotated[list[str], typer.Option(help="URL or path; repeat for mirrors.")],
    archive: Annotated[Path, typer.Option(help="Where the zip file goes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    sha256: str | None = None,
    rows: Annotated[int | None, typer.Option(help="Rows that the index must have.")] = None,
    log: Log = None,
) -> None:
    """Fetch a data set in Broden's format, unpack it and check it."""
    from dissect_embed.datasets.broden import load_broden
    from dissect_embed.datasets.fetch import fetch_file
    from dissect_embed.datasets.unpack import unpack_zip
    from dissect_embed.errors import DatasetError

    log_to(log)
    fetch_file(source, archive, sha256=sha256 or None, size=None)
    unpack_zip(archive, output)
    found = len(load_broden(output).rows)
    if rows is not None and found != rows:
        msg = f"{output / 'index.csv'}: {found} rows, expected {rows}; fetch the archive again"
        raise DatasetError(msg)
    logging.info("%s: %d images", output, found)


def train(
    dataset: Data,
    output: Out,
    model: str = "resnet18",
    epochs: int = 3,
    seed: int = 0,
    log: Log = None,
) -> None:
    """Train a network on the data set's train split to tell which concepts are present."""
    from dissect_embed.datasets.broden import load_broden
    from dissect_embed.errors import DatasetError
    from dissect_embed.pretraining import train_model

    log_to(log)
    split = load_broden(dataset, "train")
    try:
        val = load_broden(dataset, "val")
    except DatasetError:
        val = None  # no split to hold out: the provenance says so
    done = train_model(output, model, split, val, epochs=epochs, seed=seed)
    logging.info("%s: %s", output, json.dumps(done))


def activations(
    dataset: Data,
    output: Out,
    layer: Layers,
    name: Annotated[str, typer.Option(help="The data set's name in titles.")] = "",
    split: Split = "all",
    model: str = "resnet18",
    weights: str = "random",
    checkpoint: Annotated[
        Path | None, typer.Option(help="The file made by 'train', for --weights trained.")
    ] = None,
    batch_size: int = 32,
    dtype: str = "float16",
    compression: str = "none",
    log: Log = None,
) -> None:
    """Run the network over the data set and keep what its layers put out."""
    from dissect_embed.activations import COMPRESSIONS, write_activations
    from dissect_embed.datasets.broden import load_broden
    from dissect_embed.models import build_model

    log_to(log)
    if dtype not in ("float16", "float32") or compression not in COMPRESSIONS:
        msg = (
            f"--dtype {dtype} --compression {compression}: expected float16 or float32, "
            f"and one of {', '.join(COMPRESSIONS)}"
        )
        raise ModelError(msg)
    if weights == "trained" and checkpoint is None:
        msg = "--weights trained needs --checkpoint, the file that 'dissect-embed train' makes"
        raise ModelError(msg)
    network = build_model(model, str(checkpoint) if checkpoint else weights)
    provenance = _weights_provenance(checkpoint)
    data = load_broden(dataset, split)
    config: dict[str, Any] = {
        "dataset": {"name": name or dataset.name, "split": split, "images": len(data.rows)},
        "model": {"name": model, "weights": weights},
        "layers": layer,
        "activations": {"batch_size": batch_size, "dtype": dtype, "compression": compression},
    }
    write_activations(
        output, data, network, layer, config=config, batch_size=batch_size, dtype=dtype,
        compression=compression, weights_provenance=provenance,
    )  # fmt: skip
    logging.info("%s: %d images, layers %s", output, len(data.rows), ", ".join(layer))


def _weights_provenance(checkpoint: Path | None) -> dict[str, Any] | None:
    import torch

    if checkpoint is None:
        return None
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return dict(json.loads(content["provenance"])) if "provenance" in content else None
