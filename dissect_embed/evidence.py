"""What each unit stands for by three kinds of evidence, side by side: ``evidence.csv``.

``pixels``
    IoU of masks with labels per pixel (``profiles.h5``, ``chance.h5``): where does the unit fire?
``images``
    AUC of the unit's peak for labels of whole images (``mathematics.auc``): in which images?
``words``
    soft weighted PMI of its top images with any words (``mathematics.words``): what is in these?

Each stands beside its own chance, in which the search for the best concept is counted. Neither of
the last two looks at a map: peaks are there of layers that are not cached, too.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from tqdm import tqdm

from dissect_embed.artefacts.chance import Chance
from dissect_embed.artefacts.files import check_made_from
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.tables import write_artefact_table
from dissect_embed.mathematics.auc import (
    FEWEST,
    Presence,
    double_ranks,
    find_alike,
    find_presence,
)
from dissect_embed.mathematics.null import count_alone, draw_partners, p_values, q_values
from dissect_embed.mathematics.words import (
    count_top,
    find_margins,
    find_probabilities,
    rank_images,
    score_of,
)


class Found(NamedTuple):
    """What one kind of evidence says of a layer's units; NaN where it says nothing."""

    concept: Int[np.ndarray, " unit"]  # -1: none
    score: Float[np.ndarray, " unit"]
    null_mean: Float[np.ndarray, " unit"]
    p: Float[np.ndarray, " unit"]


def write_evidence(run: RunFolder, path: Path, *, words: bool = True) -> None:
    """Write ``evidence.csv``: a row a layer, unit and kind of evidence.

    Labels are dealt out anew as often as ``chance.h5`` says, and by its seed. A unit whose peak is
    the same on all images is neither told by images nor by words.

    Parameters
    ----------
    words
        Whether to use ``words.h5``, if the run has one.

    Raises
    ------
    ArtefactError
        If a file is missing or damaged, or they do not belong together.
    """
    with ExitStack() as stack:
        profiles = stack.enter_context(run.open_profiles())
        chance = stack.enter_context(run.open_chance())
        labels = stack.enter_context(run.open_labels())
        source = stack.enter_context(run.open_activations())
        check_made_from(source.file, "dataset", labels.dataset, str(labels.path))
        made_from = {
            "profiles": profiles.fingerprint,
            "chance": chance.fingerprint,
            "labels": labels.fingerprint,
            "activations": source.fingerprint,
        }
        config = profiles.config | {"chance": chance.config["chance"]}
        draws, seed = (int(config["chance"][key]) for key in ("draws", "seed"))
        stratum = find_alike(labels.presence)
        presence = find_presence(labels.concept_presence, stratum)
        partners = draw_partners(stratum, draws, seed)
        config["evidence"] = {
            "pixels": {"no_p": chance.no_p},
            "images": {
                "compared": len(stratum) - count_alone(stratum),
                "fewest": FEWEST,
                "concepts": len(presence.concepts),
            },
        }
        names, categories = labels.names, [labels.categories[g] for g in labels.concept_category]
        probability = None
        if words and "words" in run.kinds:
            file = stack.enter_context(run.open_words())
            check_made_from(file.file, "dataset", labels.dataset, str(labels.path))
            made_from["words"] = file.fingerprint
            config["words"] = file.config["words"]
            probability = find_probabilities(file.similarity)
            config["evidence"]["words"] = {"top": count_top(len(probability))}
            any_image = draw_partners(np.zeros_like(stratum), draws, seed)
        rows: list[tuple[object, ...]] = []
        for layer in tqdm(profiles.layers, "evidence", unit=" layers", disable=None):
            peak = source[layer].peaks
            alive = peak.max(axis=0) > peak.min(axis=0)
            found = {
                "pixels": _by_pixels(profiles, chance, layer),
                "images": _by_images(peak, alive, presence, stratum, partners),
            }
            of = {"pixels": (names, categories), "images": (names, categories)}
            if probability is not None:
                found["words"] = _by_words(peak, alive, probability, any_image, seed)
                of["words"] = (file.words, [""] * len(file.words))
            for kind, said in found.items():
                rows += _rows(layer, kind, said, *of[kind])
    write_artefact_table(path, "evidence", rows, config, made_from)


def _by_pixels(profiles: Profiles, chance: Chance, layer: str) -> Found:
    best, compared = profiles[layer].best, chance.compare(layer, profiles[layer].iou)
    return Found(best.concept, best.iou, compared.null_mean, compared.p)


def _by_images(
    peak: Float32[np.ndarray, "image unit"],
    alive: Bool[np.ndarray, " unit"],
    presence: Presence,
    stratum: Int[np.ndarray, " image"],
    partners: Int[np.ndarray, "draw image"],
) -> Found:
    none = np.full(len(alive), np.nan)
    if not len(presence.concepts):
        return Found(np.full(len(alive), -1), none, none, none)
    ranks = double_ranks(peak, stratum)
    auc = presence.auc(ranks)
    concept = np.where(alive, presence.concepts[auc.argmax(axis=1)], -1)
    score = np.where(alive, auc.max(axis=1), np.nan)
    bar = tqdm(partners, "labels of other images", unit=" draws", leave=False, disable=None)
    null = np.stack([presence.deal(partner).auc(ranks).max(axis=1) for partner in bar])
    return Found(concept, score, np.where(alive, null.mean(axis=0), np.nan), p_values(score, null))


def _by_words(
    peak: Float32[np.ndarray, "image unit"],
    alive: Bool[np.ndarray, " unit"],
    probability: Float32[np.ndarray, "image word"],
    partners: Int[np.ndarray, "draw image"],
    seed: int,
) -> Found:
    n_units = int(alive.sum())
    concept = np.full(len(alive), -1)
    score, null_mean, p = (np.full(len(alive), np.nan) for _ in range(3))
    if n_units:
        top = rank_images(peak[:, alive], count_top(len(peak)), seed)
        margin = find_margins(probability, top)
        concept[alive], best = margin.argmax(axis=1), margin.max(axis=1)
        bar = tqdm(partners, "words of other images", unit=" draws", leave=False, disable=None)
        null = np.stack([find_margins(probability, partner[top]).max(axis=1) for partner in bar])
        score[alive], p[alive] = score_of(best, n_units), p_values(best, null)
        null_mean[alive] = score_of(null, n_units).mean(axis=0)
    return Found(concept, score, null_mean, p)


def _rows(
    layer: str, kind: str, found: Found, names: list[str], categories: list[str]
) -> Iterator[tuple[object, ...]]:
    numbers = (found.null_mean, found.score - found.null_mean, found.p, q_values(found.p))
    for unit, (c, score) in enumerate(zip(found.concept.tolist(), found.score, strict=True)):
        name, category = (names[c], categories[c]) if c >= 0 else ("", "")
        cells = [f"{of[unit]:.4f}" if isfinite(of[unit]) else "" for of in numbers]
        shown = repr(float(score)) if isfinite(score) else ""
        yield layer, unit, kind, name, category, shown, *cells
