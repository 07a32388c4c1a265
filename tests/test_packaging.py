"""What lies around the package: the hooks are the checks of `make lint`, pages lead somewhere."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from dissect_embed.artefacts.kinds import HDF5_KINDS, KINDS
from dissect_embed.artefacts.tables import COLUMNS, UNIT_COLUMNS
from dissect_embed.datasets.broden import load_broden
from dissect_embed.dissection import write_profiles
from dissect_embed.labels import write_labels

ROOT = Path(__file__).parents[1]
FILES = (ROOT / "docs/files.md").read_text("utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def read_hooks() -> list[dict[str, object]]:
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    return [hook for repo in repos for hook in repo["hooks"]]


def lint_commands() -> list[str]:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    folder = re.search(r"^VENV := (\S+)$", makefile, flags=re.MULTILINE)[1]
    recipe = re.search(r"^lint:.*\n((?:\t.*\n?)+)", makefile, flags=re.MULTILINE)[1]
    return [line.strip().replace("$(BIN)", f"{folder}/bin") for line in recipe.splitlines()]


def test_hooks_are_the_commands_of_make_lint():
    assert len(lint_commands()) > 3
    assert [hook["entry"] for hook in read_hooks()] == lint_commands()


def test_hooks_pin_nothing_and_look_at_everything():
    for hook in read_hooks():
        # Of the project's environment, and of all files: a command names its own.
        assert hook["language"] == "system"
        assert hook["pass_filenames"] is False
        assert not hook.keys() & {"additional_dependencies", "language_version"}


@pytest.mark.parametrize(
    ("program", "pattern"),
    [
        ("ruff", "**/*.py"),
        ("mypy", "dissect_embed/**/*.py"),
        ("snakefmt", "Snakefile"),
        ("snakefmt", "pipelines/**/*.smk"),
        ("snakemake", "Snakefile"),
        ("snakemake", "pipelines/**/*.*"),
    ],
)
def test_a_hook_runs_where_what_it_checks_is_touched(program, pattern):
    folders = ("dissect_embed", "tests", "benchmarks", "pipelines", "Snakefile")
    names = [path.relative_to(ROOT) for path in ROOT.glob(pattern)]
    names = [name.as_posix() for name in names if name.parts[0] in folders]
    hooks = [hook for hook in read_hooks() if f"/{program}" in str(hook["entry"])]
    assert names
    assert hooks
    for hook in hooks:
        assert [name for name in names if not re.search(str(hook["files"]), name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_pages_lead_to_files(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    inner = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in inner if link and not (page.parent / link).exists()] == []


def section(title: str) -> str:
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", FILES, re.DOTALL | re.MULTILINE)
    assert found, f"docs/files.md: no section {title}"
    return found[1]


@pytest.mark.parametrize("kind", [*HDF5_KINDS, *COLUMNS, "units", "dataset"])
def test_the_page_of_files_knows_every_kind_and_its_version(kind):
    ending = "h5" if kind in HDF5_KINDS else "json" if kind == "dataset" else "csv"
    text = " ".join(section(f"{kind}.{ending}").split())
    assert text.startswith(f"Schema `{kind}`, version {KINDS[kind].version}."), text[:60]
    for column in COLUMNS.get(kind, UNIT_COLUMNS if kind == "units" else ()):
        assert f"`{column}`" in text


def test_the_examples_of_the_page_of_files_work(tiny, tmp_path, write_maps, monkeypatch, capsys):
    """Read without the package, recompute a fingerprint, check an image: on files made here."""
    import numpy as np

    folder = tmp_path / "results" / "mini"
    data = load_broden(tiny)
    maps = np.random.default_rng(0).random((len(data.rows), 6, 4, 4)).astype(np.float16)
    write_labels(folder / "labels.h5", data)
    write_maps(folder / "activations.h5", data, maps)
    write_profiles(folder / "profiles.h5", folder / "activations.h5", folder / "labels.h5")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", FILES, flags=re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/files.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 5
    # The lines of the page hold for every kind of file, and notice another number.
    for kind in ("labels", "activations"):
        exec(blocks[1].replace("profiles.h5", f"{kind}.h5"), {})
    with pytest.raises(AssertionError):
        exec(blocks[1].replace("item.shape", "(1,)"), {})


def test_a_wheel_carries_the_workflow():
    """``dissect-embed run`` reads these from where the wheel is installed."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    carried = {
        (Path(folder).relative_to("share/dissect-embed") / path.name, path)
        for folder, patterns in settings["tool"]["setuptools"]["data-files"].items()
        for pattern in patterns
        for path in ROOT.glob(pattern)
    }
    needed = {ROOT / "Snakefile", ROOT / "environment.yml"}
    needed |= {path for path in (ROOT / "pipelines").rglob("*") if path.is_file()}
    assert {path for _, path in carried} == needed
    # Each where the Snakefile looks for it.
    assert {ROOT / name for name, _ in carried} == needed
