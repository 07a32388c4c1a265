"""What a training ran on, and how fast: notes beside its result, not part of it."""

import datetime
import platform
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dissect_embed import __version__


class Sessions:
    """The sessions of a training: one, and one more each time that it goes on."""

    def __init__(self, device: torch.device, place: Sequence[object]) -> None:
        """Begin a session on a device; ``place`` is the step that comes first."""
        self.device = device
        self.before: list[dict[str, Any]] = []
        self.began = time.monotonic()
        self.current = {"date": _now(), "from": list(place), **describe_machine(device)}

    def resume(self, before: list[dict[str, Any]], place: Sequence[object]) -> None:
        """Go on from a place that the sessions before this one had come to."""
        self.before = before
        self.current["from"] = list(place)

    def list_all(self) -> list[dict[str, Any]]:
        """Return all sessions, this one as if it ended now."""
        seconds = round(time.monotonic() - self.began, 3)
        peak = {"seconds": seconds, "peak_memory_bytes": peak_memory(self.device)}
        return [*self.before, self.current | peak]

    def describe(self, seconds_a_step: Sequence[float], batch_size: int) -> dict[str, Any]:
        """Return what a result keeps of the run."""
        sessions = self.list_all()
        return {
            "seconds": sum(session["seconds"] for session in sessions),
            # None where a checkpoint of the last step was all that was left to do.
            "seconds_a_step": statistics.median(seconds_a_step) if seconds_a_step else None,
            "images_a_second": images_a_second(seconds_a_step, batch_size),
            "peak_memory_bytes": max(session["peak_memory_bytes"] for session in sessions),
            "finished": _now(),
            "sessions": sessions,
        }


def images_a_second(seconds_a_step: Sequence[float], batch_size: int) -> float | None:
    """Return the speed of the median step, or None if none was timed."""
    return batch_size / statistics.median(seconds_a_step) if seconds_a_step else None


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return device, threads, versions and the command line, for JSON."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    is_cuda = device.type == "cuda"
    return {
        "device": str(device),
        "processor": torch.cuda.get_device_name(device) if is_cuda else _name_processor(),
        "threads": torch.get_num_threads(),
        "versions": {
            "dissect-embed": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
        },
        # By its name: where it is installed is nobody's concern.
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def peak_memory(device: torch.device) -> int:
    """Return the most bytes in use so far: of tensors on a CUDA device, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def _name_processor() -> str:
    """Return the processor's model; Linux tells it in a file of its own."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat("T", "seconds")
