"""Print what a file is and holds, or the answer to a question about a unit or a concept."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from dissect_embed.artefacts.disk import format_bytes
from dissect_embed.artefacts.files import open_artefact, open_hdf5
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.headers import read_header
from dissect_embed.errors import ArtefactError
from dissect_embed.inspection.answers import ANSWERS, Asked
from dissect_embed.inspection.compositions import show_formula, show_formulas
from dissect_embed.inspection.evidence import show_evidence, show_unit
from dissect_embed.inspection.files import explain_damage, show_datasets, show_header
from dissect_embed.inspection.overviews import OVERVIEWS
from dissect_embed.inspection.tables import Part, heading, open_console, pairs, settings, table

# Of a layer, without --top.
TOP_CONCEPTS = 5


def print_inspection(
    path: Path,
    *,
    concept: str | None = None,
    unit: str | None = None,
    dataset: Path | None = None,
    top: int | None = None,
    detector_iou: float = 0.04,
    console: Console | None = None,
) -> None:
    """Print what a file is and holds, or answer one question from it.

    Parameters
    ----------
    path
        An HDF5 file, or the folder of a run.
    concept
        ``profiles.h5``: print the units that have it. ``activations.h5``: the images.
    unit
        ``LAYER:UNIT``. ``profiles.h5``: print its concepts. ``activations.h5``: its top images.
    dataset
        Folder of the data set whose labels say which images contain the concept.
    top
        The most rows of an answer, or the top concepts of each layer of ``profiles.h5``.
    detector_iou
        The best IoU from which on a unit counts as a detector.
    console
        By default standard output.

    Raises
    ------
    ArtefactError
        If the file is missing or damaged, has no such layer, unit or concept, or cannot answer.
    DatasetError
        If the data set is damaged.
    """
    if concept is not None and unit is not None:
        msg = "--concept and --unit are two questions; ask one at a time"
        raise ArtefactError(msg)
    option = "--concept" if concept is not None else "--unit" if unit is not None else ""
    asked = Asked(option, concept or unit or "", dataset, top, detector_iou)
    # Everything is read before anything is printed: a damaged file gives one line.
    parts = list((_inspect_run if path.is_dir() else _inspect_file)(path, asked))
    console = console or open_console()
    for part in parts:
        console.print(part)


def _inspect_run(folder: Path, asked: Asked) -> Iterator[Part]:
    """Yield the files of a run and what its profiles hold, or what both know of a question."""
    run = RunFolder(folder)
    if asked.dataset is not None:
        msg = f"{folder}: --dataset goes with --concept on activations.h5; leave it out"
        raise ArtefactError(msg)
    if asked.option:
        yield from _inspect_file(run.need("profiles"), asked)
        if asked.option == "--unit" and "activations" in run.kinds:
            yield from _inspect_file(run.path("activations"), asked)
        if asked.option == "--unit" and "evidence" in run.kinds:
            yield from show_unit(run, asked.wanted)
        if asked.option == "--unit" and "compositions" in run.kinds:
            yield from show_formula(run, asked.wanted)
        return
    run.check()
    rows = []
    for path in map(run.path, run.kinds):
        made_from = ", ".join(run.header(path.stem)["made_from"])
        rows.append((path.name, format_bytes(path.stat().st_size), made_from or "-"))
    yield heading(str(folder))
    yield table(("file", "on disk>", "made from"), rows)
    yield pairs(settings(run.config))
    if "profiles" in run.kinds:
        yield from _look_inside(run.path("profiles"), "profiles", asked)
    if "evidence" in run.kinds:
        yield from show_evidence(run)
    if "compositions" in run.kinds:
        yield from show_formulas(run)


def _inspect_file(path: Path, asked: Asked) -> Iterator[Part]:
    """Yield what a file is and holds, or what it knows of a question."""
    if not path.is_file():
        msg = f"{path}: no such file; 'snakemake --cores all' makes those of a run"
        raise ArtefactError(msg)
    if path.suffix != ".h5":
        msg = f"{path}: no HDF5 file; name the folder of a run, or one of its .h5 files"
        raise ArtefactError(msg)
    with open_hdf5(path, "make it again") as file:
        header = read_header(file)
        schema = header["schema"]
        _check_options(path, schema, asked)
        with explain_damage(path, schema):
            datasets, whole = show_datasets(file, header)
    if not asked.option:
        yield from [*show_header(path, header), *datasets]
    if asked.option or whole:
        yield from _look_inside(path, schema, asked)


def _look_inside(path: Path, schema: str, asked: Asked) -> Iterator[Part]:
    with open_artefact(path, schema) as file, explain_damage(path, schema):
        if asked.option:
            yield from ANSWERS[schema, asked.option](file, asked)
        else:
            yield from OVERVIEWS[schema](file, asked.top or TOP_CONCEPTS, asked.detector_iou)


def _check_options(path: Path, schema: str, asked: Asked) -> None:
    msg = ""
    about_images = (schema, asked.option) == ("activations", "--concept")
    if asked.option and (schema, asked.option) not in ANSWERS:
        msg = f"{path}: {schema} cannot answer {asked.option}; ask activations.h5 or profiles.h5"
    elif about_images and asked.dataset is None:
        msg = (
            f"{path}: which images contain a concept is known to the data set alone; add "
            "--dataset FOLDER (or ask profiles.h5 which units have it)"
        )
    elif asked.dataset is not None and not about_images:
        msg = f"{path}: --dataset goes with --concept on activations.h5; leave it out"
    elif asked.top is not None and not asked.option and schema != "profiles":
        msg = f"{path}: --top goes with --concept or --unit, or with profiles.h5; leave it out"
    if msg:
        raise ArtefactError(msg)
