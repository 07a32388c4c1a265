"""Trained teachers from files: those that ``distil`` wrote, and weights from elsewhere.

Weights from elsewhere are a state_dict, as torch, CRD's code (``{"model": …}``) and many others
save it. Of them only the user knows what network they are of, and how its images were normalised;
how good it is on the test images is measured once, and kept as JSON in ``<file>.accuracy``.
"""

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dissect_embed.artefacts.files import atomic_path
from dissect_embed.datasets.classes import ClassImages
from dissect_embed.device import current_device
from dissect_embed.distillation.outputs import Network
from dissect_embed.distillation.own import check_own, is_own
from dissect_embed.distillation.training.checkpoints import load_network
from dissect_embed.distillation.training.step import Pixels, deterministic, evaluate
from dissect_embed.distillation.zoo import NETWORKS, build_network
from dissect_embed.errors import ModelError, TrainingError
from dissect_embed.networks.models import hash_weights

logger = logging.getLogger(__name__)

# What a state_dict is kept under, in the files of others.
KEYS = ("state_dict", "model")


def load_teacher(
    path: Path,
    name: str | None,
    train: ClassImages,
    test: ClassImages,
    mean: Sequence[float],
    std: Sequence[float],
    device: str = "cpu",
) -> tuple[Network, dict[str, Any]]:
    """Return a trained network, in evaluation mode on the CPU, and what is known of it.

    Parameters
    ----------
    name
        The network, of the zoo or ``package.module:function``. The files that ``distil`` wrote of
        the zoo's networks name it themselves.
    train, test
        The images; of what was trained elsewhere, they are taken for those it was trained for.
    mean, std
        Of each colour on the 0..1 scale, as what was trained elsewhere was trained with.
    device
        Where the accuracy of what was trained elsewhere is measured.

    Returns
    -------
    The network, and its name, n_classes, data, mean, std, accuracy and fingerprint, among others.

    Raises
    ------
    TrainingError
        If the file is missing, unreadable or another one, or its network is not named.
    ModelError
        If the weights do not fit the network; the first key that does not is named.
    """
    content = read_weights(path)
    if "provenance" in content:
        network, meta = load_network(path, name)
    else:
        network, meta = _load_elsewhere(path, content, name, train, test, mean, std, device)
    if is_own(meta["name"]):
        check_own(meta["name"], network, meta["n_classes"], train.images.shape[1:3])
    return network, meta


def read_weights(path: Path) -> dict[str, Any]:
    """Read what a file of weights holds, without running any code that it may carry.

    Raises
    ------
    TrainingError
        If the file is missing or cannot be read so.
    """
    if not path.is_file():
        msg = f"{path}: no such file; name the weights of a trained network"
        raise TrainingError(msg)
    try:
        # CRD's code keeps its options beside the weights: a Namespace does nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged or unsafe file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = (
            f"{path}: damaged, or no weights alone ({reason}); get it whole, or save it again as "
            "torch.save(network.state_dict(), path)"
        )
        raise TrainingError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path}: expected tensors by name, found {type(content).__name__}; save a state_dict"
        raise TrainingError(msg)
    return content


def find_state(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state_dict in the content of a file, without the prefix of DataParallel.

    Raises
    ------
    TrainingError
        If there is none.
    """
    state: Any = next((content[key] for key in KEYS if isinstance(content.get(key), dict)), content)
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if others or not state:
        known = " or ".join(repr(key) for key in KEYS)
        found = f"{others[0]!r}, which is no tensor" if others else "nothing"
        msg = (
            f"{path}: no state_dict: it holds {found}; expected tensors by name, or a state_dict "
            f"under {known}"
        )
        raise TrainingError(msg)
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)


def load_weights(path: Path, network: Network, name: str, state: Mapping[str, Tensor]) -> None:
    """Load a state_dict into a network.

    Raises
    ------
    ModelError
        If it does not fit: the first key of each kind is named.
    """
    own = network.state_dict()
    # Old versions of torch did not count batches; the count is used for nothing here.
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    wrong = [k for k in own if k in state and own[k].shape != state[k].shape]
    reasons = [f"it lacks {missing[0]!r} ({len(missing)} keys)"] if missing else []
    reasons += [f"it has {extra[0]!r}, which {name} lacks ({len(extra)} keys)"] if extra else []
    if wrong:
        found, expected = tuple(state[wrong[0]].shape), tuple(own[wrong[0]].shape)
        reasons += [f"{wrong[0]!r} is {found}, expected {expected} ({len(wrong)} keys)"]
    if reasons:
        msg = (
            f"{path}: these are no weights of {name} for these images: {'; '.join(reasons)}; name "
            f"their network with --teacher-network: {', '.join(NETWORKS)}, or a "
            "package.module:function of your own, and images of as many classes"
        )
        raise ModelError(msg)
    network.load_state_dict(dict(state), strict=False)


def _load_elsewhere(
    path: Path,
    content: Mapping[str, Any],
    name: str | None,
    train: ClassImages,
    test: ClassImages,
    mean: Sequence[float],
    std: Sequence[float],
    device: str,
) -> tuple[Network, dict[str, Any]]:
    if name is None:
        msg = (
            f"{path}: it does not say what network it is of, so 'distil' did not write it; add "
            f"--teacher-network: {', '.join(NETWORKS)}, or a package.module:function of your own"
        )
        raise TrainingError(msg)
    state = find_state(path, content)
    network = build_network(name, len(train.classes), seed=0).eval()
    load_weights(path, network, name, state)
    known = {
        "name": name,
        "n_classes": len(train.classes),
        "data": train.fingerprint,
        "mean": list(mean),
        "std": list(std),
        "fingerprint": hash_weights(network),
    }
    # Not ….json: in a folder of teachers that would be the result of a training.
    note = path.with_name(f"{path.name}.accuracy")
    accuracy = _read_accuracy(note, known)
    if accuracy is None:
        accuracy = measure_accuracy(network, test, mean, std, device)
        _write_accuracy(note, known | {"accuracy": accuracy})
    logger.info("%s: %s, %.2f %% of the test images right", path, name, 100 * accuracy)
    if accuracy <= 2 / len(train.classes):
        logger.warning(
            "%s: hardly better than chance: are the classes of these images in another order, or "
            "were its images normalised otherwise (--mean, --std)?",
            path,
        )
    return network, known | {"accuracy": accuracy}


def measure_accuracy(
    network: Network, test: ClassImages, mean: Sequence[float], std: Sequence[float], device: str
) -> float:
    """Return the share of test images that a network gets right; it ends on the CPU."""
    where = torch.device(device)
    pixels = Pixels(
        torch.from_numpy(np.require(test.images, np.uint8, ["C", "W"])).to(where),
        torch.from_numpy(np.require(test.labels, np.int64, ["C", "W"])).to(where),
        torch.tensor(list(mean), device=where),
        torch.tensor(list(std), device=where),
    )
    with deterministic(), current_device(where):
        accuracy = evaluate(network.to(where), pixels)
    network.to("cpu")
    return accuracy


def _read_accuracy(note: Path, expected: Mapping[str, Any]) -> float | None:
    """Return what was measured of the same weights on the same images, if anything was."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        same = all(found[key] == value for key, value in expected.items())
        return float(found["accuracy"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_accuracy(note: Path, known: Mapping[str, Any]) -> None:
    try:
        with atomic_path(note) as part:
            part.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    except OSError as error:  # a folder of somebody else's
        logger.info("%s: not kept (%s); it is measured again the next time", note, error)
