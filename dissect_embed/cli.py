"""The command line: ``dissect-embed STAGE …``. Parses, calls one function, prints one line."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dissect_embed.errors import DissectEmbedError, ModelError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Dissect a vision network, embed its units, and measure how much meaning they hold.",
)

Layers = Annotated[list[str], typer.Option("--layer", help="A module to probe; repeat for more.")]
Out = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]
Log = Annotated[Path | None, typer.Option(help="Write notes to this file as well.")]
Data = Annotated[Path, typer.Option("--dataset", help="Folder with index.csv.")]
Split = Annotated[str, typer.Option(help="Split of the index, or 'all'.")]


def _start(log: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log, mode="w"))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers, force=True)


@app.command()
def mini(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    images: Annotated[int, typer.Option(min=10)] = 2000,
    seed: int = 0,
    log: Log = None,
) -> None:
    """Render the embedded data set in Broden's format."""
    from dissect_embed.datasets.mini import render_mini

    _start(log)
    render_mini(output, n_images=images, seed=seed)
    logging.info("%s: %d images", output, images)


@app.command()
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

    _start(log)
    fetch_file(source, archive, sha256=sha256 or None, size=None)
    unpack_zip(archive, output)
    found = len(load_broden(output).rows)
    if rows is not None and found != rows:
        msg = f"{output / 'index.csv'}: {found} rows, expected {rows}; fetch the archive again"
        raise DatasetError(msg)
    logging.info("%s: %d images", output, found)


@app.command()
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

    _start(log)
    split = load_broden(dataset, "train")
    try:
        val = load_broden(dataset, "val")
    except DatasetError:
        val = None  # no split to hold out: the provenance says so
    done = train_model(output, model, split, val, epochs=epochs, seed=seed)
    logging.info("%s: %s", output, json.dumps(done))


@app.command()
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
    batch_size: int = 64,
    dtype: str = "float16",
    compression: str = "none",
    log: Log = None,
) -> None:
    """Run the network over the data set and keep what its layers put out."""
    from dissect_embed.activations import COMPRESSIONS, write_activations
    from dissect_embed.datasets.broden import load_broden
    from dissect_embed.models import build_model

    _start(log)
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


Expect = Annotated[
    list[str],
    typer.Option("--expect", help="KEY=VALUE that the input must have been made with."),
]


def _expected(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            msg = f"--expect {pair}: expected KEY=VALUE, for example model.weights=random"
            raise typer.BadParameter(msg)
    return dict(pair.split("=", 1) for pair in pairs)


@app.command()
def dissect(
    activations: Path,
    dataset: Data,
    output: Out,
    split: Split = "all",
    quantile: float = 0.005,
    detector_iou: float = 0.04,
    expect: Expect = [],  # noqa: B006
    log: Log = None,
) -> None:
    """Score every unit by its IoU with every concept."""
    from dissect_embed.datasets.broden import load_broden
    from dissect_embed.dissection import write_profiles

    _start(log)
    write_profiles(
        output, activations, load_broden(dataset, split), quantile=quantile,
        detector_iou=detector_iou, expected=_expected(expect),
    )  # fmt: skip
    logging.info("%s: done", output)


@app.command()
def units(profiles: Path, output: Out, log: Log = None) -> None:
    """Write a table of the units and their best concepts."""
    from dissect_embed.units import write_units

    _start(log)
    write_units(output, profiles)
    logging.info("%s: done", output)


@app.command()
def similarity(activations: Path, output: Out, expect: Expect = [], log: Log = None) -> None:  # noqa: B006
    """Measure how alike the units of each layer fire: the mean target P."""
    from dissect_embed.similarity import write_similarity

    _start(log)
    write_similarity(output, activations, expected=_expected(expect))
    logging.info("%s: done", output)


@app.command()
def embed(
    similarity: Path,
    profiles: Path,
    output: Out,
    activations: Annotated[Path | None, typer.Option(help="For --target minibatch.")] = None,
    dim: int = 16,
    target: str = "mean",
    epochs: int = 100,
    steps_per_epoch: int = 100,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    milestone: list[int] = [50, 75, 90],  # noqa: B006
    seed: list[int] = [0, 1, 2],  # noqa: B006
    expect: Expect = [],  # noqa: B006
    log: Log = None,
) -> None:
    """Learn a vector for every unit, without labels and supervised."""
    from dissect_embed.embedding import Schedule, write_embedding

    _start(log)
    schedule = Schedule(epochs, steps_per_epoch, lr, momentum, weight_decay, tuple(milestone))
    write_embedding(
        output, similarity, profiles, activations_path=activations, dim=dim, target=target,
        schedule=schedule, seeds=seed, expected=_expected(expect),
    )  # fmt: skip
    logging.info("%s: done", output)


@app.command()
def controls(
    profiles: Path,
    similarity: Path,
    embedding: Path,
    output: Out,
    expect: Expect = [],  # noqa: B006
    log: Log = None,
) -> None:
    """Set the vectors beside what chance gives: permutations of the units."""
    from dissect_embed.scoring import write_controls

    _start(log)
    write_controls(output, profiles, similarity, embedding, expected=_expected(expect))
    logging.info("%s: done", output)


@app.command()
def score(
    profiles: Path,
    similarity: Path,
    embedding: Path,
    controls: Path,
    output: Out,
    expect: Expect = [],  # noqa: B006
    log: Log = None,
) -> None:
    """Score the vectors against the profiles along training."""
    from dissect_embed.scoring import write_scores

    _start(log)
    write_scores(output, profiles, similarity, embedding, controls, expected=_expected(expect))
    logging.info("%s: done", output)


@app.command()
def figure4(scores: Path, profiles: Path, output: Out, log: Log = None) -> None:
    """Draw Figure 4; OUTPUT names the SVG, the PNG lies beside it."""
    from dissect_embed.figures.figure4 import draw_figure4

    _start(log)
    draw_figure4(scores, profiles, output.with_suffix(""))
    logging.info("%s: done", output)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="An HDF5 file of a run, e.g. profiles.h5.")],
    concept: Annotated[
        str | None,
        typer.Option(help="Units (profiles.h5) or images (activations.h5) that have it."),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(help="LAYER:UNIT. Its concepts (profiles.h5) or top images (activations.h5)."),
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="The labels, for --concept on activations.h5.")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Rows of an answer, by default 10.")
    ] = None,
) -> None:
    """Say what a file is and holds, or what it knows of a unit or a concept."""
    from dissect_embed.inspection import print_inspection

    _start(None)
    print_inspection(file, concept=concept, unit=unit, dataset=dataset, top=top)


@app.command()
def summary(run: Annotated[Path, typer.Argument(help="results/<run>")]) -> None:
    """Print where a run's files are, and a line a layer."""
    from dissect_embed.scoring import summarise

    lines = summarise(run / "scores.csv")
    for path in sorted(p for p in run.rglob("*") if p.is_file() and p.parent.name != "logs"):
        typer.echo(str(path))
    typer.echo(lines)


def main() -> None:
    """Run the command line; a user's mistake is one line, without a stack trace."""
    try:
        app()
    except (DissectEmbedError, FloatingPointError, OSError) as error:
        logging.error("error: %s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
