"""The settings of a data set, those of ``dataset`` in a config. Loads neither torch nor h5py."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from dissect_embed.settings import Name, Section, Seed, Text, three_or_none, unique

Byte = Annotated[int, Field(ge=0, le=255)]
Background = Annotated[
    tuple[Byte, ...],
    AfterValidator(three_or_none),
    Field(description="Red, green, blue, 0 to 255, behind images that are partly transparent."),
]
Orientation = Annotated[
    Literal["refuse", "apply", "ignore"],
    Field(description="What becomes of images that are stored turned, by their EXIF data."),
]


class Subset(Section):
    """Which images and labels of a data set are used, and how images are read."""

    path: ClassVar[str] = "dataset"

    limit: int | None = Field(
        None, ge=1, description="So many images of the split, as many of each kind as there are."
    )
    seed: Seed = Field(0, description="Draws the images where there is a limit.")
    categories: Annotated[tuple[Text, ...], AfterValidator(unique)] = Field(
        (), description="Of labels; none named: all."
    )
    min_frequency: int = Field(
        1, ge=1, description="Concepts in fewer images, by label.csv, are left out."
    )
    exclude: Annotated[tuple[Text, ...], AfterValidator(unique)] = Field(
        (), description="Concepts to leave out, by name."
    )
    background: Background = ()
    orientation: Orientation = "refuse"


class Dataset(Subset):
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


class Import(Section):
    """How labelled images of other formats become a data set in Broden's format."""

    path: ClassVar[str] = "import"

    size: int = Field(224, ge=2, description="Height and width of the images made, in pixels.")
    label_size: int | None = Field(
        None, ge=1, description="Height and width of label maps, by default half of the images'."
    )
    val: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the images in split 'val', of each folder, drawn by the seed. By "
        "default as folders named train and val say; where there are none, 0.2.",
    )
    seed: Seed = Field(0, description="Draws the images of split 'val'.")
    category: Name = Field("object", description="What the classes are a category of.")
    rest: str = Field(
        "",
        description="masks, labelme, coco, table: the class of images and pixels that have none of "
        "the others, in masks of those that are 0; by default they are unlabelled.",
    )
    licence: str = Field("", description="Of the images, for the note in the folder.")
    background: Background = ()
    orientation: Orientation = "refuse"

    @property
    def label_side(self) -> int:
        """Height and width of label maps, in pixels."""
        return self.label_size or self.size // 2
