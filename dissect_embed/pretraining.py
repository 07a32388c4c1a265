"""Train a network on a data set's own images to tell which concepts are present: ``model.pt``.

It stands in for ImageNet weights where none can be fetched: units of a network that has learned to
name concepts have something to be dissected for. Images are halved, which makes an epoch four times
as fast.
"""

import functools
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from dissect_embed.artefacts.files import atomic_path
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.index import ImageRow
from dissect_embed.datasets.pixels import read_all_regions, read_image
from dissect_embed.device import choose_device
from dissect_embed.errors import ModelError
from dissect_embed.networks.inputs import Input, find_input, made_up, takes, to_input
from dissect_embed.networks.models import build_model
from dissect_embed.networks.settings import Model
from dissect_embed.parallel import batched_map

logger = logging.getLogger(__name__)


def train_model(
    path: Path,
    model: Model,
    train: Broden,
    val: Broden | None,
    *,
    batch_size: int = 32,
    lr: float = 0.002,
    seed: int = 0,
    device: str | None = None,
    n_threads: int | None = None,
) -> dict[str, Any]:
    """Train a network on the presence of every concept, and write its state_dict.

    Parameters
    ----------
    model
        Which network, what it is given, and for how many epochs.
    train, val
        The split to learn from, and the one that is held out; None if the data set has none.

    Raises
    ------
    ModelError
        If the network does not give a score for each concept.

    Returns
    -------
    The last epoch's loss (nats a concept) and the mean average precision on ``val``; they are kept
    in the file too, under ``provenance``.
    """
    device = choose_device(device)
    if n_threads:
        torch.set_num_threads(n_threads)
    present = _load_presence(train, n_threads)
    n_images, n_concepts = present.shape
    epochs = model.epochs
    network = build_model(model.name, "random", model.arguments, seed=seed, n_classes=n_concepts)
    given = _training_input(network, model, train.image_size)
    _check_scores(network, given, model.name, n_concepts)
    network = network.train().to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01)
    steps = epochs * -(-n_images // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=lr, total_steps=steps)
    criterion = nn.BCEWithLogitsLoss()
    generator = torch.Generator().manual_seed(seed)
    loss_sum = 0.0
    with tqdm(total=epochs * n_images, desc="train", unit=" images", disable=None) as bar:
        for epoch in range(epochs):
            loss_sum = 0.0
            order = torch.randperm(n_images, generator=generator)
            images = _read_batches(
                train, [train.rows[n] for n in order.tolist()], batch_size, n_threads
            )
            for chosen, batch in zip(order.split(batch_size), images, strict=True):
                x = to_input(batch.to(device), given)
                flip = torch.rand(len(x), generator=generator) < 0.5
                flip = flip.to(device)
                x[flip] = x[flip].flip(3)
                loss = criterion(_scores(network, x), present[chosen].float().to(device))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                loss_sum += loss.item() * len(x)
                bar.update(len(x))
            logger.info("epoch %d: loss %.4f", epoch, loss_sum / n_images)
    provenance = {"loss": loss_sum / n_images, "epochs": epochs, "seed": seed, "val_map": None}
    if val is not None:
        network.eval()
        provenance["val_map"] = _mean_average_precision(network, given, val, device, n_threads)
        logger.info("val: mean average precision %.3f", provenance["val_map"])
    with atomic_path(path) as part:
        state = {k: v.cpu().contiguous() for k, v in network.state_dict().items()}
        torch.save({"state_dict": state, "provenance": json.dumps(provenance)}, part)
    return provenance


def _training_input(network: nn.Module, model: Model, image_size: tuple[int, int]) -> Input:
    """Return what the network is given in training: images at half their size, if it takes them."""
    given = find_input(network, model.input, image_size, name=model.name, weights="trained")
    half = given._replace(size=(given.size[0] // 2, given.size[1] // 2))
    return half if takes(network, half) else given


def _check_scores(network: nn.Module, given: Input, name: str, n_concepts: int) -> None:
    with torch.no_grad():
        shape = tuple(_scores(network, made_up(given, 2)).shape)
    if shape != (2, n_concepts):
        msg = (
            f"model.weights: 'trained' needs a network that gives a score a concept, "
            f"{(2, n_concepts)} for 2 images; {name} gives {shape}; if its function takes how many "
            f"there are, say so, as in model.arguments: {{num_classes: {n_concepts}}}"
        )
        raise ModelError(msg)


def _scores(network: nn.Module, images: Tensor) -> Float[Tensor, "image concept"]:
    """Return the scores of concepts; of networks that have further classifiers, the last's."""
    found = network(images)
    scores: Tensor = found[0] if isinstance(found, tuple) else found
    return scores


def average_precision(
    scores: Float[np.ndarray, " image"], present: Bool[np.ndarray, " image"]
) -> float:
    """Return the mean precision at the rank of each positive.

    Examples
    --------
    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))  # (1 + 2/3) / 2
    0.8333333333333333
    """
    hits = present[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / hits.sum())


def _mean_average_precision(
    network: nn.Module, given: Input, val: Broden, device: str, n_threads: int | None
) -> float:
    truth = _load_presence(val, n_threads).numpy()
    with torch.inference_mode():
        scores = torch.cat(
            [
                _scores(network, to_input(batch.to(device), given)).cpu()
                for batch in _read_batches(val, val.rows, 64, n_threads)
            ]
        ).numpy()
    return float(
        np.mean(
            [average_precision(scores[:, c], truth[:, c]) for c in np.flatnonzero(truth.any(0))]
        )
    )


def _load_presence(dataset: Broden, n_threads: int | None) -> Bool[Tensor, "image concept"]:
    """Return which concepts are present in each image."""
    present = torch.zeros((len(dataset.rows), len(dataset.concepts)), dtype=torch.bool)
    for n, labels in enumerate(read_all_regions(dataset, n_threads)):
        present[n, labels.member_concept] = True
    return present


def _read_batches(
    dataset: Broden, rows: Sequence[ImageRow], batch_size: int, n_threads: int | None
) -> Iterator[UInt8[Tensor, "image y x 3"]]:
    """Yield batches of images at half their size; decoding is cheap, holding all of them is not."""
    for images in batched_map(
        functools.partial(_read_half, dataset), rows, batch_size, n_threads=n_threads
    ):
        yield torch.from_numpy(np.stack(images))


def _read_half(dataset: Broden, row: ImageRow) -> UInt8[np.ndarray, "y x 3"]:
    pixels = read_image(dataset, row)
    height, width = (n - n % 2 for n in pixels.shape[:2])
    blocks = pixels[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
    return np.asarray(blocks.mean(axis=(1, 3)).round().astype(np.uint8))
