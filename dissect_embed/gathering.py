"""Put the files of all shards together; the result is the same as that of an undivided run."""

import functools
import operator
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dissect_embed.artefacts.activations import Activations, open_activations
from dissect_embed.artefacts.chance import Chance, add_counts, write_draws, write_strata
from dissect_embed.artefacts.files import (
    check_made_from,
    create_artefact,
    open_artefact,
    read_config,
    read_made_from,
)
from dissect_embed.artefacts.layout import view_parts
from dissect_embed.artefacts.profiles import (
    ConceptTable,
    Profiles,
    open_profiles,
    sum_counts,
    write_profile_file,
)
from dissect_embed.artefacts.shards import parse_shard
from dissect_embed.artefacts.similarity import Similarity, write_targets
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.iou import LayerCounts


def gather(
    path: Path,
    parts: Sequence[Path],
    kind: str,
    *,
    activations_path: Path | None = None,
    profiles_path: Path | None = None,
) -> None:
    """Put the files of all shards together.

    The activation maps stay where they are: ``activations.h5`` becomes a view of its parts.

    Parameters
    ----------
    kind
        ``activations``, ``profiles``, ``chance`` or ``similarity``.
    activations_path
        The gathered ``activations.h5``, for all but itself: each part must have been made from its
        own shard of it.
    profiles_path
        The gathered ``profiles.h5``, for ``chance``.

    Raises
    ------
    ArtefactError
        If a part is missing or damaged, the parts were not made alike, or not from these
        activations.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(open_artefact(part, kind)) for part in parts]
        files = _check_parts(files)
        config = read_config(files[0])
        config.pop("shard")
        made_from = read_made_from(files[0])
        write: Callable[[h5py.File], None]
        if kind == "activations":
            activations = [Activations(file) for file in files]
            _check_reference(activations)

            def write(file: h5py.File) -> None:
                view_parts(file, activations, path.parent)
        else:
            if activations_path is None:
                msg = f"{path}: name the activations of all shards as well (--activations)"
                raise ArtefactError(msg)
            whole = stack.enter_context(open_activations(activations_path))
            _check_origin(files, whole)
            made_from["activations"] = whole.fingerprint
            profiles = stack.enter_context(open_profiles(profiles_path)) if profiles_path else None
            if profiles and profiles_path:
                for file in files:
                    check_made_from(file, "profiles", profiles.fingerprint, str(profiles_path))
            if kind == "chance" and not profiles:
                msg = f"{path}: name the profiles of all shards as well (--profiles)"
                raise ArtefactError(msg)

            def write(file: h5py.File) -> None:
                _add_up(file, files, kind, profiles)

        with create_artefact(path, kind, config, made_from) as file:
            write(file)


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
        if _settings(file) != _settings(files[0]):
            msg = (
                f"{file.filename}: made with other settings, weights or images than "
                f"{files[0].filename}; delete both and run snakemake again"
            )
            raise ArtefactError(msg)
    return [shards[number] for number in sorted(shards)]


def _settings(file: h5py.File) -> tuple[dict[str, Any], dict[str, str]]:
    """Return settings and sources, but for what differs from shard to shard."""
    config, made_from = read_config(file), read_made_from(file)
    config.pop("shard", None)
    made_from.pop("activations", None)
    return config, made_from


def _check_reference(parts: Sequence[Activations]) -> None:
    """Check that the network put out the same for all parts, on the same few images."""
    for part in parts[1:]:
        if part.reference != parts[0].reference:
            msg = (
                f"{part.path}: its network gave other numbers than that of {parts[0].path} on the "
                "same images: another device or kind of processor rounds otherwise; make all "
                "shards on one kind (snakemake --forcerun activations)"
            )
            raise ArtefactError(msg)


def _check_origin(files: Sequence[h5py.File], whole: Activations) -> None:
    """Check that each part was made from its own shard of the activations."""
    expected = list(whole.parts.values())
    for number, file in enumerate(files):
        if len(expected) != len(files) or read_made_from(file)["activations"] != expected[number]:
            rule = "--forcerun similarity dissect chance"
            msg = (
                f"{file.filename}: made from other activations than those in {whole.path}; delete "
                f"it and run 'snakemake {rule}'"
            )
            raise ArtefactError(msg)


def _add_up(
    file: h5py.File, parts: Sequence[h5py.File], kind: str, profiles: Profiles | None
) -> None:
    if kind == "similarity":
        sums = [Similarity(part) for part in parts]
        n_images = sum(part.n_images for part in sums)
        for layer in sums[0].layers:
            total = functools.reduce(operator.add, [part.sums(layer) for part in sums])
            write_targets(file, layer, total.targets(n_images), n_images)
    elif kind == "profiles":
        counted = [Profiles(part) for part in parts]
        pixels = np.sum([part.pixels for part in counted], axis=0)
        concepts: ConceptTable = counted[0].concept_table._replace(pixels=pixels)
        thresholds = {layer: counted[0][layer].threshold for layer in counted[0].layers}
        counts = {
            layer: sum_counts(
                [LayerCounts(p[layer].intersection, p[layer].activation) for p in counted]
            )
            for layer in counted[0].layers
        }
        write_profile_file(file, concepts, thresholds, counts)
    else:
        assert profiles is not None, "gather asks for it"
        draws = [Chance(part) for part in parts]
        labelled = bool(parts[0].attrs["labelled"])
        write_strata(file, draws[0].stratum, draws[0].n_draws, labelled=labelled)
        concepts = profiles.concept_table
        for first in draws[0].blocks(draws[0].layers[0]):
            drawn = {
                layer: add_counts([part.counts(layer, first) for part in draws])
                for layer in draws[0].layers
            }
            write_draws(file, concepts, first, drawn)
