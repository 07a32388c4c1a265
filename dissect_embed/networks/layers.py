"""The layers of a network: which there are, what they put out, and where its stages end."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from torch import nn

from dissect_embed.networks.hooks import find_layers
from dissect_embed.networks.inputs import Input
from dissect_embed.networks.maps import Reading
from dissect_embed.networks.readings import read_shapes_of_all

# Blocks all of one grid, as transformers have them, are probed at this many depths.
DEPTHS = 4
# The grid of each map that a module puts out, by the name of the layer.
Maps = dict[str, dict[str, tuple[int, int]]]


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
    readings, n_calls = read_shapes_of_all(model, given)
    ends = stage_ends(model, readings)
    return [LayerRow(k, r, n_calls[k], k in ends) for k, r in readings.items()]


def stage_ends(model: nn.Module, readings: Mapping[str, Reading]) -> list[str]:
    """Return the layers after which the grid changes: the ends of the stages.

    A network is a row of parts: its children, of which those that go through three grids and more
    are opened again, unless they are stages themselves. A stage is what follows on one another on
    one grid, with weights in it; its end is the last part. Where there are fewer than three stages
    but a row of blocks of one type, as in a transformer, the blocks at four depths stand for them;
    also where most of the weights are in such a row, as behind a stem of convolutions.

    Parameters
    ----------
    readings
        Of all layers that can be read, in the order in which they finish in a pass.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    maps: Maps = {}
    for name, reading in readings.items():
        if reading.grid != (1, 1):
            maps.setdefault(name.partition("[")[0], {})[name] = reading.grid
    rows = _rows_of_one_type(model)
    siblings = {name for row in rows if _are_stages(row, modules, maps) for name in row}
    # What puts out nothing itself, as a ModuleList, only holds others.
    holders = modules.keys() - {name.partition("[")[0] for name in readings}
    parts = set(_open(model, "", maps, siblings, holders))
    stages: list[list[str]] = []
    for name, reading in readings.items():
        module = name.partition("[")[0]
        is_passed_on = isinstance(modules[module], nn.Identity)
        if module not in parts or is_passed_on or reading.grid == (1, 1):
            continue
        if stages and readings[stages[-1][-1]].grid == reading.grid:
            stages[-1].append(name)
        else:
            stages.append([name])
    ends = [
        stage[-1]
        for stage in stages
        if any(_count_weights(modules[name.partition("[")[0]]) for name in stage)
    ]
    row = _longest_row(rows, maps)
    if len(row) >= DEPTHS and (len(ends) < 3 or _is_most(row, model, siblings)):
        chosen = [row[-(-len(row) * n // DEPTHS) - 1] for n in range(1, DEPTHS + 1)]
        return [next(iter(maps[name])) for name in chosen]
    return ends


def _are_stages(row: Sequence[str], modules: Mapping[str, nn.Module], maps: Maps) -> bool:
    """Say whether siblings of one type, that is more than a container, end on three grids."""
    if type(modules[row[0]]) in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
        return False
    return len({list(maps[name].values())[-1] for name in row if name in maps}) >= 3


def _open(
    module: nn.Module, prefix: str, maps: Maps, siblings: Collection[str], holders: Collection[str]
) -> list[str]:
    found = []
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        own = set(maps.get(path, {}).values())
        inside = {g for k in maps if k.startswith(f"{path}.") for g in maps[k].values()}
        # What puts out all of its grids, as parallel branches do, says itself what its ends are.
        is_row = len(inside) >= 3 and path not in siblings and not inside <= own
        if is_row or (inside and path in holders):
            found += _open(child, f"{path}.", maps, siblings, holders)
        else:
            found.append(path)
    return found


def _longest_row(rows: Sequence[Sequence[str]], maps: Maps) -> list[str]:
    """Return the longest row of children of one type and grid."""
    read = [[name for name in row if name in maps] for row in rows]
    of_one_grid = [row for row in read if len({g for k in row for g in maps[k].values()}) == 1]
    return max(of_one_grid, key=len, default=[])


def _is_most(row: Sequence[str], model: nn.Module, siblings: Collection[str]) -> bool:
    """Say whether a row holds most of a network's weights, and its type stands nowhere else.

    Blocks within stages are none of them: a stage may have very many.
    """
    modules = [model.get_submodule(name) for name in row]
    n_weights = sum(map(_count_weights, modules))
    n_alike = sum(type(module) is type(modules[0]) for module in model.modules())
    return (
        2 * n_weights > _count_weights(model)
        and n_alike == len(row)
        and not any(row[0].startswith(f"{stage}.") for stage in siblings)
    )


def _rows_of_one_type(model: nn.Module) -> list[list[str]]:
    rows: dict[tuple[str, type[nn.Module]], list[str]] = {}
    for parent, module in model.named_modules():
        for name, child in module.named_children():
            if any(True for _ in child.parameters()):
                path = f"{parent}.{name}" if parent else name
                rows.setdefault((parent, type(child)), []).append(path)
    return list(rows.values())


def _count_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
