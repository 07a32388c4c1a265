"""Run a network on an image, or copies of it side by side, and compare what layers put out."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dissect_embed.device import arithmetic
from dissect_embed.networks.copies import copy_network
from dissect_embed.networks.hooks import probe
from dissect_embed.networks.inputs import Input, to_input

Outputs = dict[str, Any]
# A pass that waits longer than this for its neighbour goes on alone.
PATIENCE = 60.0


class Difference(NamedTuple):
    """Where two runs of a network differ."""

    layer: str  # or the error of a network that does not run
    share: float  # of the largest value
    what: str = ""

    def __str__(self) -> str:
        """Return it in words."""
        if self.share != self.share:
            return self.layer
        when = f" {self.what}" if self.what else ""
        return f"{self.layer} by {self.share:.2g} of its largest value{when}"


def noise(given: Input, seed: int) -> Tensor:
    """Return an image of noise, coarse and fine, that leaves no unit of a network untouched."""
    generator = torch.Generator().manual_seed(seed)
    h, w = given.size
    coarse = torch.rand((1, 3, max(h // 16, 1), max(w // 16, 1)), generator=generator)
    fine = torch.rand((1, 3, h, w), generator=generator)
    mixed = 0.7 * torch.nn.functional.interpolate(coarse, (h, w), mode="bilinear") + 0.3 * fine
    return (mixed * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def run_once(
    model: nn.Module,
    picture: Tensor,
    layers: Sequence[str],
    given: Input,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    precision: str = "float32",
    *,
    channels_last: bool = False,
) -> Outputs:
    """Return what layers put out on pictures of (image, y, x, 3), as it comes; on the processor."""
    with arithmetic(precision):
        return _run(model, picture, layers, given, device, dtype, channels_last)


def _run(
    model: nn.Module,
    picture: Tensor,
    layers: Sequence[str],
    given: Input,
    device: str,
    dtype: torch.dtype,
    channels_last: bool,
) -> Outputs:
    with torch.no_grad(), probe(model, layers) as outputs:
        x = to_input(picture.to(device), given).to(dtype)
        model(x if channels_last else x.contiguous())
        return {k: v.cpu() if isinstance(v, Tensor) else v for k, v in outputs.items()}


def differs(found: Outputs, expected: Mapping[str, Any], bound: float) -> Difference | None:
    """Return the first layer that differs by more than a share of its largest value, or None."""
    for layer, right in expected.items():
        if not isinstance(right, Tensor):
            continue
        value = found.get(layer)
        if not isinstance(value, Tensor) or value.shape != right.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else "nothing"
            return Difference(f"{layer} puts out {shape}, not {tuple(right.shape)}", float("nan"))
        if bound == 0:
            # The same bits; NaN is no equal of itself.
            if not torch.equal(value.isnan(), right.isnan()) or not torch.equal(
                value.nan_to_num(), right.nan_to_num()
            ):
                return Difference(layer, _share(value, right))
        elif (share := _share(value, right)) > bound:
            return Difference(layer, share)
    return None


def _share(value: Tensor, right: Tensor) -> float:
    # Where the network itself gives NaN or infinity the data set's first image will say so.
    known = torch.isfinite(right)
    if not bool(known.any()):
        return 0.0
    error = (value.double() - right.double())[known].nan_to_num(nan=torch.inf).abs().max()
    largest = right.double()[known].abs().max()
    if largest == 0:
        return 0.0 if error == 0 else float("inf")
    return float(error / largest)


def run_in_lock_step(
    model: nn.Module,
    pictures: Sequence[Tensor],
    layers: Sequence[str],
    given: Input,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    precision: str = "float32",
    *,
    channels_last: bool = False,
) -> list[Outputs]:
    """Return what copies put out that run side by side, module by module, each on its picture.

    After each module every copy waits for the others. So if the copies share anything that one
    step writes and a later one reads, they get one another's.
    """
    barrier = threading.Barrier(len(pictures))
    results: list[Outputs | BaseException] = [{} for _ in pictures]

    def run(n: int) -> None:
        try:
            tree = copy_network(model, share=True)
            with _waiting(tree, barrier):
                results[n] = _run(tree, pictures[n], layers, given, device, dtype, channels_last)
        except BaseException as error:
            results[n] = error
        finally:
            barrier.abort()  # whoever still runs has nobody to wait for

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(pictures))]
    with arithmetic(precision):  # for all of them: it is set back once
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found: list[Outputs] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found


@contextmanager
def _waiting(tree: nn.Module, barrier: threading.Barrier) -> Iterator[None]:
    def wait(module: nn.Module, inputs: Any, output: Any) -> None:
        try:
            barrier.wait(PATIENCE)
        except threading.BrokenBarrierError:
            return

    handles = [module.register_forward_hook(wait) for module in tree.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
