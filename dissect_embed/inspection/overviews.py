"""Print what the layers of a file hold, a row a layer."""

import itertools
from collections import Counter
from collections.abc import Callable
from math import isnan, log

import h5py
import numpy as np
from rich.console import Console

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
from dissect_embed.inspection.files import format_shape
from dissect_embed.inspection.summaries import (
    read_activation_summary,
    sample_images,
    summarise_embedding,
    summarise_profiles,
    summarise_similarity,
)
from dissect_embed.inspection.tables import describe, number, print_heading, print_table, share
from dissect_embed.mathematics.null import null_bound

# P is kept in float64, summed from float32: its rows' sums are good to some six digits.
ROW_ERROR = 1e-4

# What prints a summary, once everything was read.
Printer = Callable[[Console], None]


def _activations(file: h5py.File, n_concepts: int, detector_iou: float) -> Printer:
    source = Activations(file)
    summaries = {layer: read_activation_summary(source, layer) for layer in source.layers}
    n_images, first, last = len(source), source.images[0], source.images[-1]
    n_sample = len(sample_images(n_images))
    columns = ("layer", "units>", "map>", "dead>", "lowest*>", "highest>", "zero*>", "bytes>")
    rows = [
        (
            layer, f"{s.n_units:,}", format_shape(s.map_size), s.n_dead, number(s.low),
            number(s.high), "-" if isnan(s.zero_share) else f"{100 * s.zero_share:.1f} %",
            format_bytes(s.n_bytes),
        )
        for layer, s in summaries.items()
    ]  # fmt: skip

    def show(console: Console) -> None:
        print_heading(console, f"{n_images:,} images, {first} to {last}")
        print_table(console, columns, rows)
        console.print(f"dead: 0 on every image. * from {n_sample} images, evenly spaced.")
        if any(isnan(s.low) for s in summaries.values()):
            console.print("-: not cached; dissection computes these maps once more.")

    return show


def _profiles(file: h5py.File, n_concepts: int, detector_iou: float) -> Printer:
    profiles = Profiles(file)
    concepts = list(zip(profiles.concepts, profiles.concept_categories, strict=True))
    categories = profiles.categories
    summaries = {
        layer: summarise_profiles(
            profiles[layer].threshold, profiles[layer].activation, profiles[layer].iou, detector_iou
        )
        for layer in profiles.layers
    }
    layers, unique, top = [], [], []
    for layer, s in summaries.items():
        detectors = (s.n_detectors, share(s.n_detectors, s.n_units))
        thresholds = (number(s.low), number(s.high))
        layers.append((layer, f"{s.n_units:,}", *thresholds, s.n_dead, *detectors))
        counts = Counter(concepts[c.concept][1] for c in s.concepts)
        by_category = {name: counts[name] for name in categories if counts[name]}
        unique.append((layer, len(s.concepts), describe(by_category) or "-"))
        for index, c in enumerate(s.concepts[:n_concepts]):
            found = (c.n_units, f"{c.best_iou:.4f}", f"{layer}:{c.best_unit}")
            top.append((layer if index == 0 else "", *concepts[c.concept], *found))

    def show(console: Console) -> None:
        title = f"{len(concepts):,} concepts; a detector has an IoU of at least {detector_iou:g}"
        print_heading(console, title)
        columns = ("layer", "units>", "threshold>", "to>", "dead>", "detectors>", "share>")
        print_table(console, columns, layers)
        print_heading(console, "Unique detector concepts")
        print_table(console, ("layer", "concepts>", "by category"), unique)
        print_heading(console, f"The {n_concepts} concepts of most detectors, by layer")
        best = ("units>", "best IoU>", "best unit")
        print_table(console, ("layer", "concept", "category", *best), top)

    return show


def _similarity(file: h5py.File, n_concepts: int, detector_iou: float) -> Printer:
    rows = []
    similarity = Similarity(file)
    for layer, name in itertools.product(similarity.layers, similarity.similarities):
        s = summarise_similarity(similarity.target(layer, name))
        flat = log(s.n_units)
        # A NaN is no 1 either.
        sums = "1" if s.row_error < ROW_ERROR else f"off by {s.row_error:.2g}"
        entropy = (f"{s.entropy:.4f}", f"{flat:.4f}")
        flatness = f"{100 * s.entropy / flat:.2f} %" if s.n_units > 1 else "-"
        values = (number(s.low), number(s.high), number(1 / s.n_units))
        rows.append((layer, name, f"{s.n_units:,}", sums, *values, *entropy, flatness))
    columns = ("layer", "similarity", "units>", "row sums>", "lowest>", "highest>", "1/C>")

    def show(console: Console) -> None:
        print_heading(console, "P: lowest and highest off its diagonal; entropy in nats")
        print_table(console, (*columns, "entropy>", "log C>", "share>"), rows)

    return show


