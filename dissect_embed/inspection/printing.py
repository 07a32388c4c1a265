"""Print what a file is and holds, or the answer to a question about a unit or a concept."""

from pathlib import Path

from rich.console import Console

from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.disk import format_bytes
from dissect_embed.artefacts.files import open_artefact
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.kinds import KINDS, remedy
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.errors import ArtefactError
from dissect_embed.inspection.answers import (
    print_concept_images,
    print_concept_units,
    print_unit_images,
    print_unit_profile,
)
from dissect_embed.inspection.files import Header, explain_damage, format_shape, read_header
from dissect_embed.inspection.overviews import OVERVIEWS, Printer
from dissect_embed.inspection.tables import (
    describe,
    open_console,
    print_heading,
    print_pairs,
    print_table,
)

# Rows of an answer, and top concepts of a layer, without --top.
TOP_ROWS = 10
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
    console = console or open_console()
    if path.is_dir():
        _print_run(console, path, concept, unit, dataset, top, detector_iou)
        return
    if path.is_file() and path.suffix != ".h5":
        msg = f"{path}: no HDF5 file; name the folder of a run, or one of its .h5 files"
        raise ArtefactError(msg)
    header = read_header(path)
    _check_options(path, header.schema, concept, unit, dataset, top)
    if concept is None and unit is None:
        _print_file(console, path, header, top or TOP_CONCEPTS, detector_iou)
        return
    n_rows = top or TOP_ROWS
    with open_artefact(path, header.schema) as file, explain_damage(path, header.schema):
        if header.schema == "profiles" and concept is not None:
            print_concept_units(console, Profiles(file), concept, n_rows, detector_iou)
        elif header.schema == "profiles" and unit is not None:
            print_unit_profile(console, Profiles(file), unit, n_rows, detector_iou)
        elif concept is not None and dataset is not None:
            print_concept_images(console, Activations(file), concept, dataset, n_rows)
        elif unit is not None:
            print_unit_images(console, Activations(file), unit, n_rows)


def _print_run(
    console: Console,
    folder: Path,
    concept: str | None,
    unit: str | None,
    dataset: Path | None,
    top: int | None,
    detector_iou: float,
) -> None:
    """Print the files of a run and what its profiles hold, or what both know of a question."""
    run = RunFolder(folder)
    if dataset is not None:
        msg = f"{folder}: --dataset goes with --concept on activations.h5; leave it out"
        raise ArtefactError(msg)
    if unit is not None or concept is not None:
        print_inspection(
            run.need("profiles"), concept=concept, unit=unit, top=top, detector_iou=detector_iou,
            console=console,
        )  # fmt: skip
        if unit is not None and "activations" in run.kinds:
            print_inspection(run.path("activations"), unit=unit, top=top, console=console)
        return
    run.check()
    show_summary: Printer | None = None
    if "profiles" in run.kinds:
        path = run.need("profiles")
        with open_artefact(path, "profiles") as file, explain_damage(path, "profiles"):
            show_summary = OVERVIEWS["profiles"](file, top or TOP_CONCEPTS, detector_iou)
    rows = [
        (run.path(kind).name, format_bytes(run.path(kind).stat().st_size),
         ", ".join(run.header(kind)["made_from"]) or "-")
        for kind in run.kinds
    ]  # fmt: skip
    print_heading(console, str(folder))
    print_table(console, ("file", "on disk>", "made from"), rows)
    print_pairs(console, [(name, describe(value)) for name, value in run.config.items()])
    if show_summary:
        show_summary(console)


def _check_options(
    path: Path,
    schema: str,
    concept: str | None,
    unit: str | None,
    dataset: Path | None,
    top: int | None,
) -> None:
    msg = ""
    if concept is not None and unit is not None:
        msg = "--concept and --unit are two questions; ask one at a time"
    elif schema not in ("activations", "profiles") and (concept is not None or unit is not None):
        option = "--concept" if concept is not None else "--unit"
        msg = f"{path}: {schema} cannot answer {option}; ask activations.h5 or profiles.h5"
    elif schema == "activations" and concept is not None and dataset is None:
        msg = (
            f"{path}: which images contain a concept is known to the data set alone; add "
            "--dataset FOLDER (or ask profiles.h5 which units have it)"
        )
    elif dataset is not None and (schema != "activations" or concept is None):
        msg = f"{path}: --dataset goes with --concept on activations.h5; leave it out"
    elif top is not None and concept is None and unit is None and schema != "profiles":
        msg = f"{path}: --top goes with --concept or --unit, or with profiles.h5; leave it out"
    if msg:
        raise ArtefactError(msg)


def _print_file(
    console: Console, path: Path, header: Header, n_concepts: int, detector_iou: float
) -> None:
    missing = sorted({name for d in header.datasets for name in d.missing_filters})
    # Of what a view cannot see there is nothing to sum up: it would read as zeros.
    whole = not any(d.missing_sources for d in header.datasets)
    summarise = not missing and header.current and whole
    show_summary: Printer | None = None
    if summarise:
        # Everything is read before anything is printed: a damaged file gives one line.
        with open_artefact(path, header.schema) as file, explain_damage(path, header.schema):
            show_summary = OVERVIEWS[header.schema](file, n_concepts, detector_iou)
    _print_header(console, path, header)
    _print_datasets(console, header)
    if missing:
        console.print(
            f"{', '.join(missing)}: a filter that h5py lacks here, so there is no summary; run\n"
            "pip install hdf5plugin"
        )
    elif not header.current:
        known = KINDS[header.schema].version
        newer = header.version > known
        end = "update it" if newer else remedy(header.schema)
        console.print(f"No summary: this program reads version {known}; {end}.")
    if show_summary:
        show_summary(console)


def _print_header(console: Console, path: Path, header: Header) -> None:
    created = header.created[:16].replace("T", " ")
    print_heading(console, str(path))
    pairs = [
        ("what", f"{header.schema}, version {header.version}, {format_bytes(header.n_bytes)}"),
        ("created", f"{created} UTC"),
        ("fingerprint", header.fingerprint[:12]),
        ("made from", ", ".join(f"{k} {v[:12]}" for k, v in header.made_from.items())),
        ("software", describe(dict(header.software))),
        *((name, describe(value)) for name, value in header.notes.items()),
        ("config", ""),
        *((f"  {name}", describe(value)) for name, value in header.config.items()),
    ]
    print_pairs(console, pairs)


def _print_datasets(console: Console, header: Header) -> None:
    rows: list[tuple[object, ...]] = []
    group = ""
    for d in header.datasets:
        parent, _, name = d.name.rpartition("/")
        if parent and parent != group:
            rows.append((f"{parent}/", "", "", "", ""))
        group = parent
        shown = f"  {name}" if parent else name
        size = format_bytes(d.n_bytes)
        rows.append((shown, format_shape(d.shape), d.dtype, size, d.layout))
    print_heading(console, "Datasets")
    print_table(console, ("name", "shape", "type", "on disk>", "stored"), rows)
    for d in header.datasets:
        if d.missing_sources:
            console.print(
                f"{d.name}: {', '.join(d.missing_sources)} missing beside the file; its images "
                "read as zeros"
            )
