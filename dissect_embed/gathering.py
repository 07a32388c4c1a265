"""Put the files of all shards together; the result is the same as that of an undivided run."""

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np

from dissect_embed.artefacts.activations import read_top, write_top
from dissect_embed.artefacts.files import (
    create_artefact,
    label_axes,
    layer_names,
    open_artefact,
    read_config,
    read_made_from,
    read_strings,
    whole_fingerprint,
    write_scale,
)
from dissect_embed.artefacts.profiles import (
    ConceptTable,
    LayerCounts,
    read_counts,
    write_profile_file,
)
from dissect_embed.artefacts.shards import parse_shard
from dissect_embed.artefacts.similarity import write_target
from dissect_embed.errors import ArtefactError


def gather(path: Path, parts: Sequence[Path], schema: str) -> None:
    """Put the files of all shards together.

    The activation maps stay where they are: ``activations.h5`` becomes a view of its parts.

    Parameters
    ----------
    schema
        ``activations``, ``profiles`` or ``similarity``.

    Raises
    ------
    ArtefactError
        If a part is missing or damaged, or the parts were not made alike.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(open_artefact(part, schema)) for part in parts]
        files = _check_parts(files)
        config = read_config(files[0])
        config.pop("shard")
        with create_artefact(path, schema, config, read_made_from(files[0])) as file:
            if schema == "activations":
                _gather_activations(file, files, path.parent)
            elif schema == "profiles":
                _gather_profiles(file, files)
            else:
                _gather_similarity(file, files)


def _check_parts(files: Sequence[h5py.File]) -> list[h5py.File]:
    """Return the files of shards in order, checked to be those of one run, all and each once."""
    shards: dict[int, h5py.File] = {}
    for file in files:
        shard = read_config(file).get("shard")
        if shard is None:
            msg = f"{file.filename}: no shard but a whole file; name the files of shards alone"
            raise ArtefactError(msg)
        number, count = parse_shard(shard)
        if number in shards:
            msg = f"{file.filename}: shard {shard} is in {shards[number].filename} as well"
            raise ArtefactError(msg)
        shards[number] = file
        if count != len(files):
            msg = (
                f"{file.filename}: one of {count} shards, but {len(files)} are named; name them all"
            )
            raise ArtefactError(msg)
        if whole_fingerprint(file) != whole_fingerprint(files[0]):
            msg = (
                f"{file.filename}: made with other settings, weights or images than "
                f"{files[0].filename}; delete both and run snakemake again"
            )
            raise ArtefactError(msg)
    return [shards[number] for number in sorted(shards)]


def _gather_activations(file: h5py.File, parts: Sequence[h5py.File], folder: Path) -> None:
    names = [os.path.relpath(part.filename, folder) for part in parts]
    file.attrs["parts"] = json.dumps(names)
    file.attrs["first_image"] = 0
    if "weights_provenance" in parts[0].attrs:
        file.attrs["weights_provenance"] = parts[0].attrs["weights_provenance"]
    images = write_scale(
        file, "images", [i for part in parts for i in read_strings(part["images"])]
    )
    for layer in layer_names(parts[0]):
        groups = [part[f"layers/{layer}"] for part in parts]
        for part, group in zip(parts, groups, strict=True):
            if group.attrs["dtype"] != groups[0].attrs["dtype"]:
                msg = (
                    f"{part.filename}: {layer} is {group.attrs['dtype']}, in {parts[0].filename} "
                    f"{groups[0].attrs['dtype']}: some values do not fit float16; "
                    "set activations.dtype to float32"
                )
                raise ArtefactError(msg)
        group = file.create_group(f"layers/{layer}")
        group.attrs["shape"], group.attrs["dtype"] = (
            groups[0].attrs["shape"],
            groups[0].attrs["dtype"],
        )
        scales = {"image": images, "unit": write_scale(group, "unit", groups[0]["unit"][:])}
        for name, axes in (
            ("activations", ("image", "unit", "y", "x")),
            ("peak", ("image", "unit")),
        ):
            if name in groups[0]:
                view = _view(group, name, [g[name] for g in groups], names)
                label_axes(view, axes, scales)
        top = read_top(groups[0])
        for other in groups[1:]:
            top.merge(read_top(other))
        write_top(group, top)
        if "similarity_sum" in groups[0]:
            group["similarity_sum"] = np.sum([g["similarity_sum"][:] for g in groups], axis=0)


def _view(
    group: h5py.Group, name: str, parts: Sequence[h5py.Dataset], files: Sequence[str]
) -> h5py.Dataset:
    """Create a dataset that shows those of the parts one behind the other."""
    n_images = sum(len(part) for part in parts)
    layout = h5py.VirtualLayout((n_images, *parts[0].shape[1:]), parts[0].dtype)
    start = 0
    for part, file in zip(parts, files, strict=True):
        layout[start : start + len(part)] = h5py.VirtualSource(file, part.name, part.shape)
        start += len(part)
    return group.create_virtual_dataset(name, layout)


def _gather_profiles(file: h5py.File, parts: Sequence[h5py.File]) -> None:
    labels = parts[0]["labels"]
    categories = read_strings(parts[0]["categories"])
    concepts = ConceptTable(
        names=read_strings(labels["name"]),
        numbers=labels["number"][:],
        categories=categories,
        category=np.array([categories.index(c) for c in read_strings(labels["category"])]),
        pixels=np.sum([part["labels/pixels"][:] for part in parts], axis=0),
    )
    thresholds, counts = {}, {}
    for layer in layer_names(parts[0]):
        thresholds[layer] = parts[0][f"layers/{layer}/threshold"][:]
        total = read_counts(parts[0][f"layers/{layer}"])
        for part in parts[1:]:
            more = read_counts(part[f"layers/{layer}"])
            total = LayerCounts(*(a + b for a, b in zip(total, more, strict=True)))
        counts[layer] = total
    write_profile_file(file, concepts, thresholds, counts, shard=False)


def _gather_similarity(file: h5py.File, parts: Sequence[h5py.File]) -> None:
    n_images = sum(int(part.attrs["n_images"]) for part in parts)
    file.attrs["n_images"] = n_images
    for layer in layer_names(parts[0]):
        total = np.sum([part[f"layers/{layer}/sum"][:] for part in parts], axis=0)
        write_target(file, layer, total, n_images, shard=False)