def _embedding(file: h5py.File, n_concepts: int, detector_iou: float) -> Printer:
    embedding = Embedding(file)
    seeds = embedding.seeds
    summaries = {}
    for layer in embedding.layers:
        for method in embedding.methods:
            of_layer = embedding.of(layer, method)
            trajectory = of_layer.trajectory
            summaries[layer, method] = summarise_embedding(
                trajectory, of_layer.vectors, of_layer.loss
            )
    _, n_epochs, _, dim = trajectory.shape
    rows = [
        (
            layer, method, f"{s.n_units:,}", number(s.first_loss, 5), number(s.last_loss, 5),
            f"{s.low_norm:.3f}", f"{s.high_norm:.3f}", s.n_bad or "none",
        )
        for (layer, method), s in summaries.items()
    ]  # fmt: skip
    columns = ("layer", "method", "units>", "first loss>", "last loss>", "norm>", "to>", "NaN>")

    def show(console: Console) -> None:
        plural = "s" if len(seeds) > 1 else ""
        print_heading(console, f"{dim} dimensions, {n_epochs - 1} epochs, seed{plural} "
                               f"{', '.join(map(str, seeds))}")  # fmt: skip
        print_table(console, columns, rows)
        console.print("Loss in nats, an epoch's mean, over seeds. NaN: or infinite, anywhere.")

    return show


def _labels(file: h5py.File, n_concepts: int, detector_iou: float) -> Printer:
    categories = read_strings(file["categories"])
    of_category = np.bincount(read_array(file["concepts/category"]), minlength=len(categories))
    n_regions = read_array(file["n_regions"])
    sizes = np.unique(read_array(file["size"]), axis=0)

    def show(console: Console) -> None:
        print_heading(console, f"{len(n_regions):,} images, {of_category.sum():,} concepts")
        rows = [(c, n) for c, n in zip(categories, of_category.tolist(), strict=True)]
        print_table(console, ("category", "concepts>"), rows)
        shapes = ", ".join(format_shape(size) for size in sizes[:5])
        more = f" and {len(sizes) - 5} other sizes" if len(sizes) > 5 else ""
        console.print(f"Label maps of {shapes}{more} pixels.")
        console.print(f"Regions an image: {n_regions.min()} to {n_regions.max():,}.")

    return show


def _thresholds(file: h5py.File, n_concepts: int, detector_iou: float) -> Printer:
    rows = []
    thresholds = Thresholds(file)
    for layer in thresholds.layers:
        values = thresholds[layer]
        rows.append((layer, len(values), number(float(values.min())), number(float(values.max()))))

    def show(console: Console) -> None:
        print_heading(console, "Thresholds of all images, for shards to be dissected with")
        print_table(console, ("layer", "units>", "lowest>", "highest>"), rows)

    return show


def _chance(file: h5py.File, n_concepts: int, detector_iou: float) -> Printer:
    chance = Chance(file)
    rows = []
    for layer in chance.layers:
        best = chance.best(layer)
        bound = f"{float(null_bound(best[:, None])[0]):.4f}"
        rows.append((layer, f"{len(best):,}", f"{float(best.mean()):.4f}", bound))

    def show(console: Console) -> None:
        print_heading(console, "Best IoU of units whose masks lie on labels of other images")
        print_table(console, ("layer", "draws × units>", "mean>", "one in a hundred above>"), rows)

    return show


def _classes(file: h5py.File, n_concepts: int, detector_iou: float) -> Printer:
    counts = count_classes(file)
    names = read_strings(file["classes"])
    per_class = [np.bincount(read_array(file[f"{split}/labels"])) for split in ("train", "test")]

    def show(console: Console) -> None:
        print_heading(console, str(counts))
        console.print(f"Classes: {names[0]} to {names[-1]}.")
        train, test = (f"{n.min():,} to {n.max():,}" for n in per_class)
        console.print(f"Images a class: {train} in train, {test} in test.")

    return show


def _prior(file: h5py.File, n_concepts: int, detector_iou: float) -> Printer:
    config = read_config(file)
    model, data, normalisation = (config[k] for k in ("model", "dataset", "normalisation"))
    accuracy = (
        "" if model["accuracy"] is None else f", {model['accuracy']:.2%} of test images right"
    )
    shapes = [(name, *vectors.shape) for name, vectors in read_vectors(file).items()]
    values = {key: " ".join(f"{x:g}" for x in normalisation[key]) for key in ("mean", "std")}

    def show(console: Console) -> None:
        print_heading(console, f"Units of {model['name']}{accuracy}, on {data['images']:,} images "
                               f"of {data['name']}")  # fmt: skip
        print_table(console, ("layer", "units>", "dimensions>"), shapes)
        console.print(f"Images normalised with mean {values['mean']}, std {values['std']}.")

    return show


# By schema: read a file's summary, with so many top concepts a layer, and the IoU of a detector.
OVERVIEWS: dict[str, Callable[[h5py.File, int, float], Printer]] = {
    "labels": _labels,
    "activations": _activations,
    "thresholds": _thresholds,
    "profiles": _profiles,
    "chance": _chance,
    "similarity": _similarity,
    "embedding": _embedding,
    "classes": _classes,
    "prior": _prior,
}
