"""Teacher, prior, students and table through the command line; and all that it refuses."""

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from dissect_embed.cli import main
from dissect_embed.datasets.classes import ClassSplit, write_classes
from dissect_embed.distillation.prior import load_prior
from dissect_embed.distillation.training.task import CIFAR100
from dissect_embed.distillation.zoo import build_network
from dissect_embed.networks.models import hash_weights
from dissect_embed.parallel import one_torch_thread


def cli(*arguments: object, fails: bool = False) -> str:
    """Run a command in this process, and return what it printed."""
    printed, code = io.StringIO(), None
    with (
        mock.patch.object(sys, "argv", ["dissect-embed", *map(str, arguments)]),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    assert bool(code) is fails, printed.getvalue()
    return printed.getvalue()


def make_images(path: Path, seed: int = 0, name: str = "noise") -> Path:
    rng = np.random.default_rng(seed)
    splits = {
        split: ClassSplit(rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8), np.arange(n) % 2)
        for split, n in (("train", 24), ("test", 10))
    }
    write_classes(path, name, ["a", "b"], splits)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder with images, a trained teacher, its prior and its P."""
    folder = tmp_path_factory.mktemp("distilling")
    data = make_images(folder / "classes.h5")
    with one_torch_thread():
        cli("distil", data, "--student", "resnet20", "--epochs", 1, "--device", "cpu",
            "--role", "teacher", "-o", folder / "r/teachers/resnet20-seed0.json")  # fmt: skip
        (folder / "teacher.pt").symlink_to(folder / "r/teachers/resnet20-seed0.pt")
        printed = cli(
            "prior", data, "--teacher", folder / "teacher.pt", "--epochs", 2,
            "--steps-per-epoch", 3, "--milestone", 1, "--device", "cpu",
            "--similarity", folder / "p.h5", "-o", folder / "prior.h5",
        )  # fmt: skip
    size = (folder / "prior.h5").stat().st_size
    line = f"{folder / 'prior.h5'}: 112 units of resnet20, {size:,} bytes"
    assert printed.splitlines()[-1] == line
    return folder


def distil(folder: Path, *arguments: object, **options: bool) -> str:
    common = ("--student", "resnet32", "--epochs", 1, "--device", "cpu")
    return cli("distil", folder / "classes.h5", *common, *arguments, **options)


def test_from_teacher_to_table(files, tmp_path):
    run = tmp_path / "distillation"
    shutil.copytree(files / "r", run)
    pair = run / "resnet20-resnet32"
    assert load_prior(files / "prior.h5").accuracy == pytest.approx(
        json.loads((run / "teachers/resnet20-seed0.json").read_text())["accuracy"]
    )
    prior = ("--method", "skd", "--prior", files / "prior.h5")
    guide = ("--prior", files / "prior.h5", "--similarity", files / "p.h5")
    printed = distil(files, *guide, "-o", pair / "plain-seed0.json")
    accuracy = json.loads((pair / "plain-seed0.json").read_text())["accuracy"]
    last = f"resnet32, plain, seed 0: {100 * accuracy:.2f} % of the test images right"
    assert printed.splitlines()[-1] == f"{pair / 'plain-seed0.json'}: {last}"
    distil(files, *prior, "-o", pair / "skd-seed0.json")
    distil(files, *prior, "--control", "similarity", "--similarity", files / "p.h5",
           "-o", pair / "skd-similarity-seed0.json")  # fmt: skip
    distil(files, *prior, "--control", "random", "--beta", 0, "-o", pair / "zero-seed0.json")
    distil(files, "--method", "kd", "--teacher", files / "teacher.pt", "-o", pair / "kd.json")
    # A plain student is compared with the targets, and is what it is without.
    distil(files, "-o", tmp_path / "alone.json")
    plain, alone, zero = (
        json.loads(path.read_text())
        for path in (pair / "plain-seed0.json", tmp_path / "alone.json", pair / "zero-seed0.json")
    )
    assert plain["task"] == alone["task"]
    assert plain["network"]["fingerprint"] == alone["network"]["fingerprint"]
    told = plain["measured"]
    assert told["images"] == 24
    assert list(told["divergence"]) == ["skd", "uniform", "shuffled", "random", "similarity"]
    assert all(layer > 0 for found in told["divergence"].values() for layer in found["layers"])
    assert "measured" not in alone
    for name, found in zero["measured"]["divergence"].items():
        assert found == told["divergence"][name]
    assert "similarity" not in zero["measured"]["divergence"]
    task = json.loads((pair / "skd-seed0.json").read_text())["task"]
    assert (task["beta"], task["control"], task["temperature"]) == (0.5, None, 1.0)
    # β = 0 is a plain student, whatever S is.
    weights = [torch.load(pair / f"{n}-seed0.pt")["state_dict"] for n in ("plain", "zero", "skd")]
    plain, zero, skd = (w["layer2.0.conv1.weight"] for w in weights)
    torch.testing.assert_close(plain, zero, rtol=0, atol=0)
    assert not torch.equal(plain, skd)
    printed = cli("table1", run, files / "classes.h5", "-o", tmp_path / "table1.csv",
                  "--figure", tmp_path / "table1.svg")  # fmt: skip
    assert printed.splitlines()[-1] == f"{tmp_path / 'table1.csv'}: 6 of 6 cells were run"
    text = (tmp_path / "table1.md").read_text()
    assert "schedule crd, 1 epoch, shortened from 240, seed 0, float32; cpu (" in text
    titles = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]
    assert titles[2:8] == ["| teacher", "| plain student", "| KD", "| SKD",
                           "| SKD, P instead of S", "| SKD, random S, β = 0 (ours)"]  # fmt: skip


def test_a_prior_of_any_network(files, tmp_path):
    out = tmp_path / "prior.h5"
    cli("prior", files / "classes.h5", "--model", "dissect_embed.distillation.zoo:resnet20",
        "--weights", "random", "--layer", "layer1", "--layer", "layer2", "--epochs", 1,
        "--steps-per-epoch", 1, "--device", "cpu", "-o", out)  # fmt: skip
    prior = load_prior(out)
    assert list(prior.vectors) == ["layer1", "layer2"]
    assert prior.accuracy is None
    assert prior.mean != CIFAR100[0]
    message = distil(
        files, "--method", "skd", "--prior", out, "-o", tmp_path / "r.json", fails=True
    )
    assert "it has 2 layers (layer1, layer2) of dissect_embed.distillation.zoo:resnet20" in message
    assert "the student 3 (layer1, layer2, layer3); choose a student of its family" in message
    printed = cli("inspect", out)
    assert "on 24 images of noise" in printed


def test_held_out_all_the_way(files, tmp_path):
    data, out = files / "classes.h5", tmp_path / "r"
    held = ("--held-out", 6, "--device", "cpu")
    printed = cli("distil", data, "--student", "resnet20", "--role", "teacher", "--epochs", 1,
                  *held, "-o", out / "teachers/resnet20-seed0.json")  # fmt: skip
    assert printed.splitlines()[-1].endswith(" % of the held-out images right")
    teacher = ("--teacher", out / "teachers/resnet20-seed0.pt")
    cli("prior", data, *teacher, *held, "--epochs", 1, "--steps-per-epoch", 1,
        "-o", tmp_path / "prior.h5")  # fmt: skip
    assert load_prior(tmp_path / "prior.h5").n_images == 18
    pair = out / "resnet20-resnet32"
    distil(files, *held, "--method", "kd", *teacher, "-o", pair / "kd-seed0.json")
    skd = ("--method", "skd", "--prior", tmp_path / "prior.h5")
    distil(files, *held, *skd, "-o", pair / "skd-seed0.json")
    # What was made for choosing is not taken for the rest, by either.
    for method in (("--method", "kd", *teacher), skd):
        assert "held" in distil(files, *method, "-o", tmp_path / "x.json", fails=True)
    cli("table1", out, data, "-o", tmp_path / "table1.csv")
    assert "on 6 held-out training images" in (tmp_path / "table1.md").read_text()


def test_a_network_of_ones_own_teaches_and_learns(files, tmp_path):
    own = "own_networks:small"
    folder = tmp_path / "own_networks@small-own_networks@small"
    cli("distil", files / "classes.h5", "--student", own, "--epochs", 1, "--device", "cpu",
        "-o", tmp_path / "teachers/own_networks@small-seed0.json")  # fmt: skip
    teacher = ("--teacher", tmp_path / "teachers/own_networks@small-seed0.pt")
    kd = ("--student", own, "--method", "kd", *teacher, "-o", folder / "kd-seed0.json")
    message = distil(files, *kd, fails=True)
    assert "add --teacher-network own_networks:small" in message
    distil(files, *kd, "--teacher-network", own)
    cli("prior", files / "classes.h5", *teacher, "--teacher-network", own, "--epochs", 1,
        "--steps-per-epoch", 1, "--device", "cpu", "-o", tmp_path / "prior.h5")  # fmt: skip
    distil(files, "--student", own, "--method", "skd", "--prior", tmp_path / "prior.h5",
           "-o", folder / "skd-seed0.json")  # fmt: skip
    cli("table1", tmp_path, files / "classes.h5", "--pair", "own_networks@small:own_networks@small",
        "-o", tmp_path / "table1.csv")  # fmt: skip
    text = (tmp_path / "table1.md").read_text()
    assert f"| method | {own} → {own} |" in text
    assert (tmp_path / "table1.csv").read_text().splitlines()[1].startswith(f"{folder.name},{own},")


def test_weights_from_elsewhere_teach(files, tmp_path):
    weights = tmp_path / "r/teachers/resnet20_best.pth"
    weights.parent.mkdir(parents=True)
    network = build_network("resnet20", 2, seed=1)
    torch.save({"epoch": 240, "model": network.state_dict(), "best_acc": 0.5}, weights)
    result_path = tmp_path / "r/resnet20-resnet32/kd.json"
    kd = ("--method", "kd", "--teacher", weights, "-o", result_path)
    assert "does not say what network" in distil(files, *kd, fails=True)
    message = distil(files, *kd, "--teacher-network", "vgg8", fails=True)
    assert f"{weights}: these are no weights of vgg8" in message
    assert "delete" not in message
    printed = distil(files, *kd, "--teacher-network", "resnet20")
    result = json.loads(result_path.read_text())
    accuracy = result["teacher"]["accuracy"]
    assert result["teacher"] == {"name": "resnet20", "accuracy": accuracy}
    assert result["task"]["teacher"] == hash_weights(network)
    assert f"{weights}: resnet20, {100 * accuracy:.2f} % of the test images right" in printed
    out = tmp_path / "prior.h5"
    colours = ("--mean", ".5") * 3 + ("--std", ".2") * 3
    cli("prior", files / "classes.h5", "--teacher", weights, "--teacher-network", "resnet20",
        *colours, "--epochs", 1, "--steps-per-epoch", 1, "--device", "cpu", "-o", out)  # fmt: skip
    prior = load_prior(out)
    assert prior.network == "resnet20"
    assert 0 <= prior.accuracy <= 1
    assert (prior.mean, prior.std) == ((0.5,) * 3, (0.2,) * 3)
    distil(files, "--method", "skd", "--prior", out, *colours, "-o", tmp_path / "skd.json")
    printed = cli("table1", tmp_path / "r", files / "classes.h5", "-o", tmp_path / "table1.csv")
    assert printed.splitlines()[-1].endswith("1 of 1 cells were run")


SKD = ("--method", "skd", "--prior", "{0}/prior.h5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--student", "resnet21"), "--student: unknown 'resnet21'; choose one of resnet20, resn"),
        (("--method", "hint"), "--method: unknown 'hint'; choose one of plain, kd, fitnet, at"),
        (("--schedule", "long"), "--schedule: unknown 'long'; choose one of crd, paper"),
        ((*SKD, "--control", "flat"), "unknown 'flat'; expected one of uniform, shuffled, random"),
        ((*SKD, "--control", "permuted"), "'permuted'; it is SKD itself, by symmetry: a fresh"),
        (("--role", "pupil"), "--role: unknown 'pupil'; choose one of student, teacher"),
        (
            ("--method", "skd"),
            "--method skd: it needs --prior, the file that 'dissect-embed",
        ),
        ((*SKD, "--teacher", "{0}/teacher.pt"), "teacher.pt: skd has no teacher but its --prior"),
        ((*SKD, "--control", "similarity"), "--control similarity: it needs --similarity FILE"),
        (("--similarity", "{0}/p.h5"), "p.h5: P of what prior? Name it with --prior, or leave it"),
        ((*SKD, "--held-out", 4), "prior.h5: made from 24 images of noise, the student is train"),
        (("--held-out", 23), "held out: 23 of the 24 training images of noise; expected fewer"),
        (
            ("--method", "kd", "--teacher", "{0}/teacher.pt", "--held-out", 4),
            "teacher.pt: trained with 0 images held out, now 4 are; what is chosen by, it must not",
        ),
        (("--method", "kd"), "--method kd: it needs --teacher, the .pt of a trained network"),
        (("--teacher", "{0}/teacher.pt"), "teacher.pt: plain takes none; leave it out"),
        (
            ("--prior", "{0}/prior.h5", "--student", "vgg8"),
            "it has 3 layers (layer1, layer2, layer3) of resnet20, the",
        ),
        (("--control", "random"), "--control random: only skd takes it, not plain"),
        (("--temperature", "2"), "--temperature 2.0: only skd takes it, not plain"),
        (
            ("--method", "kd", "--teacher", "{0}/none.pt"),
            "none.pt: no such file; name the weigh",
        ),
        (("--method", "skd", "--prior", "{0}/none.h5"), "none.h5: missing; make it with"),
        ((*SKD, "--student", "vgg8"), "it has 3 layers (layer1, layer2, layer3) of resnet20, the"),
        ((*SKD, "--student", "resnet8x4"), "layer1 of resnet20 has 16 units, layer1 of the studen"),
        (
            (*SKD, *["--mean", ".5"] * 3, *["--std", ".2"] * 3),
            "the student's with 0.5 0.5 0.5; make it",
        ),
        (("--teacher-network", "resnet20"), "--teacher-network resnet20: of what file? Name its"),
        (
            ("--method", "kd", "--teacher", "{0}/teacher.pt", "--teacher-network", "resnet32"),
            "teacher.pt: the weights of resnet20, --teacher-network says resnet32; leave it out",
        ),
        (
            ("--method", "kd", "--teacher", "{0}/teacher.pt", "--teacher-network", "resnet21"),
            "--teacher-network: unknown 'resnet21'; choose one of resnet20",
        ),
        (("--student", "own_networks:none"), "network: cannot import 'own_networks:none'"),
        (("--mean", "0.5"), "--mean and --std: give both"),
        (("--mean", "0.5", "--std", "1"), "--mean: 1 numbers; expected 3"),
        (("--device", "tpu"), "--device: unknown 'tpu'; choose one of auto, cpu, cuda"),
        (("--temperature", "0", *SKD), "temperature 0; expected a positive number"),
    ],
)
def test_what_is_refused(files, tmp_path, arguments, message):
    given = [str(argument).format(files) for argument in arguments]
    text = distil(files, *given, "-o", tmp_path / "r.json", fails=True)
    assert message in text
    assert "Traceback" not in text
    assert not list(tmp_path.iterdir())


def test_other_images_are_refused(files, tmp_path):
    make_images(tmp_path / "classes.h5", seed=1, name="other")
    out = ("-o", tmp_path / "r.json")
    text = distil(tmp_path, "--method", "kd", "--teacher", files / "teacher.pt", *out, fails=True)
    assert "teacher.pt: trained on images of fingerprint" in text
    text = distil(tmp_path, "--method", "skd", "--prior", files / "prior.h5", *out, fails=True)
    assert "the student gets other (" in text
    text = cli("prior", tmp_path / "classes.h5", "--teacher", files / "teacher.pt",
               "-o", tmp_path / "p.h5", fails=True)  # fmt: skip
    assert "those of other have" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name one network: --teacher FILE.pt, or --model"),
        (("--teacher", "t.pt", "--model", "resnet18"), "name one network"),
        (("--model", "resnet18"), "which modules of resnet18? Name them with --layer"),
        (("--model", "resnet18", "--layer", "layer5"), "has no layer 'layer5'; did you mean layer"),
    ],
)
def test_a_prior_of_nothing_is_refused(files, tmp_path, arguments, message):
    out = ("-o", tmp_path / "p.h5", "--device", "cpu")
    assert message in cli("prior", files / "classes.h5", *arguments, *out, fails=True)
    assert not list(tmp_path.iterdir())


def test_a_pair_that_is_none(files, tmp_path):
    out = ("-o", tmp_path / "t.csv")
    text = cli("table1", files / "r", files / "classes.h5", "--pair", "a-b", *out, fails=True)
    assert "--pair a-b: expected TEACHER:STUDENT" in " ".join(text.split())
