"""The house: who may import whom, who spells a file's paths, how long a room may be."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dissect_embed

PACKAGE = Path(dissect_embed.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path, *, when_loaded: bool = False) -> set[str]:
    """Return what a module imports; at its top level alone, where only that counts."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if when_loaded else list(ast.walk(tree))
    froms = {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}
    return froms | {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}


def test_there_are_modules():
    assert len(MODULES) > 100


def test_mathematics_imports_nothing_of_the_house():
    rooms = list((PACKAGE / "mathematics").glob("*.py"))
    assert len(rooms) > 8
    for path in rooms:
        strangers = {
            name
            for name in imported(path)
            if name.startswith("dissect_embed") and ".mathematics" not in name
        }
        assert not strangers, f"{path.name} imports {strangers}"


def test_paths_within_files_are_spelt_in_artefacts_alone():
    for path in MODULES:
        if (PACKAGE / "artefacts") not in path.parents:
            assert "layers/" not in path.read_text("utf-8"), path


def test_no_room_is_too_long():
    assert {p.name: n for p in MODULES if (n := len(p.read_text().splitlines())) > 300} == {}


@pytest.mark.parametrize("name", ["workflow.py", "config.py", "settings.py", "artefacts/kinds.py"])
def test_what_the_snakefile_asks_for_loads_no_torch(name):
    """By name, and what these import in turn."""
    todo, seen = [PACKAGE / name], set()
    while todo:
        path = todo.pop()
        seen.add(path)
        names = imported(path, when_loaded=True)
        assert not {n.partition(".")[0] for n in names} & {"torch", "h5py", "torchvision"}, path
        for module in names:
            parts = module.split(".")
            if parts[0] == "dissect_embed" and len(parts) > 1:
                inner = PACKAGE.joinpath(*parts[1:])
                source = inner / "__init__.py" if inner.is_dir() else inner.with_suffix(".py")
                todo += [source] if source not in seen else []


def test_every_rule_passes_the_version_of_what_it_makes():
    """Snakemake makes again what a setting of its rule changes for, not what the code does."""
    text = "\n".join(p.read_text() for p in sorted((PACKAGE.parent / "pipelines").glob("*.smk")))
    rules = re.split(r"^ *rule (\w+):\n", text, flags=re.MULTILINE)[1:]
    lacking = [
        name
        for name, body in zip(rules[::2], rules[1::2], strict=True)
        if not re.search(r"^ +version=", body, flags=re.MULTILINE)
    ]
    assert len(rules) > 40
    assert lacking == []


def test_every_rule_that_computes_passes_its_threads():
    for path in (PACKAGE.parent / "pipelines").glob("*.smk"):
        for body in re.split(r"^ *rule \w+:\n", path.read_text(), flags=re.MULTILINE)[1:]:
            if "threads: 16" in body and "dissect-embed " in body:
                command = re.search(r"dissect-embed (\w+)", body)[1]
                assert "--threads {threads}" in body, command


@pytest.mark.parametrize("name", ["tally", "figures.figure4", "figures.detectors", "cli"])
def test_what_only_reads_tables_does_not_wait_for_torch(name):
    code = f"import sys, dissect_embed.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
