"""Mini-Broden: its format, its counts, its pixels."""

import csv
import hashlib
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dissect_embed.datasets.mini import render_mini, write
from dissect_embed.datasets.mini.canvas import LAYERS, Canvas, Pen, make_ellipse, make_polygon
from dissect_embed.datasets.mini.colors import PROTOTYPES, name_colors
from dissect_embed.datasets.mini.concepts import CONCEPTS, NUMBERS
from dissect_embed.datasets.mini.materials import make_material
from dissect_embed.datasets.mini.scenes import Picture, render_picture
from dissect_embed.datasets.mini.textures import TEXTURES
from dissect_embed.errors import DatasetError

N_IMAGES = 60
LABEL_PIXELS = 112 * 112


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "mini"
    render_mini(root, n_images=N_IMAGES, seed=0, n_jobs=2)
    return root


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """Render the first tenth of the default data set, small."""
    return [render_picture(index, size=64) for index in range(200)]


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_label(path: Path) -> np.ndarray:
    rgb = np.asarray(Image.open(path)).astype(int)
    assert rgb.shape == (112, 112, 3)
    return rgb[..., 0] + 256 * rgb[..., 1]


def count_again(root: Path) -> dict[str, list[Counter[int]]]:
    """Pixels of every number, from the files: category → one counter an image."""
    counts: dict[str, list[Counter[int]]] = defaultdict(list)
    for row in read_table(root / "index.csv"):
        for category in CONCEPTS:
            pixels: Counter[int] = Counter()
            for entry in filter(None, row[category].split(";")):
                if entry.isdecimal():
                    pixels[int(entry)] += LABEL_PIXELS
                else:
                    values, n = np.unique(read_label(root / "images" / entry), return_counts=True)
                    pixels.update(dict(zip(values.tolist(), n.tolist(), strict=True)))
            del pixels[0]
            counts[category].append(pixels)
    return counts


def digest(picture: Picture) -> str:
    sha = hashlib.sha256(picture.rgb.tobytes())
    for category in CONCEPTS:
        for label in picture.labels[category]:
            sha.update(bytes([label]) if isinstance(label, int) else label.tobytes())
    return sha.hexdigest()


# The format


def test_index_names_files_that_are_there(mini: Path):
    rows = read_table(mini / "index.csv")
    assert list(rows[0]) == (
        "image split ih iw sh sw color object part material scene texture".split()
    )
    assert len(rows) == N_IMAGES
    named = set()
    for row in rows:
        assert (row["ih"], row["iw"], row["sh"], row["sw"]) == ("224", "224", "112", "112")
        with Image.open(mini / "images" / row["image"]) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (224, 224), "RGB")
        cells = ";".join(row[category] for category in CONCEPTS)
        named |= {row["image"], *(e for e in cells.split(";") if e and not e.isdecimal())}
    files = {p.relative_to(mini / "images").as_posix() for p in mini.rglob("images/*/*")}
    assert files == named


def test_splits_are_about_four_to_one(pictures: list[Picture]):
    splits = Counter(picture.split for picture in pictures)
    assert set(splits) == {"train", "val"}
    assert 20 <= splits["val"] <= 60


def test_cells_of_every_kind_occur(mini: Path):
    rows = read_table(mini / "index.csv")
    for category in CONCEPTS:
        assert any(row[category] for row in rows)
        assert any(not row[category] for row in rows)
    assert any(re.fullmatch(r"[^;]+\.png;[^;]+\.png", row["part"]) for row in rows)
    assert any(re.fullmatch(r"\d+;\d+", row["scene"]) for row in rows)
    assert any(re.fullmatch(r"\d+;\d+", row["texture"]) for row in rows)
    for row in rows:
        if row["texture"]:
            assert not any(row[c] for c in ("object", "part", "material", "scene"))
        # quick-netdissect reserves six layers for an image.
        assert sum(len(row[c].split(";")) for c in CONCEPTS if row[c]) <= 6


def test_labels_are_numbered_from_one_and_names_have_one_number(mini: Path):
    rows = read_table(mini / "label.csv")
    assert list(rows[0]) == ["number", "name", "category", "frequency", "coverage", "syns"]
    assert [int(row["number"]) for row in rows] == list(range(1, len(rows) + 1))
    assert len({row["name"] for row in rows}) == len(rows) >= 80
    shared = {row["name"] for row in rows if ";" in row["category"]}
    assert shared == {"grass", "water", "sand", "door", "window"}
    for row in rows:
        # The patterns with which Broden's readers recognise these fields.
        assert re.fullmatch(r"\d+\.\d*", row["coverage"])
        for share in row["category"].split(";"):
            assert re.fullmatch(r"[^(]*\([^)]*\)", share)


