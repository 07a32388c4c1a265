"""The rules of Table 1, planned: what a cell needs, and what a change makes again."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("snakemake", reason="needs the extra 'workflow'")

from dissect_embed.distillation.results.names import ZOO
from dissect_embed.distillation.results.published import published_beta
from dissect_embed.distillation.zoo import NETWORKS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table1")
    for name in ("Snakefile", "pipelines", "environment.yml"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def plan(folder: Path, *arguments: str) -> str:
    """Return what a dry run prints."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds", *arguments],
        cwd=folder, env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return f"{done.stdout}\nexit {done.returncode}"


def counts(printed: str) -> dict[str, int]:
    """Return how often each rule would run."""
    assert printed.endswith("exit 0"), printed
    table = printed[printed.index("Job stats:") :].split("\n\n")[0]
    return {k: int(n) for k, n in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


def commands(printed: str) -> list[str]:
    return re.findall(r"dissect-embed .*", printed)


def test_the_small_table(folder):
    printed = plan(folder, "results/mini/table1.md")
    assert counts(printed) == {
        "shapes": 1, "teacher": 1, "prior": 1, "distil": 3, "table1": 1, "total": 7
    }  # fmt: skip
    plain, kd = (next(c for c in commands(printed) if f"={m}" in c) for m in ("plain", "kd"))
    assert "--teacher=results/mini/distillation/teachers/resnet32-seed0.pt" in kd
    assert "--beta" not in kd
    # Of every student it is told how far it ended from SKD's targets.
    priors = "results/mini/distillation/priors/resnet32"
    for command in (plain, kd):
        assert f"--prior={priors}.h5 --similarity={priors}.similarity.h5" in command
    (teacher,) = (c for c in commands(printed) if "--role teacher" in c)
    assert "--student resnet32" in teacher
    assert "--prior" not in teacher
    skd = next(c for c in commands(printed) if "--method=skd" in c)
    assert f"--prior={priors}.h5" in skd
    assert "--beta=0.5" in skd
    assert "--epochs 3 --schedule=crd --precision=float32" in skd


def test_without_skd_there_is_no_prior(folder):
    printed = plan(
        folder, "results/mini/table1.md", "--config", "distillation={methods: [plain, kd]}"
    )
    assert counts(printed) == {
        "shapes": 1, "teacher": 1, "distil": 2, "table1": 1, "total": 5
    }  # fmt: skip
    assert "--prior" not in printed


def test_held_out_images_are_so_for_all(folder):
    printed = plan(folder, "results/mini/table1.md", "--config", "distillation={held_out: 500}")
    for word in (" distil ", " prior "):
        found = [c for c in commands(printed) if word in c]
        assert found
        assert all("--held-out=500 " in c or "--held-out 500 " in c for c in found)


def test_teachers_for_longer(folder):
    schedule = "{name: crd, epochs: 2, teacher_epochs: 9}"
    printed = plan(
        folder, "results/mini/table1.md", "--config", f"distillation={{schedule: {schedule}}}"
    )
    teacher = "--student resnet32 "
    assert all(("--epochs 9 " if teacher in c else "--epochs 2 ") in c
               for c in commands(printed) if " distil " in c)  # fmt: skip


def test_table1_is_not_among_all(folder):
    assert not {"table1", "distil", "teacher"} & counts(plan(folder)).keys()


def test_the_whole_table(folder):
    printed = plan(
        folder, "results/cifar100/table1.md", "--configfile", "pipelines/config/cifar100.yaml"
    )
    # 15 methods, 5 controls and 3 of ours, for 6 pairs and 3 seeds.
    assert counts(printed) == {
        "classes": 1, "teacher": 5, "prior": 5, "distil": 23 * 6 * 3, "table1": 1, "total": 426
    }  # fmt: skip
    printed_commands = commands(printed)
    (classes,) = (c for c in printed_commands if c.startswith("dissect-embed classes"))
    assert "--download=data/cifar100 --name cifar100" in classes
    betas = {
        re.search(r"--output \S+/(\S+)/\S+", c)[1]: re.search(r"--beta=(\S+)", c)[1]
        for c in printed_commands
        if "--method=skd" in c and "/skd-seed" in c
    }
    config = yaml.safe_load((ROOT / "pipelines/config/cifar100.yaml").read_text())["distillation"]
    expected = {
        f"{p['teacher']}-{p['student']}": f"{published_beta('skd', p['teacher'], p['student']):g}"
        for p in config["pairs"]
    }
    assert betas == expected
    assert betas["vgg13-vgg8"] == "0.05"
    assert all("--mean=0.5071 --mean=0.4867" in c for c in printed_commands if " distil " in c)


@pytest.mark.parametrize(
    ("cell", "options", "rules"),
    [
        ("plain-seed7", "--method=plain --prior=", {"teacher": 1, "prior": 1, "distil": 1}),
        ("at-seed1", "--method=at --teacher=", {"teacher": 1, "prior": 1, "distil": 1}),
        ("skd-shuffled-seed0", "--control=shuffled", {"teacher": 1, "prior": 1, "distil": 1}),
        ("skd-temperature0.1-seed0", "--beta=0.5 --temperature=0.1",
         {"teacher": 1, "prior": 1, "distil": 1}),
        ("skd-beta5-seed0", "--beta=5 ", {"teacher": 1, "prior": 1, "distil": 1}),
        ("skd-beta0-seed0", "--beta=0 ", {"teacher": 1, "prior": 1, "distil": 1}),
        ("skd-similarity-seed0", "priors/resnet32.similarity.h5 --beta=0.5 --control=similarity",
         {"teacher": 1, "prior": 1, "distil": 1}),
    ],
)  # fmt: skip
def test_a_cell_by_its_path(folder, cell, options, rules):
    printed = plan(folder, f"results/mini/distillation/resnet32-resnet20/{cell}.json")
    found = counts(printed)
    assert {k: v for k, v in found.items() if k not in ("shapes", "total")} == rules
    assert options in next(c for c in commands(printed) if "resnet32-resnet20" in c)


def test_names_with_hyphens_and_sources(folder):
    target = "results/mini/distillation/wrn-40-2-wrn-16-2/kd-seed0.json"
    dataset = "{name: own, classes: data/own/classes.h5, sources: [a.tar, b.tar]}"
    pairs = "[{teacher: wrn-40-2, student: wrn-16-2}]"
    printed = plan(
        folder, target, "--config", f"distillation={{dataset: {dataset}, pairs: {pairs}}}"
    )
    assert counts(printed) == {"classes": 1, "teacher": 1, "prior": 1, "distil": 1, "total": 4}
    assert "--source=a.tar --source=b.tar --name own" in printed
    assert "--student=wrn-16-2 --method=kd" in printed
    assert "--student wrn-40-2 --method plain" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{methods: [plain, hint]}", "distillation.methods.1: 'hint': expected one of plain, kd"),
        (
            "{pairs: [{teacher: resnet32, student: resnet21}]}",
            "distillation.pairs.0.student: 'resnet21': expected one of resnet20",
        ),
        ("{schedule: {epoch: 3}}", "distillation.schedule.epoch: no such setting"),
        ("{controls: [flat]}", "distillation.controls.0: 'flat': expected one of beta0, uniform"),
        (
            "{controls: [permuted]}",
            "distillation.controls.0: 'permuted': it is SKD itself, by symmetry: a fresh student's "
            "units have no names; ask for 'shuffled'",
        ),
        ("{held_out: -1}", "distillation.held_out: '-1', expected at least 0"),
    ],
)
def test_a_wrong_setting_stops_before_any_work(folder, change, message):
    printed = plan(folder, "results/mini/table1.md", "--config", f"distillation={change}")
    assert not printed.endswith("exit 0")
    assert message in printed


def test_the_config_knows_the_names_of_the_zoo():
    assert list(ZOO) == list(NETWORKS)
