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
from dissect_embed.mathematics.formula_search import search_formulas
from dissect_embed.mathematics.formulas import Formulas, gain_elsewhere, measure_gains
from dissect_embed.mathematics.halves import second_half
from dissect_embed.mathematics.labelsets import draw_places, join_images, read_image
from dissect_embed.mathematics.masksets import MaskSets, lay_on
from dissect_embed.mathematics.null import draw_partners, p_values, q_values
from dissect_embed.networks.replay import Replay, add_up, prepare_replay
from dissect_embed.parallel import map_in_threads
from dissect_embed.run import Run

# Pixels of all images on which draws are compared. All would take as long a draw as a dissection.
SAMPLED = 100_000

Rows = list[list[object]]


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
        replay = None
        if source.uncached:
            replay = prepare_replay(source, run.network(), run.dataset(dataset), device)
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
    images = range(len(labels.size))
    places = draw_places(len(images), SAMPLED, drawn["seed"])
    read = map_in_threads(
        lambda image: read_image(labels.regions(image), places), images, n_threads=n_threads
    )
    bar = tqdm(read, "label sets", len(images), unit=" images", disable=None)
    second = second_half(len(images))
    sets, at = join_images(iter(bar), labels.presence, second, len(labels.names))
    thresholds = {layer: profiles[layer].threshold for layer in source.layers}
    counted = MaskSets(labels, sets, places, second, thresholds, device)
    add_up(counted, source, source.layers, replay, device, n_threads, desc="masks")
    category, halves = labels.concept_category, counted.halves
    masks = halves[0].masks + halves[1].masks
    _check_counts(profiles, source.layers, (masks @ sets.concepts).toarray())
    of_places = np.bincount(at.ravel(), minlength=len(sets.kind))
    total = TotalCounts(sets, category, of_places)
    fired = counted.fired

    def iou_of(partner: Int[np.ndarray, " image"]) -> Float[np.ndarray, " unit"]:
        return search_formulas(total, lay_on(at, sets, fired, counted.n_units, partner)).iou

    n_draws = 0 if chance.no_p else drawn["draws"]
    # The first is the truth.
    partners = [np.arange(len(images)), *draw_partners(chance.stratum, n_draws, drawn["seed"])]
    searched = map_in_threads(iou_of, partners, n_threads=n_threads)
    sampled, *draws = tqdm(searched, "formulas", len(partners), unit=" draws", disable=None)
    parts = [TotalCounts(sets, category, half.all) for half in halves]
    elsewhere = [
        gain_elsewhere(
            parts[other], halves[other].masks, search_formulas(parts[n], halves[n].masks)
        )
        for n, other in ((0, 1), (1, 0))
    ]
    whole = TotalCounts(sets, category, sets.pixels.sum(axis=0))
    formulas = measure_gains(whole, masks, search_formulas(whole, masks))
    return Found(
        formulas, np.mean(elsewhere, axis=0), sampled,
        np.array(draws).reshape(len(draws), counted.n_units),
    )  # fmt: skip


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
