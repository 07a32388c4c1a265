"""Which images two runs have in common: by their names, and by their labels."""

import shutil

import numpy as np
import pytest
from PIL import Image

import dissect_embed as de
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.comparison.runs import describe_difference, shared_images
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.alignment import kernel_alignment


@pytest.fixture(scope="module")
def fewer(tmp_path_factory, dissect_tiny, make_tiny) -> RunFolder:
    """Make a run on the first six of the nine images, in another order."""
    folder = tmp_path_factory.mktemp("fewer")
    data = make_tiny(folder / "six", 6)
    head, *rows = (data / "index.csv").read_text().splitlines()
    (data / "index.csv").write_text("\n".join([head, *rows[::-1], ""]))
    return RunFolder(dissect_tiny(folder / "six-images", 1, root=data))


def test_images_are_found_by_name_in_any_order(three_runs, fewer):
    one, other = shared_images(RunFolder(three_runs / "a"), fewer)
    assert one.tolist() == [0, 1, 2, 3, 4, 5]
    assert other.tolist() == [5, 4, 3, 2, 1, 0]
    frame = de.compare([three_runs / "a", fewer])
    assert frame[frame.statistic == "images"].value.tolist() == [6]
    kernels = []
    for run, chosen in ((RunFolder(three_runs / "a"), one), (fewer, other)):
        with run.open_activations() as source:
            peaks = source["two"].peaks[chosen].astype(float)
        kernels.append(peaks @ peaks.T)
    found = frame[(frame.statistic == "cka") & (frame.layer == frame.other_layer)]
    value = found[found.layer == "two"].value.item()
    assert value == pytest.approx(kernel_alignment(*kernels).value, rel=1e-6)


def test_other_images_are_told_and_what_depends_on_labels_is_left_out(three_runs, fewer):
    told = describe_difference({"a": RunFolder(three_runs / "a"), "f": fewer})
    labels = [run.header("profiles")["made_from"]["labels"][:8] for run in (
        RunFolder(three_runs / "a"), fewer)]  # fmt: skip
    assert told == (
        f"labels.h5 is {labels[0]}… (9 images, 4 concepts) in a and {labels[1]}… (6 images, 4 "
        "concepts) in f"
    )
    assert "detectors" not in set(de.compare([three_runs / "a", fewer]).statistic)
    assert describe_difference({name: RunFolder(three_runs / name) for name in "abc"}) == ""


def test_other_pictures_of_the_same_names_are_not_the_same(
    three_runs, dissect_tiny, make_tiny, tmp_path
):
    """As two rendered sets have them, of other seeds."""
    data = make_tiny(tmp_path / "other", 9)
    for n in range(9):
        path = data / f"images/{n}_color.png"
        Image.fromarray(np.asarray(Image.open(path))[::-1]).save(path)
    other = RunFolder(dissect_tiny(tmp_path / "run", 1, root=data))
    told = (
        r"/a \(9 images, 0\.jpg the first\) and .*/run \(9, 0\.jpg\): 9 names, and 0 of these with "
        "the same labels in common, expected at least 4 images; name runs on the same data set"
    )
    with pytest.raises(ArtefactError, match=told):
        shared_images(RunFolder(three_runs / "a"), other)


def test_runs_without_an_image_in_common_are_refused(three_runs, dissect_tiny, make_tiny, tmp_path):
    data = make_tiny(tmp_path / "other", 6)
    text = (data / "index.csv").read_text()
    for n in range(6):
        shutil.move(data / f"images/{n}.jpg", data / f"images/x{n}.jpg")
        text = text.replace(f"{n}.jpg", f"x{n}.jpg")
    (data / "index.csv").write_text(text)
    other = dissect_tiny(tmp_path / "run", 1, root=data)
    with pytest.raises(ArtefactError, match=r"\(6, x0\.jpg\): 0 names, and 0 of these"):
        de.compare([three_runs / "a", other])
