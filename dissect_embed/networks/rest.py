"""Run a network with units of a layer set to their means, from the layer on where that is enough.

Where all that a network puts out goes through the layer, what comes after it (the tail) can run
on the layer's output alone, of many sets of units at once. ``torch.fx`` says whether it does, and
the tail must put out what the whole network does, with and without units; else the whole network
runs once for each set.
"""

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from dissect_embed.device import arithmetic, choose_device
from dissect_embed.errors import ModelError
from dissect_embed.networks.copies import copy_network, run_on_one_device, unwrap
from dissect_embed.networks.hooks import change, count_calls, describe, parse_layer, probe
from dissect_embed.networks.inputs import Input, to_input
from dissect_embed.networks.maps import Reading, to_maps
from dissect_embed.networks.preparation import BOUNDS, Network, prepare_network
from dissect_embed.networks.proof import noise

logger = logging.getLogger(__name__)

# How far a tail's scores may lie from those of the whole network, in parts of their largest.
BOUND = 1e-4
# Numbers of a layer's output that go through the tail at once: 4 MB on a processor, whose caches
# are small, 256 MB on a CUDA device.
AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 26}

Units = Sequence[int]


class Rest(NamedTuple):
    """A network that runs with units of a layer set to their means."""

    network: Network  # prepared for that layer alone
    layer: str
    n_calls: int  # of the layer's module in a pass
    tail: nn.Module | None  # from the layer's output to the scores; None: the whole network runs
    n_outputs: int

    @property
    def reading(self) -> Reading:
        """How the layer's output is read."""
        return self.network.readings[self.layer]

    @property
    def takes_maps(self) -> bool:
        """Whether stored maps are all that is needed: the layer has no tokens beside them."""
        return self.tail is not None and self.reading.prefix == 0


def prepare_rest(
    model: nn.Module,
    layer: str,
    given: Input,
    *,
    batch_size: int,
    device: str | None = None,
    axes: Mapping[str, str] | None = None,
    prefix_tokens: int | None = None,
) -> Rest:
    """Return what runs a network with units of a layer set to their means, in float32.

    Parameters
    ----------
    model, layer, given, batch_size, axes, prefix_tokens
        As in ``prepare_network``.

    Raises
    ------
    ModelError
        As ``prepare_network`` does, or if the network puts out no scores of classes.
    """
    device = choose_device(device)
    network = prepare_network(
        model, [layer], given,
        batch_size=batch_size, device=device, axes=axes, prefix_tokens=prefix_tokens,
    )  # fmt: skip
    pictures = torch.cat([noise(given, seed) for seed in (0, 1)])
    if network.can_share:
        # What was proven of the layer, of the scores too.
        plain = run_on_one_device(copy_network(unwrap(model))).float().eval().to(device)
        expected = _whole_scores(plain, _to_network(pictures, given, device))
        found = _whole_scores(network.model, _to_network(pictures, given, device))
        if not _alike(found, expected, BOUNDS["float32"]):
            logger.info("%s: runs as it stands, for prepared its scores differ", layer)
            network = network._replace(model=plain)
    x = _to_network(pictures, given, device)
    with torch.inference_mode():
        n_calls = count_calls(network.model, layer, lambda: network.model(x))
    whole = Rest(network, layer, n_calls, None, _whole_scores(network.model, x).shape[1])
    return _with_tail(whole, x)


def _with_tail(whole: Rest, x: Tensor) -> Rest:
    """Return the same with a tail, if there is one and it is proven."""
    try:
        tail = cut_tail(whole.network.model, whole.layer, whole.n_calls)
        if tail is None:
            why = "what it puts out does not all go through it"
        else:
            rest = whole._replace(tail=tail)
            n_units = whole.reading.units
            sets: list[Units] = [(), (0,), range(n_units)]
            means = torch.linspace(-1, 1, n_units, device=x.device)
            expected = run_sets(whole, x, sets, means)
            found = run_sets(rest, layer_output(rest, x), sets, means)
            if _alike(found, expected, BOUND):
                return rest
            why = "from there on it puts out something else"
    except Exception as error:  # whatever a network's code raises where it is cut or traced
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
    logger.info("%s: the whole network runs for each unit: %s", whole.layer, why)
    return whole


