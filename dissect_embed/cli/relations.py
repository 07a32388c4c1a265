"""Commands that show how units relate, in numbers and pictures."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dissect_embed.cli.dissecting import Again, read_again
from dissect_embed.cli.options import (
    Checkpoint,
    Data,
    Device,
    Expect,
    Log,
    Out,
    Split,
    Weights,
    log_to,
    read_expected,
    read_network,
)

Network = Annotated[str, typer.Option(help="For layers that are not cached.")]
Layer = Annotated[str | None, typer.Option(help="By default the last that was probed.")]


def relations(
    activations: Path,
    profiles: Path,
    embedding: Path,
    output: Out,
    pairs: Annotated[Path, typer.Option(help="The table of additive pairs to write.")],
    dataset: Again = None,
    split: Split = "all",
    model: Network = "resnet18",
    weights: Weights = "random",
    checkpoint: Checkpoint = None,
    expect: Expect = [],  # noqa: B006
    device: Device = "auto",
    log: Log = None,
) -> None:
    """Tell each unit's nearest units, whether they fire together, and which pairs add up."""
    from dissect_embed.relations import write_relations

    log_to(log)
    again = read_again(dataset, split, model, weights, checkpoint)
    write_relations(
        output, pairs, activations, profiles, embedding, expected=read_expected(expect),
        device=device, **again,
    )  # fmt: skip
    logging.info("%s: done", output)


def figure2(
    activations: Path,
    profiles: Path,
    embedding: Path,
    labels: Path,
    dataset: Data,
    output: Out,
    split: Split = "all",
    layer: Layer = None,
    unit: Annotated[list[int], typer.Option(help="A unit to draw; repeat for more.")] = [],  # noqa: B006
    image: Annotated[list[str], typer.Option(help="An image to draw; repeat for more.")] = [],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Draws units where none is named.")] = 0,
    model: Network = "resnet18",
    weights: Weights = "random",
    checkpoint: Checkpoint = None,
    log: Log = None,
) -> None:
    """Draw units beside their nearest by semantic vector; OUTPUT names the SVG."""
    from dissect_embed.figures.figure2 import draw_figure2

    log_to(log)
    again = (model, weights, checkpoint)
    with _gallery(activations, profiles, embedding, labels, dataset, split, layer, again) as opened:
        gallery, file, vectors = opened
        stem = output.with_suffix("")
        draw_figure2(gallery, file, vectors, stem, units=unit, images=image, seed=seed)
    logging.info("%s: done", output)


def figure3(
    activations: Path,
    profiles: Path,
    embedding: Path,
    labels: Path,
    dataset: Data,
    output: Out,
    split: Split = "all",
    layer: Layer = None,
    model: Network = "resnet18",
    weights: Weights = "random",
    checkpoint: Checkpoint = None,
    log: Log = None,
) -> None:
    """Draw pairs of units whose vectors add up to a third's; OUTPUT names the SVG."""
    from dissect_embed.figures.figure3 import draw_figure3

    log_to(log)
    again = (model, weights, checkpoint)
    with _gallery(activations, profiles, embedding, labels, dataset, split, layer, again) as opened:
        gallery, file, vectors = opened
        draw_figure3(gallery, file, vectors, output.with_suffix(""))
    logging.info("%s: done", output)


def export(
    activations: Path,
    profiles: Path,
    embedding: Path,
    labels: Path,
    dataset: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="vectors.npz, to be written.")],
    projector: Annotated[Path, typer.Option(help="The projector's folder, to be written.")],
    split: Split = "all",
    model: Network = "resnet18",
    weights: Weights = "random",
    checkpoint: Checkpoint = None,
    log: Log = None,
) -> None:
    """Write the vectors for other tools: NumPy, and TensorBoard's projector."""
    import h5py

    from dissect_embed.artefacts.files import layer_names
    from dissect_embed.export import write_npz, write_projector

    log_to(log)
    again = (model, weights, checkpoint)
    with _gallery(activations, profiles, embedding, labels, dataset, split, None, again) as opened:
        gallery, file, _ = opened
        with h5py.File(embedding) as vectors:
            layers = layer_names(vectors)
            write_projector(projector, (gallery.of_layer(file, k) for k in layers), vectors)
            write_npz(output, file, vectors)
    logging.info("%s, %s: done", output, projector)


def atlas(
    profiles: Path,
    embedding: Path,
    relations: Annotated[Path, typer.Argument(help="relations.csv.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    activations: Annotated[Path | None, typer.Option(help="With pictures: activations.h5,")] = None,
    labels: Annotated[Path | None, typer.Option(help="labels.h5,")] = None,
    dataset: Annotated[Path | None, typer.Option(help="and the folder with index.csv.")] = None,
    split: Split = "all",
    model: Network = "resnet18",
    weights: Weights = "random",
    checkpoint: Checkpoint = None,
    log: Log = None,
) -> None:
    """Make a page in which every unit can be explored; it opens from disk, without a network."""
    from dissect_embed.artefacts.disk import format_bytes
    from dissect_embed.atlas.making import write_atlas

    log_to(log)
    given = [option is not None for option in (activations, labels, dataset)]
    if any(given) and not all(given):
        msg = "pictures need --activations, --labels and --dataset; without all three, give none"
        raise typer.BadParameter(msg)
    if activations and labels and dataset:
        again = (model, weights, checkpoint)
        with _gallery(
            activations, profiles, embedding, labels, dataset, split, None, again
        ) as opened:
            size = write_atlas(output, profiles, embedding, relations, opened[0])
    else:
        size = write_atlas(output, profiles, embedding, relations, None)
    logging.info("%s: %s", output / "index.html", format_bytes(size))


@contextmanager
def _gallery(
    activations: Path,
    profiles: Path,
    embedding: Path,
    labels: Path,
    root: Path,
    split: str,
    layer: str | None,
    again: tuple[str, str, Path | None],
) -> Iterator[tuple[Any, Any, Any]]:
    """Open what pictures of units need: a gallery, ``profiles.h5`` and the vectors."""
    import torch

    from dissect_embed.artefacts.files import check_made_from, layer_names, open_artefact
    from dissect_embed.artefacts.labels import open_labels
    from dissect_embed.artefacts.profiles import open_profiles
    from dissect_embed.datasets.broden import load_broden
    from dissect_embed.figures.gallery import open_gallery
    from dissect_embed.networks.replay import prepare_replay

    dataset = load_broden(root, split)
    with (
        open_artefact(activations, "activations") as source,
        open_profiles(profiles) as file,
        open_artefact(embedding, "embedding") as vectors,
        open_labels(labels) as opened,
    ):
        check_made_from(vectors, "profiles", file.fingerprint, str(profiles))
        stored = all("activations" in source[f"layers/{name}"] for name in layer_names(source))
        replay = None
        if not stored:
            replay = prepare_replay(source, read_network(*again), dataset, "cpu")
        gallery = open_gallery(source, file, opened, dataset, replay, layer)
        yield gallery, file, torch.from_numpy(vectors[f"layers/{gallery.layer}/vectors"][0])
