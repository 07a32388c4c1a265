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

from dissect_embed.distillation.settings import Distillation
from dissect_embed.errors import ConfigError
from dissect_embed.settings import (
    AXES,
    Name,
    Positive,
    Section,
    Seed,
    Seeds,
    Text,
    all_none_or_layers,
    auto_or_layers,
    describe_settings,
    height_and_width,
    json_schema,
    not_the_quantile,
    number_of_text,
    one_of,
    one_three_or_none,
    rising_or_none,
    unique,
)

Colours = Annotated[tuple[float, ...], AfterValidator(one_three_or_none)]
Pixels = Annotated[int, Field(ge=1)]
Axes = Annotated[str, AfterValidator(one_of(AXES)), Field(json_schema_extra={"enum": list(AXES)})]
Cache = Annotated[Literal["all", "none"] | tuple[Text, ...], BeforeValidator(all_none_or_layers)]


class Dataset(Section):
    """The labelled images that units are dissected with, in Broden's format."""

    path: ClassVar[str] = "dataset"

    name: Name = Field("mini", description="The data set's name in titles; 'mini' is rendered.")
    root: Text = Field("data/mini", description="Folder with index.csv.")
    split: Text = Field("all", description="Split of the index, or 'all'.")
    images: int = Field(2000, ge=10, description="For 'mini': how many images are rendered.")
    sources: tuple[Text, ...] = Field((), description="URLs or paths of the archive to fetch.")
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = Field(
        "", description="Of the archive to fetch."
    )
    rows: int | None = Field(None, ge=1, description="Rows that the fetched index must have.")


class ModelInput(Section):
    """What the network is given; each setting by default as the network itself states it.

    Networks of torchvision and timm state theirs. One of your own states it by attributes (those of
    timm, pretrained-models or open_clip), or ``mean`` and ``std`` are named here.
    """

    path: ClassVar[str] = "model.input"

    size: Annotated[tuple[Pixels, ...] | None, BeforeValidator(height_and_width)] = Field(
        None,
        description="Height and width to which whole images are resized, one number or two; "
        "for weights 'random' and 'trained' by default the data set's.",
    )
    mean: Colours = Field(
        (), description="Taken from each channel, on the scale of range; one number or three."
    )
    std: Colours = Field((), description="By which each channel is then divided.")
    range: Annotated[tuple[float, ...], AfterValidator(rising_or_none)] = Field(
        (), description="What black and white become first: [0, 1], [0, 255], [-1, 1]."
    )
    channels: Annotated[Literal[1, 3] | None, BeforeValidator(number_of_text)] = Field(
        None, description="3: red, green, blue. 1: gray; by default as many as mean has numbers."
    )
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = Field(
        None, description="How images are resized."
    )


class Model(Section):
    """The network whose units are dissected."""

    path: ClassVar[str] = "model"

    name: Text = Field(
        "resnet18",
        description="A classifier of torchvision, 'timm:NAME', or 'package.module:function'.",
    )
    weights: Text = Field(
        "trained",
        description="'random', 'trained' (on the data set itself), a name of torchvision's such as "
        "'IMAGENET1K_V1', 'pretrained' (timm's), or the path of a file of weights: what torch.save "
        "or safetensors wrote.",
    )
    arguments: dict[str, Any] = Field(
        {}, description="Passed by name to the function that makes the network."
    )
    input: ModelInput = Field(ModelInput(), description="What the network is given.")
    layers: Annotated[
        tuple[Text, ...],
        BeforeValidator(auto_or_layers),
        Field(min_length=1),
        AfterValidator(unique),
    ] = Field(
        ("layer1", "layer2", "layer3", "layer4"),
        description="Modules to probe: names, patterns ('blocks.*'), or 'auto', the ends of the "
        "stages; 'dissect-embed layers' lists them. 'block[0]' and 'out[\"aux\"]' choose from "
        "what a module returns, 'relu#1' from its calls in a pass.",
    )
    axes: dict[Text, Axes] = Field(
        {}, description="For layers or patterns whose order of axes cannot be found out."
    )
    prefix_tokens: int | None = Field(
        None, ge=0, description="Class and register tokens before those of the image, if not found."
    )
    epochs: int = Field(3, ge=1, description="For weights 'trained': epochs over the data set.")


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
    plain: dict[str, Any] = config.model_dump(mode="json")
    return plain


if __name__ == "__main__":
    print(json_schema(Config) if sys.argv[1:] == ["schema"] else describe_settings(Config), end="")
