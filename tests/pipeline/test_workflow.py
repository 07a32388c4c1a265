"""The workflow through Snakemake itself: a run on tiny data, and what reruns after a change."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("snakemake", reason="needs the extra 'workflow'")

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "run=tiny",
    'activations={"batch_size": 2}',
    'dataset={"name": "tiny", "root": "tiny"}',
    'model={"weights": "random", "layers": ["layer1", "layer2"]}',
    'embedding={"epochs": 4, "milestones": [2], "steps_per_epoch": 2}',
)
AFTER_EMBED = {"embed", "controls", "score", "figure4", "relations", "figure2", "figure3", "export"}
AFTER_EMBED |= {"atlas", "report"}
AFTER_ACTIVATIONS = {"dissect", "detectors", "units", "similarity", *AFTER_EMBED}


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
    for name in ("Snakefile", "pipelines", "environment.yml"):
        (folder / name).symlink_to(ROOT / name)
    printed = snakemake(folder, "--cores", "2")
    assert printed.endswith("exit 0"), printed
    assert re.search(r"layer2 +0\.\d+ +0\.\d+ +0\.\d+ +0\.\d+", printed)
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
        "labels.h5", "activations.h5", "profiles.h5", "units.csv", "similarity.h5", "embedding.h5",
        "scores.csv", "controls.csv", "figures/figure4.svg", "figures/figure4.png",
        "figures/figure2.svg", "figures/figure3.png", "relations.csv", "pairs.csv",
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
        ((), ("dissection={quantile: 0.01}",), {"dissect", "units", "detectors", *AFTER_EMBED}),
        ((), ("run=other",), {"labels", "activations", *AFTER_ACTIVATIONS}),
        ((), ("figure2={seed: 1}",), {"figure2", "report"}),
        (("results/other/profiles.h5",), ("run=other",), {"labels", "activations", "dissect"}),
    ],
)  # fmt: skip
def test_a_change_reruns_what_it_must_and_nothing_else(run, arguments, change, expected):
    assert planned(run, *arguments, change=change) == expected


SHARDED = ("run=sharded", "shards=2", 'activations={"batch_size": 2}')


def test_shards_give_the_same_table_and_one_that_failed_is_made_again(run):
    """A shard fails while the other goes on; the next run makes what is missing alone."""
    image = run / "tiny/images/5.jpg"
    whole = image.read_bytes()
    image.write_bytes(b"x" * len(whole))  # the size, which is part of the fingerprint, stays
    try:
        command = ("results/sharded/units.csv", "--cores", "2", "--keep-going")
        printed = snakemake(run, *command, settings=SETTINGS + SHARDED)
        assert printed.endswith("exit 1"), printed
        assert "5.jpg: cannot be decoded" in printed
    finally:
        image.write_bytes(whole)
    folder = run / "results/sharded/activations"
    assert [path.name for path in folder.iterdir()] == ["shard-1-of-2.h5"]
    printed = snakemake(run, *command, settings=SETTINGS + SHARDED)
    assert printed.endswith("exit 0"), printed
    assert "logs/activations/shard-1-of-2.log" not in printed
    plain = (run / "results/tiny/units.csv").read_bytes()
    assert (run / "results/sharded/units.csv").read_bytes() == plain
    planned_now = planned(run, "results/sharded/scores.csv", change=SHARDED)
    assert planned_now == {"similarity", "gather", "embed", "controls", "score"}


def test_streaming_gives_the_same_table(run):
    change = ("run=streamed", 'activations={"batch_size": 2, "cache": "none"}')
    printed = snakemake(
        run, "results/streamed/units.csv", "--cores", "2", settings=SETTINGS + change
    )
    assert printed.endswith("exit 0"), printed
    plain = (run / "results/tiny/units.csv").read_bytes()
    assert (run / "results/streamed/units.csv").read_bytes() == plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("dissection={quantil: 0.01}", "quantil"),
        ("modle={name: resnet18}", "modle"),
        ("embedding={target: median}", "median"),
        ("run=../outside", "outside"),
    ],
)
def test_a_wrong_setting_stops_before_any_work(run, change, message):
    printed = snakemake(run, "--dry-run", settings=(*SETTINGS, change))
    assert not printed.endswith("exit 0")
    assert message in printed


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
    assert "made with layers = 'layer1,layer2', the config says 'layer1,layer3'" in printed


def test_the_report_has_the_figure_with_its_caption(run):
    snakemake(run, "--cores", "2")
    printed = snakemake(run, "--report", "report.html")
    assert printed.endswith("exit 0"), printed
    report = (run / "report.html").read_text()
    assert "figure4.svg" in report
    assert "standard deviation over seeds" in report
