"""The workflow through Snakemake itself: a run on tiny data, and what reruns after a change."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from dissect_embed.cli.looking import _read_config_file
from dissect_embed.errors import ConfigError

pytest.importorskip("snakemake", reason="needs the extra 'workflow'")

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "run=tiny",
    'activations={"batch_size": 2}',
    'dataset={"name": "tiny", "root": "tiny"}',
    'model={"weights": "random", "layers": ["layer1", "layer2"]}',
    'embedding={"epochs": 4, "milestones": [2], "steps_per_epoch": 2}',
    'words={"file": "words.txt", "model": "toy_words:joint"}',
)
JOINT = """
import numpy as np

def joint():
    colours = {"red": [1, 0, 0], "green": [0, 1, 0], "blue": [0, 0, 1]}
    return (
        lambda images: images.mean(axis=(1, 2)) - images.mean(),
        lambda words: np.array([colours[word] for word in words]),
    )
"""
AFTER_EMBED = {"embed", "score", "figure4", "relations", "figure2", "figure3", "export"}
AFTER_EMBED |= {"atlas", "report"}
AFTER_DISSECT = {"dissect", "chance", "compositions", "detectors", "units", "evidence"}
AFTER_DISSECT |= AFTER_EMBED
AFTER_ACTIVATIONS = {"similarity", *AFTER_DISSECT}


def snakemake(folder: Path, *arguments: str, settings: tuple[str, ...] = SETTINGS) -> str:
    """Run Snakemake in a folder and return what it printed."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "200",
    }
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, "--config", *settings],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return f"{done.stdout}\nexit {done.returncode}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, make_tiny) -> Path:
    """Return a folder in which the workflow has run once on six tiny images."""
    folder = tmp_path_factory.mktemp("workflow")
    make_tiny(folder / "tiny")
    (folder / "words.txt").write_text("red\ngreen\nblue\n")
    (folder / "toy_words.py").write_text(JOINT)
    for name in ("Snakefile", "pipelines", "environment.yml"):
        (folder / name).symlink_to(ROOT / name)
    printed = snakemake(folder, "--cores", "2")
    assert printed.endswith("exit 0"), printed
    for similarity in ("image", "dataset"):
        assert re.search(rf"layer2 +{similarity}( +0\.\d+){{4}}", printed)
    return folder


def planned(folder: Path, *arguments: str, change: tuple[str, ...] = ()) -> set[str]:
    """Return the rules that would run."""
    printed = snakemake(folder, *arguments, "--dry-run", settings=SETTINGS + change)
    assert printed.endswith("exit 0"), printed
    rules = set(re.findall(r"^(?:local)?rule (\w+):$", printed, flags=re.MULTILINE))
    assert rules or "Nothing to be done" in printed, printed
    return rules - {"all"}


def test_a_run_makes_every_file_of_the_contract(run):
    files = {str(p.relative_to(run / "results/tiny")) for p in (run / "results/tiny").rglob("*")}
    assert files >= {
        "dataset.json", "labels.h5", "activations.h5", "profiles.h5", "chance.h5", "units.csv",
        "compositions.csv", "words.h5", "evidence.csv", "evidence.csv.json",
        "similarity.h5", "embedding.h5", "scores.csv", "scores.csv.json", "controls.csv",
        "figures/figure4.svg", "figures/figure4.png",
        "figures/figure2.svg", "figures/figure3.png", "relations.csv", "pairs.csv",
        "overlap.csv", "overlap.csv.json",
        "vectors.npz", "projector/projector_config.pbtxt", "projector/layer2.sprite.png",
        "figures/detectors.svg", "figures/detectors.png", "figures/detectors.csv",
        "logs/dissect.log", "logs/dissect.benchmark.tsv",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "change", "expected"),
    [
        ((), (), set()),
        (("--forcerun", "embed"), (), AFTER_EMBED),
        (("results/tiny/profiles.h5",), (), set()),
        (("results/tiny/profiles.h5", "--forcerun", "dissect"), (), {"dissect"}),
        ((), ('model={"weights": "random", "layers": ["layer1", "layer2", "layer3"]}',),
         {"activations", *AFTER_ACTIVATIONS}),
        ((), ('model={"weights": "trained"}',), {"train", "activations", *AFTER_ACTIVATIONS}),
        ((), ('embedding={"seeds": [0, 1, 2, 3]}',), AFTER_EMBED),
        ((), ('embedding={"lr": 0.05}',), AFTER_EMBED),
        ((), ('embedding={"similarity": ["dataset", "image"]}',), AFTER_EMBED),
        ((), ("dissection={quantile: 0.01}",), AFTER_DISSECT),
        ((), ("dissection={detector_iou: 0.1}",), {"detectors", "atlas", "report"}),
        ((), ("chance={seed: 1}",),
         {"chance", "compositions", "units", "evidence", "detectors", "score", "figure4", "atlas",
          "report"}),
        ((), ("run=other",), {"dataset", "labels", "words", "activations", *AFTER_ACTIVATIONS}),
        ((), ('words={"file": "words.txt", "model": "toy_words:joint", "arguments": {"a": 1}}',),
         {"words", "evidence", "report"}),
        ((), ('words={"file": "", "model": ""}',), {"evidence", "report"}),
        ((), ("figure2={seed: 1}",), {"figure2", "report"}),
        (("results/other/profiles.h5",), ("run=other",),
         {"dataset", "labels", "activations", "dissect"}),
    ],
)  # fmt: skip
def test_a_change_reruns_what_it_must_and_nothing_else(run, arguments, change, expected):
    assert planned(run, *arguments, change=change) == expected


