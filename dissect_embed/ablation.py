"""What the network loses without a unit: ``importance.csv`` and ``ablation.csv``.

Each unit of a layer is set to its mean over the data set (one number, at all positions), and the
network is asked again what is in labelled images: of which classes does it get fewer right? The
most important are also taken together. Beside each: how much of it may be chance (``ablation`` in
``mathematics``), units drawn at random, and whether units whose vectors lie near lose the same.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.embedding import Embedding
from dissect_embed.artefacts.files import check_expected, check_made_from
from dissect_embed.artefacts.tables import write_artefact_table
from dissect_embed.config import Ablation
from dissect_embed.datasets.examination import (
    Examination,
    examine_classes,
    examine_concepts,
    find_class_folders,
    find_outputs,
    read_class_names,
)
from dissect_embed.device import choose_device
from dissect_embed.errors import ConfigError
from dissect_embed.mathematics.ablation import (
    Changes,
    change_p,
    compare_nearest,
    count_changes,
    points,
    right_classes,
    right_concepts,
)
from dissect_embed.mathematics.controls import Control, control_of
from dissect_embed.mathematics.null import q_values
from dissect_embed.networks.answers import Batches, answer, find_batches, mean_activations
from dissect_embed.networks.inputs import Input
from dissect_embed.networks.models import class_names, hash_weights
from dissect_embed.networks.replay import prepare_replay
from dissect_embed.networks.rest import Rest, Units, prepare_rest
from dissect_embed.run import Run

logger = logging.getLogger(__name__)

# Sets of units drawn at random beside the most important ones, and orders of units beside that by
# vectors.
DRAWS, ORDERS = 20, 999

Rows = list[list[object]]


class Ablated(NamedTuple):
    """What is told of a layer."""

    importance: Rows
    statistics: Rows
    note: str  # a line for people


def write_ablation(
    run: Run,
    path: Path,
    statistics_path: Path,
    settings: Ablation = Ablation(),
    *,
    dataset: Path | None = None,
    expected: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Write ``importance.csv`` and ``ablation.csv``.

    Parameters
    ----------
    dataset
        Where the data set lies now, if it was moved; read where images are needed.
    expected
        Settings that the activations must have been made with (``files.check_expected``).

    Raises
    ------
    ArtefactError
        If a file is missing or damaged, or was not made as ``expected`` says.
    DatasetError
        If labelled images cannot be read or matched with what the network puts out.
    ModelError
        If the network is no classifier, or cannot be built again.
    """
    device = choose_device(device)
    if n_threads:
        torch.set_num_threads(n_threads)
    with run.open_activations() as source, run.open_embedding() as embedding:
        check_expected(source.file, expected or {})
        layers = [run.check_layer(layer) for layer in settings.layers or source.layers[-1:]]
        model = run.network()
        check_made_from(source.file, "weights", hash_weights(model), "the network of the run")
        recorded = source.config["model"]
        given = Input.of_settings(recorded["input"])
        rests = {
            layer: prepare_rest(
                model, layer, given, batch_size=source.config["activations"]["batch_size"],
                device=device, axes=recorded["axes"], prefix_tokens=recorded["prefix_tokens"],
            )
            for layer in layers
        }  # fmt: skip
        n_outputs = rests[layers[0]].n_outputs
        if recorded["weights"] == "random":
            logger.info("%s: random weights; what is right is right by chance", recorded["name"])
        asked = _examine(run, source, settings, given, n_outputs)
        # Images of the data set are needed where stored maps will not do.
        stored = [
            layer for layer in layers if rests[layer].takes_maps and source[layer].maps is not None
        ]
        again = any(source[layer].maps is None for layer in layers)
        needed = again or (asked.read is None and stored != layers)
        data = run.dataset(dataset) if needed else None
        replay = prepare_replay(source, model, data, device) if again else None
        rows: Rows = []
        statistics: Rows = []
        for layer in layers:
            batches = find_batches(source, rests[layer], asked, data, device)
            means = mean_activations(source, layer, replay).to(device)
            of_layer = _ablate(layer, rests[layer], means, asked, batches, embedding, settings)
            rows += of_layer.importance
            statistics += of_layer.statistics
            logger.info(of_layer.note)
        config = {**embedding.config, "ablation": settings.model_dump(mode="json")}
        made_from = {
            "activations": source.fingerprint,
            "embedding": embedding.fingerprint,
            **asked.made_from,
        }
    write_artefact_table(statistics_path, "ablation", statistics, config, made_from)
    write_artefact_table(path, "importance", rows, config, made_from)


def _examine(
    run: Run, source: Activations, settings: Ablation, given: Input, n_outputs: int
) -> Examination:
    """Return the labelled images that are asked for, and what the network should say of them."""
    model = source.config["model"]
    # It was trained to tell which concepts are present, not which one there is.
    tells_presence = model["weights"] == "trained"
    names = class_names(model["name"], model["weights"])
    if settings.classes and not settings.images:
        msg = "ablation.classes: goes with class folders; name them as well (--images FOLDER)"
        raise ConfigError(msg)
    if settings.classes:
        names = read_class_names(Path(settings.classes), n_outputs)
    if not settings.images or (tells_presence and names is None):
        with run.open_labels() as labels:
            check_made_from(source.file, "dataset", labels.dataset, str(labels.path))
            if not settings.images:
                return examine_concepts(labels, settings.limit, settings.seed, n_outputs)
            names = labels.names
    folders = find_class_folders(Path(settings.images))
    outputs = find_outputs(folders.classes, names, n_outputs, Path(settings.images))
    return examine_classes(
        folders, outputs, given.size, settings.limit, settings.seed, exclusive=not tells_presence
    )


