"""What a run says of itself: its units, which concepts they detect, what its vectors gain."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int

from dissect_embed.artefacts.chance import Chance
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.comparison.rows import Row, make_row
from dissect_embed.mathematics.controls import Control, control_of
from dissect_embed.mathematics.iou import find_best


def unit_rows(name: str, run: RunFolder) -> Iterator[Row]:
    """Yield how many units each layer has."""
    with run.open_profiles() as profiles:
        for layer in profiles.layers:
            yield make_row(name, layer, "units", len(profiles[layer]))


def detector_rows(name: str, run: RunFolder, least_iou: float) -> Iterator[Row]:
    """Yield how many units are detectors, and of how many concepts: in all, and by category.

    By their IoU, beside the same with wrong labels, and beyond chance (``figures.detectors``), of
    which there is nothing where the data set allows no draws.
    """
    with run.open_profiles() as profiles, run.open_chance() as chance:
        for layer in profiles.layers:
            yield from _detectors_of(name, layer, profiles, chance, least_iou)


def _detectors_of(
    name: str, layer: str, profiles: Profiles, chance: Chance, least_iou: float
) -> Iterator[Row]:
    best, concept_category = profiles[layer].best, profiles.concept_category
    groups = ("", *profiles.categories)

    def count(
        concept: Int[np.ndarray, " unit"], chosen: Bool[np.ndarray, " unit"]
    ) -> Int[np.ndarray, "2 group"]:
        detected = concept[chosen]
        counts = np.array([
            np.bincount(concept_category[of], minlength=len(groups) - 1)
            for of in (detected, np.unique(detected))
        ])  # fmt: skip
        return np.hstack([counts.sum(axis=1, keepdims=True), counts])

    found = count(best.concept, best.detectors(least_iou))
    wrong = [] if chance.no_p else [find_best(iou) for iou in chance.profiles(layer)]
    null = np.array([count(drawn.concept, drawn.detectors(least_iou)) for drawn in wrong])
    above = chance.compare(layer, profiles[layer].iou).detectors() & (best.concept >= 0)
    beyond = count(best.concept, above)
    for g, group in enumerate(groups):
        for n, what in enumerate(("detectors", "concepts")):
            value = float(found[n, g])
            if not wrong:
                yield make_row(name, layer, what, value, category=group)
                continue
            control = control_of(value, null[:, n, g].astype(float))
            yield make_row(name, layer, what, control, category=group, null="wrong_labels")
            count_beyond = int(beyond[n, g])
            yield make_row(name, layer, f"{what}_above_chance", count_beyond, category=group)


def gain_rows(name: str, run: RunFolder) -> Iterator[Row]:
    """Yield what vectors gain, and what with wrong labels: the mean over seeds, of p the most.

    Where the data set allows no draws there is no control.
    """
    by_seed: dict[tuple[str, str], list[Control]] = {}
    for row in run.read_table("controls").rows:
        if (row["statistic"], row["null"]) == ("gain", "wrong_labels"):
            numbers = (float(row[k] or "nan") for k in ("value", "null_mean", "null_sd", "p"))
            by_seed.setdefault((row["layer"], row["similarity"]), []).append(Control(*numbers))
    for (layer, similarity), seeds in by_seed.items():
        value, mean, sd, p = (np.array(of) for of in zip(*seeds, strict=True))
        control = Control(float(value.mean()), float(mean.mean()), float(sd.mean()), float(p.max()))
        null = "wrong_labels" if np.isfinite(control.p) else ""
        yield make_row(name, layer, "gain", control, similarity=similarity, null=null)
