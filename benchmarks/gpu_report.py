"""What ``gpu.sh`` needs beside the benchmarks: small parts, and the tables at the end.

python benchmarks/gpu_report.py table OUT
"""

import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree as ET

import typer
from recording import Record, describe_device

STEPS_AN_EPOCH = 782
BRODEN = 63_305  # images
app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def environment(output: Path) -> None:
    """Write what there is: card, cores, versions."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    record = Record(output, describe_device(device))
    row: dict[str, Any] = {"platform": platform.platform()}
    if device == "cuda":
        row |= {
            "cards": torch.cuda.device_count(), "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "conv_fp32": torch.backends.cudnn.conv.fp32_precision,
        }  # fmt: skip
    record.add("environment", row)
    record.finish()


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def timed(output: Path, context: typer.Context) -> None:
    """Run a command, and write its seconds when it succeeds."""
    began = time.perf_counter()
    status = subprocess.run(context.args, check=False).returncode
    if status:
        sys.exit(status)
    record = Record(output, {})
    record.add("seconds", {"seconds": time.perf_counter() - began})
    record.finish()


@app.command()
def tests(output: Path, paths: list[str]) -> None:
    """Run ``pytest -m gpu`` on several cores, and write how many tests passed."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", *paths, "-p", "no:cacheprovider"]
    command += ["-p", "no:benchmark"]  # it warns of several processes, and warnings are errors
    if importlib.util.find_spec("xdist"):
        command += ["-n", "6"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        status = subprocess.run([*command, f"--junitxml={report}"], check=False).returncode
        if not report.exists():
            sys.exit(f"pytest ended with {status} before any test")
        suite = next(ET.parse(report).getroot().iter("testsuite"))
    counts = {k: int(suite.attrib[k]) for k in ("tests", "failures", "errors", "skipped")}
    bad = {
        f"{case.get('classname')}::{case.get('name')}": (found.get("message") or "")[:2000]
        for case in suite.iter("testcase")
        for found in case
        if found.tag in ("failure", "error")
    }
    record = Record(output, {})
    record.add("tests", counts | {"seconds": float(suite.attrib["time"]), "failed": bad})
    record.finish()
    sys.exit(0 if status in (0, 5) else f"{len(bad)} of {counts['tests']} tests failed")


@app.command()
def plan(
    folder: Path,
    left: Annotated[float, typer.Option(help="Seconds that are left.")],
    seeds: int = 3,
    epochs: int | None = None,
) -> None:
    """Choose the precision of the second call's trainings, and how many epochs fit."""
    record = Record(folder / "plan.json", {})
    rows = _rows(folder / "training.json")
    row: dict[str, Any] = {"epochs": epochs or 1, "precision": "float32"}
    if "resnet20" in rows and "resnet56" in rows:
        # Of the faster precision: teacher, plain, SKD and uniform.
        cost = {}
        for precision in ("float32", "bfloat16"):
            tail = f"{precision}, channels last, graph"
            if f"plain, {tail}" not in rows["resnet20"]:
                tail = f"{precision}, channels last, eager"
            student, teacher = rows["resnet20"], rows["resnet56"]
            arms = student[f"plain, {tail}"] + 2 * student[f"SKD, {tail}"]
            cost[precision] = (teacher[f"plain, {tail}"] + seeds * arms) * STEPS_AN_EPOCH / 1e3
        best = min(cost, key=cost.__getitem__)
        # 40 s and 15 % are left for beginnings, evaluations and the prior.
        fits = int((left - 40) / (1.15 * cost[best]))
        row = {"epochs": epochs or max(1, fits), "precision": best, "seconds_an_epoch": cost}
    record.add("plan", row)
    record.finish()


@app.command()
def table(folder: Path) -> None:
    """Print what all parts measured."""
    for name, show in (
        ("environment", _show_environment), ("tests", _show_tests), ("dissect", _show_dissection),
        ("dissect-large", _show_dissection), ("precision", _show_precision),
        ("training", _show_training), ("stages", _show_stages),
    ):  # fmt: skip
        path = folder / f"{name}.json"
        if path.exists():
            print(f"\n## {name}\n")
            show(json.loads(path.read_text(encoding="utf-8")))
    _show_table1(folder / "table1")


def _rows(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.exists() else {}


def _print_table(header: str, lines: list[str]) -> None:
    print(f"| {header} |")
    print("|" + " --- |" * (header.count("|") + 1))
    for line in lines:
        print(f"| {line} |")


def _show_environment(content: dict[str, Any]) -> None:
    print(json.dumps(content["machine"] | content["rows"]["environment"]))


def _show_tests(content: dict[str, Any]) -> None:
    row = content["rows"]["tests"]
    bad = row["failures"] + row["errors"]
    passed = row["tests"] - bad - row["skipped"]
    print(f"{passed} passed, {bad} failed, {row['skipped']} skipped, {row['seconds']:.0f} s")
    for name, message in row["failed"].items():
        print(f"- {name}: {message.splitlines()[0] if message else ''}")


def _show_dissection(content: dict[str, Any]) -> None:
    lines = []
    for row in content["rows"].values():
        each = {k: statistics.median(v) / row["images"] * 1e3 for k, v in row["seconds"].items()}
        bare, _, labels, activations, profiles, chance, whole = each.values()
        ratio = row["ratio"]["whole dissection"]
        lines.append(
            f"{row['images']} | {row['precision']} | {row['cache']} | {bare:.3f} | {labels:.3f} "
            f"| {activations:.3f} | {profiles:.3f} | {chance:.3f} | {whole:.3f} | {ratio:.2f} "
            f"| {whole * BRODEN / 1e3:.0f} | {max(row['device_mb'].values()):.0f} "
            f"| {row['process_mb']:.0f}"
        )
    _print_table(
        "images | precision | cache | bare forward pass, ms an image | labels | activations "
        "| profiles | chance | whole | ratio | Broden, s | device, MB | process, MB",
        lines,
    )


def _show_precision(content: dict[str, Any]) -> None:
    lines = []
    for case, row in content["rows"].items():
        for layer, found in row["layers"].items():
            lines.append(
                f"{case} | {layer} | {found['iou_largest']:.6f} | {found['iou_mean']:.7f} "
                f"| {found['threshold_largest']:.2e} | {found['best_differs']} of {found['units']} "
                f"| {found['p_largest']:.1e}"
            )
    _print_table(
        "case | layer | IoU: largest | mean | threshold: largest | best differs | P: largest", lines
    )


def _show_training(content: dict[str, Any]) -> None:
    names = list(dict.fromkeys(kind for row in content["rows"].values() for kind in row))
    lines = []
    for name in names:
        cells = (row.get(name) for row in content["rows"].values())
        lines.append(f"{name} | " + " | ".join("" if c is None else f"{c:.2f}" for c in cells))
    print("Milliseconds a step:\n")
    _print_table("step | " + " | ".join(content["rows"]), lines)
    print("\nSKD over plain, and minutes of 240 epochs:\n")
    lines = []
    for network, row in content["rows"].items():
        for name, taken in row.items():
            plain = row.get(name.replace("SKD", "plain"))
            over = f"{taken / plain:.2f}" if name.startswith("SKD") and plain else ""
            if "channels last" in name:
                minutes = taken * STEPS_AN_EPOCH * 240 / 6e4
                lines.append(f"{network} | {name} | {over} | {minutes:.1f}")
    _print_table("network | step | SKD over plain | 240 epochs, min", lines)


def _show_stages(content: dict[str, Any]) -> None:
    for images, row in content["rows"].items():
        lines = [f"{stage} | {c['seconds']:.1f} | {c['mb']:.0f}" for stage, c in row.items()]
        _print_table(f"{images}: stage | s | MB", lines)


def _show_table1(folder: Path) -> None:
    lines = []
    for path in sorted(folder.glob("*/*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        step = result["run"]["seconds_a_step"]
        lines.append(
            f"{path.parent.name}/{path.stem} | {100 * result['accuracy']:.2f} "
            f"| {len(result['curve'])} | {'' if step is None else f'{step * 1e3:.2f}'} "
            f"| {result['run']['seconds']:.0f}"
        )
    if lines:
        print("\n## table1\n")
        _print_table("training | accuracy, % | epochs | ms a step | s", lines)
    for path in sorted(folder.glob("*/*.checkpoint")):
        print(f"\n{path.parent.name}/{path.stem}: not at its end, goes on from its checkpoint")


if __name__ == "__main__":
    app()
