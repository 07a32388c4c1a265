"""Joint text-image models: a function of one's own, open_clip, and what neither may return."""

import re
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from dissect_embed.errors import ModelError
from dissect_embed.networks.joint import embed, load_joint

MINE = """
import numpy as np

def joint(scale=1):
    return (lambda images: scale * images.mean(axis=(1, 2)), lambda words: np.eye(3)[:len(words)])

def fails():
    raise OSError("no such weights")

def one():
    return lambda images: images
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "joint_of_tests.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    return "joint_of_tests"


def test_a_function_of_ones_own_with_arguments(mine):
    joint = load_joint(f"{mine}:joint", {"scale": 7})
    images = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    images[0, ..., 0], images[1, ..., 2] = 9, 200
    assert embed(joint.images, images, "images").tolist() == [[1, 0, 0], [0, 0, 1]]
    assert embed(joint.words, ["red", "green"], "words").tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("clip", {}, r"words.model: 'clip', expected 'open_clip:ARCH/TAG', or"),
        ("none_of_these:f", {}, r"words.model: cannot import 'none_of_these:f'"),
        ("joint_of_tests:fails", {}, r"fails\(\) failed \(OSError: no such weights\); what it is"),
        ("joint_of_tests:joint", {"size": 1}, r"joint\(size=1\) failed \(TypeError.*words.argum"),
        ("joint_of_tests:one", {}, r"one returned function, expected a tuple of two functions"),
    ],
)
def test_what_is_no_model_is_named(mine, name, arguments, message):
    with pytest.raises(ModelError, match=message):
        load_joint(name, arguments)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.ones((2, 3)), r"of shape \(2, 3\) for 3 of them, expected \(3, dimensions\)"),
        (np.ones(3), r"of shape \(3,\) for 3 of them"),
        (np.ones((3, 0)), r"of shape \(3, 0\) for 3"),
        (np.array([[1, 2], [0, 0], [1, 1]]), r"all 0 or not finite \(number 1 of 3\)"),
        (torch.tensor([[1, 2], [3, 4], [np.inf, 1]]), r"all 0 or not finite \(number 2 of 3\)"),
        ([["a"], ["b"], ["c"]], r"failed \(ValueError: could not convert"),
    ],
)
def test_what_is_no_vector_each_is_named(returned, message):
    with pytest.raises(ModelError, match=f"words.model: its function of words .*{message}"):
        embed(lambda words: returned, ["a", "b", "c"], "words")


def test_tensors_of_half_precision_that_need_gradients_are_taken():
    given = torch.tensor([[3.0, 4.0]], dtype=torch.float16, requires_grad=True)
    np.testing.assert_allclose(embed(lambda words: given, ["a"], "words"), [[0.6, 0.8]])


def test_open_clip_that_is_not_installed_says_how():
    with (
        mock.patch.dict("sys.modules", {"open_clip": None}),
        pytest.raises(ModelError, match=re.escape("pip install 'dissect-embed[clip]'")),
    ):
        load_joint("open_clip:ViT-B-32/openai")


def test_a_name_that_open_clip_does_not_know_is_answered_with_those_it_does():
    known = SimpleNamespace(
        list_models=lambda: ["ViT-B-32", "RN50"],
        list_pretrained_tags_by_model=lambda name: ["openai", "laion2b"],
    )
    with mock.patch.dict("sys.modules", {"open_clip": known}):
        with pytest.raises(ModelError, match=r"no 'ViT-B32'; did you mean ViT-B-32\?"):
            load_joint("open_clip:ViT-B32/openai")
        for name in ("ViT-B-32", "ViT-B-32/laion5b"):
            with pytest.raises(ModelError, match="choose one of openai, laion2b, random, or for"):
                load_joint(f"open_clip:{name}")


def test_a_model_of_open_clip_with_random_weights():
    pytest.importorskip("open_clip", reason="needs the extra 'clip'")
    name = "open_clip:ViT-S-32-alt/random"
    joint = load_joint(name)
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    of_images = embed(joint.images, images, "images")
    of_words = embed(joint.words, ["dog", "a cat on a mat"], "words")
    assert (len(of_images), len(of_words)) == (3, 2)
    assert of_images.shape[1] == of_words.shape[1]
    np.testing.assert_allclose(np.linalg.norm(of_words, axis=1), 1)
    assert (embed(load_joint(name).words, ["dog", "a cat on a mat"], "words") == of_words).all()
    # One by one they come out as together, but for rounding.
    np.testing.assert_allclose(embed(joint.images, images[:1], "images"), of_images[:1], atol=1e-5)
