"""The JSON files of labelme: what is imported is what was drawn, pixel by pixel."""

import base64
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from imported import BLUE, RED, SMALL, files_of, labels_of, table
from PIL import Image

from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.checking import check_dataset
from dissect_embed.datasets.importing.labelme import import_labelme
from dissect_embed.datasets.pixels import read_image
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import ConfigError, DatasetError


def save_labelme(path: Path, shapes: list[tuple[str, str, list]], **more: object) -> None:
    said = [{"label": n, "shape_type": k, "points": p} for n, k, p in shapes]
    document = {"shapes": said, "imagePath": f"{path.stem}.png", "imageData": None}
    document |= {"imageHeight": 8, "imageWidth": 8, **more}
    path.write_text(json.dumps(document, indent=1))


@pytest.fixture
def labelme(tmp_path):
    """Two pictures of 8 × 8 pixels: one beside its JSON file, one within."""
    folder = tmp_path / "labelme"
    folder.mkdir()
    Image.new("RGB", (8, 8), RED).save(folder / "0.png")
    shapes = [
        ("sky", "rectangle", [[-3, 0], [7, 3]]),  # juts out
        ("road", "polygon", [[0, 4], [7, 4], [7, 7], [0, 7]]),
        ("sun", "rectangle", [[4, 0], [5, 5]]),  # above both
    ]
    save_labelme(folder / "0.json", shapes)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), BLUE).save(buffer, "PNG")
    inside = base64.b64encode(buffer.getvalue()).decode()
    circle = [("sun", "circle", [[4, 4], [4, 7]])]
    save_labelme(folder / "1.json", circle, imagePath="..\\far\\1.png", imageData=inside)
    return folder


def test_labelme(tmp_path, labelme, caplog):
    caplog.set_level("INFO")
    Image.new("RGB", (8, 8), RED).save(labelme / "not_yet.jpg")
    assert import_labelme(tmp_path / "out", labelme, SMALL) == 2
    assert "labelme: 1 images have no JSON file and are left out" in caplog.text
    assert check_dataset(tmp_path / "out") == []
    assert labels_of(tmp_path / "out") == [
        ["sky", "sky", "sun", "sky"],
        ["sky", "sky", "sun", "sky"],
        ["road", "road", "sun", "road"],
        ["road", "road", "road", "road"],
    ]
    edge, middle = ["", "sun", "sun", ""], ["sun"] * 4  # of a circle of 7 pixels across
    assert labels_of(tmp_path / "out", 1) == [edge, middle, middle, edge]
    data = load_broden(tmp_path / "out")
    assert np.abs(read_image(data, data.rows[1]).astype(int) - BLUE).max() < 12
    assert "1 shapes jut out" in caplog.text


def test_the_rest_of_labelme_is_what_nothing_lies_on(tmp_path, labelme):
    """But for __ignore__: nobody knows what is there."""
    shapes = [("sky", "rectangle", [[0, 0], [3, 3]]), ("__ignore__", "rectangle", [[4, 0], [7, 3]])]
    shapes.append(("_background_", "rectangle", [[0, 6], [3, 7]]))
    save_labelme(labelme / "0.json", shapes)
    import_labelme(tmp_path / "out", labelme, SMALL.model_copy(update={"rest": "ground"}))
    top = ["sky", "sky", "", ""]
    assert labels_of(tmp_path / "out") == [top, top, ["ground"] * 4, ["ground"] * 4]
    edge = ["ground", "sun", "sun", "ground"]
    assert labels_of(tmp_path / "out", 1) == [edge, ["sun"] * 4, ["sun"] * 4, edge]


def test_labelme_pictures_are_upright_and_found_by_windows_paths(tmp_path):
    """Stored as 6 × 8 pixels lying on the side, shown and drawn on as 8 × 6."""
    folder = tmp_path / "labelme"
    (folder / "far").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6), RED).save(folder / "far/0.jpg", exif=exif)
    sky = [("sky", "rectangle", [[0, 0], [5, 3]])]
    save_labelme(folder / "0.json", sky, imagePath="far\\0.jpg", imageWidth=6)
    import_labelme(tmp_path / "out", folder, SMALL)
    assert labels_of(tmp_path / "out") == [["sky"] * 4] * 2 + [[""] * 4] * 2


