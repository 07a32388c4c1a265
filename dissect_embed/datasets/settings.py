"""The settings of a data set, those of ``dataset`` in a config. Loads neither torch nor h5py."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from dissect_embed.settings import Name, Section, Seed, Text, three_or_none, unique

Byte = Annotated[int, Field(ge=0, le=255)]


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
    background: Annotated[tuple[Byte, ...], AfterValidator(three_or_none)] = Field(
        (), description="Red, green, blue, 0 to 255, behind images that are partly transparent."
    )
    orientation: Literal["refuse", "apply", "ignore"] = Field(
        "refuse", description="What becomes of images that are stored turned, by their EXIF data."
    )


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
