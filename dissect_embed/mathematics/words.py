"""Which word tells a unit's top images from those of the other units: soft weighted PMI.

CLIP-Dissect (Oikarinen & Weng, CLIP-Dissect: Automatic Description of Neuron Representations in
Deep Vision Networks, ICLR 2023, arXiv 2204.10965, section 3.2) with the constants of its published
code. A joint text-image model says how alike image n and word m are; softmax over the words of ten
times that is the probability P_nm that m is meant. With B_k the images of unit k's highest
activations, and q from 0.998 at the first of them down to 0.97 how sure it is that an image belongs
to them,

    log p(m | k) = sum over n in B_k of log(1 + q_kn (P_nm - 1))
    score(k, m) = log p(m | k) - log (mean over units k' of the layer of p(m | k'))

in nats, and a unit's word is that of its highest score. Three things are ours. A unit's activation
on an image is its peak, that by which AUC asks as well; theirs is by default the mean of its map.
B_k has 100 images as theirs, but at most a tenth of all. And equal peaks, as of a unit that is 0
on most images, come in an order that is drawn, for the order of a data set's images says where
they come from.

Chance: a unit that knows nothing ranks the images by a draw. Only the order of its top images
matters, so the null is that of ordered draws of so many images, the same for all units but for
what the others of its layer say, which stays as it is. So all units share the draws, and as only
these cost much, there can be many.
"""

import numpy as np
from jaxtyping import Float, Int

# Of CLIP-Dissect's ``soft_wpmi``; its lam is 1.
TOP = 100
SHARPNESS = 10
SURE = (0.998, 0.97)
LEAST = 1e-7  # added to each probability


def count_top(n_images: int) -> int:
    """Return how many of a unit's top images are looked at.

    Examples
    --------
    >>> count_top(63_305), count_top(500), count_top(6)
    (100, 50, 1)
    """
    return max(1, min(TOP, n_images // 10))


def rank_images(
    peak: Float[np.ndarray, "image unit"], n_top: int, seed: int
) -> Int[np.ndarray, "unit top"]:
    """Return the images of each unit's highest peaks, highest first, equal ones as drawn."""
    drawn = np.random.default_rng([seed, 0]).permutation(len(peak))
    order = np.argsort(-peak[drawn], axis=0, kind="stable")[:n_top]
    return np.ascontiguousarray(drawn[order].T)


def draw_images(n_images: int, n_top: int, n_draws: int, seed: int) -> Int[np.ndarray, "draw top"]:
    """Return ordered draws of so many images: what a unit that knows nothing has on top."""
    rng = np.random.default_rng([seed, 1])
    return np.stack([rng.choice(n_images, n_top, replace=False) for _ in range(n_draws)])


def log_likelihood(
    similarity: Float[np.ndarray, "image word"], order: Int[np.ndarray, "unit top"]
) -> Float[np.ndarray, "unit word"]:
    """Return log p(word | top images), nats.

    Parameters
    ----------
    similarity
        Cosines of images and words.
    """
    n_top = order.shape[1]
    sure = SURE[0] - np.arange(n_top) / n_top * (SURE[0] - SURE[1])
    total = np.zeros((len(order), similarity.shape[1]))
    # Image by image, so that one row of probabilities is needed at a time.
    places = np.argsort(order.ravel(), kind="stable")
    images, first = np.unique(order.ravel()[places], return_index=True)
    for image, chosen in zip(images, np.split(places, first[1:]), strict=True):
        unit, rank = np.divmod(chosen, n_top)
        raised = SHARPNESS * similarity[image].astype(np.float64)
        probability = np.exp(raised - raised.max())
        probability /= probability.sum()
        total[unit] += np.log(1 + sure[rank, None] * (probability - 1) + LEAST)
    return total


def others_likelihood(
    likelihood: Float[np.ndarray, "unit word"],
) -> Float[np.ndarray, "unit word"]:
    """Return for each unit the log of the sum of p(word | unit) over all others.

    Examples
    --------
    >>> np.exp(others_likelihood(np.log([[1.0], [2.0], [4.0]]))).round(9).ravel().tolist()
    [6.0, 5.0, 3.0]
    """
    # From both ends: what one unit says cannot be taken out of the sum of all again.
    ends = np.full((1, likelihood.shape[1]), -np.inf)
    before = np.concatenate([ends, np.logaddexp.accumulate(likelihood[:-1])])
    after = np.concatenate([ends, np.logaddexp.accumulate(likelihood[:0:-1])])[::-1]
    return np.asarray(np.logaddexp(before, after))


def score_of(margin: Float[np.ndarray, "*any"], n_units: int) -> Float[np.ndarray, "*any"]:
    """Return the score, nats, of how far log p(word | unit) lies above that of all others.

    score = L - log((e^L + e^others) / C) = log C - log(1 + e^(others - L)): it rises with the
    margin, but for rounding where it comes near log C.
    """
    return np.asarray(np.log(n_units) - np.logaddexp(0, -margin))


def best_margins(
    likelihood: Float[np.ndarray, "unit word"], others: Float[np.ndarray, " word"]
) -> Float[np.ndarray, " unit"]:
    """Return how far each one's best word lies above what the others of a layer say."""
    return np.asarray((likelihood - others).max(axis=1))