@pytest.mark.parametrize(
    ("shapes", "more", "message"),
    [
        ([("a", "points", [[0, 0]])], {}, r"2.json: shape 1 \('a'\): a points; .*polygon"),
        ([("a", "line", [[0, 0]])], {}, r"2.json: shape 1 \('a'\): 1 points, expected 2"),
        ([("a", "line", [[0, 9], [7, 20]])], {}, r"shape 1 \('a'\): lies outside .*8 × 8"),
        ([("a", "point", [[14, 4]])], {}, r"shape 1 \('a'\): lies outside .*8 × 8"),
        ([("a", "mask", [[0, 0], [1, 1]])], {}, r"shape 1 \('a'\): 'mask' is missing"),
        (
            [("a", "polygon", [[0, 0], [1, 1]])],
            {},
            r"2.json: shape 1 \('a'\): 2 points, expected 3",
        ),
        ([("a", "polygon", [[0, 0], [1, 1], [2, None]])], {}, r"point 3 .*: not a number each"),
        ([("a", "polygon", [[0, 0], [1, float("nan")], [2, 2]])], {}, r"point 2 .* not a number"),
        ([("a", "polygon", [[0, 0], [float("inf"), 1], [2, 2]])], {}, r"point 2 .* not a number"),
        ([("a", "polygon", [[0, 0], [1e9, 1], [2, 2]])], {}, r"point 2 .*: too far from any image"),
        (
            [("a", "polygon", [2, 2, 20, 2, 9, 9])],
            {},
            r"points are a flat list, \[2, 2, 20, .*pairs",
        ),
        ([("a", "polygon", None)], {}, r"shape 1 \('a'\): points are no list, None; expected"),
        ([("a", "polygon", [])], {}, r"shape 1 \('a'\): 0 points, expected 3"),
        ([("a", "rectangle", [[9, 0], [12, 3]])], {}, r"shape 1 \('a'\): lies outside .*8 × 8"),
        ([(None, "rectangle", [[0, 0], [2, 3]])], {}, r"shape 1: 'label' is missing"),
        ([("", "rectangle", [[0, 0], [2, 3]])], {}, r"2.json: shape 1: a label without a name"),
        ([], {"imagePath": "no.png"}, r"2.json: its image 'no.png' is not there"),
        ([], {"imagePath": "no.png", "imageData": "?"}, r"2.json: imageData is no image"),
        ([], {"imageHeight": 9}, r"2.json: labels of 9 × 8 pixels, but .*2.png has 8 × 8"),
        ([], {"imageHeight": "8"}, r"2.json: 'imageHeight' is '8', a text, expected int"),
        ([], {"shapes": {}}, r"2.json: 'shapes' is '{}', expected list"),
    ],
)
def test_faults_of_labelme(tmp_path, labelme, shapes, more, message):
    Image.new("RGB", (8, 8)).save(labelme / "2.png")
    save_labelme(labelme / "2.json", shapes)
    document = json.loads((labelme / "2.json").read_text())
    (labelme / "2.json").write_text(json.dumps(document | more))
    with pytest.raises(DatasetError, match=message):
        import_labelme(tmp_path / "out", labelme, SMALL)
    assert not (tmp_path / "out").exists()


def test_faults_of_several_files_are_counted(tmp_path, labelme):
    """Before any image is made; also what lies outside, if the file says its image's size."""
    for name in "23":
        Image.new("RGB", (8, 8)).save(labelme / f"{name}.png")
        save_labelme(labelme / f"{name}.json", [("a", "rectangle", [[9, 0], [12, 3]])])
    message = (
        r"2.json: shape 1 .*8 × 8 pixels \(height × width\).*; 1 more of 4 JSON files are faulty"
    )
    with pytest.raises(DatasetError, match=message):
        import_labelme(tmp_path / "out", labelme, SMALL)
    assert not list(tmp_path.glob("out*"))


