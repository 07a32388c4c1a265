"""Training: against plain torch, resumed, stopped, refused; and that something is learned."""

import errno
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy import (
    BATCH,
    N_IMAGES,
    Killed,
    images,
    lasting,
    start,
    stop_at,
    targets,
    task,
    teacher,
    train,
)

from dissect_embed.distillation.methods.method import Method
from dissect_embed.distillation.training import checkpoints, course, trainer
from dissect_embed.distillation.training.augmentation import crop_and_flip, draw_epoch
from dissect_embed.distillation.training.checkpoints import load_network
from dissect_embed.distillation.training.ending import Yardstick, measure_divergence
from dissect_embed.distillation.training.schedules import SCHEDULES, shorten
from dissect_embed.distillation.training.step import Pixels
from dissect_embed.distillation.training.task import (
    ROLES,
    channel_statistics,
    compare_tasks,
    describe,
    draw_seed,
    read_description,
)
from dissect_embed.distillation.training.trainer import train_student
from dissect_embed.errors import DiskSpaceError, ModelError, TrainingError


def train_by_hand(network, schedule, n_epochs, lr):
    """Train as a page of plain torch does, without a fused step or a rate in a tensor.

    Channels last, for there torch's batch norm rounds otherwise on a CPU: by 1e-5 and not 1e-7,
    which a ReLU at its kink makes into 1 % of a weight's change.
    """
    data = images()
    network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        network.train().parameters(), lr, momentum=0.9, weight_decay=5e-4, foreach=False
    )
    pixels, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    for epoch in range(n_epochs):
        for draws in draw_epoch(N_IMAGES, draw_seed(task()), "main", epoch).split(BATCH):
            x = crop_and_flip(pixels, draws).permute(0, 3, 1, 2)
            loss = F.cross_entropy(network((x / 255 - 0.5) / 0.25), labels[draws[:, 0]])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network


def assert_same_weights(got, expected, atol=2e-5):
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(got[name], value, atol=atol, rtol=1e-3, msg=name)


def test_three_steps_equal_plain_torch(tmp_path):
    of = task(epochs=1)
    of = of._replace(schedule=of.schedule._replace(milestones=()))
    train(tmp_path / "a.json", of)
    expected = train_by_hand(start(), of.schedule, 1, of.schedule.lr)
    assert_same_weights(load_network(tmp_path / "a.pt")[0].state_dict(), expected)


@pytest.mark.parametrize("method", ["plain", "skd", "crd"])
def test_equal_tasks_give_equal_files(tmp_path, method):
    first = train(tmp_path / "a.json", task(method))
    torch.manual_seed(5)
    second = train(tmp_path / "other.json", task(method), checkpoint_every=0.0)
    assert lasting(first) == lasting(second)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()
    assert lasting(first) != lasting(train(tmp_path / "c.json", task(method, seed=1)))


def test_no_setting_of_torch_is_left_changed(tmp_path):
    train(tmp_path / "a.json", task(epochs=1))
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize("method", ["plain", "skd", "crd", "ft", "ab"])
def test_killed_after_every_step_is_as_never_killed(tmp_path, method):
    expected = train(tmp_path / "whole.json", task(method))
    visited = []

    def stop(place):
        visited.append(place)
        raise Killed

    result = None
    while result is None:
        try:
            result = train(tmp_path / "a.json", task(method), checkpoint_every=0.0, after_step=stop)
        except Killed:
            assert not (tmp_path / "a.json").exists()
            assert not (tmp_path / "a.pt").exists()
    steps = [(epoch, step) for epoch in range(2) for step in range(3)]
    before = [("first", 0, n) for n in range(3)] if method in ("ft", "ab") else []
    assert visited == before + [("main", *step) for step in steps]
    assert lasting(result) == lasting(expected)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "whole.pt").read_bytes()
    log = (tmp_path / "a.log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in log] == result["curve"] == expected["curve"]
    assert len(result["run"]["sessions"]) == len(visited) + 1
    assert not (tmp_path / "a.checkpoint").exists()


@pytest.mark.parametrize("method", ["plain", "crd"])
def test_steps_after_the_checkpoint_are_made_again(tmp_path, method):
    path = tmp_path / "a.checkpoint"

    def keep(place):
        if place == ("main", 0, 1):
            shutil.copy(path, tmp_path / "kept")
        if place == ("main", 1, 0):
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "a.json", task(method), checkpoint_every=0.0, after_step=keep)
    shutil.copy(tmp_path / "kept", path)
    expected = train(tmp_path / "whole.json", task(method))
    assert lasting(train(tmp_path / "a.json", task(method))) == lasting(expected)


