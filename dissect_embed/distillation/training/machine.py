"""What a training ran on: notes beside its result, not part of it."""

import platform
import resource
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dissect_embed import __version__


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
