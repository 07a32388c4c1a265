"""How a file is stored: what it was made from, its datasets, and what of it cannot be read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py

from dissect_embed.artefacts.disk import format_bytes
from dissect_embed.artefacts.kinds import KINDS, remedy
from dissect_embed.errors import ArtefactError, DissectEmbedError
from dissect_embed.inspection.tables import Part, describe, heading, pairs, settings, shape, table

# Numbers that the HDF Group registered for the filters that `activations` can be asked for.
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32004: "lz4", 32015: "zstd"}


@contextmanager
def explain_damage(path: Path, schema: str) -> Iterator[None]:
    """Turn what h5py raises on a missing or unreadable part of a file into one that names it.

    Raises
    ------
    ArtefactError
        In the place of KeyError, and of HDF5's OSError, which has no errno.
    """
    try:
        yield
    except DissectEmbedError:
        raise
    except (KeyError, OSError) as error:
        if getattr(error, "errno", None):
            raise
        what = error.args[0] if error.args else error
        msg = f"{path}: damaged or incomplete ({what}); {remedy(schema)}"
        raise ArtefactError(msg) from error


def show_header(path: Path, header: Mapping[str, Any]) -> list[Part]:
    """Return what a file is, and what it was made from."""
    schema, version = header["schema"], header["schema_version"]
    rows = [
        ("what", f"{schema}, version {version}, {format_bytes(path.stat().st_size)}"),
        ("created", f"{header['created'][:16].replace('T', ' ')} UTC"),
        ("fingerprint", header["fingerprint"][:12]),
        ("made from", ", ".join(f"{k} {v[:12]}" for k, v in header["made_from"].items())),
        ("software", describe(header["software"])),
        *((name, describe(value)) for name, value in header["notes"].items()),
        ("config", ""),
        *((f"  {name}", text) for name, text in settings(header["config"])),
    ]
    return [heading(str(path)), pairs(rows)]


def show_datasets(file: h5py.File, header: Mapping[str, Any]) -> tuple[list[Part], bool]:
    """Return how a file's datasets are stored, and whether they can be summed up.

    They cannot where a filter or a part is missing, of which HDF5 shows zeros.
    """
    schema, version, known = header["schema"], header["schema_version"], KINDS[header["schema"]]
    folder = Path(file.filename).parent
    rows: list[tuple[str, ...]] = []
    filters: set[str] = set()
    notes: list[Part] = []
    group = ""

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        nonlocal group
        parent, _, last = name.rpartition("/")
        # The scales "unit" and "epoch" of every layer count from 0 and tell nothing.
        if isinstance(item, h5py.Group) or (parent and item.is_scale and item.dtype.kind in "iu"):
            return
        if parent not in ("", group):
            rows.append((f"{parent}/", "", "", "", ""))
        group = parent
        stored, missing, sources = _layout_of(item)
        filters.update(missing)
        dtype = "string" if h5py.check_string_dtype(item.dtype) else str(item.dtype)
        size = format_bytes(item.id.get_storage_size())  # without the characters of strings
        rows.append((f"  {last}" if parent else last, shape(item.shape), dtype, size, stored))
        gone = [source for source in sources if source != "." and not (folder / source).is_file()]
        if gone:
            what = f"{name}: {', '.join(gone)} missing beside the file"
            notes.append(f"{what}; its images read as zeros")

    file.visititems(visit)
    whole = not filters and not notes and version == known.version
    if filters:
        lacking = f"{', '.join(sorted(filters))}: a filter that h5py lacks here"
        notes.append(f"{lacking}, so there is no summary; run\npip install hdf5plugin")
    elif version != known.version:
        end = "update it" if version > known.version else remedy(schema)
        notes.append(f"No summary: this program reads version {known.version}; {end}.")
    columns = ("name", "shape", "type", "on disk>", "stored")
    return [heading("Datasets"), table(columns, rows), *notes], whole


def _layout_of(dataset: h5py.Dataset) -> tuple[str, list[str], list[str]]:
    """Return how a dataset lies in its file, the filters that are missing, and its sources."""
    if dataset.is_virtual:
        sources = list(dict.fromkeys(source.file_name for source in dataset.virtual_sources()))
        return f"view of {len(sources)} file{'s' if len(sources) > 1 else ''}", [], sources
    properties = dataset.id.get_create_plist()
    codes = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if not all(map(h5py.h5z.filter_avail, codes)):
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401  (registers its filters)
    names = {code: FILTERS.get(code, f"filter {code}") for code in codes}
    missing = [name for code, name in names.items() if not h5py.h5z.filter_avail(code)]
    if dataset.chunks:
        return ", ".join([f"{shape(dataset.chunks)} chunks", *names.values()]), missing, []
    return "contiguous", missing, []
