"""Which word tells a unit's top images from those of the other units: soft weighted PMI.

CLIP-Dissect (Oikarinen & Weng, CLIP-Dissect: Automatic Description of Neuron Representations in
Deep Vision Networks, ICLR 2023, arXiv 2204.10965, section 3.2) with the constants of its published
code. A joint text-image model says how alike image n and word m are; softmax over the words of ten
times that is the probability P_nm that m is meant. With B_k the images of unit k's highest
activations, and s from 0.998 at the first of them down to 0.97 how sure it is that an image belongs
to them,

    log p(m | k) = sum over n in B_k of log(1 + s_kn (P_nm - 1))
    score(k, m) = log p(m | k) - log (mean over units k' of the layer of p(m | k'))

in nats, and a unit's word is that of its highest score. Three things are ours. A unit's activation
on an image is its peak, that by which AUC asks as well; theirs is by default the mean of its map.
B_k has 100 images as theirs, but at most a tenth of all. And equal peaks, as of a unit that is 0
on most images, come in an order that is drawn, for the order of a data set's images says where
they come from.

Chance: the words are dealt out anew among the images, for all units at once. (Only the order of a
unit's top images matters, so one might draw these alone, once for all units. But the score is
beside the other units, and these look alike or share the images among them: of units that knew
nothing of words, such draws gave p <= 0.05 for 12 % that had each images of their own, and for none
that fired alike. With the words dealt out for all at once it was 2 to 7 %.)
"""

import numpy as np
from jaxtyping import Float, Float32, Int

# Of CLIP-Dissect's ``soft_wpmi``; its lam is 1.
TOP = 100
SHARPNESS = 10
SURE = (0.998, 0.97)
LEAST = 1e-7  # added to each probability
# Entries that are worked on at a time.
BLOCK = 1 << 18


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
    drawn = np.random.default_rng(seed).permutation(len(peak))
    order = np.argsort(-peak[drawn], axis=0, kind="stable")[:n_top]
    return np.ascontiguousarray(drawn[order].T)


def find_probabilities(
    similarity: Float32[np.ndarray, "image word"],
) -> Float32[np.ndarray, "image word"]:
    """Return P, how likely each word is meant by each image, from their cosines.

    Examples
    --------
    >>> find_probabilities(np.array([[0.5, 0.5]], dtype=np.float32)).tolist()
    [[0.5, 0.5]]
    """
    found = np.empty_like(similarity)
    step = max(1, BLOCK // similarity.shape[1])
    for first in range(0, len(similarity), step):
        raised = SHARPNESS * similarity[first : first + step].astype(np.float64)
        powers = np.exp(raised - raised.max(axis=1, keepdims=True))
        found[first : first + step] = powers / powers.sum(axis=1, keepdims=True)
    return found


def log_likelihood(
    probability: Float32[np.ndarray, "image word"], top: Int[np.ndarray, "unit top"]
) -> Float[np.ndarray, "unit word"]:
    """Return log p(word | unit), nats.

    Parameters
    ----------
    top
        Each unit's top images, in their order.
    """
    n_top = top.shape[1]
    sure = SURE[0] - np.arange(n_top) / n_top * (SURE[0] - SURE[1])
    found = np.empty((len(top), probability.shape[1]))
    step = max(1, BLOCK // probability.shape[1])
    for first in range(0, len(top), step):
        # One logarithm of the product: 100 factors of 0.002 and more do not vanish in float64.
        product = np.ones((len(top[first : first + step]), probability.shape[1]))
        for rank, images in enumerate(top[first : first + step].T):
            product *= sure[rank] * probability[images] + (1 - sure[rank] + LEAST)
        found[first : first + step] = np.log(product)
    return found


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


def find_margins(
    probability: Float32[np.ndarray, "image word"], top: Int[np.ndarray, "unit top"]
) -> Float[np.ndarray, "unit word"]:
    """Return how far log p(word | unit) lies above the log of the sum of all others', nats."""
    likelihood = log_likelihood(probability, top)
    return np.asarray(likelihood - others_likelihood(likelihood))


def score_of(margin: Float[np.ndarray, "*any"], n_units: int) -> Float[np.ndarray, "*any"]:
    """Return the score, nats, that a margin means in a layer of so many units.

    With L = log p(word | unit) and o the others', score = L - log((e^L + e^o) / C) = log C - log(1
    + e^(o - L)): it rises with the margin L - o, which still tells words apart where the score
    rounds to log C.
    """
    return np.asarray(np.log(n_units) - np.logaddexp(0, -margin))