SHARDED = ("run=sharded", "shards=2", 'activations={"batch_size": 2}')


def test_shards_give_the_same_tables_and_one_that_failed_is_made_again(run):
    """A shard fails while the other goes on; the next run makes what is missing alone."""
    folder = run / "results/sharded/activations"
    in_the_way = folder / "shard-2-of-2.h5.part"
    in_the_way.mkdir(parents=True)
    tables = [f"results/sharded/{name}.csv" for name in ("units", "compositions", "evidence")]
    command = (*tables, "--cores", "2", "--keep-going")
    printed = snakemake(run, *command, settings=SETTINGS + SHARDED)
    assert printed.endswith("exit 1"), printed
    assert "shard-2-of-2.h5.part" in printed
    in_the_way.rmdir()
    assert [path.name for path in folder.iterdir()] == ["shard-1-of-2.h5"]
    printed = snakemake(run, *command, settings=SETTINGS + SHARDED)
    assert printed.endswith("exit 0"), printed
    assert "logs/activations/shard-1-of-2.log" not in printed
    for table in tables:
        plain = run / table.replace("sharded", "tiny")
        assert (run / table).read_bytes() == plain.read_bytes()
    planned_now = planned(run, "results/sharded/scores.csv", change=SHARDED)
    assert planned_now == {"similarity", "gather", "embed", "score"}


def test_streaming_gives_the_same_tables(run):
    change = ("run=streamed", 'activations={"batch_size": 2, "cache": "none"}')
    tables = [f"results/streamed/{name}.csv" for name in ("units", "compositions", "evidence")]
    printed = snakemake(run, *tables, "--cores", "2", settings=SETTINGS + change)
    assert printed.endswith("exit 0"), printed
    for table in tables:
        plain = run / table.replace("streamed", "tiny")
        assert (run / table).read_bytes() == plain.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("dissection={quantil: 0.01}", "dissection.quantil: no such setting .*mean quantile?"),
        ("embedding={target: median}", "embedding.target: 'median', expected 'mean' or"),
        ("run=../outside", "run: '../outside', expected letters, digits"),
        ("dissection={quantile: 0.995}", "quantile: .0.995.: expected at most 0.5"),
        ('activations={"cache": ["layer9"]}', "activations.cache: 'layer9' is none of the"),
    ],
)
def test_a_wrong_setting_stops_before_any_work(run, change, message):
    """What else is wrong and how it is said: ``test_config``, by the function that is called."""
    printed = snakemake(run, "--dry-run", settings=(*SETTINGS, change))
    assert not printed.endswith("exit 0")
    assert re.search(message, printed), printed
    assert "Traceback" not in printed


@pytest.fixture(scope="module")
def copy(run, tmp_path_factory) -> Path:
    """Return a copy of the run as it was made, with Snakemake's own records, to be changed.

    Not one in which files were made again since: Snakemake takes these for new as soon as there is
    anything to do.
    """
    folder = tmp_path_factory.mktemp("copy") / "run"
    shutil.copytree(run, folder, symlinks=True)
    assert planned(folder) == set()
    return folder


