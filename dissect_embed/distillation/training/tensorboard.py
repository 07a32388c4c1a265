"""What a training tells of itself: a line an epoch, and curves for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tensorboardX import SummaryWriter

CURVES: Final = ("loss", "train_accuracy", "accuracy", "lr", "images_a_second")


class Board:
    """Writes ``tensorboard/<name>/`` beside a result ``<name>.json``.

    Each session of an interrupted training adds a file; what it tells again of an epoch hides what
    sessions before it told.
    """

    def __init__(self, output: Path, n_done: int) -> None:
        """Begin after ``n_done`` epochs of all stages."""
        folder = output.parent / "tensorboard" / output.stem
        # Files are named by the second: without a number, a session overwrote one that began in it.
        number = len(list(folder.glob("events.*")))
        self._writer = SummaryWriter(
            str(folder), purge_step=n_done, filename_suffix=f".{number:04d}"
        )

    def add(self, entry: Mapping[str, Any], n_done: int) -> None:
        """Add what is known of an epoch, of which ``n_done`` went before, and write it out."""
        stage = "" if entry["stage"] == "main" else f"{entry['stage']}_stage/"
        for name in CURVES:
            if entry.get(name) is not None:
                self._writer.add_scalar(f"{stage}{name}", entry[name], n_done)
        self._writer.flush()

    def close(self) -> None:
        """End the session's file."""
        self._writer.close()


def describe_epoch(
    entry: Mapping[str, Any], n_epochs: int, speed: float | None, tested_on: str = "test"
) -> str:
    """Return an epoch for people; ``speed`` in images a second, None if no step was timed.

    Examples
    --------
    >>> describe_epoch({"stage": "main", "epoch": 0, "loss": 3.9, "accuracy": 0.125}, 240, 320.4)
    'epoch 1 of 240, loss 3.9000, 12.50 % of the test images right, 320 images/s'
    """
    stage = "" if entry["stage"] == "main" else f" of the {entry['stage']} stage"
    words = [f"epoch {entry['epoch'] + 1} of {n_epochs}{stage}", f"loss {entry['loss']:.4f}"]
    for key, name in (("train_accuracy", "training images"), ("accuracy", f"{tested_on} images")):
        if key in entry:
            words += [f"{100 * entry[key]:.2f} % of the {name} right"]
    return ", ".join([*words, *([f"{speed:.0f} images/s"] if speed else [])])
