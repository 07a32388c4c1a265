"""A data set with many faults: each is found in one pass, and nothing else is."""

import subprocess
import sys

import pytest
from PIL import Image

from dissect_embed.cli.data import describe
from dissect_embed.datasets.checking import check_dataset
from dissect_embed.datasets.merging import merge_datasets
from dissect_embed.datasets.settings import Subset
from dissect_embed.errors import DatasetError


@pytest.fixture
def tiny(tiny):
    """Without the label map that no row names."""
    (tiny / "images/2_object.png").unlink()
    return tiny


def test_a_whole_data_set_has_no_fault(tiny):
    assert check_dataset(tiny, n_threads=2) == []


def test_every_fault_is_found_at_once(tiny):
    """One of each kind, in tables, images and label maps."""
    images = tiny / "images"
    with (tiny / "index.csv").open("a") as file:
        file.write("0.jpg,train,32,32,16,16,0_color.png,,300\n")  # twice
        file.write("7.jpg,train,32,32,16,16,../secret.png,,301\n")  # missing, outside, unknown
        file.write("8.jpg,train,32,x,16,16,,,\n")
        file.write("8.jpg,train,32,0,16,16,,,\n")
        file.write(",train,32,32,16,16,,,\n")
        file.write("9.jpg,train\n")
        file.write("big.jpg,train,40,40,16,16,,,\n")
    with (tiny / "label.csv").open("a") as file:
        file.write("3,sky,object(6),6,1.0,\n")
        file.write("70000,far,object(6),6,1.0,\n")
        file.write("9,lost,object(6),6,1.0,\n")
        file.write("4,absent,object(6),0,1.0,\n")
    with (tiny / "c_object.csv").open("a") as file:
        file.write("2,4,absent,0,0.5\n3,3,sky,6,1.0\n4,70000,far,6,1.0\n5,-1,no,1,1\n")
    with (tiny / "category.csv").open("a") as file:
        file.write("scene,1,1,1,6\n")
    Image.new("RGB", (40, 40)).save(images / "big.jpg")
    Image.new("RGB", (31, 32)).save(images / "1.jpg")  # not the size of the index
    (images / "2.jpg").write_bytes((images / "2.jpg").read_bytes()[:300])
    Image.new("RGB", (16, 15)).save(images / "3_color.png")
    Image.new("L", (16, 16), 77).save(images / "4_color.png")  # an unknown number
    Image.new("LA", (16, 16)).save(images / "5_color.png")
    Image.new("RGBA", (32, 32), (0, 0, 0, 9)).save(images / "4.jpg", "PNG")
    (images / "left.txt").write_text("over")
    faults = check_dataset(tiny, n_threads=2)
    expected = [
        "category.csv: category 'scene' stands here twice",
        "c_object.csv:4: number 3 stands here twice",
        "c_object.csv:6: number is '-1', expected a whole number",
        "label.csv:6: number 3 stands here twice",
        "label.csv:7: number is 70000, a label map holds at most 65535",
        "label.csv:8: concept 'lost' (number 9) is in no c_*.csv table",
        "index.csv:10: iw is 'x', expected a whole number",
        "index.csv:11: a size of 0 pixels",
        "index.csv:12: image is empty",
        "index.csv:13: 2 cells, the header has 9",
        "images/7.jpg is missing",
        "index.csv:9: '../secret.png' leaves the data set",
        "index.csv:9: label number 301 is not in",
        "big.jpg is 40 × 40 pixels, 0.jpg is 32 × 32",
        "1.jpg: 32 × 31 pixels, the index says 32 × 32",
        "2.jpg: cannot be decoded",
        "3_color.png: 15 × 16 pixels, the index says 16 × 16",
        "4_color.png: label number 77",
        "4.jpg: partly transparent",
        "5_color.png: a label map of mode LA",
        "0.jpg stands in several rows",
        "concepts are in no label map (absent)",
        "1 files are in no row of index.csv (left.txt)",
    ]
    for text in expected:
        assert [fault for fault in faults if text in fault], text
    assert len(faults) == len(expected), "\n".join(faults)
    whole = check_dataset(tiny, Subset(background=(0, 0, 0)), n_threads=2)
    assert len(whole) == len(faults) - 1


@pytest.mark.parametrize("name", ["index.csv", "category.csv", "label.csv", "c_object.csv"])
def test_a_missing_table_is_no_stack_trace(tiny, name):
    (tiny / name).unlink()
    faults = check_dataset(tiny)
    assert any(name in fault for fault in faults)
    (tiny / name).write_bytes(b"caf\xe9,x\n1,2\n")
    assert any(name in fault for fault in check_dataset(tiny))


def test_a_folder_that_is_none_or_has_no_index(tiny):
    nowhere = tiny / "nowhere"
    assert check_dataset(nowhere) == [
        f"{nowhere}: no such folder; name that of a data set, in which index.csv is"
    ]
    nowhere.mkdir()
    (fault,) = check_dataset(nowhere)
    assert fault.startswith(f"{nowhere}: no index.csv in it, so it is no data set in Broden's")
    with pytest.raises(DatasetError, match=r"nowhere: no index.csv in it"):
        merge_datasets(tiny.parent / "out", {"tiny": tiny, "nowhere": nowhere})


@pytest.mark.parametrize("lost", ["images/3_color.png", "label.csv", "index.csv"])
def test_describe_points_to_check(tiny, lost):
    (tiny / lost).unlink()
    with pytest.raises(DatasetError) as caught:
        describe(tiny, subset="{}")
    pointed = str(caught.value).endswith(f" (whatever else is wrong: 'dissect-embed check {tiny}')")
    assert pointed == (lost != "index.csv")


def test_the_command_prints_all_and_says_so_by_its_status(tiny):
    code = "import sys; from dissect_embed.cli import main; main()"
    command = [sys.executable, "-c", code, "check", str(tiny)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing is wrong" in done.stderr
    Image.new("L", (16, 16), 77).save(tiny / "images/4_color.png")
    (tiny / "images/3_color.png").unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert "2 faults" in done.stderr
