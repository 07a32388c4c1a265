"""Which runs are compared, what of them compares, and which images they have in common."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int

from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.alignment import LEAST

# What is read of each run; labels.h5 as well, where two have other ones.
NEEDED = ("activations", "profiles", "chance", "similarity", "controls")


def name_runs(runs: Iterable[RunFolder | Path | str]) -> dict[str, RunFolder]:
    """Open runs, by the names of their folders, or by the whole paths where two have one name.

    Raises
    ------
    ArtefactError
        If there are not two, one is named twice, is none, or lacks a file.
    """
    runs = [runs] if isinstance(runs, str | Path) else list(runs)
    if len(runs) < 2:
        told = "; one is named" * len(runs)
        msg = f"compare: expected two runs or more, results/<run>{told}"
        raise ArtefactError(msg)
    opened = [run if isinstance(run, RunFolder) else RunFolder(run) for run in runs]
    places = [run.folder.resolve() for run in opened]
    place, times = Counter(places).most_common(1)[0]
    if times > 1:
        msg = f"compare: {place} is named twice; name runs that differ"
        raise ArtefactError(msg)
    for run, kind in itertools.product(opened, NEEDED):
        run.need(kind)
    names = [place.name for place in places]
    if len(set(names)) < len(names):
        names = [str(place) for place in places]
    return dict(zip(names, opened, strict=True))


def describe_difference(runs: Mapping[str, RunFolder]) -> str:
    """Return in what two runs differ so that masks or labels do not compare; empty if in nothing.

    That is the share of positions at which a unit fires, or the labels themselves.
    """
    told = []
    for name, run in runs.items():
        with run.open_profiles() as profiles:
            labels = profiles.made_from["labels"]
            n_images = profiles.config["dataset"]["images"]
            text = f"{labels[:8]}… ({n_images:,} images, {len(profiles.concepts):,} concepts)"
            told.append((name, float(profiles.config["dissection"]["quantile"]), labels, text))
    (first, quantile, labels, text), *others = told
    for name, of_other, their_labels, their_text in others:
        if of_other != quantile:
            return f"dissection.quantile is {quantile:g} in {first} and {of_other:g} in {name}"
        if their_labels != labels:
            return f"labels.h5 is {text} in {first} and {their_text} in {name}"
    return ""


def shared_images(
    one: RunFolder, other: RunFolder
) -> tuple[Int[np.ndarray, " image"], Int[np.ndarray, " image"]]:
    """Return the places of the images that two runs have in common, in either.

    Images are the same that have one name and, where both runs know the same concepts, also the
    same labels: names such as ``1.jpg`` are not of one data set alone.

    Raises
    ------
    ArtefactError
        If they are too few to be compared.
    """
    with one.open_activations() as first, other.open_activations() as second:
        names, others = first.images, {name: n for n, name in enumerate(second.images)}
    found = [(n, others[name]) for n, name in enumerate(names) if name in others]
    told = f"{len(found):,} names"
    made_from = [run.header("profiles")["made_from"]["labels"] for run in (one, other)]
    if made_from[0] != made_from[1]:
        with one.open_labels() as of_one, other.open_labels() as of_other:
            concepts = [
                (labels.names, labels.categories, labels.concept_category.tolist())
                for labels in (of_one, of_other)
            ]
            if concepts[0] == concepts[1]:
                found = [(n, m) for n, m in found if of_one.attest(n) == of_other.attest(m)]
                told += f", and {len(found):,} of these with the same labels"
    if len(found) < LEAST:
        msg = (
            f"{one.folder} ({len(names):,} images, {names[0]} the first) and {other.folder} "
            f"({len(others):,}, {next(iter(others))}): {told} in common, expected at least {LEAST} "
            "images; name runs on the same data set"
        )
        raise ArtefactError(msg)
    places = np.array(found, dtype=np.int64)
    return places[:, 0], places[:, 1]
