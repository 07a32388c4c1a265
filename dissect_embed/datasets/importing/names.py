"""What images, their files, classes and categories of an import may be called."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from dissect_embed.datasets.index import INDEX_COLUMNS, MAX_NUMBER
from dissect_embed.errors import DatasetError

# In an index, ';' stands between names, and '\' is '/', as Windows has it; nor can a text file hold
# all that a file's name can.
UNFIT = re.compile(r"[;\\\x00-\x1f\x7f\ud800-\udfff]")
LONGEST = 255  # bytes of a file's name, on most disks


def check_names(
    source: str,
    names: Sequence[str],
    classes: Collection[str],
    colors: Collection[str],
    category: str,
    others: Sequence[str] = (),
) -> None:
    """Check that a data set can hold what images, classes and categories are called.

    Parameters
    ----------
    source
        Where they come from, named in errors.
    names
        The images' paths, with '/', without their suffix.
    colors
        Names of colours, which are classes of their own.
    category, others
        What the classes' category is called, and further ones.

    Raises
    ------
    DatasetError
        If it cannot, or files of two images would have one name.
    """
    stem, _, number = category.rpartition("_")
    # Behind its category, a label map has its place among several.
    numbered = re.fullmatch(r"[\d_]+", category) or (number.isdigit() and stem in others)
    if numbered or category in ("color", *INDEX_COLUMNS, *others):
        msg = f"import.category: {category!r} has another meaning; choose another name"
        raise DatasetError(msg)
    if not names or not classes:
        what = "image" if not names else "class"
        msg = f"{source}: no labelled {what} found; name the folder that holds them"
        raise DatasetError(msg)
    categories = ("color", category, *others)
    _check_files(source, names, categories)
    if "" in classes or (doubled := sorted(set(classes) & set(colors))):
        what = "without a name" if "" in classes else f"{doubled[0]!r}, as a colour is"
        msg = f"{source}: a class {what}; rename it"
        raise DatasetError(msg)
    if len(colors) + len(classes) > MAX_NUMBER:
        msg = f"{source}: {len(classes)} classes; Broden's format has less"
        raise DatasetError(msg)


def _check_files(source: str, names: Sequence[str], categories: Sequence[str]) -> None:
    longest = max(len(category.encode()) for category in categories) + len("__99.png")
    for name, n in Counter(names).items():
        path = PurePosixPath(name)
        what = ""
        if n > 1:
            what = f"{n} images have this name"
        elif UNFIT.search(name) or name != name.strip() or path.is_absolute() or ".." in path.parts:
            what = "an index cannot hold this name"
        elif (length := len(path.name.encode()) + longest) > LONGEST:
            what = (
                f"with what label maps have behind it, up to {longest} bytes, the name has "
                f"{length}, and a disk takes {LONGEST}"
            )
        if what:
            msg = f"{source}: {name!r}: {what}; rename the image and its labels"
            raise DatasetError(msg)
    known = set(names)
    for one in categories:
        for other in categories:
            # x with a_color and x_a with color would both have x_a_color.png.
            between = f"_{one}".removesuffix(f"_{other}")
            clash = [name for name in names if name + between in known] if one != other else []
            if between != f"_{one}" and clash:
                msg = (
                    f"{source}: the label map {clash[0]}_{one}.png would be of image "
                    f"{clash[0]!r}, category {one!r}, and of image {clash[0] + between!r}, "
                    f"category {other!r}; choose another category (--category), or rename one"
                )
                raise DatasetError(msg)
