"""The formula of concepts that each unit overlaps best, beside chance: ``compositions.csv``.

The best of thousands of formulas has a higher IoU than any single concept, also where there is
nothing to be found. So what is found stands beside two things. The search is made again with masks
on the labels of other images (the draws of ``chance.h5``): that IoU the search finds by chance. And
formulas are found on one half of the images and looked at on the other: what they gain there over
the best single concept no search has added.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from tqdm import tqdm

from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.chance import Chance
from dissect_embed.artefacts.files import check_expected
from dissect_embed.artefacts.labels import Labels
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.tables import write_artefact_table
from dissect_embed.device import choose_device
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.formula_counts import TotalCounts
from dissect_embed.mathematics.formula_search import BEAM, search_formulas
from dissect_embed.mathematics.formulas import Formulas, gain_elsewhere, measure_gains
from dissect_embed.mathematics.halves import second_half
from dissect_embed.mathematics.labelsets import LabelSets, draw_places, join_images, read_image
from dissect_embed.mathematics.masksets import Fired, MaskSets, lay_on
from dissect_embed.mathematics.null import draw_partners, p_values, q_values
from dissect_embed.networks.replay import Replay, add_up
from dissect_embed.parallel import map_in_threads
from dissect_embed.run import Run

# Pixels of all images on which draws are compared. All would take as long a draw as a dissection.
SAMPLED = 100_000

Rows = list[list[object]]


class Counted(NamedTuple):
    """Masks and labels of a run, label set by label set: what formulas are looked for in."""

    sets: LabelSets
    category: Int[np.ndarray, " concept"]
    halves: tuple[csr_array, csr_array]  # masks on the images of either half, (unit, set)
    at: Int[np.ndarray, "image place"]  # the label set of each image's places
    fired: Fired  # the places at which units fire

    @property
    def masks(self) -> csr_array:
        """The pixels of masks on all images, (unit, set)."""
        return self.halves[0] + self.halves[1]

    @property
    def whole(self) -> TotalCounts:
        """The pixels of all images."""
        return TotalCounts(self.sets, self.category, self.sets.pixels.sum(axis=0))

    @property
    def sampled(self) -> TotalCounts:
        """The places of all images."""
        of_places = np.bincount(self.at.ravel(), minlength=len(self.sets.kind))
        return TotalCounts(self.sets, self.category, of_places)

    def lay_on(self, partner: Int[np.ndarray, " image"]) -> csr_array:
        """Return masks at the places of other images, (unit, set)."""
        return lay_on(self.at, self.sets, self.fired, self.halves[0].shape[0], partner)

    def held_out(self, beam: int = BEAM) -> Float[np.ndarray, " unit"]:
        """Return the gain of formulas on the half where they were not looked for, the mean."""
        parts = [TotalCounts(self.sets, self.category, pixels) for pixels in self.sets.pixels]
        gains = [
            gain_elsewhere(
                parts[1 - n], self.halves[1 - n], search_formulas(parts[n], self.halves[n], beam)
            )
            for n in (0, 1)
        ]
        return np.asarray(np.mean(gains, axis=0))


class Found(NamedTuple):
    """The formulas of all units, through all layers."""

    formulas: Formulas
    held_out: Float[np.ndarray, " unit"]  # the gain on the half where they were not looked for
    sampled: Float[np.ndarray, " unit"]  # the IoU on the pixels that draws are compared on
    draws: Float[np.ndarray, "draw unit"]  # that on labels of other images; none without a p


def write_compositions(
    run: Run,
    path: Path,
    *,
    dataset: Path | None = None,
    expected: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Write ``compositions.csv``: for each unit the formula that gains most over single concepts.

    Parameters
    ----------
    dataset
        For layers that are not cached: where the data set lies now.
    expected
        Settings that the activations must have been made with (``files.check_expected``).

    Raises
    ------
    ArtefactError
        If a file is missing or damaged, was not made as ``expected`` says, or the counts are not
        those of the dissection.
    """
    device = choose_device(device)
    with (
        run.open_activations() as source,
        run.open_labels() as labels,
        run.open_profiles() as profiles,
        run.open_chance() as chance,
    ):
        check_expected(source.file, expected or {})
        replay = run.replay(source, dataset, device)
        found = find_compositions(source, labels, profiles, chance, replay, device, n_threads)
        config = profiles.config | {"chance": chance.config["chance"]}
        made_from = {
            "activations": source.fingerprint,
            "labels": labels.fingerprint,
            "profiles": profiles.fingerprint,
            "chance": chance.fingerprint,
        }
        rows = list_rows(found, profiles)
    write_artefact_table(path, "compositions", rows, config, made_from)


