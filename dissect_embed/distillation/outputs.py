"""What a network tells on the way to its logits: all that a method of distillation may look at."""

from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn


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


if TYPE_CHECKING:

    class Network(nn.Module):
        """A network that can be trained here: of the zoo, or one's own (see ``zoo``)."""

        stage_names: tuple[str, ...]

        def outputs(self, images: Tensor) -> Outputs:
            """Return the logits and all on the way to them."""
            raise NotImplementedError

else:
    # Any module that has both: nobody needs a base class of ours.
    Network = nn.Module
