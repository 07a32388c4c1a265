"""What the atlas tells of each unit, as plain values for JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from dissect_embed.artefacts.chance import Chance
from dissect_embed.artefacts.embedding import LayerEmbedding
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.tables import Loss, MeanOverlap
from dissect_embed.atlas.projection import project_vectors
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.cosines import cosine_similarity, row_softmax
from dissect_embed.mathematics.null import null_bound
from dissect_embed.mathematics.vectors import profile_target

# Concepts of a unit's profile and points of a curve that are told.
CONCEPTS, POINTS = 10, 26
# What is told of a pair that adds up to a unit, beside the two units.
OF_PAIR = ("cosine", "gain", "start_gain", "overlap", "overlap_gain", "drawn_overlap_gain")

# Those of relations.csv and of pairs.csv, by one similarity.
Rows = Sequence[Mapping[str, str]]


def describe_layer(
    layer: str,
    profiles: Profiles,
    embedding: LayerEmbedding,
    chance: Chance,
    relations: Rows,
    pairs: Rows,
    overlap: MeanOverlap | None,
    losses: Mapping[int, Loss | None] | None,
    formulas: Rows,
    detector_iou: float,
) -> dict[str, Any]:
    """Return all that is told of a layer's units in words and numbers, by the first seed's vectors.

    Parameters
    ----------
    embedding
        Of the layer, by the similarity that is shown.
    relations, pairs
        The rows of ``relations.csv`` and ``pairs.csv``, by the same similarity.
    overlap
        What ``overlap.csv`` says of the layer in the mean.
    losses
        Of each unit the class that loses most without it; None where that was not looked at.
    formulas
        The rows of ``compositions.csv``; none where it is not there.
    detector_iou
        The best IoU from which on a unit counts as a detector.

    Raises
    ------
    ArtefactError
        If ``relations.csv`` does not tell of every unit.
    """
    names, categories = profiles.concepts, profiles.concept_categories
    iou, best_iou = profiles[layer].iou, profiles[layer].best.iou
    vectors = embedding.vectors[0]
    near, drawn = _read_near(layer, relations, len(iou))
    adding: list[list[list[float]]] = [[] for _ in iou]
    for told in pairs:
        if told["layer"] == layer:
            units_of_it = [int(told["first"]), int(told["second"])]
            numbers = [float(told[name]) for name in OF_PAIR]
            adding[int(told["target"])].append([*units_of_it, *numbers])
    epochs, kl = unit_curves(iou, embedding.trajectory[0])
    places = project_vectors(vectors)
    compared = chance.compare(layer, iou)
    bound = null_bound(chance.best(layer))
    told_of = {int(told["unit"]): told for told in formulas if told["layer"] == layer}
    units = []
    for unit, row in enumerate(iou):
        top = profiles[layer].concepts_of(unit)[:CONCEPTS]
        best = top[0] if top else None
        units.append(
            {
                "unit": unit,
                "x": round(float(places[unit, 0]), 4),
                "y": round(float(places[unit, 1]), 4),
                "concept": "" if best is None else names[best],
                "category": "" if best is None else categories[best],
                "iou": round(float(best_iou[unit]), 4),
                "p": _rounded(compared.p[unit]),
                "q": _rounded(compared.q[unit]),
                "beyond": int(compared.n_concepts[unit]),
                "chance": 0 if chance.no_p else round(float(bound[unit]), 4),
                "profile": [[names[c], categories[c], round(float(row[c]), 4)] for c in top],
                "near": near[unit],
                "drawn": drawn[unit],
                "pairs": adding[unit],
                "kl": [round(float(value), 5) for value in kl[unit]],
            }
        )
        if found := told_of.get(unit):
            # In words, IoU, gain, gain on other images; or nothing.
            values = (float(found[name] or "nan") for name in ("iou", "gain", "held_out"))
            units[-1]["formula"] = found["formula"] and [found["formula"], *map(_rounded, values)]
        if losses is not None:
            # Class, drop in points, before and after in per cent of so many images, q; or nothing.
            loss = losses.get(unit)
            units[-1]["loses"] = loss and [
                loss.name, loss.drop, loss.before, loss.after, loss.images, loss.q
            ]  # fmt: skip
    return {
        "layer": layer,
        "detector": detector_iou,
        # On images that the vectors were not learned from: units, nearest, any two, best possible.
        "overlap": None
        if overlap is None
        else [overlap.units, *(round(v, 4) for v in overlap[1:])],
        "epochs": epochs,
        "kl": [round(float(value), 5) for value in kl.mean(axis=0)],
        "units": units,
    }


def _rounded(value: float) -> float | None:
    """Return a number in four digits, or nothing where there is none."""
    return round(float(value), 4) if np.isfinite(value) else None


def unit_curves(
    iou: Float[np.ndarray, "unit concept"], trajectory: Float[np.ndarray, "epoch unit dim"]
) -> tuple[list[int], Float[np.ndarray, "unit point"]]:
    """Return some epochs and each unit's part of the score there: Σ_j t_ij log(t_ij / q_ij), nats.

    Their mean over units is KL(T, S).
    """
    t = profile_target(iou)
    epochs = np.unique(np.linspace(0, len(trajectory) - 1, POINTS).round().astype(int)).tolist()
    parts = []
    for epoch in epochs:
        q = row_softmax(cosine_similarity(torch.from_numpy(trajectory[epoch]).double()))
        parts.append((t * (t / q).log()).sum(dim=1).numpy())
    return epochs, np.stack(parts, axis=1)


def _read_near(
    layer: str, relations: Rows, n_units: int
) -> tuple[list[list[tuple[int, float, float]]], list[tuple[int, float] | None]]:
    """Return each unit's nearest: unit, cosine, overlap; and one drawn at random: unit, overlap."""
    near: list[list[tuple[int, float, float]]] = [[] for _ in range(n_units)]
    drawn: list[tuple[int, float] | None] = [None] * n_units
    for row in relations:
        if row["layer"] == layer and int(row["unit"]) < n_units:
            told = int(row["neighbour"]), float(row["cosine"]), float(row["overlap"])
            near[int(row["unit"])].append(told)
            if row["drawn"]:
                drawn[int(row["unit"])] = int(row["drawn"]), float(row["drawn_overlap"])
    missing = [unit for unit, told_of in enumerate(near) if not told_of]
    if missing and n_units > 1:
        msg = (
            f"relations.csv: nothing of unit {layer}:{missing[0]}; "
            "run 'snakemake --forcerun relations'"
        )
        raise ArtefactError(msg)
    return near, drawn
