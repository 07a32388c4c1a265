"""The settings of a run: each with its type, bounds, default and help, said once.

From these follow what Snakemake accepts, the options of the commands with their defaults and help,
what is recorded in files, the JSON schema for editors (``pipelines/schemas/config.schema.yaml``)
and the page of all settings (``docs/settings.md``):

    python -m dissect_embed.config schema > pipelines/schemas/config.schema.yaml
    python -m dissect_embed.config page > docs/settings.md

Loads neither torch nor h5py.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from dissect_embed.datasets.settings import Dataset
from dissect_embed.distillation.settings import Distillation
from dissect_embed.errors import ConfigError
from dissect_embed.networks.settings import Model
from dissect_embed.settings import (
    Name,
    Positive,
    Section,
    Seed,
    Seeds,
    Text,
    all_none_or_layers,
    describe_settings,
    json_schema,
    not_the_quantile,
    unique,
)

Cache = Annotated[Literal["all", "none"] | tuple[Text, ...], BeforeValidator(all_none_or_layers)]


class Activations(Section):
    """How the network runs and what is stored of it."""

    path: ClassVar[str] = "activations"

    batch_size: int = Field(16, ge=1, description="Images a forward pass.")
    dtype: Literal["float16", "float32"] = Field("float16", description="What maps are stored in.")
    compression: Literal["none", "gzip", "lz4", "zstd"] = Field(
        "none", description="Of stored maps; lz4 and zstd need the package hdf5plugin."
    )
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32", description="What the network computes in; tf32 on CUDA devices only."
    )
    cache: Cache = Field("all", description="'all', 'none', or the layers whose maps are stored.")

    def cached(self, layers: Sequence[str]) -> list[str]:
        """Return those of the probed layers whose maps are stored.

        Raises
        ------
        ConfigError
            If a layer to be cached is not probed.
        """
        if isinstance(self.cache, str):
            return list(layers) if self.cache == "all" else []
        unknown = [layer for layer in self.cache if layer not in layers]
        if unknown:
            msg = f"activations.cache: {unknown[0]!r} is none of the layers ({', '.join(layers)})"
            raise ConfigError(msg)
        return list(self.cache)


class Dissection(Section):
    """What makes a unit active, and a unit a detector."""

    path: ClassVar[str] = "dissection"

    quantile: Annotated[float, Field(gt=0), AfterValidator(not_the_quantile)] = Field(
        0.005, description="The share of a unit's activations that exceed its threshold."
    )
    detector_iou: float = Field(
        0.04, ge=0, le=1, description="The best IoU from which on a unit counts as a detector."
    )


class Chance(Section):
    """What IoU chance gives."""

    path: ClassVar[str] = "chance"

    draws: int = Field(
        100, ge=100, description="How often masks are laid on the labels of other images."
    )
    seed: Seed = Field(0, description="Draws those images.")


class Embedding(Section):
    """How the vectors of units are learned (eq. 1)."""

    path: ClassVar[str] = "embedding"

    similarity: Annotated[
        tuple[Literal["image", "dataset"], ...], Field(min_length=1), AfterValidator(unique)
    ] = Field(
        ("image", "dataset"),
        description="How alike units fire, which vectors are learned from. 'image': on each image, "
        "as published. 'dataset': over all images. Figures and atlas show the first.",
    )
    dim: int = Field(16, ge=1, description="Dimensions of a vector.")
    target: Literal["mean", "minibatch"] = Field(
        "mean",
        description="'mean': the mean target P. 'minibatch': batch by batch, as published, for the "
        "similarity 'image' (that of 'dataset' has no batches); needs activations.cache 'all'.",
    )
    epochs: int = Field(100, ge=1, description="Epochs of SGD.")
    steps_per_epoch: int = Field(100, ge=1, description="Steps an epoch.")
    lr: Positive = Field(0.1, description="Learning rate at the start.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Of SGD; not stated in the paper.")
    weight_decay: float = Field(5e-4, ge=0, description="Of SGD.")
    milestones: tuple[Seed, ...] = Field(
        (50, 75, 90), description="Epochs, counted from 0, at which the learning rate falls to 0.1."
    )
    seeds: Seeds = Field((0, 1, 2), description="Of the random starts; one set of vectors each.")


class Words(Section):
    """What units are labelled with beside the data set's own labels: any words."""

    path: ClassVar[str] = "words"

    file: str = Field("", description="Text file of words, one a line; none named: no words.")
    model: str = Field(
        "",
        description="A joint text-image model: 'open_clip:ARCH/TAG', or 'package.module:function' "
        "that returns two functions, of images and of words.",
    )
    arguments: dict[str, Any] = Field(
        {}, description="Passed by name to the function that makes the model."
    )


