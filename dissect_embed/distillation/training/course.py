"""A training on its way, from its first step or from a checkpoint to its result."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from dissect_embed.artefacts.disk import check_disk_space
from dissect_embed.distillation.training.augmentation import draw_epoch
from dissect_embed.distillation.training.checkpoints import (
    count_bytes,
    read_checkpoint,
    save_network,
    write_bytes,
    write_tensors,
)
from dissect_embed.distillation.training.machine import Sessions, images_a_second
from dissect_embed.distillation.training.schedules import Place, epochs_before, learning_rate
from dissect_embed.distillation.training.step import (
    BAD,
    Models,
    Pixels,
    empty_tally,
    evaluate,
    graph_steps,
    make_optimiser,
    make_step,
    momenta,
)
from dissect_embed.distillation.training.task import Task, choose_beta, describe, draw_seed
from dissect_embed.distillation.training.tensorboard import Board, describe_epoch
from dissect_embed.errors import TrainingError

logger = logging.getLogger(__name__)


class Course:
    """A training on its way; a checkpoint holds all of it that a step changes."""

    def __init__(
        self,
        task: Task,
        models: Models,
        pixels: Pixels,
        output: Path,
        *,
        checkpoint_every: float,
        use_graphs: bool,
        after_step: Callable[[Place], None] | None,
    ) -> None:
        """Take what ``trainer.train_student`` was given, checked and on its device."""
        self.task, self.models, self.pixels, self.output = task, models, pixels, output
        self.path = output.with_suffix(".checkpoint")
        self.checkpoint_every, self.use_graphs = checkpoint_every, use_graphs
        self.after_step = after_step
        self.device = pixels.images.device
        n_before = epochs_before(task.schedule, models.method.epochs_before)
        self.stages = {"first": n_before, "main": task.schedule.epochs}
        self.tested_on = "held-out" if task.held_out else "test"
        self.n_images = len(pixels.labels)
        self.n_steps = -(-self.n_images // task.schedule.batch_size)
        self.batch_size = min(task.schedule.batch_size, self.n_images)  # of all but the last
        self.place = Place("first" if n_before else "main", 0, 0)
        self.tally = empty_tally(self.device)
        self.curve: list[dict[str, Any]] = []
        self.seconds_a_step: list[float] = []
        self.saved = time.monotonic()
        self.sessions = Sessions(self.device, self.place)

    def begin(self) -> None:
        """Start, or go on from the checkpoint."""
        state = read_checkpoint(self.path, describe(self.task))
        if state is not None:
            self.place = Place(*state["place"])
            self.curve, before = json.loads(state["progress"])
            self.sessions.resume(before, self.place)
            self.models.student.load_state_dict(state["network"])
            self.models.method.load_state_dict(state["method"])
        self._begin_stage()
        if state is None:
            # While one is written, the one before is there too; then the network comes.
            check_disk_space(self.path, 3 * count_bytes(self._state()))
            return
        with torch.no_grad():
            self.tally.copy_(state["tally"])
            for momentum, value in zip(self.momenta, state["momenta"], strict=True):
                momentum.copy_(value)
        logger.info("%s: going on from %s", self.path, self.place)

    def run(self, test: Pixels) -> None:
        """Train to the end."""
        steps = sum(self.stages.values()) * self.n_steps
        done = self.place.epoch * self.n_steps + self.place.step
        done += self.stages["first"] * self.n_steps * (self.place.stage == "main")
        name = f"{self.task.student} {self.task.method} seed {self.task.seed}"
        with (
            closing(Board(self.output, len(self.curve))) as board,
            tqdm(total=steps, initial=done, desc=name, unit=" steps", disable=None) as bar,
        ):
            while self.place.epoch < self.stages[self.place.stage]:
                n_timed = len(self.seconds_a_step)
                self._run_epoch(bar)
                entry = self._end_epoch(test)
                speed = images_a_second(self.seconds_a_step[n_timed:], self.batch_size)
                board.add(entry | {"images_a_second": speed}, len(self.curve) - 1)
                n_epochs = self.stages[entry["stage"]]
                logger.info("%s: %s", name, describe_epoch(entry, n_epochs, speed, self.tested_on))
                stage, epoch, _ = self.place
                self.place = Place(stage, epoch + 1, 0)
                if stage == "first" and epoch + 1 == self.stages[stage]:
                    self.place = Place("main", 0, 0)
                    self._begin_stage()

    def finish(
        self, n_classes: int, teacher: Mapping[str, Any] | None, measurements: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write network and result, remove the checkpoint, and return the result."""
        task, main = self.task, [entry for entry in self.curve if entry["stage"] == "main"]
        accuracy, best = main[-1]["accuracy"], max(main, key=lambda entry: entry["accuracy"])
        meta = {
            "name": task.student,
            "n_classes": n_classes,
            "data": task.data,
            "mean": list(task.mean),
            "std": list(task.std),
            "accuracy": accuracy,
            "task": describe(task),
        }
        network = self.output.with_suffix(".pt")
        fingerprint = save_network(network, self.models.student, meta)
        result = {
            "task": describe(task),
            "accuracy": accuracy,
            "tested_on": self.tested_on,
            "best": {
                "accuracy": best["accuracy"],
                "epoch": best["epoch"],
                "chosen_on": self.tested_on,
            },
            **measurements,
            "network": {"file": network.name, "fingerprint": fingerprint},
            "curve": self.curve,
            "run": self.sessions.describe(self.seconds_a_step, self.batch_size),
        }
        if teacher is not None:
            result["teacher"] = {key: teacher[key] for key in ("name", "accuracy")}
        write_bytes(self.output, (json.dumps(result, indent=1) + "\n").encode())
        self.path.unlink(missing_ok=True)
        return result

    def _begin_stage(self) -> None:
        """Make the stage's optimiser and step, and set the modes."""
        student, _, method = self.models
        is_first = self.place.stage == "first"
        student.train()
        method.train()
        if is_first:
            method.train_before(student)
            parameters = method.parameters_before(student)
        else:
            parameters = [*student.parameters(), *method.parameters_beside()]
        for module in (student, method):
            module.zero_grad()
        self.optimiser = make_optimiser(parameters, self.task.schedule, self.device)
        self.momenta = momenta(self.optimiser)
        self.step = make_step(
            self.models,
            self.pixels,
            self.optimiser,
            self.tally,
            is_first_stage=is_first,
            autocast=self.task.precision == "bfloat16",
        )
        if self.use_graphs:
            buffers = [*student.state_dict().values(), *method.state_dict().values()]
            self.step = graph_steps(self.step, [*buffers, *self.momenta, self.tally])

    def _run_epoch(self, bar: "tqdm[Any]") -> None:
        """Make the steps that the epoch still lacks."""
        stage, epoch, first = self.place
        draws = draw_epoch(self.n_images, draw_seed(self.task), stage, epoch).to(self.device)
        rate = None
        paused, start, shown = 0.0, time.perf_counter(), time.monotonic()
        for step, batch in enumerate(draws.split(self.task.schedule.batch_size)):
            if step < first:
                continue
            begun = time.perf_counter()
            if (now := self._rate(step)) != rate:
                self.optimiser.param_groups[0]["lr"].fill_(now)
                rate = now
            self.step(batch)
            if self.device.type == "cpu":
                self.seconds_a_step.append(time.perf_counter() - begun)
            self.place = Place(stage, epoch, step + 1)
            if time.monotonic() - self.saved >= self.checkpoint_every:
                pause = time.perf_counter()
                self._save()
                paused += time.perf_counter() - pause
            if self.after_step:
                self.after_step(Place(stage, epoch, step))
            bar.update()
            if not bar.disable and time.monotonic() - shown > 1:
                shown = time.monotonic()
                self._show(bar)
        if self.device.type != "cpu" and first < self.n_steps:
            torch.cuda.synchronize(self.device)  # or the time is that of asking for the steps
            taken = time.perf_counter() - start - paused
            self.seconds_a_step.append(taken / (self.n_steps - first))

    def _end_epoch(self, test: Pixels) -> dict[str, Any]:
        """Test the network, keep what is known of the epoch, and return it."""
        self._check_finite()
        stage, epoch, _ = self.place
        loss, correct, images, *_ = self.tally.tolist()
        entry = {"stage": stage, "epoch": epoch, "lr": self._rate(self.n_steps - 1)}
        entry["loss"] = loss / images
        if stage == "main":
            entry["train_accuracy"] = correct / images
            entry["accuracy"] = evaluate(self.models.student, test)
            self.models.student.train()
        self.curve.append(entry)
        self.tally.copy_(empty_tally(self.device))
        lines = [json.dumps(line) + "\n" for line in self.curve]
        write_bytes(self.output.with_suffix(".log.jsonl"), "".join(lines).encode())
        return entry

    def _rate(self, step: int) -> float:
        schedule, (stage, epoch, _) = self.task.schedule, self.place
        if stage == "main":
            return learning_rate(schedule, epoch, step, self.n_steps)
        before = self.models.method.lr_before
        return schedule.lr if before is None else before

    def _save(self) -> None:
        """Write a checkpoint, unless the loss is no longer finite."""
        self._check_finite()
        write_tensors(self.path, self._state())
        self.saved = time.monotonic()

    def _state(self) -> dict[str, Any]:
        progress = [self.curve, self.sessions.list_all()]
        return {
            "task": json.dumps(describe(self.task)),
            "place": list(self.place),
            "network": self.models.student.state_dict(),
            "method": self.models.method.state_dict(),
            "momenta": self.momenta,
            "tally": self.tally,
            "progress": json.dumps(progress),
        }

    def _check_finite(self) -> None:
        bad = int(self.tally[BAD])
        if bad < 0:
            return
        stage, epoch, _ = self.place
        kept = "there is no checkpoint"
        if self.path.exists():
            kept = f"{self.path} is of a step before; delete it if you change a setting"
        msg = (
            f"{self.output}: the loss of {self.task.method} was not finite first in "
            f"{Place(stage, epoch, bad)}, at a learning rate of {self._rate(bad):g}; "
            f"try a lower rate or β (now {choose_beta(self.task)}), or float32; {kept}"
        )
        raise TrainingError(msg)

    def _show(self, bar: "tqdm[Any]") -> None:
        loss, correct, images, *_ = self.tally.tolist()
        rate = self.task.schedule.batch_size * (bar.format_dict["rate"] or 0)
        bar.set_postfix_str(
            f"loss {loss / images:.3f}, accuracy {correct / images:.3f}, {rate:.0f} images/s"
        )
