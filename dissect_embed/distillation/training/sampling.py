"""Which training images are held out, and on which a trained student is looked at."""

from typing import Final

import numpy as np
from jaxtyping import Int64

from dissect_embed.datasets.classes import ClassImages
from dissect_embed.errors import TrainingError

# The same images for every training of a data set, so that trainings compare.
HELD_OUT_SEED: Final = 0
SAMPLE_SEED: Final = 1


def draw_stratified(
    labels: Int64[np.ndarray, " image"], n: int, seed: int
) -> Int64[np.ndarray, " drawn"]:
    """Return the indices of n images, sorted, of each class its share or one more or less.

    Examples
    --------
    >>> labels = np.repeat([0, 1, 2], [4, 4, 8])
    >>> np.bincount(labels[draw_stratified(labels, 4, seed=0)]).tolist()
    [1, 1, 2]
    """
    rng = np.random.default_rng(seed)
    # The k-th of a class's m images comes when the share (k + u) / m of all is asked for.
    share = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        share[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.sort(np.argsort(share, kind="stable")[:n])


def hold_out(data: ClassImages, n: int) -> tuple[ClassImages, ClassImages]:
    """Return the images that are trained on, and n that are not.

    Raises
    ------
    TrainingError
        If no image of a class is left to train on.
    """
    chosen = draw_stratified(data.labels, n, HELD_OUT_SEED)
    held = np.zeros(len(data.labels), bool)
    held[chosen] = True
    if len(np.unique(data.labels[~held])) < len(np.unique(data.labels)):
        msg = (
            f"held out: {n:,} of the {len(data.labels):,} training images of {data.name}; expected "
            f"fewer, so that every one of {len(data.classes):,} classes has images to train on"
        )
        raise TrainingError(msg)
    left, out = (data._replace(images=data.images[k], labels=data.labels[k]) for k in (~held, held))
    return left, out
