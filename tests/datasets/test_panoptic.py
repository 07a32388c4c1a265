"""COCO's panoptic segmentation: segments by the colours of a PNG."""

import json
from pathlib import Path

import numpy as np
import pytest
from imported import RED, SMALL, files_of, labels_of, run
from PIL import Image

from dissect_embed.datasets.checking import check_dataset
from dissect_embed.datasets.importing.coco import import_coco
from dissect_embed.datasets.importing.panoptic import import_panoptic
from dissect_embed.errors import DatasetError

# One segment above 65536, which all three colours say, and one that red alone says.
WIDE, SMALL_ID = 3 + 256 * 7 + 65536 * 2, 200


def document() -> dict:
    image = {"height": 8, "width": 8}
    return {
        "images": [
            {"id": 9, "file_name": "b.jpg", **image},
            {"id": 4, "file_name": "a.jpg", **image},
        ],
        "categories": [
            {"id": 1, "name": "person", "isthing": 1},
            {"id": 187, "name": "sky", "isthing": 0},
        ],
        "annotations": [
            {
                "image_id": 4,
                "file_name": "a.png",
                "segments_info": [
                    {"id": WIDE, "category_id": 187},
                    {"id": SMALL_ID, "category_id": 1},
                    {"id": 7, "category_id": 1, "iscrowd": 1},
                ],
            },
            {"image_id": 9, "file_name": "b.png", "segments_info": []},
        ],
    }


@pytest.fixture
def panoptic(tmp_path):
    """Two images of 8 × 8 pixels: one with sky above, two persons and void below; one of void."""
    segments = np.zeros((8, 8, 3), np.uint8)
    segments[:4] = (3, 7, 2)
    segments[4:, :2] = (200, 0, 0)
    segments[4:, 6:] = (7, 0, 0)
    (tmp_path / "images").mkdir()
    (tmp_path / "panoptic_val2017").mkdir()
    for name in "ab":
        Image.new("RGB", (8, 8), RED).save(tmp_path / f"images/{name}.jpg")
    Image.fromarray(segments).save(tmp_path / "panoptic_val2017/a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "panoptic_val2017/b.png")
    (tmp_path / "panoptic_val2017.json").write_text(json.dumps(document()))
    return tmp_path / "images", tmp_path / "panoptic_val2017.json"


def test_segments_are_those_of_their_categories(tmp_path, panoptic):
    """The PNGs lie in the folder named as the JSON file, or where it is said."""
    assert import_panoptic(tmp_path / "out", *panoptic, SMALL) == 2
    assert check_dataset(tmp_path / "out") == []
    sky, below = ["sky"] * 4, ["person", "", "", "person"]
    assert labels_of(tmp_path / "out") == [sky, sky, below, below]
    assert labels_of(tmp_path / "out", 1) == [[""] * 4] * 4
    (tmp_path / "panoptic_val2017").rename(tmp_path / "pngs")
    with pytest.raises(DatasetError, match=r"2 of its 2 PNGs are not in .*first: a.png.*--masks"):
        import_panoptic(tmp_path / "other", *panoptic, SMALL)
    done = run(
        "panoptic", *panoptic, "--masks", tmp_path / "pngs", "-o", tmp_path / "other",
        "--size", 8, "--label-size", 4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert labels_of(tmp_path / "other") == labels_of(tmp_path / "out")


def test_instances_and_segments_are_told_apart(tmp_path, panoptic):
    with pytest.raises(DatasetError, match=r"annotation 1: segments, .*'import panoptic'"):
        import_coco(tmp_path / "out", *panoptic, SMALL)
    instances = document()
    instances["annotations"] = [
        {"image_id": 4, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 8]]}
    ]
    panoptic[1].write_text(json.dumps(instances))
    with pytest.raises(DatasetError, match=r"annotation 1: an instance .*'import coco'"):
        import_panoptic(tmp_path / "out", *panoptic, SMALL)


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (
            ("annotations", 0),
            {"segments_info": [{"id": WIDE, "category_id": 187}]},
            r"a.png: pixel 6, 4 \(column, row\): segment 7 is not in .*annotation 1 .*"
            r"2 of 3 segments are not, 16 pixels in all",
        ),
        (
            ("annotations", 1),
            {"segments_info": [{"id": 5, "category_id": 1}]},
            r"b.png: no pixel of segment 5, which .*annotation 2 .* as of 1 of its 1 segments",
        ),
        (
            ("annotations", 0),
            {"segments_info": [{"id": 5, "category_id": 2}]},
            r"annotation 1: segment 5: category_id 2 is not in the file",
        ),
        (("annotations", 0), {"image_id": 5}, r"annotation 1: image_id 5 is not in the file"),
        (("annotations", 1), {"image_id": 4}, r"annotation 2: image_id 4 has an annotation alr"),
        (("annotations", 0), {"file_name": "b.png"}, r"2 annotations have the PNG b.png"),
        (("annotations", 0), {"file_name": "c.png"}, r"1 of its 2 PNGs are not in .*c.png"),
        (("annotations", 0), {"segments_info": None}, r"annotation 1: 'segments_info' is missing"),
        (("images", 0), {"file_name": "c.jpg"}, r"1 of its 2 images are not below .*c.jpg"),
        (("images", 0), {"width": 9}, r"image 9: labels of 8 × 9 pixels, but .*b.jpg has 8 × 8"),
        (("images", 0), {"id": 4}, r"images: id 4 stands there twice"),
    ],
)
def test_faults_of_the_json(tmp_path, panoptic, place, change, message):
    said = document()
    said[place[0]][place[1]] |= change
    panoptic[1].write_text(json.dumps(said))
    with pytest.raises(DatasetError, match=message):
        import_panoptic(tmp_path / "out", *panoptic, SMALL)
    assert not (tmp_path / "out").exists()


def test_faults_of_the_files(tmp_path, panoptic):
    def refused(message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            import_panoptic(tmp_path / "out", *panoptic, SMALL)
        assert not (tmp_path / "out").exists()

    Image.new("RGB", (8, 9)).save(tmp_path / "panoptic_val2017/b.png")
    refused(r"b.png: labels of 9 × 8 pixels, but .*b.jpg has 8 × 8")
    (tmp_path / "panoptic_val2017/b.png").write_bytes(b"no image")
    refused(r"b.png: cannot be decoded")
    said = document()
    said["annotations"].pop()
    panoptic[1].write_text(json.dumps(said))
    refused(r"1 of its 2 images have no annotation \(the first: image 9\)")
    panoptic[1].write_text("{")
    refused(r"panoptic_val2017.json:1: broken JSON")


def test_files_that_are_read_are_named_and_not_written_among(tmp_path, panoptic, monkeypatch):
    def read(root: Path) -> int:
        return import_panoptic(root, *panoptic, SMALL)

    pngs = tmp_path / "panoptic_val2017"
    expected = {panoptic[1], *panoptic[0].iterdir(), *pngs.iterdir()}
    assert files_of(monkeypatch, "panoptic", read) == expected
    for place in (panoptic[0] / "out", pngs):
        with pytest.raises(DatasetError, match=r"lies within .* or holds it; name a folder"):
            read(place)