def _judge(
    asked: Examination, kept: np.ndarray, images: Int[np.ndarray, " image"]
) -> Bool[np.ndarray, "image class"]:
    present = asked.present[images]
    if asked.exclusive:
        return right_classes(kept, present, asked.outputs)
    return right_concepts(kept, present)


def _compare(
    asked: Examination, kept: Iterator[np.ndarray], images: Int[np.ndarray, " image"],
    some: Bool[np.ndarray, " image"],
) -> Iterator[tuple[Changes, Changes]]:  # fmt: skip
    """Yield what each set loses beside the first, of all images and of some of them alone."""
    everything = np.ones(len(images), dtype=bool)
    before: list[np.ndarray] = []
    for scores in kept:
        right = [_judge(asked, scores[among], images[among]) for among in (everything, some)]
        if not before:
            before = right
            continue
        yield (
            count_changes(before[0], right[0], asked.present[images]),
            count_changes(before[1], right[1], asked.present[images[some]]),
        )


def _ablate(
    layer: str,
    rest: Rest,
    means: Float[Tensor, " unit"],
    asked: Examination,
    batches: Batches,
    embedding: Embedding,
    settings: Ablation,
) -> Ablated:
    units, images = rest.reading.units, np.arange(len(asked.present))
    rng = np.random.default_rng([settings.seed, 1])
    # The most important are chosen by one half of the images, and looked at on the other.
    first = np.isin(images, rng.permutation(images)[: len(images) // 2])
    sets: list[Units] = [(), *((unit,) for unit in range(units))]
    kept = answer(rest, means, asked, batches, images, sets)
    found = list(_compare(asked, kept, images, first))
    single = [of_all for of_all, _ in found]
    drop = np.array([of_first.total_drop for _, of_first in found])
    k = min(settings.top, units)
    top = np.sort(np.argsort(-drop, kind="stable")[:k]).tolist()
    drawn = [np.sort(rng.choice(units, k, replace=False)).tolist() for _ in range(DRAWS)]
    second = images[~first]
    kept = answer(rest, means, asked, batches, second, [(), top, *drawn])
    together, *beside = [
        of_all for of_all, _ in _compare(asked, kept, second, np.ones(len(second), dtype=bool))
    ]
    rows = _rows(layer, asked.classes, single)
    rows += [
        [layer, k, "", *cells, _short(p), ""] for *cells, p in _cells_of(asked.classes, together)
    ]
    null = np.array([changes.total_drop for changes in beside])
    value = together.total_drop
    of_top = control_of(value, null)
    names = " ".join(map(str, top))
    statistics: Rows = [[layer, "", "together", "drawn", names, *_numbers(of_top)]]
    share = 100 * float(single[0].before.sum() / single[0].images.sum())
    note = (
        f"{layer}: {share:.1f} % right; without the {k} most important {-value:+.1f} points, "
        f"without {k} drawn at random {-of_top.null_mean:+.1f}"
    )
    profiles = np.nan_to_num(np.array([changes.drop for changes in single]))
    for similarity in embedding.similarities:
        vectors = embedding.of(layer, similarity).vectors[0]
        alike = compare_nearest(profiles, vectors, ORDERS, settings.seed)
        if alike is None:
            statistics.append([layer, similarity, "nearest", "shuffled", "", *[""] * 5])
            continue
        control = control_of(alike.value, alike.null)
        statistics.append([layer, similarity, "nearest", "shuffled", "", *_numbers(control)])
        note += (
            f"; losses by class of nearest units ({similarity}): r {alike.value:.2f}, of any two "
            f"{control.null_mean:.2f} (p {control.p:.3f})"
        )
    return Ablated(rows, statistics, note)


def _rows(layer: str, classes: Sequence[str], single: Sequence[Changes]) -> Rows:
    """Return the rows of units: of all classes together, and of each."""
    cells = [_cells_of(classes, changes) for changes in single]
    # q among the units of the layer for all classes together, among all others for each class.
    p = np.array([[float(row[-1]) for row in of_unit] for of_unit in cells])
    q = np.column_stack([q_values(p[:, 0]), q_values(p[:, 1:].ravel()).reshape(len(p), -1)])
    return [
        [layer, 1, unit, *row, _short(p[unit, n]), _short(q[unit, n])]
        for unit, of_unit in enumerate(cells)
        for n, (*row, _) in enumerate(of_unit)
    ]


def _cells_of(classes: Sequence[str], changes: Changes) -> list[list[Any]]:
    """Return class, images, before, after (per cent), drop (points), lost, gained, p: all first."""
    totals = [np.append(counts.sum(), counts) for counts in changes[:4]]
    n_images, before, lost, gained = totals
    worse, better = lost.copy(), gained.copy()
    # Classes of one image are not independent: of all together images are counted, each once.
    worse[0], better[0] = changes.worse, changes.better
    p = change_p(worse, better)
    shares = points(before, n_images), points(before - lost + gained, n_images)
    drop = points(lost - gained, n_images)
    return [
        [
            name, int(n_images[n]), *(_four(share[n]) for share in shares), _four(drop[n]),
            int(lost[n]), int(gained[n]), p[n],
        ]
        for n, name in enumerate(["", *classes])
        if n_images[n] or n == 0
    ]  # fmt: skip


def _short(p: float) -> str:
    return f"{p:.4g}"


def _four(value: float) -> str:
    return f"{value + 0.0:.4f}" if isfinite(value) else ""


def _numbers(control: Control) -> list[str]:
    return [_four(number) for number in (*control[:3], control.excess, control.p)]
