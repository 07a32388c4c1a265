"""Steps on CUDA: what happens where none can be captured."""

import contextlib

import torch

from dissect_embed.distillation.training.step import graph_steps


class NoStream:
    def wait_stream(self, other: object) -> None:
        pass


def test_a_step_that_cannot_be_captured_runs_step_by_step(monkeypatch, caplog):
    """As with a driver, or a network, that waits for the device; played on the processor."""

    @contextlib.contextmanager
    def refuse(graph: object):
        yield
        msg = "operation not permitted when stream is capturing\nCompile with …"
        raise RuntimeError(msg)

    monkeypatch.setattr(torch.cuda, "Stream", NoStream)
    monkeypatch.setattr(torch.cuda, "current_stream", NoStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    total = torch.zeros(3)
    run = graph_steps(lambda draws: total.add_(draws.sum()), [total])
    for _ in range(4):
        run(torch.ones(2))
    # Of the steps that warmed up, and of the one that failed, nothing is left.
    assert total.tolist() == [8.0] * 3
    assert caplog.messages == [
        "no CUDA graph can be made of a step (operation not permitted when stream is capturing): "
        "it runs step by step"
    ]
