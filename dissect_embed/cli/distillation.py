"""Commands of ``pipelines/distillation.smk``: static distillation, and what it is compared with."""

import logging
from pathlib import Path
from typing import Annotated, Literal

import typer

from dissect_embed.cli.options import Device, Log, Out, Threads, log_to, option, setting
from dissect_embed.config import Embedding
from dissect_embed.distillation.methods.registry import CONTROLS, METHODS
from dissect_embed.distillation.settings import Classes, Distillation

Data = Annotated[Path, typer.Argument(help="classes.h5.")]
Teacher = Annotated[
    Path | None,
    typer.Option(help="Of a trained network: the .pt that 'distil' wrote, or any state_dict."),
]
TeacherNetwork = Annotated[
    str | None,
    typer.Option(help="Of a --teacher from elsewhere: its name in the zoo, or package.module:f."),
]
Mean = Annotated[
    list[float] | None,
    typer.Option(help="Of red, green, blue, 0 to 1: three times. By default the images'."),
]
Std = Annotated[list[float] | None, typer.Option(help="As --mean.")]
P = Annotated[
    Path | None, typer.Option("--similarity", help="The file of P, for --control similarity.")
]
HeldOut = Annotated[
    int,
    typer.Option(
        min=0, help="Training images kept apart, and tested on in place of the test images."
    ),
]


