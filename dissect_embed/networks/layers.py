"""The layers of a network: which there are, what they put out, and where its stages end."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from dissect_embed.networks.axes import Reading, UnreadableError, known_grids
from dissect_embed.networks.hooks import find_layers
from dissect_embed.networks.inputs import Input
from dissect_embed.networks.readings import read_shapes, run_larger, run_or_explain, shape_or_text

# Blocks all of one grid, as transformers have them, are probed at this many depths.
DEPTHS = 4


class LayerRow(NamedTuple):
    """A layer that can be dissected."""

    layer: str
    reading: Reading
    calls: int  # in a pass
    is_stage_end: bool

    @property
    def megabytes(self) -> float:
        """What its maps of one image take in float16."""
        h, w = self.reading.grid
        return self.reading.units * h * w * 2 / 1e6


def resolve_layers(model: nn.Module, names: Sequence[str], given: Input) -> list[str]:
    """Return the layers that names, patterns and ``auto``, the ends of the stages, mean.

    Raises
    ------
    ModelError
        If there is no such module, a layer is named twice, or no stage is to be found.
    """
    if "auto" not in names or any(name == "auto" for name, _ in model.named_modules()):
        return find_layers(model, names)
    ends = [row.layer for row in list_layers(model, given) if row.is_stage_end]
    others = [name for name in names if name != "auto"]
    return find_layers(model, [*ends, *(name for name in others if name not in ends)])


def list_layers(model: nn.Module, given: Input) -> list[LayerRow]:
    """Return the layers that can be read, in the order in which they finish in a pass.

    Raises
    ------
    ModelError
        If the network does not run on such images.
    """
    calls: dict[str, int] = {}
    outputs: dict[str, Any] = {}

    def store(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for layer, part in _parts(name, output):
                calls[layer] = calls.get(layer, 0) + 1
                outputs.pop(layer, None)  # in the order of the last calls
                outputs[layer] = shape_or_text(part)

        return hook

    handles = [m.register_forward_hook(store(n)) for n, m in model.named_modules() if n]
    try:
        first = dict(run_or_explain(model, given, outputs))
        n_calls = dict(calls)
        second, sizes = run_larger(model, given, outputs)
    finally:
        for handle in handles:
            handle.remove()
    grids = known_grids(model)
    readings = {}
    for layer, shape in first.items():
        try:
            readings[layer] = read_shapes(shape, second.get(layer), given, sizes[layer], grids)
        except (UnreadableError, KeyError):
            continue
    ends = stage_ends(model, readings)
    return [LayerRow(k, r, n_calls[k], k in ends) for k, r in readings.items()]


def _parts(name: str, output: Any) -> list[tuple[str, Any]]:
    if isinstance(output, Mapping):
        inner = [(f'{name}["{key}"]', value) for key, value in output.items()]
    elif isinstance(output, tuple | list):
        inner = [(f"{name}[{n}]", value) for n, value in enumerate(output)]
    else:
        return [(name, output)]
    return [part for name, value in inner for part in _parts(name, value)]


def stage_ends(model: nn.Module, readings: Mapping[str, Reading]) -> list[str]:
    """Return the layers after which the grid changes: the ends of the stages.

    A network is a row of parts: its children, of which those that go through three grids and more
    are opened again. A stage is what follows on one another on one grid, with weights in it; its
    end is the last part. Where there are fewer than three stages but a row of blocks of one type,
    as in a transformer, the blocks at four depths stand for them.

    Parameters
    ----------
    readings
        Of all layers that can be read, in the order in which they finish in a pass.
    """
    modules = dict(model.named_modules())
    parts = set(_open(model, "", readings))
    stages: list[list[str]] = []
    for name in readings:
        if name not in parts or readings[name].grid == (1, 1):
            continue
        if stages and readings[stages[-1][-1]].grid == readings[name].grid:
            stages[-1].append(name)
        else:
            stages.append([name])
    ends = [
        stage[-1]
        for stage in stages
        if any(True for name in stage for _ in modules[name].parameters())
    ]
    blocks = _blocks(model, readings)
    if len(ends) < 3 and len(blocks) >= DEPTHS:
        return [blocks[-(-len(blocks) * n // DEPTHS) - 1] for n in range(1, DEPTHS + 1)]
    return ends


def _open(module: nn.Module, prefix: str, readings: Mapping[str, Reading]) -> list[str]:
    found = []
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        grids = {r.grid for k, r in readings.items() if k.startswith(f"{path}.")} - {(1, 1)}
        # What only holds others, as a ModuleList, puts nothing out itself.
        if len(grids) >= 3 or (path not in readings and grids):
            found += _open(child, f"{path}.", readings)
        else:
            found.append(path)
    return found


def _blocks(model: nn.Module, readings: Mapping[str, Reading]) -> list[str]:
    """Return the longest row of children of one type and grid."""
    rows = _rows_of_one_type(model)
    rows = [[name for name in row if name in readings] for row in rows]
    rows = [row for row in rows if len({readings[name].grid for name in row}) == 1]
    return max(rows, key=len, default=[])


def _rows_of_one_type(model: nn.Module) -> list[list[str]]:
    rows: dict[tuple[str, type[nn.Module]], list[str]] = {}
    for parent, module in model.named_modules():
        for name, child in module.named_children():
            if any(True for _ in child.parameters()):
                path = f"{parent}.{name}" if parent else name
                rows.setdefault((parent, type(child)), []).append(path)
    return list(rows.values())
