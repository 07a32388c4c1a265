"""What a file is, what it was made from, and how its datasets are stored."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from dissect_embed.artefacts.files import open_hdf5
from dissect_embed.artefacts.kinds import HDF5_KINDS, KINDS, remedy
from dissect_embed.errors import ArtefactError, DissectEmbedError

# Numbers that the HDF Group registered for the filters that `activations` can be asked for.
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32004: "lz4", 32015: "zstd"}
HEADER = ("schema", "schema_version", "config", "made_from", "fingerprint", "software", "created")


class StoredDataset(NamedTuple):
    """How one dataset lies in its file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str  # "contiguous", the size of the chunks and the filters, or where a view leads
    n_bytes: int  # on disk, without the characters of strings
    missing_filters: tuple[str, ...]  # those that h5py cannot undo here
    missing_sources: tuple[str, ...]  # files of a virtual dataset that are not there


class Header(NamedTuple):
    """What a file says of itself."""

    schema: str
    version: int
    created: str
    fingerprint: str
    n_bytes: int
    config: Mapping[str, Any]
    made_from: Mapping[str, str]
    software: Mapping[str, str]
    notes: Mapping[str, Any]  # further attributes, such as weights_provenance
    datasets: Sequence[StoredDataset]  # without the numbers of axes (unit, epoch)

    @property
    def current(self) -> bool:
        """Whether this program knows the meaning of the file's numbers."""
        return self.version == KINDS[self.schema].version


def read_header(path: Path) -> Header:
    """Read what a file is; also of an older or newer version of its schema.

    Raises
    ------
    ArtefactError
        If it is missing, damaged, or none of the files that the stages exchange.
    """
    if not path.is_file():
        msg = f"{path}: no such file; 'snakemake --cores all' makes those of a run"
        raise ArtefactError(msg)
    with open_hdf5(path, "make it again") as file:
        lacking = [name for name in HEADER if name not in file.attrs]
        if lacking or file.attrs["schema"] not in HDF5_KINDS:
            found = f"it has no {lacking[0]}" if lacking else f"schema {file.attrs['schema']!r}"
            msg = (
                f"{path}: not a file that 'dissect-embed' made, or damaged ({found}); expected "
                f"{', '.join(HDF5_KINDS)}"
            )
            raise ArtefactError(msg)
        with explain_damage(path, str(file.attrs["schema"])):
            notes = {k: _from_json(v) for k, v in file.attrs.items() if k not in HEADER}
            return Header(
                schema=str(file.attrs["schema"]),
                version=int(file.attrs["schema_version"]),
                created=str(file.attrs["created"]),
                fingerprint=str(file.attrs["fingerprint"]),
                n_bytes=path.stat().st_size,
                config=json.loads(file.attrs["config"]),
                made_from=json.loads(file.attrs["made_from"]),
                software=json.loads(file.attrs["software"]),
                notes=notes,
                datasets=_list_datasets(file, path.parent),
            )


@contextmanager
def explain_damage(path: Path, schema: str) -> Iterator[None]:
    """Turn what h5py raises on a missing or unreadable part of a file into one that names it.

    Raises
    ------
    ArtefactError
        In the place of KeyError, of what json raises, and of HDF5's OSError, which has no errno.
    """
    try:
        yield
    except DissectEmbedError:
        raise
    except (KeyError, OSError, json.JSONDecodeError) as error:
        if getattr(error, "errno", None):
            raise
        what = error.args[0] if error.args else error
        msg = f"{path}: damaged or incomplete ({what}); {remedy(schema)}"
        raise ArtefactError(msg) from error


def _from_json(value: Any) -> Any:
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value


def _list_datasets(file: h5py.File, folder: Path) -> list[StoredDataset]:
    found = []

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        # The scales "unit" and "epoch" of every layer count from 0 and tell nothing.
        if not (item.is_scale and item.dtype.kind in "iu" and "/" in name):
            found.append(_describe(name, item, folder))

    file.visititems(visit)
    return found


def _describe(name: str, dataset: h5py.Dataset, folder: Path) -> StoredDataset:
    filters, missing = _filters_of(dataset)
    sources: list[str] = []
    if dataset.is_virtual:
        sources = list(dict.fromkeys(source.file_name for source in dataset.virtual_sources()))
        layout = f"view of {len(sources)} file{'s' if len(sources) > 1 else ''}"
    elif dataset.chunks:
        layout = ", ".join([f"{format_shape(dataset.chunks)} chunks", *filters])
    else:
        layout = "contiguous"
    return StoredDataset(
        name=name,
        shape=dataset.shape,
        dtype="string" if h5py.check_string_dtype(dataset.dtype) else str(dataset.dtype),
        layout=layout,
        n_bytes=dataset.id.get_storage_size(),
        missing_filters=missing,
        # HDF5 gives zeros, and no error, for what such a file should hold.
        missing_sources=tuple(s for s in sources if s != "." and not (folder / s).is_file()),
    )


def _filters_of(dataset: h5py.Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of all filters of a dataset, and of those that h5py cannot undo here."""
    properties = dataset.id.get_create_plist()
    codes = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if not all(map(h5py.h5z.filter_avail, codes)):
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401  (registers its filters)
    names = [FILTERS.get(code, f"filter {code}") for code in codes]
    missing = [
        name
        for name, code in zip(names, codes, strict=True)
        if not h5py.h5z.filter_avail(code)
    ]  # fmt: skip
    return tuple(names), tuple(missing)


def format_shape(shape: tuple[int, ...]) -> str:
    """Return a shape for people.

    Examples
    --------
    >>> format_shape((2000, 64, 56, 56))
    '2000×64×56×56'
    """
    return "×".join(map(str, shape)) or "scalar"