def count_label_sets(
    source: Activations,
    labels: Labels,
    profiles: Profiles,
    seed: int,
    replay: Replay | None,
    device: str,
    n_threads: int | None = None,
) -> Counted:
    """Return masks and labels, label set by label set; ``seed`` draws the places.

    Raises
    ------
    ArtefactError
        If masks share other pixels with concepts than the dissection counted.
    """
    images = range(len(labels.size))
    places, second = draw_places(len(images), SAMPLED, seed), second_half(len(images))
    read = map_in_threads(
        lambda image: read_image(labels.regions(image), places), images, n_threads=n_threads
    )
    bar = tqdm(read, "label sets", len(images), unit=" images", disable=None)
    sets, at = join_images(iter(bar), labels.presence, second, len(labels.names))
    thresholds = {layer: profiles[layer].threshold for layer in source.layers}
    found = MaskSets(labels, sets, places, second, thresholds, device)
    add_up(found, source, source.layers, replay, device, n_threads, desc="masks")
    counted = Counted(sets, labels.concept_category, found.halves, at, found.fired)
    _check_counts(profiles, source.layers, (counted.masks @ sets.concepts).toarray())
    return counted


def find_compositions(
    source: Activations,
    labels: Labels,
    profiles: Profiles,
    chance: Chance,
    replay: Replay | None,
    device: str,
    n_threads: int | None = None,
) -> Found:
    """Return the formulas of all units, with what they gain with labels of other images."""
    drawn = chance.config["chance"]
    counted = count_label_sets(source, labels, profiles, drawn["seed"], replay, device, n_threads)
    total = counted.sampled

    def iou_of(partner: Int[np.ndarray, " image"]) -> Float[np.ndarray, " unit"]:
        return search_formulas(total, counted.lay_on(partner)).iou

    n_draws = 0 if chance.no_p else drawn["draws"]
    # The first is the truth.
    truth = np.arange(len(labels.size))
    partners = [truth, *draw_partners(chance.stratum, n_draws, drawn["seed"])]
    searched = map_in_threads(iou_of, partners, n_threads=n_threads)
    sampled, *draws = tqdm(searched, "formulas", len(partners), unit=" draws", disable=None)
    masks, whole = counted.masks, counted.whole
    formulas = measure_gains(whole, masks, search_formulas(whole, masks))
    return Found(formulas, counted.held_out(), sampled, np.array(draws).reshape(-1, len(sampled)))


def _check_counts(profiles: Profiles, layers: list[str], both: np.ndarray) -> None:
    """Check that masks share with single concepts what the dissection counted."""
    expected = np.concatenate([profiles[layer].intersection for layer in layers])
    if not np.array_equal(both, expected):
        unit, concept = np.argwhere(both != expected)[0].tolist()
        msg = (
            f"{profiles.path}: unit {unit} of all layers shares {expected[unit, concept]:,} pixels "
            f"with {profiles.concepts[concept]!r}, and {both[unit, concept]:,} when label sets are "
            "counted; please report this"
        )
        raise ArtefactError(msg)


def list_rows(found: Found, profiles: Profiles) -> Rows:
    """Return the rows of the table."""
    rows: Rows = []
    first, names = 0, profiles.concepts
    formulas = found.formulas
    for layer in profiles.layers:
        of_layer = profiles[layer]
        units = slice(first, first + len(of_layer))
        concept, concept_iou = of_layer.best
        alive = of_layer.activation.any(axis=1)
        held_out, sampled = (
            np.where(alive, values[units], np.nan) for values in (found.held_out, found.sampled)
        )
        p = q = mean = np.full(len(sampled), np.nan)
        if len(found.draws):
            p = p_values(sampled, found.draws[:, units])
            q, mean = q_values(p), found.draws[:, units].mean(axis=0)
        for unit, index in enumerate(range(units.start, units.stop)):
            best = concept[unit]
            excess = sampled[unit] - mean[unit]
            tests = (held_out[unit], sampled[unit], mean[unit], excess, p[unit], q[unit])
            rows.append(
                [
                    layer, unit, formulas.text(index, names), int(formulas.length[index]),
                    repr(float(formulas.iou[index])), names[best] if best >= 0 else "",
                    repr(float(concept_iou[unit])), repr(float(formulas.gain[index])),
                    *("" if np.isnan(number) else f"{number:.4f}" for number in tests),
                ]
            )  # fmt: skip
        first = units.stop
    return rows
