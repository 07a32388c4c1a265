"""What a network tells on the way to its logits: all that a method of distillation may look at."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Outputs(NamedTuple):
    """Logits, pooled features and the maps at the end of the stem and of each stage of a network.

    `maps` are f0 (stem), f1, f2, ... in the terms of Tian et al., *Contrastive Representation
    Distillation*, ICLR 2020; `before_relu` are the same before the ReLU that ends a stage. Signed
    maps (of pre-activation networks) stand in `maps` as the stage gives them; `before_relu` then
    holds what the next ReLU is applied to.
    """

    logits: Float[Tensor, "image cls"]
    pooled: Float[Tensor, "image feature"]
    maps: tuple[Float[Tensor, "image _ _ _"], ...]
    before_relu: tuple[Float[Tensor, "image _ _ _"], ...]