@pytest.mark.parametrize(("name", "added"), [("words.txt", "cyan\n"), ("toy_words.py", "# new\n")])
def test_other_words_and_another_source_of_their_model_are_seen(copy, name, added):
    path = copy / name
    before, stat = path.read_text(), path.stat()
    path.write_text(before + added)
    assert planned(copy) == {"words", "evidence"}
    path.write_text(before)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert planned(copy) == set()


def test_a_deleted_file_is_made_again_and_the_same(run):
    profiles = run / "results/tiny/profiles.h5"
    units = (run / "results/tiny/units.csv").read_bytes()
    profiles.unlink()
    assert planned(run, "results/tiny/profiles.h5") == {"dissect"}
    printed = snakemake(run, "--cores", "2", "results/tiny/units.csv")
    assert printed.endswith("exit 0"), printed
    assert (run / "results/tiny/units.csv").read_bytes() == units


def test_files_of_another_config_are_refused(run):
    """Renamed by hand, so that Snakemake's own records do not know them."""
    other = run / "results/renamed"
    other.mkdir()
    for name in ("labels", "activations", "similarity"):
        shutil.copy(run / f"results/tiny/{name}.h5", other)
    change = ("run=renamed", 'model={"layers": ["layer1", "layer3"]}')
    printed = snakemake(
        run, "results/renamed/profiles.h5", "--cores", "1", "--rerun-triggers", "mtime",
        settings=SETTINGS + change,
    )  # fmt: skip
    assert "exit 1" in printed
    assert "made with model.layers = 'layer1,layer2', the config says 'layer1,layer3'" in printed


def test_the_report_has_the_figure_with_its_caption(run):
    snakemake(run, "--cores", "2")
    printed = snakemake(run, "--report", "report.html")
    assert printed.endswith("exit 0"), printed
    report = (run / "report.html").read_text()
    assert "figure4.svg" in report
    assert "standard deviation over seeds" in report


def replace_keeping_date(path: Path, content: bytes) -> None:
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 10**9))


AFTER_DATA = {"dataset", "labels", "words", "activations", *AFTER_ACTIVATIONS}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("label.csv", lambda content: content.replace(b"sky", b"sea")),  # a concept is renamed
        ("images/3_object.png", lambda content: content[:-1] + b"x"),  # of the same size
        ("images/new.jpg", lambda content: b"a picture that was added"),
    ],
)
def test_a_file_of_the_data_set_that_was_changed_is_seen(copy, name, change):
    path = copy / "tiny" / name
    content, stat = (path.read_bytes(), path.stat()) if path.exists() else (None, None)
    if content is None:
        path.write_bytes(change(b""))
    else:
        replace_keeping_date(path, change(content))
    assert planned(copy) == AFTER_DATA
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_other_weights_under_the_same_path_are_seen(run, tmp_path):
    import torch

    from dissect_embed.networks.models import build_model

    weights = tmp_path / "weights.pt"
    states = [build_model("resnet18", "random", seed=seed).state_dict() for seed in (0, 1)]
    torch.save(states[0], weights)
    change = ("run=own", f'model={{"weights": "{weights}"}}')
    target = "results/own/activations.h5"
    printed = snakemake(run, target, "--cores", "2", settings=SETTINGS + change)
    assert printed.endswith("exit 0"), printed
    assert planned(run, target, change=change) == set()
    torch.save(states[1], tmp_path / "other.pt")
    date = weights.stat()
    replace_keeping_date(weights, (tmp_path / "other.pt").read_bytes())
    os.utime(weights, ns=(date.st_atime_ns, date.st_mtime_ns))  # to the nanosecond
    assert planned(run, target, change=change) == {"activations"}


OWN = """
from torch import nn

def network(units=4):
    return nn.Sequential(nn.Conv2d(3, units, 3, 2), nn.ReLU(), nn.Conv2d(units, 6, 3, 2), nn.ReLU())
"""


