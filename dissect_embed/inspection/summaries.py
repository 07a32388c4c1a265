"""A layer in a few numbers: what its arrays hold, and whether they are sound."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import entr

from dissect_embed.artefacts.activations import Activations
from dissect_embed.mathematics.iou import Best, find_best

# Images looked at for what the peaks do not tell, evenly spaced.
SAMPLE = 32


class ActivationSummary(NamedTuple):
    """A layer of ``activations.h5``."""

    n_units: int
    map_size: tuple[int, int]  # h, w
    n_dead: int  # units that are 0 on every image
    low: float  # the least value of the sample
    high: float  # the largest value of all images
    zero_share: float  # of the sample's values
    n_bytes: int  # of the maps and peaks, uncompressed


class ConceptCount(NamedTuple):
    """A concept and the detectors that have it as their best."""

    concept: int
    n_units: int
    best_iou: float
    best_unit: int


class ProfileSummary(NamedTuple):
    """A layer of ``profiles.h5``."""

    n_units: int
    low: float  # the least threshold
    high: float  # the largest threshold
    n_dead: int  # units with threshold 0 that exceed it nowhere
    n_detectors: int  # units whose best IoU reaches detector_iou
    concepts: list[ConceptCount]  # the detectors' best concepts, those of most units first


class SimilaritySummary(NamedTuple):
    """A layer of ``similarity.h5``."""

    n_units: int
    row_error: float  # how far a row's sum lies from 1 at most
    low: float  # off the diagonal; NaN for a single unit
    high: float
    entropy: float  # nats, the mean over rows; log C where all units are equally alike


class EmbeddingSummary(NamedTuple):
    """A layer of ``embedding.h5``, learned or supervised."""

    n_units: int
    first_loss: float  # nats, the first epoch's mean, over seeds; NaN without epochs
    last_loss: float
    low_norm: float  # of the vectors at the end, over seeds
    high_norm: float
    n_bad: int  # numbers that are NaN or infinite


def summarise_activations(
    peak: Float[np.ndarray, "image unit"],
    sample: Float[np.ndarray, "some unit y x"] | None,
    map_size: tuple[int, int],
) -> ActivationSummary:
    """Summarise a layer from its peaks on all images and its maps on some.

    A unit is dead where all peaks are 0 and so is the sample: a peak of 0 alone could belong to a
    unit that is mostly negative. Without a sample (the maps are not cached) what it tells is NaN.

    Examples
    --------
    >>> peak = np.array([[0, 2], [0, 3]], dtype=np.float32)
    >>> sample = np.array([[[[0, 0]], [[0, 2]]]], dtype=np.float32)
    >>> summarise_activations(peak, sample, (1, 2))[:6]
    (2, (1, 2), 1, 0.0, 3.0, 0.75)
    """
    dead = (peak == 0).all(axis=0)
    n_bytes = peak.size * peak.itemsize
    if sample is not None:
        dead &= (sample == 0).all(axis=(0, 2, 3))
        n_bytes += peak.size * map_size[0] * map_size[1] * sample.itemsize
    return ActivationSummary(
        n_units=peak.shape[1],
        map_size=map_size,
        n_dead=int(dead.sum()),
        low=float("nan") if sample is None else float(sample.min()),
        high=float(peak.max()),
        zero_share=float("nan") if sample is None else float((sample == 0).mean()),
        n_bytes=n_bytes,
    )


def summarise_profiles(
    threshold: Float[np.ndarray, " unit"],
    activation: Int[np.ndarray, "unit category"],
    iou: Float[np.ndarray, "unit concept"],
    detector_iou: float,
) -> ProfileSummary:
    """Summarise a dissected layer.

    A detector (``mathematics.iou.Best``) detects its best concept alone.
    """
    best, best_iou = find_best(iou)
    detects = Best(best, best_iou).detectors(detector_iou)
    concepts = []
    for concept in np.unique(best[detects]):
        units = np.flatnonzero(detects & (best == concept))
        top = units[best_iou[units].argmax()]
        concepts.append(ConceptCount(int(concept), len(units), float(best_iou[top]), int(top)))
    concepts.sort(key=lambda c: (-c.n_units, -c.best_iou))
    return ProfileSummary(
        n_units=len(iou),
        low=float(threshold.min()),
        high=float(threshold.max()),
        n_dead=int(((threshold == 0) & (activation == 0).all(axis=1)).sum()),
        n_detectors=int(detects.sum()),
        concepts=concepts,
    )


def summarise_similarity(target: Float[np.ndarray, "unit unit"]) -> SimilaritySummary:
    """Summarise the mean target P of a layer.

    Examples
    --------
    >>> summarise_similarity(np.array([[0.5, 0.5], [0.25, 0.75]]))[:4]
    (2, 0.0, 0.25, 0.5)
    """
    n_units = len(target)
    off_diagonal = target[~np.eye(n_units, dtype=bool)]
    return SimilaritySummary(
        n_units=n_units,
        row_error=float(np.abs(target.sum(axis=1) - 1).max()),
        low=float(off_diagonal.min()) if n_units > 1 else float("nan"),
        high=float(off_diagonal.max()) if n_units > 1 else float("nan"),
        entropy=float(entr(target).sum(axis=1).mean()),
    )


def summarise_embedding(
    trajectory: Float[np.ndarray, "seed epoch unit dim"],
    vectors: Float[np.ndarray, "seed unit dim"],
    loss: Float[np.ndarray, "seed training_epoch"],
) -> EmbeddingSummary:
    """Summarise the vectors of a layer and how they were trained."""
    norm = np.linalg.norm(vectors, axis=2)
    curve = loss.mean(axis=0)
    return EmbeddingSummary(
        n_units=vectors.shape[1],
        first_loss=float(curve[0]) if len(curve) else float("nan"),
        last_loss=float(curve[-1]) if len(curve) else float("nan"),
        low_norm=float(norm.min()),
        high_norm=float(norm.max()),
        n_bad=sum(int((~np.isfinite(x)).sum()) for x in (trajectory, vectors, loss)),
    )


def read_activation_summary(source: Activations, layer: str) -> ActivationSummary:
    """Summarise a layer of ``activations.h5``."""
    of_layer = source[layer]
    sample = None
    if of_layer.maps is not None:
        chosen = sample_images(len(source))
        sample = np.concatenate([source.read_maps(layer, slice(i, i + 1))[0] for i in chosen])
    return summarise_activations(of_layer.peaks, sample, of_layer.shape[1:])


def sample_images(n_images: int) -> list[int]:
    """Return which images are looked at: all of a few, else 32 evenly spaced.

    Examples
    --------
    >>> sample_images(3), len(sample_images(2000)), sample_images(2000)[-1]
    ([0, 1, 2], 32, 1999)
    """
    chosen: list[int] = np.unique(np.linspace(0, n_images - 1, SAMPLE).astype(int)).tolist()
    return chosen
