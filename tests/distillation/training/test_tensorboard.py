"""What a training tells of itself: read back as TensorBoard reads it."""

import logging
import struct

import pytest
from toy import Killed, stop_at, task, train

event_pb2 = pytest.importorskip(
    "tensorboardX.proto.event_pb2", reason="reads curves as TensorBoard does, with tensorboardX"
)


def read_events(folder):
    """Return (tag, epoch) → value of all files, as TensorBoard shows them: later sessions win."""
    shown = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = event_pb2.Event.FromString(content[place + 12 : place + 12 + length])
            place += 12 + length + 4
            if event.session_log.status == event_pb2.SessionLog.START:
                shown = {key: value for key, value in shown.items() if key[1] < event.step}
            for value in event.summary.value:
                shown[value.tag, event.step] = value.simple_value
    return shown


def test_every_epoch_is_there_once_even_after_an_interruption(tmp_path):
    stop = stop_at("main", 1, 1)
    with pytest.raises(Killed):
        train(tmp_path / "a.json", task("ab"), checkpoint_every=0.0, after_step=stop)
    curve = train(tmp_path / "a.json", task("ab"))["curve"]
    folder = tmp_path / "tensorboard" / "a"
    # Numbered: the rest of their names is equal where two sessions begin in one second.
    assert sorted(path.name[-5:] for path in folder.iterdir()) == [".0000", ".0001"]
    shown = read_events(folder)
    first, *main = curve
    assert first["stage"] == "first"
    assert shown["first_stage/loss", 0] == pytest.approx(first["loss"])
    for key in ("loss", "train_accuracy", "accuracy", "lr"):
        found = [value for (tag, _), value in shown.items() if tag == key]
        assert found == pytest.approx([entry[key] for entry in main])
    assert [epoch for tag, epoch in shown if tag == "accuracy"] == [1, 2]
    assert all(shown["images_a_second", epoch] > 0 for epoch in (1, 2))


def test_a_line_an_epoch_is_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (entry,) = train(tmp_path / "a.json", task(epochs=1))["curve"]
    (line,) = caplog.messages
    assert line.startswith(f"resnet20 plain seed 0: epoch 1 of 1, loss {entry['loss']:.4f}, ")
    assert f"{100 * entry['accuracy']:.2f} % of the test images right" in line
    assert line.endswith(" images/s")
