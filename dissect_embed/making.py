"""All files of a run from a network and labelled images, without Snakemake: for notebooks."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from dissect_embed.activations import write_activations
from dissect_embed.chance import write_chance
from dissect_embed.compositions import write_compositions
from dissect_embed.config import (
    Activations,
    Chance,
    Dissection,
    Embedding,
    Words,
)
from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.settings import Subset
from dissect_embed.dissection import write_profiles
from dissect_embed.embedding import write_embedding
from dissect_embed.errors import ArtefactError, ConfigError, ModelError
from dissect_embed.evidence import write_evidence
from dissect_embed.labels import write_labels
from dissect_embed.memory import keep_freed_memory
from dissect_embed.networks.inputs import find_input
from dissect_embed.networks.layers import check_axes
from dissect_embed.networks.preparation import prepare_network
from dissect_embed.networks.settings import Model, ModelInput
from dissect_embed.relations import write_relations
from dissect_embed.run import Run
from dissect_embed.scoring import write_scores
from dissect_embed.similarity import write_similarity
from dissect_embed.tally import write_units
from dissect_embed.words import write_words

logger = logging.getLogger(__name__)


def dissect(
    network: nn.Module,
    dataset: Path | str,
    layers: Sequence[str],
    out: Path | str,
    *,
    split: str = "all",
    subset: Subset | Mapping[str, Any] | None = None,
    input: ModelInput | Mapping[str, Any] | None = None,
    axes: Mapping[str, str] = {},
    prefix_tokens: int | None = None,
    activations: Activations = Activations(),
    dissection: Dissection = Dissection(),
    chance: Chance = Chance(),
    embedding: Embedding = Embedding(),
    words: Words = Words(),
    device: str | None = None,
    n_threads: int | None = None,
) -> Run:
    """Dissect, embed and score the units of a network, and return the run.

    Parameters
    ----------
    network
        It takes images of (image, channel, y, x), and runs in evaluation mode.
    dataset
        Folder with ``index.csv``.
    layers
        Modules to probe, by their names in ``network.named_modules()``, patterns such as
        ``blocks.*``, or ``["auto"]``, the ends of the stages.
    out
        A folder that is not there yet, or empty.
    split
        Of the index, or ``all``.
    subset
        Which images and labels, as ``dataset`` of a config: ``{"limit": 500}``.
    input
        What the network is given, as in ``model.input`` of a config: mean and std at least, unless
        the network states them, as those of timm do.
    axes, prefix_tokens
        For layers whose order of axes cannot be found out, as in ``model.axes``.
    activations, dissection, chance, embedding, words
        Settings, those of a config file.

    Raises
    ------
    ArtefactError
        If ``out`` holds something already, or is a file.
    ConfigError, DatasetError, ModelError, DiskSpaceError
        If a setting, the data set, a layer or the disk will not do.
    """
    if isinstance(layers, str) or not all(isinstance(layer, str) for layer in layers):
        msg = f"layers: {layers!r}, expected a list of names of modules"
        raise ConfigError(msg)
    if not isinstance(network, nn.Module):
        msg = f"network: {type(network).__name__}, expected a torch.nn.Module"
        raise ModelError(msg)
    folder = Path(out)
    if folder.is_file() or (folder.exists() and any(folder.iterdir())):
        msg = f"{folder}: holds files already; name another folder, or open it with open_run"
        raise ArtefactError(msg)
    keep_freed_memory()
    chosen = subset if isinstance(subset, Subset) else Subset(**(subset or {}))
    data = load_broden(Path(dataset), split, chosen)
    if not isinstance(input, ModelInput | Mapping | None):
        msg = f"input: {input!r}, expected settings by name, as {{'mean': […], 'std': […]}}"
        raise ConfigError(msg)
    given = input if isinstance(input, ModelInput) else ModelInput(**(input or {}))
    model = Model(
        name=type(network).__name__, weights="given", layers=tuple(layers), input=given,
        axes=dict(axes), prefix_tokens=prefix_tokens,
    )  # fmt: skip
    # Before the long work, all that may be refused.
    prepared = prepare_network(
        network, layers, find_input(network, given, data.image_size),
        batch_size=activations.batch_size, precision=activations.precision, device=device,
        axes=axes, prefix_tokens=prefix_tokens,
    )  # fmt: skip
    activations.cached(list(prepared.readings))
    check_axes(axes, list(prepared.readings))
    path = {
        kind: folder / f"{kind}.h5"
        for kind in ("labels", "activations", "profiles", "chance", "similarity", "embedding")
    }
    write_labels(path["labels"], data, n_threads=n_threads)
    write_activations(
        path["activations"], data, network, model, activations,
        device=device, n_threads=n_threads,
    )  # fmt: skip
    write_profiles(
        path["profiles"], path["activations"], path["labels"], dissection,
        model=network, dataset=data, device=device, n_threads=n_threads,
    )  # fmt: skip
    write_chance(
        path["chance"], path["activations"], path["labels"], path["profiles"], chance,
        model=network, dataset=data, device=device, n_threads=n_threads,
    )  # fmt: skip
    write_similarity(path["similarity"], path["activations"], device=device, n_threads=n_threads)
    write_embedding(
        path["embedding"], path["similarity"], path["profiles"], embedding,
        activations_path=path["activations"], device=device, n_threads=n_threads,
    )  # fmt: skip
    run = Run(folder, network)
    write_units(run, folder / "units.csv")
    write_compositions(run, folder / "compositions.csv", device=device, n_threads=n_threads)
    if words.file:
        write_words(folder / "words.h5", data, words, device=device, n_threads=n_threads)
    write_evidence(run, folder / "evidence.csv")
    write_scores(run, folder / "scores.csv", folder / "controls.csv", n_threads=n_threads)
    write_relations(
        run, folder / "relations.csv", folder / "pairs.csv", folder / "overlap.csv",
        device=device, n_threads=n_threads,
    )  # fmt: skip
    run.check()
    return run
