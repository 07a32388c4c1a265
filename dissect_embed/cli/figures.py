"""Commands of ``pipelines/figures.smk``: how units relate, in numbers and pictures."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from dissect_embed.cli.options import (
    Device,
    Expect,
    Log,
    Moved,
    RunFolder,
    Similarity,
    Threads,
    log_to,
    option,
    read_expected,
    setting,
)
from dissect_embed.config import Dissection, Figure2

Layer = Annotated[str | None, typer.Option(help="By default the last that was probed.")]
Svg = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The SVG, by default in RUN/figures; a PNG lies beside."),
]


def figure4(run: RunFolder, output: Svg = None, log: Log = None) -> None:
    """Draw Figure 4: the score along training."""
    from dissect_embed.artefacts.folder import RunFolder as Folder
    from dissect_embed.figures.figure4 import draw_figure4

    log_to(log)
    output = output or run / "figures/figure4.svg"
    draw_figure4(Folder(run), output.with_suffix(""))
    logging.info("%s: done", output.with_suffix(".svg"))


def detectors(
    run: RunFolder,
    output: Svg = None,
    detector_iou: float = setting(Dissection, "detector_iou"),
    log: Log = None,
) -> None:
    """Draw the concepts that units detect; a CSV lies beside the SVG, too."""
    from dissect_embed.artefacts.folder import RunFolder as Folder
    from dissect_embed.figures.detectors import draw_detectors

    log_to(log)
    settings = Dissection(detector_iou=detector_iou)
    output = output or run / "figures/detectors.svg"
    draw_detectors(Folder(run), output.with_suffix(""), settings)
    logging.info("%s: done", output.with_suffix(".svg"))


def relations(
    run: RunFolder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default RUN/relations.csv.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="By default pairs.csv beside OUTPUT.")] = None,
    overlap: Annotated[
        Path | None, typer.Option(help="By default overlap.csv beside OUTPUT.")
    ] = None,
    dataset: Moved = None,
    expect: Expect = [],  # noqa: B006
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Report each unit's nearest units, whether they fire together, and which pairs add up."""
    from dissect_embed.relations import write_relations
    from dissect_embed.run import Run

    log_to(log)
    output = output or run / "relations.csv"
    pairs = pairs or output.with_name("pairs.csv")
    overlap = overlap or output.with_name("overlap.csv")
    write_relations(
        Run(run), output, pairs, overlap, dataset=dataset, expected=read_expected(expect),
        device=device, n_threads=threads,
    )  # fmt: skip
    logging.info("%s, %s, %s: done", output, pairs, overlap)


def figure2(
    run: RunFolder,
    output: Svg = None,
    layer: Layer = None,
    similarity: Similarity = None,
    unit: list[int] = option(Figure2, "units", "--unit"),
    image: list[str] = option(Figure2, "images", "--image"),
    seed: int = setting(Figure2, "seed"),
    dataset: Moved = None,
    device: Device = "auto",
    log: Log = None,
) -> None:
    """Draw units beside their nearest by semantic vector."""
    from dissect_embed.figures.figure2 import draw_figure2
    from dissect_embed.run import Run

    log_to(log)
    settings = Figure2(units=unit, images=image, seed=seed)
    output = output or run / "figures/figure2.svg"
    stem = output.with_suffix("")
    draw_figure2(
        Run(run), stem, settings, layer=layer, similarity=similarity, dataset=dataset,
        device=device,
    )  # fmt: skip
    logging.info("%s: done", output.with_suffix(".svg"))


def figure3(
    run: RunFolder,
    output: Svg = None,
    layer: Layer = None,
    similarity: Similarity = None,
    image: list[str] = option(Figure2, "images", "--image"),
    dataset: Moved = None,
    device: Device = "auto",
    log: Log = None,
) -> None:
    """Draw pairs of units whose vectors add up to a third's."""
    from dissect_embed.figures.figure3 import draw_figure3
    from dissect_embed.run import Run

    log_to(log)
    output = output or run / "figures/figure3.svg"
    stem = output.with_suffix("")
    draw_figure3(
        Run(run), stem, layer=layer, similarity=similarity, images=image, dataset=dataset,
        device=device,
    )  # fmt: skip
    logging.info("%s: done", output.with_suffix(".svg"))


def export(
    run: RunFolder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default RUN/vectors.npz.")
    ] = None,
    projector: Annotated[
        Path | None,
        typer.Option(help="The projector's folder, by default projector beside OUTPUT."),
    ] = None,
    dataset: Moved = None,
    device: Device = "auto",
    log: Log = None,
) -> None:
    """Write the vectors for other tools: NumPy, and TensorBoard's projector."""
    from dissect_embed.export import write_npz, write_projector
    from dissect_embed.run import Run

    log_to(log)
    opened = Run(run)
    output = output or run / "vectors.npz"
    projector = projector or output.with_name("projector")
    write_projector(opened, projector, dataset=dataset, device=device)
    write_npz(opened, output)
    logging.info("%s, %s: done", output, projector)


def atlas(
    run: RunFolder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder, by default RUN/atlas.")
    ] = None,
    similarity: Similarity = None,
    pictures: Annotated[bool, typer.Option(help="Without, no image is read.")] = True,
    detector_iou: float = setting(Dissection, "detector_iou"),
    dataset: Moved = None,
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Make a page in which every unit can be explored; it opens from disk, without a network."""
    from dissect_embed.artefacts.disk import format_bytes
    from dissect_embed.atlas.making import write_atlas
    from dissect_embed.run import Run

    log_to(log)
    settings = Dissection(detector_iou=detector_iou)
    output = output or run / "atlas"
    size = write_atlas(
        Run(run), output, settings, similarity=similarity, pictures=pictures, dataset=dataset,
        device=device, n_threads=threads,
    )  # fmt: skip
    logging.info("%s: %s", output / "index.html", format_bytes(size))