def test_a_network_of_the_working_folder_with_arguments_and_its_own_input(copy):
    """Found there, asked for its input, run, and run again when any of it changes."""
    (copy / "mine.py").write_text(OWN)
    target = "results/own/profiles.h5"

    def settings(**change: object) -> tuple[str, ...]:
        model = {"name": "mine:network", "weights": "random", "layers": "auto"} | change
        return (*SETTINGS, "run=own", f"model={json.dumps(model)}")

    given = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    printed = snakemake(copy, target, "--cores", "2", settings=settings())
    assert "model.input: mine:network does not say which mean and standard deviation" in printed
    assert "input: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}" in printed
    printed = snakemake(copy, target, "--cores", "2", settings=settings(input=given))
    assert printed.endswith("exit 0"), printed
    with h5py.File(copy / target) as file:
        assert json.loads(file.attrs["config"])["layers"] == ["1", "3"]

    def rerun(**change: object) -> set[str]:
        return planned(copy, target, change=settings(**({"input": given} | change))[5:])

    assert rerun() == set()
    for change in (
        {"arguments": {"units": 5}},
        {"input": given | {"size": 24, "channels": 3}},
        {"layers": ["*"], "axes": {"1": "image unit y x"}, "prefix_tokens": 0},
    ):
        assert "activations" in rerun(**change), change
    (copy / "mine.py").write_text(OWN.replace("ReLU", "Sigmoid"))
    assert "activations" in rerun()


def test_a_picture_added_to_a_class_folder_is_seen(run, tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            shutil.copy(run / "tiny/images/1.jpg", tmp_path / split / name)
    classes = {"name": "own", "classes": "own/classes.h5", "sources": [str(tmp_path)]}
    change = (f"distillation={json.dumps({'dataset': classes})}",)
    target = "own/classes.h5"
    printed = snakemake(run, target, "--cores", "2", settings=SETTINGS + change)
    assert printed.endswith("exit 0"), printed
    assert planned(run, target, change=change) == set()
    shutil.copy(run / "tiny/images/2.jpg", tmp_path / "train/cat")
    assert planned(run, target, change=change) == {"classes"}


def test_figure_4_of_one_run_does_not_get_the_title_of_another(copy):
    other = copy / "results/other"
    shutil.copytree(copy / "results/tiny", other)
    printed = snakemake(
        copy, "results/other/scores.csv", "--cores", "2", "--forcerun", "embed",
        settings=(*SETTINGS, "run=other", 'embedding={"seeds": [5]}'),
    )  # fmt: skip
    assert printed.endswith("exit 0"), printed
    for name in ("scores.csv", "scores.csv.json"):
        shutil.copy(other / name, copy / "results/tiny")
    printed = run_command(copy, "figure4", "results/tiny")
    assert "scores.csv: made from another embedding than results/tiny/embedding.h5" in printed


def run_command(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dissect_embed", *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return f"{done.stdout}\nexit {done.returncode}"


def test_from_another_folder_by_a_config_of_ones_own(run, tmp_path):
    """As from a checkout that must not be written to, and by the command that calls Snakemake."""
    config = tmp_path / "mine.yaml"
    config.write_text(
        "run: mine\n"
        f"dataset: {{name: tiny, root: {run / 'tiny'}}}\n"
        "model: {weights: random, layers: [layer1]}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--configfile", config, "-n"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = run_command(tmp_path, "run", "mine.yaml", "embedding.epochs=2", "-n", "-p")
    assert printed.endswith("exit 0"), printed
    assert "results/mine/scores.csv" in printed
    assert "--epochs=2 " in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == [".snakemake", "mine.yaml"]
    words = ("run", "mine.yaml", "--target", "results/mine/labels.h5", "-n", "--forcerun", "labels")
    printed = run_command(tmp_path, *words)
    assert re.findall(r"^rule (\w+):$", printed, re.M) == ["dataset", "labels"], printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.yaml"], "run: no config file nothing.yaml; name a file, one of broden"),
        (["embedding.dimm=8"], "embedding.dimm: no such setting in this version; did you mean dim"),
        (["embedding.seeds=[0"], "embedding.seeds: '[0' cannot be read; quote it"),
        (["broden", "mini"], "run: broden and mini: name one config file"),
    ],
)
def test_what_the_command_run_cannot_read(tmp_path, words, message):
    """Neither settings nor files; what it cannot read of a config file: the next."""
    printed = run_command(tmp_path, "run", *words)
    assert message in printed
    assert printed.endswith("exit 1")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"run: [mine", "no YAML that can be read"),
        (b"", "expected settings by name"),
        (b"- run", "expected settings by name"),
        (b"1: 2", "expected settings by name"),
        (b"run: \xff", "no YAML that can be read"),
    ],
)
def test_a_config_file_that_is_none(tmp_path, content, message):
    config = tmp_path / "mine.yaml"
    config.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        _read_config_file(config)