def classes(
    output: Out,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with train/<class>/* and test/<class>/*, tar file of such, or CIFAR's "
            "folder of pickles; repeat for several parts."
        ),
    ] = None,
    download: Annotated[
        Path | None, typer.Option(help="Fetch CIFAR-100 into this folder, and decode it.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the data set; by default OUTPUT's folder's.")
    ] = None,
    background: list[int] = setting(Classes, "background"),
    orientation: str = setting(Classes, "orientation"),
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Decode images in class folders, such as CIFAR-100, into one file to distil on."""
    from dissect_embed.datasets.cifar import decode_classes, download_cifar100

    log_to(log)
    sources = [*(source or []), *([download_cifar100(download)] if download else [])]
    if not sources:
        msg = "nothing to decode: add --source PATH, or --download FOLDER to fetch CIFAR-100"
        raise typer.BadParameter(msg)
    reading = Classes(background=tuple(background), orientation=orientation)
    counts = decode_classes(
        sources, output, name or output.resolve().parent.name, n_jobs=threads,
        background=reading.background, orientation=reading.orientation,
    )  # fmt: skip
    logging.info("%s: %s", output, counts)


def shapes(
    output: Out,
    images_per_class: int = setting(Classes, "images_per_class"),
    test_images_per_class: int = setting(Classes, "test_images_per_class"),
    seed: int = setting(Classes, "seed"),
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Render the embedded data set of 100 classes to distil on, in place of CIFAR-100."""
    from dissect_embed.datasets.shapes import render_shapes

    log_to(log)
    settings = Classes(
        images_per_class=images_per_class, test_images_per_class=test_images_per_class, seed=seed
    )
    counts = render_shapes(
        output,
        settings.images_per_class,
        settings.test_images_per_class,
        seed=settings.seed,
        n_jobs=threads or -1,
    )
    logging.info("%s: %s", output, counts)


def prior(
    data: Data,
    output: Out,
    teacher: Teacher = None,
    teacher_network: TeacherNetwork = None,
    model: Annotated[
        str | None, typer.Option(help="Any other network, as 'activations' takes it.")
    ] = None,
    weights: Annotated[str, typer.Option(help="Of --model: a file, or torchvision's.")] = "random",
    layer: Annotated[
        list[str] | None,
        typer.Option(help="A module for each stage of a student; by default f1, f2, …"),
    ] = None,
    by: str = setting(Distillation, "similarity"),
    similarity: P = None,
    mean: Mean = None,
    std: Std = None,
    held_out: HeldOut = 0,
    dim: int = setting(Embedding, "dim"),
    epochs: int = setting(Embedding, "epochs"),
    steps_per_epoch: Annotated[
        int | None, typer.Option(help="By default the batches of 64 in the images.")
    ] = None,
    lr: float = setting(Embedding, "lr"),
    momentum: float = setting(Embedding, "momentum"),
    weight_decay: float = setting(Embedding, "weight_decay"),
    milestone: list[int] = option(Embedding, "milestones", "--milestone"),
    seed: int = 0,
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Learn the vectors of a teacher's units: all that a static student needs of it."""
    from dissect_embed.artefacts.files import open_artefact
    from dissect_embed.datasets.classes import count_classes
    from dissect_embed.device import choose_device
    from dissect_embed.distillation.jobs import make_prior
    from dissect_embed.embedding import schedule_of

    log_to(log)
    if steps_per_epoch is None:
        with open_artefact(data, "classes") as file:
            steps_per_epoch = -(-count_classes(file).n_train // 64)
    settings = Embedding(
        dim=dim, epochs=epochs, steps_per_epoch=steps_per_epoch, lr=lr, momentum=momentum,
        weight_decay=weight_decay, milestones=milestone, seeds=[seed],
    )  # fmt: skip
    made = make_prior(
        data, output, teacher_path=teacher, teacher_network=teacher_network, model=model,
        weights=weights, layers=layer or (),
        mean=mean or (), std=std or (), similarity=Distillation(similarity=by).similarity,
        similarity_path=similarity, held_out=held_out, device=choose_device(device),
        n_threads=threads, dim=dim, seed=seed, schedule=schedule_of(settings),
    )  # fmt: skip
    n_units = sum(len(vectors) for vectors in made.vectors.values())
    logging.info(
        "%s: %d units of %s, %s bytes", output, n_units, made.network,
        f"{output.stat().st_size:,}",
    )  # fmt: skip


def distil(
    data: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="result.json; result.pt lies beside it.")
    ],
    student: Annotated[
        str,
        typer.Option(help="One of the zoo, such as resnet20, or package.module:function."),
    ],
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}.")] = "plain",
    teacher: Teacher = None,
    teacher_network: TeacherNetwork = None,
    prior: Annotated[
        Path | None,
        typer.Option(help="That 'prior' made: skd's; others are told how far from it they end."),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(help=f"For skd, in place of S: {', '.join(CONTROLS)}."),
    ] = None,
    similarity: P = None,
    beta: Annotated[
        float | None,
        typer.Option(min=0, help="Weight of the method's loss; by default as published."),
    ] = None,
    temperature: Annotated[float, typer.Option(help="For skd: divides the cosines.")] = 1.0,
    seed: int = 0,
    schedule: Annotated[str, typer.Option(help="crd: 240 epochs. paper: 100.")] = "crd",
    epochs: Annotated[int | None, typer.Option(min=1, help="Fewer shorten the schedule.")] = None,
    mean: Mean = None,
    std: Std = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    held_out: HeldOut = 0,
    role: Annotated[
        str, typer.Option(help="teacher: draws other numbers than students of the same seed.")
    ] = "student",
    device: Device = "auto",
    checkpoint_every: Annotated[
        float, typer.Option(min=0, help="Seconds between checkpoints.")
    ] = 300.0,
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Train a network by any method; killed and started again, it goes on where it was."""
    import torch

    from dissect_embed.device import choose_device
    from dissect_embed.distillation.jobs import distil as train

    log_to(log)
    if threads:
        torch.set_num_threads(threads)
    result = train(
        data, output, student=student, method=method, teacher_path=teacher,
        teacher_network=teacher_network, prior_path=prior,
        similarity_path=similarity, control=control, beta=beta, temperature=temperature, seed=seed,
        schedule=schedule, epochs=epochs, mean=mean or (), std=std or (), precision=precision,
        held_out=held_out, role=role,
        device=choose_device(device), checkpoint_every=checkpoint_every,
    )  # fmt: skip
    logging.info(
        "%s: %s, %s, seed %d: %.2f %% of the %s images right",
        output, student, method, seed, 100 * result["accuracy"], result["tested_on"],
    )  # fmt: skip


def table1(
    folder: Annotated[Path, typer.Argument(help="results/<run>/distillation")],
    data: Data,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="table1.csv; table1.md lies beside it.")
    ],
    figure: Annotated[
        Path | None, typer.Option(help="The SVG to draw; the PNG lies beside it.")
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(
            help="TEACHER:STUDENT, as folders name them; repeat. By default all there are."
        ),
    ] = None,
    log: Log = None,
) -> None:
    """Put the results of all trainings into a table, and draw it."""
    from dissect_embed.distillation.results.names import Pair, read_network
    from dissect_embed.distillation.results.page import write_markdown
    from dissect_embed.distillation.results.table import build_table, write_csv
    from dissect_embed.figures.table1 import draw_table1

    log_to(log)
    pairs = []
    for text in pair or []:
        names = text.split(":")
        if len(names) != 2 or not all(names):
            msg = f"--pair {text}: expected TEACHER:STUDENT, for example resnet56:resnet20"
            raise typer.BadParameter(msg)
        pairs.append(Pair(*map(read_network, names)))
    table = build_table(folder, data, pairs)
    write_csv(output, table)
    write_markdown(output.with_suffix(".md"), table)
    if figure is not None:
        draw_table1(table, figure.with_suffix(""))
    n_run = sum(bool(cell.seeds) for cell in table.cells.values())
    logging.info("%s: %d of %d cells were run", output, n_run, len(table.cells))
