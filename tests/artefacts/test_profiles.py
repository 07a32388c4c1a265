"""What ``profiles.h5`` says, read in one place: best concepts and detectors by hand."""

import numpy as np
import pytest

from dissect_embed.artefacts.chance import (
    add_counts,
    open_chance,
    write_counts,
    write_draws,
    write_strata,
)
from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.profiles import (
    ConceptTable,
    LayerCounts,
    open_profiles,
    write_profile_file,
)
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.iou import find_best
from dissect_embed.mathematics.null import FRACTIONS, PARTS, Drawn

CONFIG = {"layers": ["b", "a"], "dissection": {"quantile": 0.005}}
CONCEPTS = ConceptTable(
    ["sky", "red-c", "tree"], np.array([3, 1, 9]), ["color", "object"], np.array([1, 0, 1]),
    np.array([100, 50, 20]),
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    """Two layers, of two units and of one."""
    # (unit, concept) and (unit, category)
    both = np.array([[50, 0, 0], [0, 0, 0]])
    fired = np.array([[60, 50], [0, 9]])
    counts = {"b": LayerCounts(both, fired), "a": LayerCounts(both[:1], fired[:1])}
    thresholds = {"b": np.array([2.0, 0.0]), "a": np.array([2.0])}
    path = tmp_path / "profiles.h5"
    with create_artefact(path, "profiles", CONFIG, {"activations": "x"}) as file:
        write_profile_file(file, CONCEPTS, thresholds, counts)
    return path


def test_a_file_is_read_as_it_was_written(path):
    with open_profiles(path) as profiles:
        assert profiles.path == path
        assert profiles.layers == ["b", "a"]
        assert profiles.concepts == ["sky", "red-c", "tree"]
        assert profiles.concept_categories == ["object", "color", "object"]
        assert profiles.categories == ["color", "object"]
        assert profiles.pixels.tolist() == [100, 50, 20]
        assert (len(profiles["b"]), len(profiles["a"])) == (2, 1)
        layer = profiles["b"]
        assert layer.threshold.tolist() == [2, 0]
        assert layer.intersection.tolist() == [[50, 0, 0], [0, 0, 0]]
        assert layer.activation.tolist() == [[60, 50], [0, 9]]
        assert layer.iou[0].tolist() == [50 / (50 + 100 - 50), 0, 0]
        table = profiles.concept_table
        assert table.numbers.tolist() == [3, 1, 9]
        assert table.category.tolist() == [1, 0, 1]
        assert table.pixels.tolist() == [100, 50, 20]
        assert (profiles.config, profiles.made_from) == (CONFIG, {"activations": "x"})


def test_a_unit_without_overlap_has_no_best_and_detects_nothing(path):
    with open_profiles(path) as profiles:
        best = profiles["b"].best
        assert best.concept.tolist() == [0, -1]
        assert best.iou.tolist() == [0.5, 0]
        assert profiles.best_names("b") == ["sky", ""]
        assert profiles.best_concepts("b") == [("sky", "0.5000"), ("", "0.0000")]
        assert best.detectors(0.1).tolist() == [True, False]
        assert best.detectors(0.0).tolist() == [True, False]
        assert best.detectors(0.5).tolist() == [True, False]
        assert best.detectors(0.51).tolist() == [False, False]


def test_of_equals_the_first_is_the_best():
    assert find_best(np.array([[0.2, 0.3, 0.3]])).concept.tolist() == [1]


def test_a_file_that_is_missing_is_named(tmp_path):
    with (
        pytest.raises(ArtefactError, match=r"profiles\.h5: missing; make it with"),
        open_profiles(tmp_path / "profiles.h5"),
    ):
        pass


def test_iou_follows_from_the_counts_and_only_they_count(path, tmp_path):
    """Another rounding of IoU, by another processor, is the same file."""

    def fingerprint(intersection: int, iou: float) -> str:
        again = tmp_path / "again.h5"
        counts = {"a": LayerCounts(np.array([[intersection, 0, 0]]), np.array([[60, 50]]))}
        with create_artefact(again, "profiles", {"layers": ["a"]}, {}) as file:
            write_profile_file(file, CONCEPTS, {"a": np.array([2.0])}, counts)
            file["layers/a/iou"][0, 0] += iou
        with open_profiles(again) as profiles:
            return profiles.fingerprint

    assert fingerprint(50, 0) == fingerprint(50, 1e-15) != fingerprint(49, 0)


def drawn():
    """Two draws for two units of one layer, and for the first of them in another."""
    both = PARTS * np.array([[[10, 5, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 2]]])
    fired = np.array([[[60, 50], [60, 50]], [[0, 9], [0, 9]]])
    expected, pixels = FRACTIONS * np.array([[5, 2, 0], [0, 0, 1]]), np.array([60, 0])
    one = (counts[:1] for counts in (both, fired, expected, pixels))
    return {"b": Drawn(both, fired, expected, pixels), "a": Drawn(*one)}


def test_what_chance_gives_is_a_file_of_its_own(tmp_path):
    path = tmp_path / "chance.h5"
    with create_artefact(path, "chance", CONFIG, {"profiles": "x"}) as file:
        write_strata(file, np.array([0, 0, 1]), 2)
        write_draws(file, CONCEPTS, 0, drawn())
    with open_chance(path) as chance:
        assert chance.layers == ["b", "a"]
        assert (chance.n_draws, chance.alone) == (2, 1)
        # Sky 10 of 50 + 100 - 10, red 5 of 60 + 50 - 5; tree 1 of 9 + 20 - 1, then 2 of 27.
        assert chance.best("b").tolist() == [[10 / 140, 1 / 28], [0, 2 / 27]]
        assert chance.best("a").tolist() == [[10 / 140], [0]]
        np.testing.assert_allclose(chance.profiles("a")[0], [[10 / 140, 5 / 105, 0]], rtol=1e-6)
        assert chance.expected("b").tolist() == [[5, 2, 0], [0, 0, 1]]
        assert chance.pixels("b").tolist() == [60, 0]


def test_the_chance_of_a_shard_keeps_its_counts(tmp_path):
    path = tmp_path / "chance.h5"
    with create_artefact(path, "chance", CONFIG, {"profiles": "x"}) as file:
        write_strata(file, np.zeros(3, dtype=int), 4)
        write_counts(file, 0, drawn())
        write_counts(file, 2, drawn())
    with open_chance(path) as chance:
        assert chance.blocks("b") == [0, 2]
        twice = add_counts([chance.counts("b", first) for first in (0, 2)])
        for found, counts in zip(twice, drawn()["b"], strict=True):
            np.testing.assert_array_equal(found, 2 * counts)