def test_tables_hold_what_the_images_hold(mini: Path):
    counts = count_again(mini)
    images_with: dict[int, set[int]] = defaultdict(set)
    total: Counter[int] = Counter()
    for category, images in counts.items():
        frequency = Counter(number for pixels in images for number in pixels)
        covered: Counter[int] = Counter()
        for index, pixels in enumerate(images):
            covered.update(pixels)
            for number in pixels:
                images_with[number].add(index)
        total.update(covered)
        table = read_table(mini / f"c_{category}.csv")
        assert list(table[0]) == ["code", "number", "name", "frequency", "coverage"]
        assert [int(row["code"]) for row in table] == list(range(1, len(table) + 1))
        assert set(covered) <= {int(row["number"]) for row in table}
        for row in table:
            number = int(row["number"])
            assert NUMBERS[row["name"]] == number
            assert int(row["frequency"]) == frequency[number]
            assert float(row["coverage"]) == pytest.approx(covered[number] / LABEL_PIXELS, abs=1e-6)
        summary = {row["name"]: row for row in read_table(mini / "category.csv")}[category]
        numbers = [int(row["number"]) for row in table]
        assert (int(summary["first"]), int(summary["last"])) == (min(numbers), max(numbers))
        assert int(summary["count"]) == len(numbers)
        assert int(summary["frequency"]) == sum(frequency.values())
        for row in read_table(mini / "label.csv"):
            if int(row["number"]) in numbers:
                assert f"{category}({frequency[int(row['number'])]})" in row["category"].split(";")
    for row in read_table(mini / "label.csv"):
        number = int(row["number"])
        assert int(row["frequency"]) == len(images_with[number])
        assert float(row["coverage"]) == pytest.approx(total[number] / LABEL_PIXELS, abs=1e-6)


def test_nearly_all_concepts_occur_in_a_tenth_of_the_data_set(pictures: list[Picture]):
    seen = set()
    for picture in pictures:
        for category, labels in picture.labels.items():
            for label in labels:
                seen |= {(category, n) for n in np.unique(np.asarray(label)).tolist() if n}
    declared = {(c, NUMBERS[name]) for c, names in CONCEPTS.items() for name in names}
    assert seen <= declared
    assert len(seen) >= 0.9 * len(declared)
    assert len({number for _, number in seen}) >= 80


# The pixels


@pytest.mark.parametrize(
    ("index", "source", "expected"),
    [
        (0, "outdoor", "cf081fd8c00dda8829d36a101ad60b7e2f7b4d912f3f607dc6b5dc9e2b92fa9e"),
        (1, "indoor", "cf5d3b2f86ef14a516ab9f06cd43681fd96f7387891311364f54bf353e1971fd"),
        (3, "texture", "61311f4285fa696604a89154ca04c4efb69b1e8abb834cc3a984ca20345ea921"),
        (8, "material", "822d52e2364f9460dbba570c9995d89ea30631db9e8cf497b607232da393f9c0"),
    ],
)
def test_pixels_and_labels_are_the_same_everywhere(index: int, source: str, expected: str):
    picture = render_picture(index)
    assert picture.source == source
    assert digest(picture) == expected


def test_jobs_and_number_of_images_change_nothing(mini: Path, tmp_path: Path):
    render_mini(tmp_path / "few", n_images=5, seed=0, n_jobs=1)
    files = [p for p in (tmp_path / "few" / "images").rglob("*") if p.is_file()]
    assert len(files) >= 15
    for path in files:
        twin = mini / path.relative_to(tmp_path / "few")
        assert path.read_bytes() == twin.read_bytes()


def test_seed_changes_the_pixels():
    assert digest(render_picture(0, seed=1)) != digest(render_picture(0, seed=0))


def test_jpeg_shows_what_was_rendered(mini: Path):
    picture = render_picture(0)
    image = np.asarray(Image.open(mini / "images" / "outdoor" / "00000.jpg")).astype(int)
    assert np.abs(image - picture.rgb).mean() < 4


def test_labels_lie_on_the_pixels_they_name():
    canvas = Canvas(32)
    pen = Pen(canvas, 0, 32, 1, "car")
    pen.paint(pen.box(8, 12, 16, 24), (255.0, 0.0, 0.0), "wheel", relief=0)
    red = canvas.rgb[..., 1] == 0
    assert red[8:20, 8:16].all()
    assert red.sum() == 12 * 8
    expected = np.zeros((16, 16), int)
    expected[4:10, 4:8] = 1
    np.testing.assert_array_equal(canvas.labels[0], expected * NUMBERS["car"])
    np.testing.assert_array_equal(canvas.labels[1], expected * NUMBERS["wheel"])


