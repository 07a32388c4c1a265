"""Semantic vectors on a plane: a map in which units that lie near in 16 dimensions lie near."""

import numpy as np
from jaxtyping import Float
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

# Below so many units there are no neighbourhoods to keep: two principal axes tell all.
FEW = 8
# Neighbours that count for a unit's place, fewer in small layers.
PERPLEXITY = 30


def project_vectors(
    vectors: Float[np.ndarray, "unit dim"], seed: int = 0
) -> Float[np.ndarray, "unit 2"]:
    """Return a place in [-1, 1]² for each unit, by t-SNE of the directions of the vectors.

    Each axis is filled: of places on a t-SNE map, only who lies near whom means anything.

    Starts from the two principal axes, so that the large order is kept, and ends at the same
    places for the same seed (on one machine: one thread, for sums of several differ in rounding).
    t-SNE: van der Maaten and Hinton, JMLR 2008, by scikit-learn.

    Examples
    --------
    >>> places = project_vectors(np.array([[2.0, 0.0], [0.0, 1.0]]))
    >>> np.abs(places).round(3).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = vectors / np.where(length > 0, length, 1)
    places = _principal_axes(directions)
    spread = places.std()
    if len(vectors) >= FEW and spread > 0:
        tsne = TSNE(
            init=(places / spread * 1e-4).astype(np.float32),
            perplexity=min(PERPLEXITY, (len(vectors) - 1) / 3),
            random_state=seed,
            n_jobs=1,
        )
        with threadpool_limits(1):
            places = tsne.fit_transform(directions.astype(np.float32)).astype(np.float64)
    places -= (places.max(axis=0) + places.min(axis=0)) / 2
    largest = np.abs(places).max(axis=0)
    return places / np.where(largest > 0, largest, 1)


def _principal_axes(directions: Float[np.ndarray, "unit dim"]) -> Float[np.ndarray, "unit 2"]:
    """Return coordinates along the two principal axes, the largest of each positive."""
    centred = directions - directions.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(directions), 2))
    # What is left of an axis without spread is rounding.
    kept = min(2, int((s > 1e-9 * max(1, s[0] if len(s) else 0)).sum()))
    places[:, :kept] = u[:, :kept] * s[:kept]
    strongest = np.abs(places).argmax(axis=0)
    return places * np.where(places[strongest, [0, 1]] < 0, -1, 1)
