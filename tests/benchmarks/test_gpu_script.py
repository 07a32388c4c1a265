"""The script that measures on a GPU machine goes through here, so that nothing fails there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dissect_embed.datasets.cifar import decode_classes
from dissect_embed.datasets.classes import load_classes

ROOT = Path(__file__).parents[2]
FIRST = {
    "environment", "mini", "mini-large", "tests", "dissect", "precision", "dissect-large",
    "training", "stages",
}  # fmt: skip
ARMS = ("plain", "skd", "skd-uniform")
SECOND = {
    "classes", "plan", "table1/teachers/resnet56-seed0", "prior", "table1",
    *(f"table1/resnet56-resnet20/{arm}-seed0" for arm in ARMS),
}  # fmt: skip

pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or shutil.which("timeout") is None,
    reason="needs bash and timeout",
)


def call(*arguments, root=ROOT, **environment):
    done = subprocess.run(
        ["bash", root / "benchmarks/gpu.sh", *arguments],
        env=os.environ | {"PYTHON": sys.executable, "MINUTES": "10"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines(), done


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parts"), [("first", FIRST), ("second", SECOND)])
def test_a_call_goes_through_in_small(tmp_path, name, parts):
    out = tmp_path / "out"
    lines, done = call(name, out, "--small")
    told = dict(line.split(": ", 1) for line in lines[: len(parts)])
    assert told.keys() == parts, done.stdout + done.stderr
    assert not [line for line in told.items() if not line[1].endswith(" s")]
    for part in parts:
        content = json.loads((out / f"{part}.json").read_text())
        assert content.get("done", True), part
    assert len([line for line in lines if line.startswith("| ")]) > 3
    again, _ = call(name, out, "--small")
    assert dict(line.split(": ", 1) for line in again[: len(parts)]) == dict.fromkeys(
        parts, "there already"
    )
    assert again[len(parts) :] == lines[len(parts) :]


def test_what_lacks_a_cuda_device_is_left_out_in_a_line(tmp_path):
    lines, _ = call("first", tmp_path / "a", PARTS="environment tests", CUDA_VISIBLE_DEVICES="")
    assert lines[0].startswith("environment: ")
    assert lines[1] == (
        "tests: left out, torch finds no CUDA device here (--small goes through on a processor)"
    )
    lines, _ = call("second", tmp_path / "b", CUDA_VISIBLE_DEVICES="")
    assert lines[0].startswith("table1: left out, torch finds no CUDA device here")


def test_a_part_that_cannot_be_written_says_so_and_the_next_goes_on(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "environment.json.part").symlink_to("/dev/full")
    lines, _ = call("first", out, "--small", PARTS="environment mini")
    assert lines[0] == "environment: failed: OSError: [Errno 28] No space left on device"
    assert lines[1].startswith("mini: ")
    assert lines[1].endswith(" s")
    assert not (out / "environment.json").exists()
    assert json.loads((out / "mini.json").read_text())["done"]


def test_a_part_stops_in_time_and_keeps_what_it_measured(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "dissect.json").write_text('{"done": false, "machine": {}, "rows": {}}')
    lines, _ = call("first", out, "--small", PARTS="dissect", MINUTES="0")
    assert lines[0] == "dissect: left out, no time left"


@pytest.mark.parametrize("arguments", [(), ("third", "out"), ("first", "out", "--tiny")])
def test_a_wrong_call_tells_the_right_ones(arguments):
    _, done = call(*arguments)
    assert done.returncode == 2
    assert "benchmarks/gpu.sh first" in done.stderr


def test_images_packed_in_parts_are_the_same(tmp_path):
    rng = np.random.default_rng(0)
    source = tmp_path / "source"
    for split, n_images in (("train", 6), ("test", 2)):
        for name in "abcd":
            (source / split / name).mkdir(parents=True)
            for n in range(n_images):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(source / split / name / f"{n}.png")
    parts = [tmp_path / "1.tar.gz", tmp_path / "2.tar.gz"]
    for _ in range(2):
        outputs = [argument for part in parts for argument in ("--output", part)]
        subprocess.run(
            [sys.executable, ROOT / "benchmarks/pack_classes.py", source, *outputs], check=True
        )
        packed = [part.read_bytes() for part in parts]
    assert [part.read_bytes() for part in parts] == packed
    decode_classes([source], tmp_path / "a.h5", "toy")
    decode_classes(parts, tmp_path / "b.h5", "toy")
    for split in ("train", "test"):
        one, other = (load_classes(tmp_path / f"{k}.h5", split) for k in "ab")
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
    # A part is whole in itself: half of the classes.
    assert decode_classes(parts[:1], tmp_path / "c.h5", "toy").n_train == 12
