"""What the layers of a file hold, and whether it is sound: a row a layer."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from math import log

import h5py
import numpy as np
from scipy.special import entr

from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.chance import Chance
from dissect_embed.artefacts.contents import read_array, read_strings
from dissect_embed.artefacts.disk import format_bytes
from dissect_embed.artefacts.embedding import Embedding
from dissect_embed.artefacts.files import read_config
from dissect_embed.artefacts.prior import read_vectors
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.similarity import Similarity
from dissect_embed.artefacts.thresholds import Thresholds
from dissect_embed.datasets.classes import count_classes
from dissect_embed.inspection.tables import Part, describe, heading, number, shape, share, table
from dissect_embed.mathematics.null import null_bound

# Images looked at for what the peaks do not tell, evenly spaced.
SAMPLE = 32
# P is kept in float64, summed from float32: its rows' sums are good to some six digits.
ROW_ERROR = 1e-4


def _activations(file: h5py.File, n_concepts: int, detector_iou: float) -> Iterator[Part]:
    source = Activations(file)
    sample = np.unique(np.linspace(0, len(source) - 1, SAMPLE).astype(int))
    rows = []
    for layer in source.layers:
        of_layer, low, zeros = source[layer], "-", "-"
        peak, units_and_map = of_layer.peaks, of_layer.shape
        dead, n_bytes = (peak == 0).all(axis=0), peak.nbytes
        if of_layer.maps is not None:
            # A peak of 0 alone could be that of a unit that is mostly negative.
            maps, _ = source.read_maps(layer, sample)
            dead &= (maps == 0).all(axis=(0, 2, 3))
            low, zeros = number(float(maps.min())), share(int((maps == 0).sum()), maps.size)
            n_bytes += len(source) * maps[0].nbytes
        units = (f"{of_layer.n_units:,}", shape(units_and_map[1:]), int(dead.sum()))
        values = (low, number(float(peak.max())), zeros, format_bytes(n_bytes))
        rows.append((layer, *units, *values))
    yield heading(f"{len(source):,} images, {source.images[0]} to {source.images[-1]}")
    columns = ("layer", "units>", "map>", "dead>", "lowest*>", "highest>", "zero*>", "bytes>")
    yield table(columns, rows)
    yield f"dead: 0 on every image. * from {len(sample)} images, evenly spaced."
    if source.uncached:
        yield "-: not cached; dissection computes these maps once more."


def _profiles(file: h5py.File, n_concepts: int, detector_iou: float) -> Iterator[Part]:
    profiles = Profiles(file)
    names, categories = profiles.concepts, profiles.concept_categories
    layers, unique, top = [], [], []
    for layer in profiles.layers:
        of_layer = profiles[layer]
        best, threshold = of_layer.best, of_layer.threshold
        dead = (threshold == 0) & (of_layer.activation == 0).all(axis=1)
        detects = best.detectors(detector_iou)
        n_detectors, n_units = int(detects.sum()), len(of_layer)
        numbers = (number(float(threshold.min())), number(float(threshold.max())), int(dead.sum()))
        shares = (n_detectors, share(n_detectors, n_units))
        layers.append((layer, f"{n_units:,}", *numbers, *shares))
        found = []
        for concept in np.unique(best.concept[detects]).tolist():
            units = np.flatnonzero(detects & (best.concept == concept))
            nearest = int(units[best.iou[units].argmax()])
            found.append((concept, len(units), float(best.iou[nearest]), nearest))
        counts = Counter(categories[concept] for concept, *_ in found)
        by_category = {name: counts[name] for name in profiles.categories if counts[name]}
        unique.append((layer, len(found), describe(by_category) or "-"))
        found.sort(key=lambda row: (-row[1], -row[2]))
        for n, (concept, count, iou, unit) in enumerate(found[:n_concepts]):
            which = ("" if n else layer, names[concept], categories[concept])
            top.append((*which, count, f"{iou:.4f}", f"{layer}:{unit}"))
    yield heading(f"{len(names):,} concepts; a detector has an IoU of at least {detector_iou:g}")
    columns = ("layer", "units>", "threshold>", "to>", "dead>", "detectors>", "share>")
    yield table(columns, layers)
    yield heading("Unique detector concepts")
    yield table(("layer", "concepts>", "by category"), unique)
    yield heading(f"The {n_concepts} concepts of most detectors, by layer")
    yield table(("layer", "concept", "category", "units>", "best IoU>", "best unit"), top)


def _similarity(file: h5py.File, n_concepts: int, detector_iou: float) -> Iterator[Part]:
    similarity = Similarity(file)
    rows = []
    for layer, name in itertools.product(similarity.layers, similarity.similarities):
        target = similarity.target(layer, name)
        n = len(target)
        error = float(np.abs(target.sum(axis=1) - 1).max())
        # A NaN is no 1 either.
        sums = "1" if error < ROW_ERROR else f"off by {error:.2g}"
        others = target[~np.eye(n, dtype=bool)] if n > 1 else np.array([np.nan])
        values = (number(float(others.min())), number(float(others.max())), number(1 / n))
        entropy, flat = float(entr(target).sum(axis=1).mean()), log(n)
        share_of = f"{100 * entropy / flat:.2f} %" if n > 1 else "-"
        rows.append(
            (layer, name, f"{n:,}", sums, *values, f"{entropy:.4f}", f"{flat:.4f}", share_of)
        )
    yield heading("P: lowest and highest off its diagonal; entropy in nats")
    columns = ("layer", "similarity", "units>", "row sums>", "lowest>", "highest>", "1/C>")
    yield table((*columns, "entropy>", "log C>", "share>"), rows)


def _embedding(file: h5py.File, n_concepts: int, detector_iou: float) -> Iterator[Part]:
    embedding = Embedding(file)
    rows = []
    for layer in embedding.layers:
        for method in embedding.methods:
            of_layer = embedding.of(layer, method)
            trajectory, vectors, loss = of_layer.trajectory, of_layer.vectors, of_layer.loss
            norm, curve = np.linalg.norm(vectors, axis=2), loss.mean(axis=0)
            ends = (number(float(curve[0]), 5), number(float(curve[-1]), 5))
            n_bad = sum(int((~np.isfinite(x)).sum()) for x in (trajectory, vectors, loss))
            norms = (f"{norm.min():.3f}", f"{norm.max():.3f}")
            rows.append((layer, method, f"{norm.shape[1]:,}", *ends, *norms, n_bad or "none"))
    _, n_epochs, _, dim = trajectory.shape
    seeds = f"seed{'s' if len(embedding.seeds) > 1 else ''} {', '.join(map(str, embedding.seeds))}"
    yield heading(f"{dim} dimensions, {n_epochs - 1} epochs, {seeds}")
    columns = ("layer", "method", "units>", "first loss>", "last loss>", "norm>", "to>", "NaN>")
    yield table(columns, rows)
    yield "Loss in nats, an epoch's mean, over seeds. NaN: or infinite, anywhere."


def _labels(file: h5py.File, n_concepts: int, detector_iou: float) -> Iterator[Part]:
    categories = read_strings(file["categories"])
    of_category = np.bincount(read_array(file["concepts/category"]), minlength=len(categories))
    n_regions = read_array(file["n_regions"])
    sizes = np.unique(read_array(file["size"]), axis=0)
    yield heading(f"{len(n_regions):,} images, {of_category.sum():,} concepts")
    yield table(("category", "concepts>"), zip(categories, of_category.tolist(), strict=True))
    more = f" and {len(sizes) - 5} other sizes" if len(sizes) > 5 else ""
    yield f"Label maps of {', '.join(map(shape, sizes[:5]))}{more} pixels."
    yield f"Regions an image: {n_regions.min()} to {n_regions.max():,}."


def _thresholds(file: h5py.File, n_concepts: int, detector_iou: float) -> Iterator[Part]:
    thresholds = Thresholds(file)
    rows = [
        (layer, len(values), number(float(values.min())), number(float(values.max())))
        for layer, values in ((layer, thresholds[layer]) for layer in thresholds.layers)
    ]
    yield heading("Thresholds of all images, for shards to be dissected with")
    yield table(("layer", "units>", "lowest>", "highest>"), rows)


def _chance(file: h5py.File, n_concepts: int, detector_iou: float) -> Iterator[Part]:
    chance = Chance(file)
    rows = []
    for layer in chance.layers:
        if chance.config.get("shard"):
            continue
        best = chance.best(layer)
        bound = f"{float(null_bound(best).mean()):.4f}"
        n_dead = int((chance.pixels(layer) == 0).sum())
        rows.append((layer, f"{best.shape[1]:,}", n_dead, f"{float(best.mean()):.4f}", bound))
    if chance.config.get("shard"):
        yield heading(f"Counts of {chance.n_draws} draws, to be gathered with those of all shards")
        return
    yield heading(
        f"Best IoU of units whose masks lie on labels of other images, {chance.n_draws} draws"
    )
    yield table(("layer", "units>", "never fire>", "mean>", "one in twenty draws above>"), rows)
    if chance.no_p:
        yield f"No p: {chance.no_p}."


def _words(file: h5py.File, n_concepts: int, detector_iou: float) -> Iterator[Part]:
    n_images, n_words = file["similarity"].shape
    cosines, words = read_array(file["similarity"]), read_strings(file["words"])
    model = read_config(file)["words"]["model"]
    yield heading(f"Cosines of {n_images:,} images and {n_words:,} words by {model}")
    yield f"From {number(float(cosines.min()))} to {number(float(cosines.max()))}."
    yield f"Words: {words[0]} to {words[-1]}."


def _classes(file: h5py.File, n_concepts: int, detector_iou: float) -> Iterator[Part]:
    names = read_strings(file["classes"])
    per_class = [np.bincount(read_array(file[f"{split}/labels"])) for split in ("train", "test")]
    train, test = (f"{n.min():,} to {n.max():,}" for n in per_class)
    yield heading(str(count_classes(file)))
    yield f"Classes: {names[0]} to {names[-1]}."
    yield f"Images a class: {train} in train, {test} in test."


def _prior(file: h5py.File, n_concepts: int, detector_iou: float) -> Iterator[Part]:
    config = read_config(file)
    model, data = config["model"], config["dataset"]
    right = "" if model["accuracy"] is None else f", {model['accuracy']:.2%} of test images right"
    mean, std = (
        " ".join(f"{x:g}" for x in config["normalisation"][key]) for key in ("mean", "std")
    )
    yield heading(
        f"Units of {model['name']}{right}, on {data['images']:,} images of {data['name']}"
    )
    rows = [(name, *vectors.shape) for name, vectors in read_vectors(file).items()]
    yield table(("layer", "units>", "dimensions>"), rows)
    yield f"Images normalised with mean {mean}, std {std}."


# By schema: a file's summary, with so many top concepts a layer, and the IoU of a detector.
OVERVIEWS: dict[str, Callable[[h5py.File, int, float], Iterator[Part]]] = {
    "labels": _labels,
    "activations": _activations,
    "thresholds": _thresholds,
    "profiles": _profiles,
    "chance": _chance,
    "similarity": _similarity,
    "embedding": _embedding,
    "words": _words,
    "classes": _classes,
    "prior": _prior,
}
