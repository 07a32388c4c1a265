"""What the networks of tests are given: images normalised as ImageNet's are."""

from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from dissect_embed.networks.inputs import Input, to_input
from dissect_embed.networks.settings import Model, ModelInput

IMAGENET = ModelInput(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def input_of(height: int, width: int) -> Input:
    """Return the input that ``IMAGENET`` gives with images of a size."""
    return Input((height, width), IMAGENET.mean, IMAGENET.std, (0.0, 1.0), 3, "bilinear")


def model_of(*layers: str, **settings: Any) -> Model:
    """Return the settings of a network given in Python, and the layers to probe of it."""
    given = {"name": "tests:network", "weights": "given", "input": IMAGENET, "layers": layers}
    return Model(**(given | settings))


def normalise(images: UInt8[Tensor, "image y x 3"]) -> Float[Tensor, "image 3 y x"]:
    """Return a network's input, of the images' own size."""
    return to_input(images, input_of(images.shape[1], images.shape[2]))
