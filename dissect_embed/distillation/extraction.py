"""Make a prior: what the units of a teacher do on its training images, as a few numbers each.

One pass over the images gives P of each stage (``similarity``), training at P gives S (``vectors``,
eq. 1 of [HAN22], see ``prior``). After that the teacher is not needed any more.
"""

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm import tqdm

from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.prior import write_vectors
from dissect_embed.artefacts.similarity import open_similarity, write_targets
from dissect_embed.datasets.classes import ClassImages
from dissect_embed.device import arithmetic, choose_device
from dissect_embed.distillation.training.augmentation import normalise
from dissect_embed.embedding import constant_target, train_layers
from dissect_embed.mathematics.similarities import Sums, guess_magnitude, similarity_sums
from dissect_embed.mathematics.vectors import Schedule
from dissect_embed.networks.hooks import probe
from dissect_embed.networks.inputs import Input
from dissect_embed.networks.maps import to_maps
from dissect_embed.networks.models import hash_weights
from dissect_embed.networks.readings import read_layers
from dissect_embed.networks.trees import tree_a_thread
from dissect_embed.parallel import available_cores, map_in_threads

# Images from which the strength of units is guessed, to add up their products exactly.
SAMPLE = 32

BATCH = 64


def write_prior(
    path: Path,
    data: ClassImages,
    network: nn.Module,
    layers: Sequence[str],
    *,
    name: str,
    mean: Sequence[float],
    std: Sequence[float],
    accuracy: float | None = None,
    dim: int = 16,
    schedule: Schedule | None = None,
    seed: int = 0,
    similarity: str = "image",
    similarity_path: Path | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Write the vectors of a teacher's units, and P if a file for it is named.

    Parameters
    ----------
    data
        The training images, which are seen once, as they are.
    layers
        The modules whose units count, in the order of the student's stages f1, f2, …
    name
        Of the network.
    mean, std
        Of each colour on the 0..1 scale, as the network was trained.
    accuracy
        Of the network, the share of test images that it gets right, if known.
    dim
        Numbers a vector.
    schedule
        Of eq. 1; by default [HAN22]'s, with as many steps an epoch as there are batches of 64.
    seed
        Of the vectors' start.
    similarity
        What the vectors are learned from, ``image`` (as published) or ``dataset``
        (``mathematics.similarities``).

    Raises
    ------
    ModelError
        If a layer cannot be read.
    FloatingPointError
        If training diverges.
    """
    device = choose_device(device)
    n_images = len(data.images)
    schedule = schedule or Schedule(steps_per_epoch=-(-n_images // BATCH))
    config: dict[str, Any] = {
        "dataset": {"name": data.name, "split": "train", "images": n_images},
        "model": {"name": name, "accuracy": accuracy},
        "layers": list(layers),
        "normalisation": {"mean": list(mean), "std": list(std)},
    }
    made_from = {"classes": data.fingerprint, "weights": hash_weights(network)}
    sums = add_up_images(network, layers, data, mean, std, device, n_threads)
    targets = {layer: total.targets(n_images)[similarity] for layer, total in sums.items()}
    # P is written also where nobody asks for it: its fingerprint is that of what it holds.
    with tempfile.TemporaryDirectory() as folder:
        target_path = similarity_path or Path(folder, "similarity.h5")
        with create_artefact(target_path, "similarity", config, made_from) as file:
            for layer, p in targets.items():
                write_targets(file, layer, {similarity: p}, n_images)
        with open_similarity(target_path) as written:
            origin = written.fingerprint
    tasks = {
        layer: (constant_target(torch.from_numpy(p).float().to(device)), len(p))
        for layer, p in targets.items()
    }
    trained = train_layers(tasks, dim, schedule, [seed], device, n_threads)
    settings = {"similarity": similarity, "dim": dim, "target": "mean", "seed": seed}
    config["embedding"] = settings | schedule._asdict()
    with create_artefact(path, "prior", config, made_from | {"similarity": origin}) as file:
        vectors = {k: normalize(trained[k].trajectory[0, -1], dim=1) for k in layers}
        write_vectors(file, {k: v.cpu().numpy() for k, v in vectors.items()})


def add_up_images(
    network: nn.Module,
    layers: Sequence[str],
    data: ClassImages,
    mean: Sequence[float],
    std: Sequence[float],
    device: str,
    n_threads: int | None = None,
) -> dict[str, Sums]:
    """Return what all images add up to by either similarity, for each layer.

    Raises
    ------
    ModelError
        If a layer does not exist or has no activation maps.
    """
    network = network.to(device).eval()
    size = (int(data.images.shape[1]), int(data.images.shape[2]))
    given = Input(size, tuple(mean), tuple(std), (0.0, 1.0), 3, "bilinear")
    readings = read_layers(network, layers, given, {}, None)
    centre, scale = (torch.tensor(list(values), device=device) for values in (mean, std))
    here = threading.local()

    def look(model: nn.Module, start: int, stop: int) -> None:
        images = torch.from_numpy(data.images[start:stop]).to(device)
        with torch.inference_mode():
            model(normalise(images, centre, scale))

    def keep(layer: str, output: Tensor) -> None:
        here.sums[layer] = similarity_sums(to_maps(output, readings[layer]), magnitudes[layer])

    def run(start: int) -> dict[str, Sums]:
        here.sums = {}
        look(tree(), start, start + BATCH)
        return dict(here.sums)

    with probe(network, layers) as outputs, arithmetic("float32"):
        look(network, 0, SAMPLE)
    magnitudes = {
        k: torch.from_numpy(guess_magnitude(to_maps(output, readings[k])))
        for k, output in outputs.items()
    }
    totals: dict[str, Sums] = {}
    n_images = len(data.images)
    n_threads = (n_threads or available_cores()) if device == "cpu" else 1
    with (
        tree_a_thread(network, layers, keep) as tree,
        arithmetic("float32"),
        tqdm(total=n_images, desc="similarity", unit=" images", disable=None) as bar,
    ):
        for sums in map_in_threads(run, range(0, n_images, BATCH), n_threads=n_threads):
            for layer, part in sums.items():
                totals[layer] = totals[layer] + part if layer in totals else part
            bar.update(min(BATCH, n_images - bar.n))
    return totals