class Ablation(Section):
    """What the network loses without a unit, by class."""

    path: ClassVar[str] = "ablation"

    layers: Annotated[tuple[Text, ...], AfterValidator(unique)] = Field(
        (), description="Layers whose units are set to their means; by default the last probed."
    )
    images: str = Field(
        "",
        description="Folder with a folder of images for each class; by default the data set's own "
        "images, for a network whose outputs are its concepts (weights 'trained').",
    )
    classes: str = Field(
        "",
        description="File that names the class of each output, one a line, for class folders; by "
        "default those of torchvision's weights, else the folders in alphabetical order.",
    )
    limit: int = Field(1000, ge=4, description="Images at most, drawn by the seed.")
    top: int = Field(5, ge=1, description="Most important units that are also ablated together.")
    seed: Seed = Field(0, description="Draws images, halves of them, and units to compare with.")


class Figure2(Section):
    """What Figure 2 shows."""

    path: ClassVar[str] = "figure2"

    units: Annotated[tuple[Seed, ...], AfterValidator(unique)] = Field(
        (), description="Units to draw; none named: drawn by the seed."
    )
    images: Annotated[tuple[Text, ...], AfterValidator(unique)] = Field(
        (), description="Images by name, or files of any pictures; none named: chosen by rule."
    )
    seed: Seed = Field(0, description="Draws units where none is named.")


class Config(Section):
    """All settings of a run."""

    run: Name = Field("mini", description="Its files lie in results/<run>/.")
    dataset: Dataset = Field(Dataset(), description="The labelled images.")
    model: Model = Field(Model(), description="The network.")
    shards: int = Field(1, ge=1, description="Parts that the images are split into, each a job.")
    activations: Activations = Field(Activations(), description="How the network runs.")
    dissection: Dissection = Field(Dissection(), description="What counts as active.")
    chance: Chance = Field(Chance(), description="What chance gives.")
    embedding: Embedding = Field(Embedding(), description="How vectors are learned.")
    words: Words = Field(Words(), description="Words to label units with.")
    ablation: Ablation = Field(Ablation(), description="What the network loses without a unit.")
    figure2: Figure2 = Field(Figure2(), description="What Figure 2 shows.")
    distillation: Distillation = Field(Distillation(), description="Table 1.")


def read_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config, checked, with the default of what is not named, as plain values.

    Raises
    ------
    ConfigError
        If a setting is unknown, of another type or out of bounds.

    Examples
    --------
    >>> read_config({"run": "mine", "embedding": {"seeds": ["0", "1"]}})["embedding"]["seeds"]
    [0, 1]
    """
    config = Config(**values)
    layers, cache = config.model.layers, config.activations.cache
    if not any(layer == "auto" or "*" in layer for layer in layers):
        config.activations.cached(layers)  # patterns are known when the network is
    all_cached = cache == "all" or set(cache) == set(layers)
    if config.embedding.target == "minibatch" and not all_cached:
        msg = "embedding.target: 'minibatch' replays the maps: set activations.cache to 'all'"
        raise ConfigError(msg)
    if bool(config.words.file) != bool(config.words.model):
        given, lacking = ("file", "model") if config.words.file else ("model", "file")
        msg = f"words.{lacking}: words.{given} is named alone; name both or neither"
        raise ConfigError(msg)
    plain: dict[str, Any] = config.model_dump(mode="json")
    return plain


if __name__ == "__main__":
    print(json_schema(Config) if sys.argv[1:] == ["schema"] else describe_settings(Config), end="")
