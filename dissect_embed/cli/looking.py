"""Commands that run everything, or show what there is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dissect_embed.cli.options import RunFolder, log_to, setting
from dissect_embed.config import Dissection
from dissect_embed.errors import ConfigError


def run(
    context: typer.Context,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [KEY=VALUE]...",
            help="A config file, or the name of one that comes along (broden, cifar100, …), and "
            "settings such as embedding.dim=8. Options that are not listed here, and what follows "
            "them, are Snakemake's.",
        ),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="A file to make, by default all; repeat for more.")
    ] = None,
    cores: Annotated[str, typer.Option(help="How many to use, or 'all'.")] = "all",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what to do.")] = False,
) -> None:
    """Make all files of a run in this folder, or what is missing of them: calls Snakemake."""
    from dissect_embed.workflow import find_snakefile, load_config

    snakefile = find_snakefile()
    words = [*(settings or []), *context.args]
    first = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    given, options = words[:first], words[first:]
    configs = [word for word in given if "=" not in word]
    if len(configs) > 1:
        msg = f"run: {configs[0]} and {configs[1]}: name one config file; settings are KEY=VALUE"
        raise ConfigError(msg)
    files = [_find_config(name, snakefile) for name in configs]
    values = _read_config_file(files[0]) if files else {}
    changes = _read_changes([word for word in given if "=" in word])
    load_config(_merge(values, changes))
    command = [sys.executable, "-m", "snakemake", *(target or [])]
    command += ["--snakefile", str(snakefile), "--cores", cores]
    command += ["--dry-run"] if dry_run else []
    command += ["--configfile", str(files[0])] if files else []
    if changes:
        command += ["--config", *(f"{key}={json.dumps(v)}" for key, v in changes.items())]
    # The rules call dissect-embed by its name.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run([*command, *options], check=False, env=os.environ | {"PATH": path})
    if done.returncode:
        raise typer.Exit(done.returncode)


def _find_config(name: str, snakefile: Path) -> Path:
    shipped = snakefile.parent / "pipelines" / "config"
    for path in (Path(name), shipped / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in shipped.glob("*.yaml")))
    msg = f"run: no config file {name}; name a file, one of {known}, or a setting as KEY=VALUE"
    raise ConfigError(msg)


def _read_config_file(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        msg = f"{path}: no YAML that can be read ({reason}); correct it"
        raise ConfigError(msg) from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        msg = f"{path}: expected settings by name, such as 'run: mine'"
        raise ConfigError(msg)
    return values


def _read_changes(pairs: list[str]) -> dict[str, Any]:
    """Return ``embedding.dim=8`` and the like as a config."""
    import yaml

    changes: dict[str, Any] = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            msg = f"{key}: {text!r} cannot be read; quote it, as in '{key}=[0, 1]'"
            raise ConfigError(msg) from error
        change: Any = value
        for part in reversed(key.split(".")):
            change = {part: change}
        changes = _merge(changes, change)
    return changes


def _merge(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    merged = dict(one)
    for key, value in other.items():
        before = merged.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            value = _merge(before, value)
        merged[key] = value
    return merged


def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="RUN|FILE", help="results/<run>, or one of its HDF5 files.")
    ],
    concept: Annotated[
        str | None,
        typer.Option(help="Units (profiles.h5) or images (activations.h5) that have it."),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(help="LAYER:UNIT. Its concepts (profiles.h5) or top images (activations.h5)."),
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="The labels, for --concept on activations.h5.")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Rows of an answer, by default 10.")
    ] = None,
    detector_iou: float = setting(Dissection, "detector_iou"),
) -> None:
    """Say what a run or a file is and holds, or what it knows of a unit or a concept."""
    from dissect_embed.inspection import print_inspection

    log_to(None)
    settings = Dissection(detector_iou=detector_iou)
    print_inspection(
        file, concept=concept, unit=unit, dataset=dataset, top=top,
        detector_iou=settings.detector_iou,
    )  # fmt: skip


def summary(run: RunFolder) -> None:
    """Print where a run's files are, and a line a layer."""
    from dissect_embed.artefacts.folder import RunFolder as Folder
    from dissect_embed.scoring import summarise

    lines = summarise(Folder(run))
    for path in sorted(p for p in run.rglob("*") if p.is_file() and p.parent.name != "logs"):
        typer.echo(str(path))
    typer.echo(lines)
