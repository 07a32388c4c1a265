"""The settings of the network, those of ``model`` in a config. Loads neither torch nor h5py."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from dissect_embed.settings import (
    AXES,
    Section,
    Text,
    auto_or_layers,
    height_and_width,
    number_of_text,
    one_of,
    one_three_or_none,
    rising_or_none,
    unique,
)

Colours = Annotated[tuple[float, ...], AfterValidator(one_three_or_none)]
Pixels = Annotated[int, Field(ge=1)]
Axes = Annotated[str, AfterValidator(one_of(AXES)), Field(json_schema_extra={"enum": list(AXES)})]


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