class _Tracer(fx.Tracer):
    """Follows a network, but not into one of its modules."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m is self._module or super().is_leaf_module(m, module_qualified_name)


def cut_tail(model: nn.Module, layer: str, n_calls: int = 1) -> nn.Module | None:
    """Return what a network does with the output of a layer, weights shared.

    None where it looks at something else too (its input, by a way around the layer), or where the
    layer is a part of what a module puts out.

    Raises
    ------
    Exception
        Whatever the network's own code raises where ``torch.fx`` cannot follow it.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> tail = cut_tail(net, "0")
    >>> tail(torch.ones(1, 3)).shape
    torch.Size([1, 1])
    """
    named = parse_layer(layer)
    module = model.get_submodule(named.module)
    if named.parts:
        return None
    tracer = _Tracer(module)
    graph = tracer.trace(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    calls = [n for n in graph.nodes if n.op == "call_module" and modules[str(n.target)] is module]
    if len(calls) != n_calls:
        return None
    call = calls[(named.call or n_calls) - 1]
    with graph.inserting_before(call):
        output = graph.placeholder("layer_output")
    call.replace_all_uses_with(output)
    after = {output}
    for node in graph.nodes:
        if after.intersection(node.all_input_nodes):
            after.add(node)
    # What leads to the layer alone. Of what comes after it all stays: some may work in place.
    for node in reversed(graph.nodes):
        if node not in after and not node.users:
            graph.erase_node(node)
    if [node for node in graph.nodes if node.op == "placeholder"] != [output]:
        return None
    return fx.GraphModule(tracer.root, graph).eval()


def layer_output(rest: Rest, x: Float[Tensor, "image c y x"]) -> Tensor:
    """Return what the layer puts out, whole and in the network's own axes."""
    with torch.inference_mode(), probe(rest.network.model, [rest.layer]) as outputs:
        rest.network.model(x)
    output: Tensor = outputs[rest.layer]
    return output


def run_sets(
    rest: Rest, batch: Tensor, sets: Sequence[Units], means: Float[Tensor, " unit"]
) -> Float[Tensor, "set image output"]:
    """Return a network's scores with each of several sets of units at their means.

    Parameters
    ----------
    batch
        What the layer puts out on some images where the tail runs, else what the network is given.
    sets
        Units of the layer, none for the network as it is.
    means
        Of the layer's units, on the device of the batch.
    """
    tail = rest.tail
    found = []
    with torch.inference_mode(), arithmetic("float32"):
        if tail is None:
            for units in sets:
                to = functools.partial(_set_copy, rest.reading, units, means)
                with change(rest.network.model, rest.layer, to, rest.n_calls):
                    found.append(_whole_scores(rest.network.model, batch)[None])
            return torch.cat(found)
        axis = rest.reading.axes.split().index("image")
        n_images = batch.shape[axis]
        n_sets = max(1, AT_ONCE[batch.device.type] // batch.numel())
        for some in _in_blocks(sets, n_sets):
            repeated = torch.cat([batch] * len(some), dim=axis)
            for units, part in zip(
                some, to_maps(repeated, rest.reading).split(n_images), strict=True
            ):
                _set_units(part, units, means)
            scores = scores_of(tail(repeated), len(some) * n_images)
            found.append(scores.unflatten(0, (-1, n_images)))
    return torch.cat(found)


def _in_blocks(sets: Sequence[Units], size: int) -> Iterator[Sequence[Units]]:
    for start in range(0, len(sets), size):
        yield sets[start : start + size]


def _set_units(maps: Tensor, units: Units, means: Float[Tensor, " unit"]) -> None:
    chosen = torch.tensor(list(units), dtype=torch.long, device=maps.device)
    maps[:, chosen] = means[chosen, None, None].to(maps.dtype)


def _set_copy(
    reading: Reading, units: Units, means: Float[Tensor, " unit"], output: Tensor
) -> Tensor:
    # A copy, for the network may read what it put out by another way as well.
    output = output.clone()
    _set_units(to_maps(output, reading), units, means)
    return output


def scores_of(output: Any, n_images: int) -> Float[Tensor, "image output"]:
    """Return a network's scores; of one that has further classifiers the last's.

    Raises
    ------
    ModelError
        If it puts out anything but a number for each image and class.
    """
    scores = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != n_images:
        msg = (
            f"ablate: the network puts out {describe(output)}, expected scores of (image, class); "
            "only a classifier can lose classes"
        )
        raise ModelError(msg)
    return scores.float()


def _whole_scores(model: nn.Module, x: Tensor) -> Float[Tensor, "image output"]:
    with torch.inference_mode(), arithmetic("float32"):
        return scores_of(model(x), len(x))


def _to_network(pictures: Tensor, given: Input, device: str) -> Tensor:
    return to_input(pictures.to(device), given)


def _alike(found: Tensor, expected: Tensor, bound: float) -> bool:
    largest = float(expected.abs().max())
    return found.shape == expected.shape and float((found - expected).abs().max()) <= bound * max(
        largest, 1e-12
    )