def test_what_is_painted_later_hides_what_was_there():
    canvas = Canvas(16)
    back, front = Pen(canvas, 0, 16, 1, "car"), Pen(canvas, 0, 16, 1, "tree")
    back.paint(back.box(0, 0, 16, 16), (9.0, 9.0, 9.0), "wheel", "hub", "metal")
    front.paint(front.box(0, 0, 8, 16), (9.0, 9.0, 9.0), "crown")
    behind = dict(zip(LAYERS, canvas.labels[:, 0, 7].tolist(), strict=True))
    before = dict(zip(LAYERS, canvas.labels[:, 0, 0].tolist(), strict=True))
    names = {"object": "car", "part": "wheel", "detail": "hub", "material": "metal"}
    assert behind == {layer: NUMBERS[name] for layer, name in names.items()}
    assert before == {"object": NUMBERS["tree"], "part": NUMBERS["crown"], "detail": 0,
                      "material": 0}  # fmt: skip


def test_shapes_cross_the_edge_of_the_canvas():
    mask = make_ellipse(0, 0, 8, 8, 32)
    assert (mask.y, mask.x, mask.inside.shape) == (0, 0, (16, 16))
    assert mask.inside.sum() == pytest.approx(np.pi * 16**2 / 4, rel=0.03)
    assert make_polygon([(-9, -9), (-1, -9), (-5, -1)], 32).inside.size == 0


def test_polygon_holds_the_samples_that_are_inside():
    corners = [(2.0, 3.0), (27.5, 6.25), (18.0, 29.0), (11.0, 15.0)]
    mask = make_polygon(corners, 32)
    inside = np.zeros((64, 64), bool)
    height, width = mask.inside.shape
    inside[2 * mask.y : 2 * mask.y + height, 2 * mask.x : 2 * mask.x + width] = mask.inside
    for row in range(64):
        for column in range(64):
            x, y = column / 2 + 0.25, row / 2 + 0.25
            crossings = 0
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y0 <= y) != (y1 <= y):
                    crossings += x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x
            assert inside[row, column] == crossings % 2


@pytest.mark.parametrize("name", PROTOTYPES)
def test_prototypes_of_a_color_get_its_name(name: str):
    for color in PROTOTYPES[name]:
        image = np.broadcast_to(np.array(color, np.uint8), (4, 6, 3))
        np.testing.assert_array_equal(name_colors(image), np.full((2, 3), NUMBERS[name]))


def test_color_of_a_label_pixel_is_that_of_its_mean():
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, :2] = ((255, 0, 0), (255, 255, 255)), ((255, 0, 0), (255, 0, 0))
    expected = [[NUMBERS["red-c"], NUMBERS["black-c"]]]
    np.testing.assert_array_equal(name_colors(image), expected)


@pytest.mark.parametrize("name", TEXTURES)
@pytest.mark.parametrize("size", [(32, 32), (40, 97)])
def test_texture_is_a_field_of_any_size_with_contrast(name: str, size: tuple[int, int]):
    field = TEXTURES[name](np.random.default_rng(0), *size, 9.0)
    assert field.shape == size
    assert field.dtype == np.float32
    assert 0 <= field.min() < 0.3
    assert 0.6 < field.max() <= 1
    np.testing.assert_array_equal(field, TEXTURES[name](np.random.default_rng(0), *size, 9.0))


@pytest.mark.parametrize("name", CONCEPTS["material"])
def test_material_is_a_surface_of_any_size(name: str):
    for height, width in ((2, 2), (31, 64)):
        surface = make_material(np.random.default_rng(0), name, 0.4)(height, width)
        assert surface.shape == (height, width, 3)
        assert surface.dtype == np.float32
        assert surface.min() >= 0
        assert surface.max() <= 255


# What a user can do wrong


def test_existing_folder_is_left_alone(tmp_path: Path):
    root = tmp_path / "mini"
    root.mkdir()
    (root / "index.csv").write_text("mine")
    with pytest.raises(
        DatasetError,
        match=r"mini: exists already.*not made by.*delete it",
    ):
        render_mini(root, n_images=1, n_jobs=1)
    assert (root / "index.csv").read_text() == "mine"


def test_no_images_is_an_error(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"mini-Broden of 0 images: expected at least 1"):
        render_mini(tmp_path / "mini", n_images=0, n_jobs=1)


def test_interrupted_run_leaves_no_final_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "deep" / "mini"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(write, "write_tables", interrupt)
        with pytest.raises(KeyboardInterrupt):
            render_mini(root, n_images=2, n_jobs=1)
    assert not root.exists()
    leftover = root.with_name("mini.part") / "images" / "leftover.jpg"
    leftover.write_text("of the interrupted run")
    render_mini(root, n_images=1, n_jobs=1)
    assert len(read_table(root / "index.csv")) == 1
    assert not (root / "images" / "leftover.jpg").exists()
    assert [p.name for p in root.parent.iterdir()] == ["mini"]
    (root / "index.csv").unlink()  # as Snakemake does before it makes a file again
    render_mini(root, n_images=2, n_jobs=1)
    assert len(read_table(root / "index.csv")) == 2


def test_progress_is_quiet_without_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    render_mini(tmp_path / "mini", n_images=1, n_jobs=1)
    assert capfd.readouterr() == ("", "")
