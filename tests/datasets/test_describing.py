"""What a data set holds, beside a slow count; what is printed, and the page."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.describing import describe_dataset, write_description
from dissect_embed.datasets.pixels import read_label_png
from dissect_embed.datasets.settings import Subset
from dissect_embed.inspection.datasets import show_dataset


@pytest.fixture
def told(tiny):
    return describe_dataset(load_broden(tiny), 2)


def test_counts_are_those_of_the_pixels(tiny, told):
    dataset = load_broden(tiny)
    assert (told["images"], told["image_size"]) == (6, "32 × 32")
    assert told["label_sizes"] == {"16 × 16": 6}
    assert told["splits"] == {"train": 4, "val": 2}
    assert told["sources"] == {".": 6}
    for concept, found in zip(dataset.concepts, told["concepts"], strict=True):
        counts = []
        for row in dataset.rows:
            maps = [read_label_png(dataset, row, e) for e in row.entries if isinstance(e, str)]
            pixels = sum(int((numbers == concept.number).sum()) for numbers in maps)
            counts.append(256 if concept.number in row.entries else pixels)
        assert found["images"] == np.count_nonzero(counts)
        assert found["pixels"] == sum(counts)
        area = 256 * np.count_nonzero(counts)
        assert found["coverage"] == pytest.approx(sum(counts) / area)
    assert told["categories"] == [
        {"name": "color", "images": 6, "concepts": 2},
        {"name": "object", "images": 5, "concepts": 1},  # that of one image is not labelled
        {"name": "scene", "images": 6, "concepts": 1},
    ]
    # An image without objects has no other of its kind.
    (stratum,) = told["strata"]
    assert (stratum["images"], stratum["joined"]) == (6, 1)
    assert stratum["categories"] == ["color", "object", "scene"]


def test_a_subset_is_described_as_such(tiny):
    part = load_broden(tiny, "train", Subset(limit=3, categories=("object",)))
    told = describe_dataset(part)
    assert told["images"] == 3
    assert [concept["name"] for concept in told["concepts"]] == ["sky"]


def test_what_is_printed_and_written(tiny, told, tmp_path, capsys):
    show_dataset(told)
    text = capsys.readouterr().out
    assert re.search(r"splits +train 4, val 2", text)
    assert re.search(r"object: 1 concepts, labelled in 5 images \(83\.3 %\)", text)
    assert re.search(r"sky +5 +83\.3 %", text)
    folder = tmp_path / "told"
    write_description(folder, load_broden(tiny), told)
    assert json.loads((folder / "describe.json").read_text("utf-8")) == told
    with Image.open(folder / "contact.jpg") as sheet:
        assert sheet.size[0] > 400
    page = (folder / "index.html").read_text("utf-8")
    assert "sky" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # it loads nothing
