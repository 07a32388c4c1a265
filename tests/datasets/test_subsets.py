"""Parts of a data set: which images, categories and concepts are left, and what it counts."""

import re

import numpy as np
import pytest

from dissect_embed.datasets.broden import load_broden, load_recorded
from dissect_embed.datasets.index import ImageRow
from dissect_embed.datasets.pixels import read_regions
from dissect_embed.datasets.settings import Subset
from dissect_embed.datasets.subsets import choose_images
from dissect_embed.errors import DatasetError


def rows(**sources: int) -> list[ImageRow]:
    return [
        ImageRow(f"{name}/{n}.jpg", "train", (8, 8), (4, 4), ())
        for name, count in sources.items()
        for n in range(count)
    ]


def test_a_limit_keeps_each_source_in_proportion():
    """Shares of 10 of 60, 30 and 9 images: 6.06, 3.03 and 0.91; the last is nearest above."""
    every = rows(a=60, b=30, c=9)
    chosen = choose_images(every, Subset(limit=10))
    assert [sum(row.image.startswith(name) for row in chosen) for name in "abc"] == [6, 3, 1]
    assert list(chosen) == [row for row in every if row in chosen]
    assert chosen == choose_images(every, Subset(limit=10))
    assert chosen != choose_images(every, Subset(limit=10, seed=1))
    assert choose_images(every, Subset(limit=99)) == choose_images(every, Subset()) == tuple(every)


def test_labels_of_what_is_left_out_are_unlabelled(tiny):
    whole = load_broden(tiny)
    names = [concept.name for concept in whole.concepts]
    assert names == ["red-c", "blue-c", "sky", "day-s"]
    part = load_broden(tiny, subset=Subset(exclude=("blue-c",), categories=("color", "object")))
    assert [concept.name for concept in part.concepts] == ["red-c", "sky"]
    assert part.categories == ("color", "object")
    assert len(part.rows) == len(whole.rows)
    assert part.fingerprint != whole.fingerprint
    for n, row in enumerate(part.rows):
        counts = pixels_of(part, row)
        of_all = pixels_of(whole, whole.rows[n])
        assert counts.tolist() == [of_all[0], of_all[2]]


def pixels_of(dataset, row) -> np.ndarray:
    regions = read_regions(dataset, row)
    counts = np.zeros(len(dataset.concepts), dtype=np.int64)
    np.add.at(counts, regions.member_concept, regions.region_pixels[regions.member_region])
    return counts


def test_a_category_that_is_left_out_is_not_decoded(tiny):
    (tiny / "images/0_color.png").write_bytes(b"damaged")
    part = load_broden(tiny, subset=Subset(categories=("object", "scene")))
    assert pixels_of(part, part.rows[0]).tolist() == [32, 256]
    with pytest.raises(DatasetError, match="0_color"):
        read_regions(load_broden(tiny), load_broden(tiny).rows[0])


def test_rare_concepts_are_left_out_by_the_table(tiny):
    table = (tiny / "label.csv").read_text()
    (tiny / "label.csv").write_text(re.sub(r"(3,sky,object\(6\)),6", r"\1,5", table))
    part = load_broden(tiny, subset=Subset(min_frequency=6))
    assert [concept.name for concept in part.concepts] == ["red-c", "blue-c", "day-s"]


def test_what_is_recorded_loads_the_same(tiny):
    subset = Subset(limit=3, seed=2, exclude=("sky",), background=(1, 2, 3), orientation="apply")
    part = load_broden(tiny, "train", subset)
    recorded = part.settings("mine")
    assert recorded["limit"] == 3
    again = load_recorded(tiny, recorded)
    assert (again.rows, again.fingerprint) == (part.rows, part.fingerprint)
    assert again.subset == subset
    assert set(load_broden(tiny).settings()) == {"name", "root", "split", "images"}


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        (
            {"categories": ["objekt"]},
            r"dataset\.categories: .*category\.csv has no 'objekt'; did yo",
        ),
        (
            {"exclude": ["skies"]},
            r"dataset\.exclude: .*label\.csv has no 'skies'; there are|did you",
        ),
        ({"min_frequency": 7}, r"label\.csv: of its 4 concepts none is left by .*min_frequency 7"),
    ],
)
def test_what_is_not_there_is_named(tiny, subset, message):
    with pytest.raises(DatasetError, match=message):
        load_broden(tiny, subset=Subset(**subset))