def test_two_files_of_one_image_are_refused(tmp_path, labelme):
    """Each would have half of the labels. One that is within is another if it has other pixels."""
    save_labelme(labelme / "2.json", [("a", "point", [[4, 4]])], imagePath="../labelme/0.png")
    with pytest.raises(DatasetError, match=r"2.json: of the same image as .*/0.json \(imagePath\)"):
        import_labelme(tmp_path / "out", labelme, SMALL)
    within = json.loads((labelme / "1.json").read_text())
    (labelme / "2.json").write_text(json.dumps({**within, "shapes": []}))
    with pytest.raises(DatasetError, match=r"2.json: of the same image as .*/1.json \(imagePath\)"):
        import_labelme(tmp_path / "out", labelme, SMALL)
    (labelme / "2.json").write_text(json.dumps({**within, "imageData": picture(RED)}))
    assert import_labelme(tmp_path / "out", labelme, SMALL) == 3


@pytest.mark.parametrize(
    "said", ["C:\\Users\\me\\pics\\0.png", "/home/me/0.png", "0.PNG", "../of/an/other/0.Png"]
)
def test_an_image_beside_its_file_is_found_whatever_the_path(tmp_path, labelme, said):
    save_labelme(labelme / "0.json", [("sky", "rectangle", [[0, 0], [7, 7]])], imagePath=said)
    import_labelme(tmp_path / "out", labelme, SMALL)
    assert labels_of(tmp_path / "out") == [["sky"] * 4] * 4
    Image.new("RGB", (8, 8)).save(labelme / "0.pnG")
    if said.endswith("0.png"):
        import_labelme(tmp_path / "out", labelme, SMALL)
        return
    with pytest.raises(DatasetError, match=r"0.json: its image .* is not there"):
        import_labelme(tmp_path / "out", labelme, SMALL)


def test_what_does_not_belong_to_labelme(tmp_path, labelme):
    (labelme / "package.json").write_text('{"name": "x"}')
    with pytest.raises(DatasetError, match=r"package.json: 'shapes' is missing, .*; move it out"):
        import_labelme(tmp_path / "out", labelme, SMALL)
    with pytest.raises(ConfigError, match=r"import labelme: --orientation ignore has no effect"):
        import_labelme(tmp_path / "out", labelme, Import(orientation="ignore"))


