"""Names of files and folders: what is written is read back, and what is none is refused."""

import subprocess
import sys

import pytest

from dissect_embed.distillation.methods.registry import CONTROLS, METHODS
from dissect_embed.distillation.results import names, plan
from dissect_embed.distillation.results.names import Pair
from dissect_embed.distillation.results.rows import Row
from dissect_embed.distillation.zoo import NETWORKS

OWN = "my.networks_2:small"
NUMBERS = (0.0, 5.0, 0.1, 1e-5, 0.1234567, 1e20)
ROWS = [
    *map(Row, METHODS),
    *(Row("skd", control) for control in CONTROLS),
    *(Row("skd", beta=value) for value in NUMBERS),
    *(Row("skd", temperature=value) for value in NUMBERS),
]


@pytest.mark.parametrize("row", ROWS)
def test_rows_and_trainings_are_read_back(row):
    name = names.write_row(row)
    assert names.read_row(name) == row
    stem = names.write_training(name, 12)
    assert names.read_training(stem) == (name, 12)


def test_rows_differ_in_their_names():
    assert len(set(map(names.write_row, ROWS))) == len(ROWS)


@pytest.mark.parametrize("student", [*NETWORKS, OWN])
@pytest.mark.parametrize("teacher", ["wrn-40-2", OWN])
def test_networks_and_pairs_are_read_back(teacher, student):
    assert names.read_network(names.write_network(student)) == student
    folder = names.write_pair(Pair(teacher, student))
    assert not set(folder) & set(":./ ")
    assert names.read_pair(folder, student) == Pair(teacher, student)


def test_names_on_disk_stay_as_they_are():
    assert names.student_path("r", "a-b", "skd-random", 0) == "r/a-b/skd-random-seed0"
    assert names.teacher_path("r", "wrn-40-2", 3) == "r/teachers/wrn-40-2-seed3"
    assert names.prior_paths("r", OWN) == {
        "prior": "r/priors/my+networks_2@small.h5",
        "similarity": "r/priors/my+networks_2@small.similarity.h5",
    }


def test_a_teacher_of_ones_own_is_named_for_its_code_is_run():
    pair = {"teacher": OWN, "student": "resnet20", "beta": 0.5}
    assert plan.row_options("kd", pair, "r", with_prior=False) == [
        "--student=resnet20",
        "--method=kd",
        "--teacher=r/teachers/my+networks_2@small-seed0.pt",
        f"--teacher-network={OWN}",
    ]
    assert plan.row_options("skd", pair, "r", with_prior=False)[2:] == [
        "--prior=r/priors/my+networks_2@small.h5",
        "--beta=0.5",
    ]


@pytest.mark.parametrize(("row", "given"), [("plain", []), ("kd", ["teacher"]), ("skd", [])])
def test_every_student_is_compared_with_the_prior_where_there_is_one(row, given):
    pair = {"teacher": "resnet56", "student": "resnet20", "beta": 0.5}
    assert list(plan.row_inputs(row, pair, "r", with_prior=True)) == [*given, "prior", "similarity"]
    alone = list(plan.row_inputs(row, pair, "r", with_prior=False))
    assert alone == (["prior"] if row == "skd" else given)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),
        ({"methods": ["kd", "skd"]}, True),
        ({"controls": ["uniform"]}, True),
        ({"ablations": {"beta": [5]}}, True),
    ],
)
def test_there_are_priors_where_skd_or_a_control_is_a_row(change, expected):
    settings = {"methods": ["plain", "kd"], "controls": [], "ablations": {}}
    assert plan.has_priors(settings | change) is expected


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (names.read_row, "skd-semantic", "row: unknown 'skd-semantic'; expected a name like kd"),
        (names.read_row, "hint", "row: unknown 'hint'"),
        (names.read_row, "skd-permuted", "row: unknown 'skd-permuted'"),
        (names.read_training, "skd-seed", "training: unknown 'skd-seed'; expected a name like"),
        (lambda text: names.read_pair(text, "vgg8"), "-vgg8", "expected it in a folder <teacher>-"),
        (lambda text: names.read_pair(text, "vgg8"), "a-b", "its student is vgg8"),
    ],
)
def test_what_is_no_name(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


def test_two_changes_have_no_file():
    with pytest.raises(ValueError, match="random and beta=5 are changed of skd; expected one"):
        names.write_row(Row("skd", "random", beta=5))


def test_the_snakefile_reads_them_without_torch():
    code = (
        "import sys, dissect_embed.distillation.results.plan, dissect_embed.distillation; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
