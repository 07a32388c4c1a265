"""What images, files and categories of an import may be called: faults, before all is made."""

import pytest
from imported import RED, SMALL
from PIL import Image

from dissect_embed.datasets.checking import check_dataset
from dissect_embed.datasets.importing.image_labels import import_folders
from dissect_embed.datasets.importing.names import check_names
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError


def check(*names: str, category: str = "object", others: tuple[str, ...] = ()) -> None:
    check_names("here", names, ["sky"], ["red-c"], category, others)


def test_two_images_that_would_share_a_label_map(tmp_path):
    for name in ("x", "x_a"):
        (tmp_path / "in/sky").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), RED).save(tmp_path / f"in/sky/{name}.png")
    made = Import(size=8, category="a_color")
    with pytest.raises(
        DatasetError,
        match=r"in: the label map sky/x_a_color.png would be of image 'sky/x', category 'a_color', "
        r"and of image 'sky/x_a', category 'color'; choose another category \(--category\)",
    ):
        import_folders(tmp_path / "out", tmp_path / "in", made)
    assert not list(tmp_path.glob("out*"))
    import_folders(tmp_path / "out", tmp_path / "in", SMALL)
    assert check_dataset(tmp_path / "out") == []


def test_categories_that_share_an_end_are_fine_where_no_images_do():
    check("x", "x_b", category="a_color")
    check("x", "x_a", category="acolor")
    with pytest.raises(DatasetError, match=r"x_a_part.png would be of image .x., cat"):
        check("x", "x_a", category="a_part", others=("part", "scene"))


@pytest.mark.parametrize("category", ["color", "split", "part", "part_2", "7", "1_1"])
def test_categories_that_mean_something_else(category):
    message = rf"import.category: '{category}' has another meaning"
    with pytest.raises(DatasetError, match=message):
        check("x", category=category, others=("part",))
    check("x", category="level_2", others=("part",))


@pytest.mark.parametrize("name", ["a\\b", "a;b", "a\nb", "a/../b", "/a", " a", "a\udcfcb"])
def test_names_that_an_index_cannot_hold(name):
    with pytest.raises(DatasetError, match=r"here: .*: an index cannot hold this name; rename the"):
        check("x", name)


def test_a_backslash_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "in/sky").mkdir(parents=True)
    Image.new("RGB", (8, 8), RED).save(tmp_path / "in/sky/a\\b.png")
    with pytest.raises(DatasetError, match=r"an index cannot hold this name"):
        import_folders(tmp_path / "out", tmp_path / "in", SMALL)
    assert not list(tmp_path.glob("out*"))


def test_names_too_long_once_the_category_is_behind_them(tmp_path):
    """The longest that is taken can be written, by bytes: an umlaut has two."""
    (tmp_path / "in/sky").mkdir(parents=True)
    name = "ä" * 120
    file = tmp_path / f"in/sky/{name}.png"
    Image.new("RGB", (8, 8), RED).save(file)
    import_folders(tmp_path / "out", tmp_path / "in", SMALL)
    file.rename(file.with_name(f"{name}bc.png"))
    message = r"bc': with what label maps .*, up to 14 bytes, the name has 256, and a disk"
    with pytest.raises(DatasetError, match=message):
        import_folders(tmp_path / "other", tmp_path / "in", SMALL)
    assert not list(tmp_path.glob("other*"))
