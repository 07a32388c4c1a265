"""What two runs say of each other: how alike their layers are, and their units one to one.

Of each unit its peak on each image is taken, the largest value of its map: every run has it,
whether it stores maps or not, and of two networks maps have other sizes.
"""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.comparison.rows import Row, make_row
from dissect_embed.comparison.runs import shared_images
from dissect_embed.mathematics.alignment import (
    LEAST,
    features_of,
    kernel_alignment,
    linear_alignment,
    match_units,
    share_alike,
)
from dissect_embed.mathematics.controls import Control


def pair_rows(
    name: str, one: RunFolder, other_name: str, other: RunFolder, *, labelled: bool
) -> Iterator[Row]:
    """Yield what two runs say of each other, on the images that they have in common.

    All layers of one are aligned with all of the other. Units are matched between layers of one
    name; where the other run has no layer of that name, with its layer of the highest alignment.

    Parameters
    ----------
    labelled
        Whether masks and labels were made alike, so that best concepts compare.
    """
    images = shared_images(one, other)
    yield make_row(name, "", "images", len(images[0]), other=other_name)
    peaks, best = [], []
    for run, chosen in zip((one, other), images, strict=True):
        with run.open_activations() as source, run.open_profiles() as profiles:
            peaks.append({layer: source[layer].peaks[chosen] for layer in source.layers})
            best.append({layer: profiles[layer].best.concept for layer in source.layers})
    first, second = ({k: features_of(v) for k, v in of_run.items()} for of_run in peaks)
    alignments: dict[tuple[str, str], Control] = {}
    told = f"{name} and {other_name}"
    for layer, partner in tqdm(list(product(first, second)), told, unit=" layers", disable=None):
        control = alignments[layer, partner] = linear_alignment(first[layer], second[partner])
        yield make_row(
            name, layer, "cka", control, other=other_name, other_layer=partner,
            null="images_shuffled",
        )  # fmt: skip
    for layer in tqdm(first, f"{told}, units", unit=" layers", disable=None):
        partner = layer if layer in second else _most_alike(layer, alignments)
        texts = {"other": other_name, "other_layer": partner}
        if layer == partner:
            for similarity, control in _align_similarities(layer, one, other):
                yield make_row(
                    name, layer, "similarity_cka", control, similarity=similarity,
                    null="units_shuffled", **texts,
                )  # fmt: skip
        matching = match_units(peaks[0][layer], peaks[1][partner])
        yield make_row(name, layer, "matched", len(matching.one), **texts)
        for null, control in matching.mean._asdict().items():
            yield make_row(name, layer, "matched_correlation", control, null=null, **texts)
        if labelled:
            shared = share_alike(best[0][layer], best[1][partner], matching)
            yield make_row(name, layer, "matched_concept", shared, null="units_shuffled", **texts)


def _most_alike(layer: str, alignments: Mapping[tuple[str, str], Control]) -> str:
    found = {other: control.value for (one, other), control in alignments.items() if one == layer}
    return max(found, key=lambda other: float(np.nan_to_num(found[other], nan=-np.inf)))


def _align_similarities(
    layer: str, one: RunFolder, other: RunFolder
) -> Iterator[tuple[str, Control]]:
    """Yield how alike units are to each other in both runs, by each similarity: the CKA of P.

    Of layers whose units are the same: two checkpoints of a network, or trained and random. Two
    networks of one build and other starts have units of the same numbers that are not the same; a
    CKA near that of units shuffled tells.
    """
    if one.config["model"]["name"] != other.config["model"]["name"]:
        return
    with one.open_similarity() as first, other.open_similarity() as second:
        for similarity in first.similarities:
            kernel, other_kernel = (
                _kernel_of(file.target(layer, similarity)) for file in (first, second)
            )
            if len(kernel) == len(other_kernel) >= LEAST:
                yield similarity, kernel_alignment(kernel, other_kernel)


def _kernel_of(p: Float[np.ndarray, "unit unit"]) -> Float[np.ndarray, "unit unit"]:
    """Return a symmetric kernel of P: before the softmax, for its rows' sums are no similarity.

    What the softmax takes from a row is the same for all of it, which centring takes away.
    """
    logarithm = np.log(p)
    return np.asarray(logarithm + logarithm.T) / 2
