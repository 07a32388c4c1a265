"""The formula of concepts that each unit overlaps best, beside chance: ``compositions.csv``.

What a search among thousands of formulas finds overlaps more than any single concept, also where
nothing is to be found. So the same search is made with formulas that begin with concepts of the
image itself and go on with those of another (the draws of ``chance.h5``): what it gains then, the
search alone gains. (The labels of one image go together: the sky is blue anyhow. So its own
labels make fewer different formulas than those of two images, and p is rather too high.)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.chance import Chance
from dissect_embed.artefacts.files import check_expected
from dissect_embed.artefacts.labels import Labels
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.tables import write_artefact_table
from dissect_embed.device import choose_device
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.formulas import Formulas, search_formulas
from dissect_embed.mathematics.labelsets import draw_places, join_images, read_image
from dissect_embed.mathematics.masksets import MaskSets, lay_on, own_labels
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
    sampled: Float[np.ndarray, " unit"]  # the gain on the pixels that draws are compared on
    draws: Float[np.ndarray, "draw unit"]  # that with labels of other images; none without a p


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
    sets, at = join_images(list(bar), labels.presence, len(labels.names))
    thresholds = {layer: profiles[layer].threshold for layer in source.layers}
    counted = MaskSets(labels, sets, places, thresholds, device)
    add_up(counted, source, source.layers, replay, device, n_threads, desc="masks")
    category = labels.concept_category
    pixels = own_labels(sets, counted.masks, category)
    _check_counts(profiles, source.layers, (pixels.masks @ sets.concepts).toarray())
    fired = counted.fired

    def gain_of(partner: np.ndarray) -> Float[np.ndarray, " unit"]:
        return search_formulas(lay_on(sets, at, fired, counted.n_units, category, partner)).gain

    n_draws = 0 if chance.no_p else drawn["draws"]
    # The first is the truth.
    partners = [np.arange(len(images)), *draw_partners(chance.stratum, n_draws, drawn["seed"])]
    searched = map_in_threads(gain_of, partners, n_threads=n_threads)
    sampled, *draws = tqdm(searched, "formulas", len(partners), unit=" draws", disable=None)
    return Found(
        search_formulas(pixels), sampled, np.array(draws).reshape(len(draws), counted.n_units)
    )


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
        sampled = np.where(alive, found.sampled[units], np.nan)
        p = q = mean = np.full(len(sampled), np.nan)
        if len(found.draws):
            p = p_values(sampled, found.draws[:, units])
            q, mean = q_values(p), found.draws[:, units].mean(axis=0)
        for unit, index in enumerate(range(units.start, units.stop)):
            best = concept[unit]
            numbers = (formulas.iou[index], formulas.gain[index])
            tests = (sampled[unit], mean[unit], sampled[unit] - mean[unit], p[unit], q[unit])
            rows.append(
                [
                    layer, unit, formulas.text(index, names), int(formulas.length[index]),
                    *(repr(float(number)) for number in numbers),
                    names[best] if best >= 0 else "", repr(float(concept_iou[unit])),
                    *("" if np.isnan(number) else f"{number:.4f}" for number in tests),
                ]
            )  # fmt: skip
        first = units.stop
    return rows