def test_a_process_killed_by_the_system_is_resumed(tmp_path):
    script = Path(__file__).parents[1] / "toy.py"
    command = [sys.executable, str(script), str(tmp_path / "a.json"), "crd"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["a.checkpoint", "a.log.jsonl", "tensorboard"]
    result = train(tmp_path / "a.json", task("crd"))
    assert result["run"]["sessions"][1]["from"] == ["main", 1, 2]
    assert lasting(result) == lasting(train(tmp_path / "b.json", task("crd")))


@pytest.mark.parametrize("method", ["ab", "fsp", "ft"])
def test_the_first_stage_trains_what_it_shall_and_comes_first(tmp_path, method):
    states = []

    def look(place):
        if place == ("first", 0, 2):
            path = tmp_path / "a.checkpoint"
            states.append(torch.load(path, weights_only=True)["network"])

    of = task(method, epochs=16)
    of = of._replace(schedule=of.schedule._replace(epochs=1, milestones=()))
    of = of._replace(schedule=of.schedule._replace(stage_before=1 / 30))
    result = train(tmp_path / "a.json", of, checkpoint_every=0.0, after_step=look)
    assert [entry["stage"] for entry in result["curve"]] == ["first", "main"]
    initial = start().state_dict()
    changed = {name for name, value in states[0].items() if not value.equal(initial[name])}
    if method == "ft":
        assert not changed
        return
    assert {name for name in initial if "fc" not in name} == changed
    # Its main stage is that of a plain student: no gradient, momentum or mode is left over.
    student = start()
    student.load_state_dict(states[0])
    expected = train_by_hand(student, of.schedule, 1, of.schedule.lr)
    assert_same_weights(load_network(tmp_path / "a.pt")[0].state_dict(), expected, 1e-4)


def test_lengths_and_rates_of_both_stages(tmp_path):
    of = task("ft", epochs=4)._replace(schedule=shorten(SCHEDULES["crd"], 4))
    of = of._replace(schedule=of.schedule._replace(stage_before=2 / 30, batch_size=10))
    curve = train(tmp_path / "a.json", of)["curve"]
    assert [entry["lr"] for entry in curve[:2]] == [0.01, 0.01]  # FT's own
    # At the end of an epoch of four steps; milestones are at 2.5, 3 and 3.5.
    assert [e["lr"] for e in curve[2:]] == pytest.approx([0.05, 0.05, 0.005, 5e-5])
    assert [entry["epoch"] for entry in curve] == [0, 1, 0, 1, 2, 3]


@pytest.mark.parametrize("method", ["plain", "skd"])
def test_something_is_learned(tmp_path, method):
    data, held_out = images(separable=True, n=160), images(1, separable=True)
    of = task(method, epochs=6)
    result = train(tmp_path / "a.json", of, train=data, test=held_out)
    losses = [entry["loss"] for entry in result["curve"]]
    assert losses[-1] < losses[0]
    assert result["accuracy"] == result["curve"][-1]["accuracy"] > 0.6
    assert result["best"]["accuracy"] == max(entry["accuracy"] for entry in result["curve"])


def test_the_network_is_loaded_with_what_is_known_of_it(tmp_path):
    of = task()
    result = train(tmp_path / "a.json", of)
    network, meta = load_network(tmp_path / "a.pt")
    assert not network.training
    known = {"name": "resnet20", "n_classes": 4, "data": "print", "mean": [0.5] * 3}
    assert meta.items() >= known.items()
    assert meta["task"] == describe(of) == result["task"]
    assert meta["fingerprint"] == result["network"]["fingerprint"]
    data = images()
    with torch.no_grad():
        x = (torch.from_numpy(data.images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
        right = (network(x).argmax(dim=1).numpy() == data.labels).mean()
    assert meta["accuracy"] == result["accuracy"] == pytest.approx(right)
    assert json.loads((tmp_path / "a.json").read_text()) == result
    assert result["run"]["images_a_second"] > 0


def test_it_is_silent_without_a_terminal(tmp_path, capfd):
    train(tmp_path / "a.json", task(epochs=1))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_loss_that_is_no_number_stops(tmp_path, monkeypatch, every):
    calls = []
    forward = Method.forward

    def poison(self, *arguments):
        calls.append(0)
        loss = forward(self, *arguments)
        return loss * float("nan") if len(calls) in (5, 6) else loss

    monkeypatch.setattr(Method, "forward", poison)
    with pytest.raises(
        TrainingError, match=r"plain.*main stage, epoch 1, step 1, .* rate of 0\.001;"
    ):
        train(tmp_path / "a.json", task(), checkpoint_every=every)
    assert len(calls) == (5 if every == 0 else 6)
    assert not (tmp_path / "a.json").exists()
    if every == 0:  # of the last good step
        assert checkpoints.read_checkpoint(tmp_path / "a.checkpoint", describe(task()))[
            "place"
        ] == ["main", 1, 1]


def interrupt(tmp_path, *place):
    with pytest.raises(Killed):
        train(tmp_path / "a.json", task(), checkpoint_every=0.0, after_step=stop_at(*place))
    return tmp_path / "a.checkpoint"


def test_a_checkpoint_of_another_task_is_refused(tmp_path):
    interrupt(tmp_path, "main", 0, 1)
    other = task(seed=1)._replace(schedule=task().schedule._replace(lr=0.2))
    message = (
        r"a\.checkpoint: .*schedule\.lr is 0\.01 there and 0\.2 here; "
        r"seed is 0 there and 1 here; delete it"
    )
    with pytest.raises(TrainingError, match=message):
        train(tmp_path / "a.json", other)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_damaged_checkpoint_is_named(tmp_path, share):
    path = interrupt(tmp_path, "main", 0, 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(TrainingError, match=r"a\.checkpoint: missing or damaged .*delete it"):
        train(tmp_path / "a.json", task())


def test_a_damaged_network_is_named(tmp_path):
    train(tmp_path / "a.json", task(epochs=1))
    path = tmp_path / "a.pt"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(TrainingError, match=r"a\.pt: missing or damaged .*train the network again"):
        load_network(path)
    with pytest.raises(TrainingError, match=r"b\.pt: missing"):
        load_network(tmp_path / "b.pt")
    torch.save({"state_dict": {}}, path)
    with pytest.raises(TrainingError, match=r"a\.pt: no network that was trained here"):
        load_network(path)


def test_room_is_checked_before_the_first_step(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskSpaceError, match=r"a\.checkpoint: needs 6\..* MB"):
        train(tmp_path / "a.json", task(), after_step=stop_at("main", 0, 0))


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.ENOSPC, DiskSpaceError, r"a\.checkpoint: the disk ran full .*is kept"),
        (errno.EIO, TrainingError, r"a\.checkpoint: cannot be written .*is kept"),
    ],
)
def test_the_last_checkpoint_outlives_a_full_disk(tmp_path, monkeypatch, code, kind, message):
    write, written = Path.write_bytes, []

    def fail(path, content):
        written.append(path)
        if len(written) == 3:
            write(path, bytes(content)[:1000])
            raise OSError(code, "no")
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(kind, match=message):
            train(tmp_path / "a.json", task(), checkpoint_every=0.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.checkpoint", "tensorboard"]
    result = train(tmp_path / "a.json", task())
    assert result["run"]["sessions"][1]["from"] == ["main", 0, 2]
    assert lasting(result) == lasting(train(tmp_path / "b.json", task()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student": "resnet21"}, "student is 'resnet21'; expected one of resnet20"),
        ({"method": "kdd"}, "method is 'kdd'; expected one of plain"),
        ({"precision": "half"}, "precision is 'half'; expected float32 or bfloat16"),
        ({"control": "random"}, "control is 'random'; expected None"),
        ({"beta": 2.0}, "beta is 2.0; expected None: plain has no β"),
        ({"method": "skd", "control": "p"}, "control is 'p': expected one of uniform, shuffled"),
        ({"method": "skd", "control": "permuted"}, "control is 'permuted': it is SKD itself"),
        ({"role": "pupil"}, "role is 'pupil'; expected student or teacher"),
        ({"held_out": 39}, "held out: 39 of the 40 training images of toy; expected fewer"),
        ({"method": "skd", "control": "random"}, "targets is 'none'; expected p of every stage"),
        ({"method": "kd"}, "teacher is 'NoneType'; expected a network"),
        ({"teacher": "x"}, "task.teacher is 'x'; expected None"),
        ({"data": "x"}, "train images of toy is 'print'; expected x, the task's"),
        ({"std": (0.0, 0.1, 0.1)}, "std is .*expected positive numbers"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, change, message):
    with pytest.raises(TrainingError, match=message):
        train_student(task()._replace(**change), images(), images(), output=tmp_path / "a.json")


def test_what_is_given_has_to_be_the_tasks(tmp_path):
    output, data = tmp_path / "a.json", images()
    with pytest.raises(TrainingError, match="plain needs no teacher"):
        train_student(task(), data, data, output=output, teacher=teacher())
    of = task("kd", teacher="x")
    with pytest.raises(TrainingError, match="fingerprint of the teacher's weights"):
        train_student(of, data, data, output=output, teacher=teacher())
    with pytest.raises(ModelError, match="rows of p0 sum to"):
        train_student(task("skd"), data, data, output=output, targets=[torch.ones(16, 16)])
    with pytest.raises(TrainingError, match=r"expected a name that ends in \.json"):
        train_student(task(), data, data, output=tmp_path / "a.pt")
    odd = data._replace(labels=data.labels + 1)
    with pytest.raises(TrainingError, match="expected some, from 0 to 3"):
        train_student(task(), odd, data, output=output)
    assert not list(tmp_path.iterdir())


def test_a_beta_of_zero_is_a_plain_student(tmp_path):
    plain = train(tmp_path / "a.json", task())
    static = train(tmp_path / "b.json", task("skd", beta=0.0))
    assert plain["network"]["fingerprint"] == static["network"]["fingerprint"]
    other = train(tmp_path / "c.json", task("skd"))
    assert other["task"]["beta"] == 0.5
    assert plain["network"]["fingerprint"] != other["network"]["fingerprint"]


METHODS_OF_A_SEED = ("plain", "kd", "sp", "crd", "ab", "skd")


def test_students_of_a_seed_start_alike_and_see_the_same_images(tmp_path, monkeypatch):
    """A teacher of that seed does neither."""
    seen: dict[str, list] = {}
    draw, build = course.draw_epoch, trainer.build_network

    def note_draw(*arguments):
        drawn = draw(*arguments)
        if arguments[2] == "main":
            seen.setdefault(name, []).append(drawn)
        return drawn

    def note_start(*arguments):
        network = build(*arguments)
        seen.setdefault(name, []).append(network.conv1.weight.detach().clone())
        return network

    monkeypatch.setattr(course, "draw_epoch", note_draw)
    monkeypatch.setattr(trainer, "build_network", note_start)
    for name in METHODS_OF_A_SEED:
        train(tmp_path / f"{name}.json", task(name))
    for name, of in (("teacher", task(role="teacher")), ("other", task(seed=1))):
        train(tmp_path / f"{name}.json", of)
    assert len(seen["plain"]) == 3  # the start, and two epochs
    for name in METHODS_OF_A_SEED:
        assert all(map(torch.equal, seen[name], seen["plain"])), name
    for name in ("teacher", "other"):
        assert not any(map(torch.equal, seen[name], seen["plain"])), name


def test_seeds_of_a_role():
    seeds = [draw_seed(task(seed=seed, role=role)) for seed in range(50) for role in ROLES]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert draw_seed(task()) == draw_seed(task("kd", epochs=9, precision="bfloat16"))


def test_held_out_images_are_tested_on_and_not_trained_on(tmp_path, monkeypatch):
    data, other = images(separable=True, n=80), images(1)
    looked_at = []
    load = trainer._load_pixels

    def note(split, *arguments):
        looked_at.append(split)
        return load(split, *arguments)

    monkeypatch.setattr(trainer, "_load_pixels", note)
    result = train(tmp_path / "a.json", task(held_out=20), train=data, test=other)
    left, held = looked_at
    assert (len(left.labels), len(held.labels)) == (60, 20)
    ours, theirs = ({pixels.tobytes() for pixels in part.images} for part in (left, held))
    assert not ours & theirs
    assert ours | theirs == {pixels.tobytes() for pixels in data.images}
    assert result["tested_on"] == result["best"]["chosen_on"] == "held-out"
    network, meta = load_network(tmp_path / "a.pt")
    x = (torch.from_numpy(held.images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.no_grad():
        right = (network(x).argmax(dim=1).numpy() == held.labels).mean()
    assert result["accuracy"] == result["curve"][-1]["accuracy"] == pytest.approx(right)
    assert meta["task"]["held_out"] == 20
    # The same images, whatever the seed; and without them the same training.
    train(tmp_path / "b.json", task(held_out=20, seed=1), train=data, test=other)
    assert np.array_equal(looked_at[3].images, held.images)
    alone = train(tmp_path / "c.json", task(), train=left, test=other)
    assert alone["network"]["fingerprint"] == result["network"]["fingerprint"]
    assert alone["tested_on"] == alone["best"]["chosen_on"] == "test"


@pytest.mark.parametrize("method", ["plain", "kd", "skd"])
def test_what_is_measured_at_the_end(tmp_path, method):
    """Of the trained network, and of nothing that changes it."""
    asked = {"skd": targets(), "uniform": [torch.full((n, n), 1 / n) for n in (16, 32, 64)]}
    result = train(tmp_path / "a.json", task(method), yardstick=Yardstick("s", asked))
    silent = train(tmp_path / "b.json", task(method))
    assert result["network"]["fingerprint"] == silent["network"]["fingerprint"]
    assert ("measured" in silent) is (method == "skd")
    found = result["measured"]
    assert (found["images"], found["prior"]) == (N_IMAGES, "s")
    network, data = load_network(tmp_path / "a.pt")[0], images()
    pixels = Pixels(torch.from_numpy(data.images), torch.from_numpy(data.labels),
                    torch.full((3,), 0.5), torch.full((3,), 0.25))  # fmt: skip
    assert found["divergence"] == measure_divergence(network, pixels, asked)
    assert (method == "skd") is ("weakest" in found)
    if method == "skd":
        assert found["weakest"]["of_living_maps"] == 0.01
        assert all(0 < share < 1 for share in found["weakest"]["share"])
        assert found["weakest"] == silent["measured"]["weakest"]


def test_a_thousand_training_images_are_measured_on_the_same_for_all(tmp_path, monkeypatch):
    samples = []

    def note(network, pixels, asked):
        samples.append(pixels)
        return {}

    monkeypatch.setattr(trainer, "measure_divergence", note)
    data, asked = images(n=1100), Yardstick("s", {"skd": targets()})
    for name, of in (("a", task(epochs=1)), ("b", task("skd", epochs=1, seed=1))):
        train(tmp_path / f"{name}.json", of, train=data, test=images(), yardstick=asked)
    first, second = samples
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels.bincount(), torch.tensor([250] * 4))
    known = {pixels.tobytes() for pixels in data.images}
    assert {pixels.numpy().tobytes() for pixels in first.images} <= known


def test_descriptions_of_older_versions_are_read():
    now = describe(task("skd"))
    second = {k: v for k, v in now.items() if k not in ("held_out", "role")} | {"version": 2}
    assert read_description(second) == now | {"role": None}
    first = {k: v for k, v in second.items() if k not in ("control", "beta")}
    first |= {"version": 1, "target": "random", "weight": 0.5}
    assert read_description(first) == now | {"role": None}


def test_a_given_beta_replaces_the_methods_own(tmp_path):
    own = lasting(train(tmp_path / "a.json", task("sp", epochs=1)))
    same = lasting(train(tmp_path / "b.json", task("sp", epochs=1, beta=3000.0)))
    other = lasting(train(tmp_path / "c.json", task("sp", epochs=1, beta=1.0)))
    assert own == same
    assert own["weights"] != other["weights"]


def test_bfloat16_trains_nearly_alike(tmp_path):
    exact = train(tmp_path / "a.json", task(epochs=1))
    rough = train(tmp_path / "b.json", task(epochs=1, precision="bfloat16"))
    assert rough["curve"][0]["loss"] == pytest.approx(exact["curve"][0]["loss"], rel=0.02)
    assert rough["curve"][0]["loss"] != exact["curve"][0]["loss"]
    assert next(load_network(tmp_path / "b.pt")[0].parameters()).dtype == torch.float32


def test_a_description_is_json_and_tells_differences():
    found = json.loads(json.dumps(describe(task("crd"))))
    assert found == describe(task("crd"))
    assert found["beta"] == 0.8
    lines = compare_tasks(found, describe(task("crd", epochs=3)))
    assert "schedule.epochs is 2 there and 3 here" in lines


def test_statistics_are_those_of_all_pixels():
    data = images(n=2001)
    mean, std = channel_statistics(data)
    np.testing.assert_allclose(mean, data.images.mean(axis=(0, 1, 2)) / 255)
    np.testing.assert_allclose(std, data.images.std(axis=(0, 1, 2)) / 255)
    assert channel_statistics(data._replace(name="cifar100"))[0] == (0.5071, 0.4867, 0.4408)
