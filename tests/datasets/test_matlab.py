"""Label maps in MATLAB's files: which variable is one, and what its numbers are."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from imported import RED, labels_of, run
from PIL import Image

from dissect_embed.datasets.importing.files import Pairs
from dissect_embed.datasets.importing.masks import import_masks
from dissect_embed.datasets.importing.matlab import read_label_map
from dissect_embed.errors import DatasetError

LABEL = np.arange(12).reshape(3, 4)
LIST = np.array([[1], [2]])  # what is in the image, as SBD lists it


def save_hdf5(path: Path, **variables: np.ndarray) -> None:
    """As MATLAB's version 7.3: axes the other way round, a header of its own before the HDF5."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("#refs#/a", data=LABEL)
        for name, value in variables.items():
            item = file.create_dataset(name.replace("__", "/"), data=value.T)
            item.attrs["MATLAB_class"] = np.bytes_("char" if name == "text" else "double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + bytes([0, 2]) + b"IM")


def test_the_one_matrix_is_the_label_map(tmp_path):
    """A variable or a field of one; rows and columns, texts and lists are none."""
    forms = {
        "plain": {"LabelMap": LABEL.astype(np.uint8), "names": np.array(["a", "b"], object)},
        "floating": {"S": LABEL.astype(float), "n": 3, "title": "a long title"},
        "field": {"GTcls": {"Segmentation": LABEL.astype(np.uint16), "CategoriesPresent": LIST}},
        "deep": {"a": {"b": {"c": LABEL}}},
    }
    for name, content in forms.items():
        scipy.io.savemat(tmp_path / f"{name}.mat", content)
        np.testing.assert_array_equal(read_label_map(tmp_path / f"{name}.mat"), LABEL)
    save_hdf5(tmp_path / "new.mat", GTcls__Segmentation=LABEL.astype(float), list=LIST, text=LABEL)
    np.testing.assert_array_equal(read_label_map(tmp_path / "new.mat"), LABEL)


def test_of_several_one_is_named(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"S": LABEL, "more": {"regions": LABEL[:2] + 1}})
    save_hdf5(tmp_path / "b.mat", S=LABEL, more__regions=LABEL[:2] + 1)
    for file in ("a.mat", "b.mat"):
        np.testing.assert_array_equal(read_label_map(tmp_path / file, "S"), LABEL)
        np.testing.assert_array_equal(
            read_label_map(tmp_path / file, "more.regions"), LABEL[:2] + 1
        )
        with pytest.raises(DatasetError, match=rf"{file}: several may be the label map: .*say wh"):
            read_label_map(tmp_path / file)
        with pytest.raises(DatasetError, match=rf"{file}: no label map 'T'; there are .*S \(3 × 4"):
            read_label_map(tmp_path / file, "T")


def test_what_is_no_label_map(tmp_path):
    path = tmp_path / "a.mat"
    for content, message in (
        ({"list": LIST, "text": "abc"}, r"a.mat: no variable is a label map: expected a matrix"),
        ({"S": LABEL - 1}, r"a.mat: S has values of -1 to 10; .*whole numbers of 0 to 65535"),
        ({"S": LABEL + 0.5}, r"a.mat: S has values of 0.5 to 11.5"),
        ({"S": np.where(LABEL == 3, np.nan, 1)}, r"a.mat: S has values of nan"),
        ({"S": LABEL * 65535}, r"a.mat: S has values of 0 to 720885"),
    ):
        scipy.io.savemat(path, content)
        with pytest.raises(DatasetError, match=message):
            read_label_map(path)
    scipy.io.savemat(path, {"S": LABEL}, do_compression=True)
    whole = path.read_bytes()
    save_hdf5(tmp_path / "b.mat", S=LABEL)
    damaged = (whole[:-20], whole[:60], b"", b"no file of MATLAB" * 20)
    for content in (*damaged, (tmp_path / "b.mat").read_bytes()[:900]):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"a.mat: cannot be read as a file of MATLAB"):
            read_label_map(path)


def test_masks_in_matlab_files_are_imported(tmp_path):
    """As SBD has them, the first of whose names is the background."""
    label = np.zeros((8, 8), np.uint8)
    label[:4, :4], label[4:] = 1, 2
    (tmp_path / "img").mkdir()
    (tmp_path / "cls").mkdir()
    Image.new("RGB", (8, 8), RED).save(tmp_path / "img/a.jpg")
    boundaries = {"Segmentation": label, "CategoriesPresent": LIST, "Boundaries": label > 1}
    scipy.io.savemat(tmp_path / "cls/a.mat", {"GTcls": boundaries})
    (tmp_path / "names.txt").write_text("background\ncat\ndog\n")
    arguments = (
        "masks", tmp_path / "img", tmp_path / "cls", "--classes", tmp_path / "names.txt",
        "--first", 0, "--mask-ending", ".mat", "--size", 8, "--label-size", 4, "--val", 0,
        "-o", tmp_path / "out",
    )  # fmt: skip
    done = run(*arguments)
    assert "a.mat: several may be the label map: GTcls.Segmentation (8 × 8), " in done.stderr
    done = run(*arguments, "--variable", "GTcls.Segmentation")
    assert done.returncode == 0, done.stderr
    above = ["cat", "cat", "background", "background"]
    assert labels_of(tmp_path / "out") == [above, above, ["dog"] * 4, ["dog"] * 4]


def test_faults_of_masks_in_matlab_files(tmp_path):
    (tmp_path / "both").mkdir()
    Image.new("RGB", (4, 3), RED).save(tmp_path / "both/a.jpg")
    scipy.io.savemat(tmp_path / "both/a.mat", {"S": LABEL})
    (tmp_path / "classes.csv").write_text("1,cat\n")

    def refused(message: str, **more: str) -> None:
        with pytest.raises(DatasetError, match=message):
            import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", **more)

    pairs = Pairs(tmp_path / "both", tmp_path / "both", mask_ending=".mat")
    refused(r"a.mat: pixel 2, 0 \(column, row\): number 2 is not in .*; so are 9 further values")
    scipy.io.savemat(tmp_path / "both/a.mat", {"S": LABEL[:2] * 0 + 1})
    refused(r"a.mat: labels of 2 × 4 pixels, but .*a.jpg has 3 × 4")
    pairs = pairs._replace(mask_ending=".jpg")
    refused(r"--variable S: goes with masks of MATLAB", variable="S")