def test_broken_json_is_named_by_its_line(tmp_path, labelme):
    text = (labelme / "1.json").read_text()
    (labelme / "1.json").write_text(text.replace('"label": "sun"', '"label" "sun"'))
    with pytest.raises(DatasetError, match=r"1.json:4: broken JSON \(Expecting ':' delimiter"):
        import_labelme(tmp_path / "out", labelme, SMALL)


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def mask(pixels: np.ndarray) -> str:
    """As labelme and AnyLabeling store it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * 255).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_masks_lie_in_their_boxes(tmp_path):
    """Both corners of a box are pixels of it; what juts out is cut off."""
    stamp = np.ones((4, 6), bool)
    stamp[2:, 4:] = False
    shapes = [
        {
            "label": "sky",
            "shape_type": "mask",
            "points": [[-2.0, 0], [3, 3.9]],
            "mask": mask(stamp),
        },
        {"label": "sea", "shape_type": "mask", "points": [[4, 6], [9, 9]], "mask": mask(stamp)},
    ]
    said = {"shapes": shapes, "imageData": picture(RED), "imageHeight": 8, "imageWidth": 8}
    (tmp_path / "in").mkdir()
    (tmp_path / "in/0.json").write_text(json.dumps(said))
    import_labelme(tmp_path / "out", tmp_path / "in", Import(size=8, label_size=8))
    expected = np.full((8, 8), "", dtype=object)
    expected[:4, :4] = "sky"
    expected[2:4, 2:4] = ""
    expected[6:, 4:] = "sea"
    assert labels_of(tmp_path / "out") == expected.tolist()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            mask(np.ones((4, 5), bool)),
            r"shape 1 \('sky'\): a mask of 4 × 5 pixels, in a box of 4 × 6",
        ),
        ("?", r"shape 1 \('sky'\): its mask is no image in base64"),
        ("aGFsbG8=", r"shape 1 \('sky'\): its mask: not an image"),
        (None, r"shape 1 \('sky'\): 'mask' is missing, expected text"),
    ],
)
def test_masks_that_are_none(tmp_path, said, message):
    shape = {"label": "sky", "shape_type": "mask", "points": [[0, 0], [5, 3]], "mask": said}
    (tmp_path / "in").mkdir()
    document = {"shapes": [shape], "imageData": picture(RED)}
    (tmp_path / "in/0.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=message):
        import_labelme(tmp_path / "out", tmp_path / "in", SMALL)


def test_lines_and_points_have_labelmes_width(tmp_path):
    """Ten pixels, and eleven across; of 40 × 40 pixels a label map has every tenth."""
    folder = tmp_path / "in"
    folder.mkdir()
    shapes = [
        ("wire", "line", [[0, 5], [39, 5]]),
        ("rope", "linestrip", [[5, 10], [5, 39], [30, 39]]),
        ("bird", "point", [[25, 25]]),
        ("card", "rotation", [[31, 15], [39, 15], [39, 30], [31, 30]]),
    ]
    save_labelme(folder / "0.json", shapes, imageHeight=40, imageWidth=40)
    Image.new("RGB", (40, 40), RED).save(folder / "0.png")
    import_labelme(tmp_path / "out", folder, SMALL)
    assert labels_of(tmp_path / "out") == [
        ["wire", "wire", "wire", "wire"],
        ["rope", "", "", "card"],
        ["rope", "", "bird", "card"],
        ["rope", "rope", "rope", ""],
    ]


def test_what_is_to_be_ignored_is_unlabelled(tmp_path, labelme):
    """It lies above what it is drawn on; another file's image is within, whatever it is called."""
    ignored = [
        ("sky", "rectangle", [[0, 0], [7, 7]]),
        ("__ignore__", "rectangle", [[4, 0], [7, 7]]),
        ("_background_", "rectangle", [[0, 4], [3, 7]]),
    ]
    save_labelme(labelme / "2.json", ignored, imagePath="2.json", imageData=picture(BLUE))
    (labelme / "._2.json").write_bytes(b"of macOS")
    assert import_labelme(tmp_path / "out", labelme, SMALL) == 3
    assert labels_of(tmp_path / "out", 2) == [["sky", "sky", "", ""]] * 2 + [[""] * 4] * 2
    data = load_broden(tmp_path / "out")
    assert {c.name for c in data.concepts if c.category != "color"} == {"sky", "road", "sun"}
    assert np.abs(read_image(data, data.rows[2]).astype(int) - BLUE).max() < 12


def test_flags_label_images_where_nothing_is_drawn(tmp_path):
    """As in labelme's example of classification; one drawn shape, and they say nothing."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, flags in (
        ("0", {"__ignore__": False, "cat": True, "wet": True}),
        ("1", {"__ignore__": True, "cat": False}),
    ):
        save_labelme(folder / f"{name}.json", [], flags=flags)
        Image.new("RGB", (8, 8), RED).save(folder / f"{name}.png")
    import_labelme(tmp_path / "out", folder, SMALL)
    assert check_dataset(tmp_path / "out") == []
    assert labels_of(tmp_path / "out") == [["cat+wet"] * 4] * 4
    assert labels_of(tmp_path / "out", 1) == [[""] * 4] * 4
    assert table(tmp_path / "out/index.csv")[0]["object"].count(";") == 1
    save_labelme(folder / "1.json", [("sun", "rectangle", [[0, 0], [7, 7]])], flags={"cat": True})
    import_labelme(tmp_path / "drawn", folder, SMALL)
    assert labels_of(tmp_path / "drawn") == [[""] * 4] * 4
    assert labels_of(tmp_path / "drawn", 1) == [["sun"] * 4] * 4


def test_files_that_are_read_are_named_and_not_written_among(labelme, monkeypatch):
    read = partial(import_labelme, folder=labelme, settings=SMALL)
    assert files_of(monkeypatch, "labelme", read) == set(labelme.iterdir())
    with pytest.raises(DatasetError, match=r"lies within .* or holds it; name a folder beside it"):
        read(labelme / "out")
