"""Rows of a benchmark in a JSON file: written as they are measured, not measured again.

Importing it loads no torch: the memory of a process that has counts as that of its children.
"""

import json
from pathlib import Path
from typing import Any


class Record:
    """The rows that a benchmark has so far, by name; a file is whole at any time.

    Attributes
    ----------
    rows
        What was measured, by the name of the row.
    """

    def __init__(self, path: Path | None, machine: dict[str, Any]) -> None:
        """Take the rows of a file that is there; without a path nothing is written."""
        self.path, self.rows, self.machine = path, {}, machine
        if path is not None and path.exists():
            self.rows = json.loads(path.read_text(encoding="utf-8"))["rows"]

    def __contains__(self, name: str) -> bool:
        """Say whether a row was measured."""
        return name in self.rows

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Keep a row, at once."""
        self.rows[name] = row
        self._write(done=False)

    def finish(self) -> None:
        """Say that no row is lacking."""
        self._write(done=True)

    def _write(self, *, done: bool) -> None:
        if self.path is None:
            return
        content = {"done": done, "machine": self.machine, "rows": self.rows}
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        part.replace(self.path)


def describe_device(device: str) -> dict[str, Any]:
    """Return the device's name and memory, the cores, versions and the command."""
    import torch

    from dissect_embed.distillation.training.machine import describe_machine
    from dissect_embed.parallel import available_cores

    total = None
    if device.startswith("cuda"):
        total = round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1)
    return describe_machine(torch.device(device)) | {"cores": available_cores(), "device_gb": total}


def peak_memory(device: str) -> float:
    """Return the most MB of tensors on a CUDA device since the last call; 0 on others."""
    import torch

    if not device.startswith("cuda"):
        return 0.0
    peak = torch.cuda.max_memory_allocated(device) / 1e6
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def wait_for(device: str) -> None:
    """Wait until a CUDA device has done what it was given."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
