"""Ctrl-C and SIGKILL in every stage: nothing half-written is left, a second run is whole."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from dissect_embed.cli import main

# Children fork from a process that has imported torch and run nothing.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "dissect_embed.cli", "dissect_embed.activations"])


def stages(tiny: Path, run: Path) -> dict[str, list[str]]:
    """Return the command line of every stage, by the file it writes, in order."""
    data, maps = f"--dataset={tiny}", f"{run}/activations.h5"
    labels, profiles = f"{run}/labels.h5", f"{run}/profiles.h5"
    embed = ["embed", f"{run}/similarity.h5", profiles, "--epochs=2", "--steps-per-epoch=2"]
    return {
        "model.pt": ["train", data, "--epochs=1"],
        "activations.h5": ["activations", data, "--layer=layer1", "--layer=layer2"],
        "labels.h5": ["labels", data],
        "profiles.h5": ["dissect", maps, labels],
        "chance.h5": ["chance", maps, labels, profiles],
        "units.csv": ["units", f"{run}"],
        "compositions.csv": ["compositions", f"{run}"],
        "similarity.h5": ["similarity", maps],
        "embedding.h5": embed,
        "scores.csv": ["score", f"{run}"],
        "relations.csv": ["relations", f"{run}"],
        "figures/figure4.svg": ["figure4", f"{run}"],
        "figures/detectors.svg": ["detectors", f"{run}"],
    }


def run_command(arguments: list[str], sent: int | None) -> None:
    """Run the command line; a signal, if any, comes when the file is written but not yet named."""
    # A shell that starts the tests in the background lets them ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sent is not None:
        os.fsync = lambda file: os.kill(os.getpid(), sent)
    sys.argv = ["dissect-embed", *arguments]
    main()


def run_in_child(arguments: list[str], sent: int | None = None) -> int | None:
    child = CONTEXT.Process(target=run_command, args=(arguments, sent))
    child.start()
    child.join()
    return child.exitcode


def content(path: Path) -> object:
    """Return what a file holds, without the time at which it was made."""
    if path.suffix != ".h5":
        return path.read_bytes()
    found: dict[str, object] = {}

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = (str(item.dtype), item[()].tolist())

    with h5py.File(path) as file:
        file.visititems(keep)
        found["fingerprint"] = file.attrs["fingerprint"]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, make_tiny) -> tuple[Path, Path]:
    """Return a data set and the folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("interruption")
    tiny, run = make_tiny(folder / "tiny"), folder / "run"
    for name, arguments in stages(tiny, run).items():
        assert run_in_child([*arguments, f"--output={run / name}"]) == 0, name
    return tiny, run


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("name", stages(Path(), Path()))
def test_the_same_command_finishes_what_was_interrupted(whole, tmp_path, name, sent):
    tiny, run = whole
    output = tmp_path / name
    arguments = [*stages(tiny, run)[name], f"--output={output}"]
    # Of the two tables of a stage the second has a place of its own, too.
    other = {"scores.csv": "--controls", "relations.csv": "--pairs"}.get(name)
    arguments += [f"{other}={tmp_path / 'other.csv'}"] if other else []
    assert run_in_child(arguments, sent) == (130 if sent == signal.SIGINT else -sent)
    assert not output.exists()
    if sent == signal.SIGINT:
        assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert run_in_child(arguments) == 0
    expected = content(run / name)
    if name == "model.pt":
        return  # an archive with its own time stamps; its weights are compared below
    assert content(output) == expected
    # An interrupted second run leaves the first one's file as it was.
    assert run_in_child(arguments, sent) != 0
    assert content(output) == expected


def test_training_again_gives_the_same_weights(whole, tmp_path):
    import torch

    tiny, run = whole
    output = tmp_path / "model.pt"
    assert run_in_child([*stages(tiny, run)["model.pt"], f"--output={output}"]) == 0
    one, other = (
        torch.load(p, weights_only=True)["state_dict"] for p in (output, run / "model.pt")
    )
    assert all(np.array_equal(one[k].numpy(), other[k].numpy()) for k in one)
