"""What a training leaves on disk: its network, and the state that it can be resumed from.

Both are written beside their place and renamed into it when whole. Files are read without running
any code that they may carry.
"""

import errno
import io
import json
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from dissect_embed.artefacts.disk import full_disk_message
from dissect_embed.artefacts.files import atomic_path
from dissect_embed.distillation.outputs import Network
from dissect_embed.distillation.own import is_own
from dissect_embed.distillation.training.task import compare_tasks
from dissect_embed.distillation.zoo import build_network
from dissect_embed.errors import DiskSpaceError, DissectEmbedError, TrainingError
from dissect_embed.networks.models import hash_weights

# Of the layout of both files.
VERSION: Final = 1


def save_network(path: Path, network: Network, meta: dict[str, Any]) -> str:
    """Write a trained network, and return the fingerprint of its weights.

    Parameters
    ----------
    meta
        At least ``name`` and ``n_classes``, of which the network is built again; kept as JSON.

    Raises
    ------
    DiskSpaceError, TrainingError
        If it cannot be written.
    """
    fingerprint = hash_weights(network)
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    provenance = json.dumps({**meta, "fingerprint": fingerprint, "version": VERSION})
    write_tensors(path, {"state_dict": state, "provenance": provenance})
    return fingerprint


def load_network(path: Path, name: str | None = None) -> tuple[Network, dict[str, Any]]:
    """Return a network that ``save_network`` wrote, in evaluation mode, and what is known of it.

    ``meta`` has name, n_classes, data, mean, std, accuracy, task and fingerprint.

    Parameters
    ----------
    name
        The network that it is to be; one's own has to be named, for its code is run.

    Raises
    ------
    TrainingError
        If the file is missing, damaged or another one, or of another network.
    """
    remedy = "train the network again with 'dissect-embed distil', or name another file"
    found = read_tensors(path, remedy)
    try:
        meta: dict[str, Any] = json.loads(found["provenance"])
        _check_name(path, meta["name"], name)
        network = build_network(meta["name"], meta["n_classes"])
        network.load_state_dict(found["state_dict"])
    except DissectEmbedError:
        raise
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        msg = f"{path}: no network that was trained here ({error}); {remedy}"
        raise TrainingError(msg) from error
    if hash_weights(network) != meta.get("fingerprint"):
        msg = f"{path}: its weights are not those that were saved; {remedy}"
        raise TrainingError(msg)
    return network.eval(), meta


def _check_name(path: Path, found: str, expected: str | None) -> None:
    if expected is None and is_own(found):
        msg = (
            f"{path}: a network of one's own, whose code is run when it is loaded; if you know it, "
            f"add --teacher-network {found}"
        )
        raise TrainingError(msg)
    if expected not in (None, found):
        msg = f"{path}: the weights of {found}, --teacher-network says {expected}; leave it out"
        raise TrainingError(msg)


def read_checkpoint(path: Path, task: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state of an interrupted training of the same task; None if there is no file.

    Raises
    ------
    TrainingError
        If the file is damaged, or of another task: what differs is named.
    """
    if not path.exists():
        return None
    remedy = "delete it to train from the start"
    state = read_tensors(path, remedy)
    try:
        differing = compare_tasks(json.loads(state["task"]), task)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{path}: no checkpoint of a training ({error}); {remedy}"
        raise TrainingError(msg) from error
    if differing:
        msg = (
            f"{path}: the checkpoint of another training: {'; '.join(differing)}; {remedy}, or "
            "name another output"
        )
        raise TrainingError(msg)
    return state


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write tensors under a name that means complete; the same content is the same bytes.

    Raises
    ------
    DiskSpaceError, TrainingError
        If it cannot be written.
    """
    # By way of memory: given a path, torch names the file within itself, and reports a full disk as
    # a RuntimeError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a whole file under a name that means complete.

    Raises
    ------
    DiskSpaceError
        If the disk is full. What stood at ``path`` stays.
    TrainingError
        If it cannot be written for another reason.
    """
    try:
        with atomic_path(path) as part:
            part.write_bytes(content)
    except OSError as error:
        kept = "the last checkpoint is kept, and the same command goes on from it"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            msg = f"{full_disk_message(path)}; {kept}"
            raise DiskSpaceError(msg) from error
        msg = f"{path}: cannot be written ({error}); see to the disk: {kept}"
        raise TrainingError(msg) from error


def read_tensors(path: Path, remedy: str) -> dict[str, Any]:
    """Read what ``write_tensors`` wrote.

    Raises
    ------
    TrainingError
        If the file is missing or damaged; the message ends in ``remedy``.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{path}: missing or damaged ({reason}); {remedy}"
        raise TrainingError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path}: expected tensors by name, found {type(content).__name__}; {remedy}"
        raise TrainingError(msg)
    return content


def count_bytes(content: Any) -> int:
    """Return the bytes of all tensors in nested dictionaries and lists."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, dict):
        content = list(content.values())
    return sum(map(count_bytes, content)) if isinstance(content, list) else 0
