"""The settings of Table 1, those of ``distillation`` in a config. Loads neither torch nor h5py."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from dissect_embed.datasets.settings import Background, Orientation
from dissect_embed.distillation.methods.registry import METHODS
from dissect_embed.distillation.results.names import CONFIG_CONTROLS, check_control, check_network
from dissect_embed.settings import (
    Name,
    Positive,
    Section,
    Seed,
    Seeds,
    Text,
    one_of,
    three_or_none,
    unique,
)

Colours = Annotated[tuple[float, ...], AfterValidator(three_or_none)]
Network = Annotated[str, AfterValidator(check_network)]
Method = Annotated[
    str, AfterValidator(one_of(METHODS)), Field(json_schema_extra={"enum": list(METHODS)})
]
Control = Annotated[
    str, AfterValidator(check_control), Field(json_schema_extra={"enum": list(CONFIG_CONTROLS)})
]


class Classes(Section):
    """The images with one class each that students are trained on."""

    path: ClassVar[str] = "distillation.dataset"

    name: Name = Field("shapes", description="Its name in titles; 'shapes' is rendered.")
    classes: Annotated[str, Field(pattern=r"[.]h5$")] = Field(
        "data/shapes/classes.h5", description="The file that it is decoded into."
    )
    sources: tuple[Text, ...] = Field((), description="Class folders, tar files, CIFAR's pickles.")
    download: str = Field("", description="Folder into which CIFAR-100 is fetched.")
    images_per_class: int = Field(100, ge=1, description="For 'shapes': to train on.")
    test_images_per_class: int = Field(20, ge=1, description="For 'shapes': to test on.")
    seed: Seed = Field(0, description="For 'shapes': of the rendering.")
    mean: Colours = Field((), description="Of red, green, blue, 0 to 1; by default the images'.")
    std: Colours = Field((), description="As mean.")
    background: Background = ()
    orientation: Orientation = "refuse"


class Pair(Section):
    """A teacher and its student, networks of the zoo or 'package.module:function'."""

    path: ClassVar[str] = "distillation.pairs"

    teacher: Network = Field(description="The network that the prior is made of.")
    student: Network = Field(description="The network that is trained.")
    beta: float | None = Field(None, ge=0, description="SKD's weight for this pair.")


class Ablations(Section):
    """Values of SKD's settings that are tried beside the published ones."""

    path: ClassVar[str] = "distillation.ablations"

    temperature: Annotated[tuple[Positive, ...], AfterValidator(unique)] = Field(
        (), description="Divides the cosines."
    )
    beta: Annotated[tuple[Positive, ...], AfterValidator(unique)] = Field(
        (), description="Weights of SKD's loss."
    )


class Schedule(Section):
    """How long networks are trained."""

    path: ClassVar[str] = "distillation.schedule"

    name: Literal["crd", "paper"] = Field("crd", description="crd: 240 epochs. paper: 100.")
    epochs: int = Field(240, ge=1, description="Fewer shorten the schedule.")
    teacher_epochs: int | None = Field(None, ge=1, description="Of teachers; by default epochs.")


class Distillation(Section):
    """Table 1: which networks are trained, by which methods, and how."""

    path: ClassVar[str] = "distillation"

    dataset: Classes = Field(Classes(), description="The images.")
    pairs: Annotated[tuple[Pair, ...], Field(min_length=1), AfterValidator(unique)] = Field(
        (Pair(teacher="resnet32", student="resnet20"),), description="Columns of the table."
    )
    methods: Annotated[tuple[Method, ...], Field(min_length=1), AfterValidator(unique)] = Field(
        ("plain", "kd", "skd"), description="Rows of the table."
    )
    controls: Annotated[tuple[Control, ...], AfterValidator(unique)] = Field(
        (), description="What stands in place of SKD's vectors."
    )
    ablations: Ablations = Field(Ablations(), description="Other values of SKD's settings.")
    seeds: Seeds = Field((0,), description="Of the students.")
    held_out: int = Field(0, ge=0, description="Training images kept apart to choose settings on.")
    schedule: Schedule = Field(Schedule(), description="How long.")
    similarity: Literal["image", "dataset"] = Field(
        "image", description="What the teacher's vectors are learned from; image as published."
    )
    beta: float = Field(0.5, ge=0, description="SKD's weight.")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of the networks; losses and weights are float32."
    )
