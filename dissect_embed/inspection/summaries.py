"""A layer in a few numbers: what its arrays hold, and whether they are sound."""

from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Float, Int
from scipy.special import entr

from dissect_embed.artefacts.files import layer_names
from dissect_embed.artefacts.profiles import Profiles
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

    A detector (``artefacts.profiles.Best``) detects its best concept alone.
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


def read_activation_summaries(file: h5py.File) -> dict[str, ActivationSummary]:
    """Summarise every layer of ``activations.h5``."""
    summaries = {}
    for layer in layer_names(file):
        group = file[f"layers/{layer}"]
        sample = None
        if "activations" in group:
            places = sample_places(len(group["peak"]))
            sample = np.concatenate([group["activations"][i : i + 1] for i in places])
        _, height, width = group.attrs["shape"]
        summaries[layer] = summarise_activations(
            group["peak"][:], sample, (int(height), int(width))
        )
    return summaries


def sample_places(n_images: int) -> list[int]:
    """Return which images are looked at: all of a few, else 32 evenly spaced.

    Examples
    --------
    >>> sample_places(3), len(sample_places(2000)), sample_places(2000)[-1]
    ([0, 1, 2], 32, 1999)
    """
    return np.unique(np.linspace(0, n_images - 1, SAMPLE).astype(int)).tolist()


def read_profile_summaries(file: h5py.File) -> dict[str, ProfileSummary]:
    """Summarise every layer of ``profiles.h5``."""
    profiles = Profiles(file)
    return {
        layer: summarise_profiles(
            profiles[layer].threshold, profiles[layer].activation, profiles[layer].iou,
            profiles.least_iou,
        )
        for layer in profiles.layers
    }  # fmt: skip


def read_concepts(profiles: Profiles) -> list[tuple[str, str]]:
    """Return (name, category) of every concept of ``profiles.h5``."""
    return list(zip(profiles.concepts, profiles.concept_categories, strict=True))


def read_similarity_summaries(file: h5py.File) -> dict[str, SimilaritySummary]:
    """Summarise every layer of ``similarity.h5``."""
    return {
        layer: summarise_similarity(file[f"layers/{layer}/target"][:])
        for layer in layer_names(file)
    }


def read_embedding_summaries(file: h5py.File) -> dict[tuple[str, str], EmbeddingSummary]:
    """Summarise every layer of ``embedding.h5``, by layer and method (ours, supervised)."""
    summaries = {}
    for layer in layer_names(file):
        for method, prefix in (("ours", ""), ("supervised", "supervised/")):
            group = file[f"{prefix}layers/{layer}"]
            summaries[layer, method] = summarise_embedding(
                group["trajectory"][:], group["vectors"][:], group["loss"][:]
            )
    return summaries
