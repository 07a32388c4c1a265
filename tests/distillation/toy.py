"""A training that takes a tenth of a second, for tests and the processes that they kill."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from dissect_embed.datasets.classes import ClassImages
from dissect_embed.distillation.methods.registry import METHODS
from dissect_embed.distillation.training.schedules import SCHEDULES, shorten
from dissect_embed.distillation.training.task import Task, draw_seed
from dissect_embed.distillation.training.trainer import train_student
from dissect_embed.distillation.zoo import build_network, map_shapes
from dissect_embed.networks.models import hash_weights

N_IMAGES, SIZE, BATCH = 40, 8, 16  # three steps an epoch, the last of 8 images


def images(seed=0, separable=False, n=N_IMAGES):
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % 4
    pixels = rng.integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)
    if separable:
        pixels = (pixels // 4 + 50 * labels[:, None, None, None]).astype(np.uint8)
    return ClassImages(pixels, labels, list("abcd"), "toy", "print")


def teacher():
    return build_network("resnet32", 4, seed=9).eval()


def targets():
    generator = torch.Generator().manual_seed(0)
    shapes = map_shapes(build_network("resnet20"))[1:]
    return [torch.randn((n, n), generator=generator).softmax(dim=1) for n, _, _ in shapes]


def task(method="plain", epochs=2, seed=0, **settings):
    schedule = shorten(SCHEDULES["crd"], epochs)._replace(batch_size=BATCH, lr=0.01)
    guide = METHODS[method].guide
    if guide == "prior":
        settings = {"control": "random", "prior": "p"} | settings
    elif guide == "teacher":
        settings = {"teacher": hash_weights(teacher())} | settings
    half, quarter = (0.5,) * 3, (0.25,) * 3
    return Task("resnet20", method, seed, schedule, "print", half, quarter, **settings)


def start():
    """Return the network that every student of seed 0 starts as."""
    return build_network("resnet20", 4, draw_seed(task()))


def train(output, of, **options):
    guide = METHODS[of.method].guide
    if guide == "prior":
        options["targets"] = targets()
    elif guide == "teacher":
        options["teacher"] = teacher()
    data = options.pop("train", None) or images()
    return train_student(of, data, options.pop("test", None) or data, output=output, **options)


class Killed(Exception):
    """Stands for what ends a process."""


def stop_at(*place):
    def stop(at):
        if at == place:
            raise Killed

    return stop


def lasting(result):
    """Return what has to be equal, of equal tasks."""
    return {key: value for key, value in result.items() if key not in ("run", "network")} | {
        "weights": result["network"]["fingerprint"]
    }


def kill(place):
    if place == ("main", 1, 1):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), task(sys.argv[2]), checkpoint_every=0.0, after_step=kill)
