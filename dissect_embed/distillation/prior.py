"""What is left of a teacher: the vectors of its units, ``prior.h5``, and the targets they give.

Of each stage it holds S in float32, each row of length 1 (``artefacts.prior``): a student sees
nothing but cosines. ``config`` has the teacher's name and accuracy, the data set, and how its
images were normalised. ``extraction`` makes it.

The control that teaches P itself needs P, which lies in a file of its own, a ``similarity.h5``: 58
kB for resnet56, whose prior takes 20 kB, and 4.9 MB for vgg13, whose prior takes 102 kB.

[HAN22] Han, Wang, Böhm, Shao, *An Interpretable Neuron Embedding for Static Knowledge
Distillation*, arXiv 2211.07647.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dissect_embed.artefacts.files import open_artefact, read_config, read_made_from
from dissect_embed.artefacts.prior import read_vectors
from dissect_embed.artefacts.similarity import open_similarity
from dissect_embed.datasets.classes import ClassImages
from dissect_embed.distillation.methods.registry import CONTROLS, known_control
from dissect_embed.distillation.outputs import Network
from dissect_embed.distillation.zoo import map_shapes
from dissect_embed.errors import ArtefactError, ModelError
from dissect_embed.mathematics.cosines import cosine_similarity, row_softmax


class Prior(NamedTuple):
    """The units of a teacher, as ``prior.h5`` holds them."""

    path: Path
    network: str
    fingerprint: str  # of the file
    accuracy: float | None  # of the teacher: the share of test images it gets right
    dataset: str
    data: str  # fingerprint of the images
    n_images: int  # that the teacher was looked at on
    mean: tuple[float, ...]  # of each colour, on the 0..1 scale
    std: tuple[float, ...]
    vectors: dict[str, Float[Tensor, "unit dim"]]
    similarity: dict[str, Float[Tensor, "unit unit"]] | None  # P, where its file was named


def load_prior(path: Path, similarity_path: Path | None = None) -> Prior:
    """Read ``prior.h5``, and P if its file is named.

    Raises
    ------
    ArtefactError
        If a file is missing, damaged or another one, or P is not what S was trained at.
    """
    with open_artefact(path, "prior") as file:
        config, made_from = read_config(file), read_made_from(file)
        similarity = None
        if similarity_path is not None:
            similarity = _read_similarity(similarity_path, made_from["similarity"], path)
        return Prior(
            path=path,
            network=str(config["model"]["name"]),
            fingerprint=str(file.attrs["fingerprint"]),
            accuracy=config["model"]["accuracy"],
            dataset=str(config["dataset"]["name"]),
            data=made_from["classes"],
            n_images=int(config["dataset"]["images"]),
            mean=tuple(config["normalisation"]["mean"]),
            std=tuple(config["normalisation"]["std"]),
            vectors={k: torch.from_numpy(v) for k, v in read_vectors(file).items()},
            similarity=similarity,
        )


def _read_similarity(path: Path, expected: str, prior_path: Path) -> dict[str, Tensor]:
    with open_similarity(path) as similarity:
        if similarity.fingerprint != expected:
            msg = (
                f"{path}: its P is not the one that {prior_path} was trained at; make both with "
                "one run of 'dissect-embed prior'"
            )
            raise ArtefactError(msg)
        return {
            name: torch.from_numpy(similarity.target(name, similarity.similarities[0]))
            for name in similarity.layers
        }


def prior_targets(
    prior: Prior, control: str | None = None, *, seed: int = 0, temperature: float = 1.0
) -> list[Float[Tensor, "unit unit"]]:
    """Return p of each layer, (C, C) in float32, for ``static_loss``.

    Parameters
    ----------
    control
        None: h(d(S, S)) ([HAN22] eq. 2). ``uniform``: 1/C everywhere, which knows no teacher;
        ``shuffled``: the cosines d(S, S) dealt out anew, so that only how often each value comes is
        left; ``random``: S ~ N(0, 1); ``similarity``: P itself.
    seed
        Of ``shuffled`` and ``random``.
    temperature
        Divides the cosines; 1 in [HAN22].

    Raises
    ------
    ModelError
        If the control is unknown, or P is asked for at another temperature than 1, at which it was
        made.
    ArtefactError
        If P is asked for and its file was not named.
    """
    if control is not None:
        try:
            known_control(control)
        except ValueError as error:
            msg = f"control: {control!r}: {error}"
            raise ModelError(msg) from None
    if control == "similarity":
        if temperature != 1:
            msg = f"control similarity: P is made at temperature 1, got {temperature:g}; leave it"
            raise ModelError(msg)
        if prior.similarity is None:
            msg = (
                f"{prior.path}: P is not in it; name the file that 'dissect-embed prior' writes to "
                "its --similarity"
            )
            raise ArtefactError(msg)
        return [p.float() for p in prior.similarity.values()]
    if control == "uniform":
        sizes = [len(vectors) for vectors in prior.vectors.values()]
        return [torch.full((n_units, n_units), 1 / n_units) for n_units in sizes]
    targets = []
    for index, s in enumerate(prior.vectors.values()):
        # NumPy's generator, so that a random S is not the S that training started at.
        rng = np.random.default_rng([seed, index])
        vectors = torch.from_numpy(rng.standard_normal(s.shape)) if control == "random" else s
        d = cosine_similarity(vectors.double())
        if control == "shuffled":
            d = shuffle_pairs(d, rng)
        targets.append(row_softmax(d / temperature).float())
    return targets


def all_targets(prior: Prior, *, seed: int = 0) -> dict[str, list[Float[Tensor, "unit unit"]]]:
    """Return p of each layer of SKD and of each of its controls, P only if its file was named."""
    names = [name for name in CONTROLS if name != "similarity" or prior.similarity is not None]
    controls = {name: prior_targets(prior, name, seed=seed) for name in names}
    return {"skd": prior_targets(prior)} | controls


def shuffle_pairs(
    d: Float[Tensor, "unit unit"], rng: np.random.Generator
) -> Float[Tensor, "unit unit"]:
    """Return a symmetric matrix whose values off the diagonal are dealt out anew.

    It stays symmetric and keeps its diagonal: the same values for other pairs of units.

    Examples
    --------
    >>> d = torch.tensor([[1.0, 0.2, 0.3], [0.2, 1.0, 0.5], [0.3, 0.5, 1.0]])
    >>> shuffle_pairs(d, np.random.default_rng(0))
    tensor([[1.0000, 0.5000, 0.2000],
            [0.5000, 1.0000, 0.3000],
            [0.2000, 0.3000, 1.0000]])
    """
    rows, columns = torch.triu_indices(len(d), len(d), offset=1)
    values = d[rows, columns][torch.from_numpy(rng.permutation(len(rows)))]
    shuffled = d.clone()
    shuffled[rows, columns] = values
    shuffled[columns, rows] = values
    return shuffled


def check_prior(
    prior: Prior,
    student: Network,
    data: ClassImages,
    mean: Sequence[float],
    std: Sequence[float],
    held_out: int = 0,
) -> None:
    """Check that a student can be taught by a prior, on these images.

    Raises
    ------
    ModelError
        If layers or units do not fit; the first that does not is named, with both numbers.
    ArtefactError
        If the prior comes from other images, of which so many are held out, or images normalised
        otherwise; both are told.
    """
    remedy = "make it from these images with 'dissect-embed prior'"
    if prior.data != data.fingerprint:
        msg = (
            f"{prior.path}: made from images of {prior.dataset} ({prior.data[:12]}…), the "
            f"student gets {data.name} ({data.fingerprint[:12]}…); {remedy}"
        )
        raise ArtefactError(msg)
    if prior.n_images != (n_images := len(data.images) - held_out):
        msg = (
            f"{prior.path}: made from {prior.n_images:,} images of {prior.dataset}, the student is "
            f"trained on {n_images:,} of {len(data.images):,}; make it with --held-out {held_out}"
        )
        raise ArtefactError(msg)
    for what, found, expected in (("mean", prior.mean, mean), ("std", prior.std, std)):
        if not np.allclose(found, expected, rtol=0, atol=1e-6):
            msg = (
                f"{prior.path}: images were normalised with {what} {_numbers(found)}, the "
                f"student's with {_numbers(expected)}; {remedy}"
            )
            raise ArtefactError(msg)
    stages = student.stage_names[1:]
    shapes = map_shapes(student, data.images.shape[1])[1:]
    names = list(prior.vectors)
    if len(names) != len(stages):
        msg = (
            f"{prior.path}: it has {len(names)} layers ({', '.join(names)}) of {prior.network}, "
            f"the student {len(stages)} ({', '.join(stages)}); choose a student of its family"
        )
        raise ModelError(msg)
    for name, stage, (n_units, *_) in zip(names, stages, shapes, strict=True):
        vectors = prior.vectors[name]
        if len(vectors) != n_units:
            msg = (
                f"{prior.path}: {name} of {prior.network} has {len(vectors)} units, {stage} of the "
                f"student {n_units}; both must be equal: choose another student"
            )
            raise ModelError(msg)


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
