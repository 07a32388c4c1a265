"""Class folders, and which output of a network each stands for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dissect_embed.datasets.examination import (
    examine_classes,
    find_class_folders,
    find_outputs,
    read_class_names,
)
from dissect_embed.errors import DatasetError


def write_folders(root: Path, **counts: int) -> Path:
    for gray, (name, n) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (12, 10), (gray, i, 0)).save(root / name / f"{i}.png")
    return root


def test_images_come_class_after_class_and_hidden_files_do_not(tmp_path):
    write_folders(tmp_path, dog=2, cat=1)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat/.DS_Store").touch()
    (tmp_path / "cat/notes.txt").touch()
    (tmp_path / "README").touch()
    found = find_class_folders(tmp_path)
    assert found.classes == ["cat", "dog"]
    assert found.label.tolist() == [0, 1, 1]
    assert [path.name for path in found.paths] == ["0.png", "0.png", "1.png"]


def test_the_fingerprint_is_that_of_names_and_content(tmp_path):
    write_folders(tmp_path, dog=2, cat=1)
    before = find_class_folders(tmp_path).fingerprint()
    assert find_class_folders(tmp_path).fingerprint() == before
    Image.new("RGB", (12, 10), (9, 9, 9)).save(tmp_path / "dog/1.png")
    changed = find_class_folders(tmp_path).fingerprint()
    (tmp_path / "dog").rename(tmp_path / "wolf")
    assert len({before, changed, find_class_folders(tmp_path).fingerprint()}) == 3


def test_images_are_drawn_by_the_seed_and_classes_without_one_are_left_out(tmp_path):
    folders = find_class_folders(write_folders(tmp_path, a=9, b=9, c=1))
    outputs = np.array([4, 2, 0])
    all_of_it = examine_classes(folders, outputs, (6, 6), 99, 0, exclusive=True)
    assert all_of_it.present.sum(axis=0).tolist() == [9, 9, 1]
    assert all_of_it.read(18).shape == (6, 6, 3)
    assert all_of_it.read(18)[0, 0].tolist() == [2, 0, 0]
    seen = set()
    for seed in range(8):
        some = examine_classes(folders, outputs, (6, 6), 5, seed, exclusive=True)
        assert some.present.shape[0] == 5
        assert (some.present.sum(axis=1) == 1).all()
        assert some.outputs.tolist() == [outputs[folders.classes.index(c)] for c in some.classes]
        for image in range(5):
            gray = some.read(image)[0, 0, 0]
            assert some.classes[int(some.present[image].argmax())] == "abc"[gray]
        seen.add(tuple(some.classes))
    assert ("a", "b") in seen


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["tree"], r"x/dog: none of the network's 1 classes \(tree, …\); rename the folder"),
        (["cat", "dog", "cat"], r"x/cat: the name of 2 of the network's 3 classes"),
        (None, r"x: 2 class folders, but the network has 7 outputs, and nothing says.*--classes"),
    ],
)
def test_folders_that_are_not_the_classes(names, message):
    classes = ["cat", "dog"] if names != ["tree"] else ["dog"]
    with pytest.raises(DatasetError, match=message):
        find_outputs(classes, names, len(names) if names else 7, Path("x"))


def test_folders_stand_for_outputs_by_name_or_in_their_order():
    assert find_outputs(["a", "b"], None, 2, Path("x")).tolist() == [0, 1]
    assert find_outputs(["a", "b"], ["b", "z", "a"], 3, Path("x")).tolist() == [2, 0]


def test_folders_that_will_not_do(tmp_path):
    def refuse(message: str, root: Path) -> None:
        with pytest.raises(DatasetError, match=message):
            find_class_folders(root)

    refuse("nowhere: no such folder; name one that holds a folder of images", tmp_path / "nowhere")
    refuse("several classes, found none", tmp_path)
    write_folders(tmp_path, cat=1)
    refuse("several classes, found cat", tmp_path)
    (tmp_path / "dog").mkdir()
    refuse(r"dog: no image in it; expected files such as \.jpg", tmp_path)
    write_folders(tmp_path / "dog", puppy=1)
    refuse("dog: no image in it; its folder 'puppy' lies deeper", tmp_path)


def test_files_of_names_that_will_not_do(tmp_path):
    path = tmp_path / "names.txt"
    with pytest.raises(DatasetError, match=r"names.txt: no such file; name one with the class of"):
        read_class_names(path, 2)
    path.write_text("cat\n\ndog \n\n\n")
    assert read_class_names(path, 3) == ["cat", "", "dog"]
    with pytest.raises(DatasetError, match=r"names.txt: 3 lines, but the network has 2 outputs"):
        read_class_names(path, 2)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"names.txt: no text in UTF-8"):
        read_class_names(path, 2)
