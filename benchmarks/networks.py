"""Networks of many kinds: what is stored of them beside what a plain hook sees.

    python benchmarks/networks.py DATASET [NETWORK …] [--images 4] [--all-layers] [--json FILE]

Every network is made twice, with random weights and batch normalisations that matter. One goes the
way of the stage ``activations`` (``prepare_network``, ``forward_maps``, float32, two passes side by
side); of the other, left as it was made, a hook of torch's keeps what each layer puts out, image by
image, from pictures that torchvision's own transforms bring to the network's input. A line a
network: the largest difference of any value of any layer, in parts of the layer's largest value;
beside it that of the plain hook's float32 from float64, for some networks with random weights are
chaotic, so that rounding grows from block to block.

The layers are the ends of the stages (``auto``); with ``--all-layers``, of networks of at most 12
million weights, all that can be read as well. Without names: those of ``tests/networks/odd.py``,
and a list of timm's and torchvision's, the small ones first.
"""

import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from PIL import Image
from recording import Record, describe_device
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from dissect_embed.datasets.broden import Broden, load_broden
from dissect_embed.mathematics.running import Maps
from dissect_embed.networks.forward import forward_maps
from dissect_embed.networks.inputs import Input, find_input
from dissect_embed.networks.layers import list_layers
from dissect_embed.networks.maps import Reading
from dissect_embed.networks.preparation import Network, prepare_network
from dissect_embed.networks.settings import ModelInput
from dissect_embed.networks.sources import construct

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/networks"))
from odd import ODD, Digits

TORCHVISION = (
    "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small",
    "mobilenet_v3_large", "efficientnet_b0", "regnet_x_400mf", "regnet_y_400mf", "googlenet",
    "densenet121", "resnet18", "inception_v3", "resnet50", "resnext50_32x4d", "efficientnet_v2_s",
    "convnext_tiny", "swin_t", "swin_v2_t", "maxvit_t", "alexnet", "wide_resnet50_2", "vit_b_16",
    "vgg11", "vgg16",
)  # fmt: skip
TIMM = (
    "levit_128s", "mobilevit_xxs", "edgenext_xx_small", "regnetx_002", "ghostnet_100",
    "tf_efficientnet_lite0", "pvt_v2_b0", "fastvit_t8", "xcit_nano_12_p16_224", "rexnet_100",
    "pit_ti_224", "coat_lite_tiny", "deit_tiny_patch16_224", "eva02_tiny_patch14_224",
    "convit_tiny", "repvit_m0_9", "convnextv2_atto", "visformer_tiny", "gcvit_xxtiny",
    "tiny_vit_5m_224", "crossvit_tiny_240", "efficientformer_l1", "poolformer_s12", "resnet18d",
    "resmlp_12_224", "hrnet_w18_small", "repvgg_a0", "cait_xxs24_224", "mixer_s32_224",
    "maxvit_nano_rw_256", "gmlp_s16_224", "dla34", "vit_small_patch16_dinov3",
    "tnt_s_patch16_224", "res2net50_26w_4s", "nest_tiny", "cspresnet50", "twins_svt_small",
    "inception_next_tiny", "mvitv2_tiny", "vovnet39a", "resnetv2_50x1_bit", "coatnet_0_rw_224",
    "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "volo_d1_224", "hiera_tiny_224",
    "davit_tiny", "focalnet_tiny_srf", "sequencer2d_s", "nfnet_l0", "convmixer_768_32",
    "beit_base_patch16_224", "vit_small_patch14_reg4_dinov2",
)  # fmt: skip
# Networks with more weights take their stage ends alone.
SMALL = 12e6
COLUMNS = (
    "network", "input", "layers", "units", "axes", "largest difference", "float32 itself", "runs",
    "images a second",
)  # fmt: skip
NOTES = {"runs as it stands": "as it stands", "one pass at a time": "one at a time"}


class Autoencoder(nn.Module):
    """A vision transformer, and over a block's tokens a sparse autoencoder of 4,096 units."""

    def __init__(self) -> None:
        super().__init__()
        self.network: Any = construct("timm:deit_tiny_patch16_224")
        self.encoder = nn.Sequential(nn.Linear(192, 4096), nn.ReLU())
        self.decoder = nn.Linear(4096, 192)

    def forward(self, images: Tensor) -> Any:
        """Return the tokens, put together again."""
        tokens = self.network.forward_features(images)
        return self.decoder(self.encoder(tokens))


class Case(NamedTuple):
    """A network to try."""

    make: Callable[[], nn.Module]
    layers: Sequence[str]
    name: str  # that its input is found by
    given: ModelInput


def find_case(name: str) -> Case:
    if name == "odd:autoencoder over deit_tiny":
        given = ModelInput(mean=(0.5,) * 3, std=(0.5,) * 3, size=224)
        return Case(Autoencoder, ["encoder"], "", given)
    if name == "odd:digits":
        given = ModelInput(mean=(0.13,), std=(0.31,), size=28)
        return Case(Digits, ["auto", "features.0", "classifier"], "", given)
    if name.startswith("odd:"):
        make, layers, _ = ODD[name.removeprefix("odd:")]
        given = ModelInput(mean=(0.5,) * 3, std=(0.25,) * 3, size=64)
        return Case(make, layers, "", given)
    return Case(lambda: construct(name), ["auto"], name, ModelInput())


def make_lively(case: Case, pictures: Tensor | None = None) -> nn.Module:
    """Return the network, the same each time, with scales and gates that matter.

    With pictures, batch normalisations have the statistics of these, as after training; with others
    values grow from block to block until float32 itself is off in the third digit.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = case.make().eval()
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.3, 0.3)
            norm.momentum = None  # the mean of all batches
        for key, value in model.named_parameters():
            # Scales of residual branches, which start at next to nothing.
            if key.rpartition(".")[2] in ("gamma", "gamma1", "gamma2", "layer_scale", "gain"):
                nn.init.uniform_(value, 0.5, 1)
    if pictures is not None and norms:
        for norm in norms:
            norm.train()
        with torch.no_grad():
            model(pictures.to(next(model.parameters()).dtype))
    return model.eval()


def look(dataset: Broden, given: Input) -> Tensor:
    """Return the pictures as the network was trained to see them, by torchvision's transforms."""
    steps: list[nn.Module] = [
        v2.Resize(given.size, InterpolationMode[given.interpolation.upper()], antialias=True)
    ]
    if given.channels == 1:
        steps += [v2.ToPILImage(), v2.Lambda(lambda image: image.convert("L")), v2.PILToTensor()]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(given.mean, given.std)]
    see = v2.Compose(steps)
    pictures = []
    for row in dataset.rows:
        with Image.open(dataset.root / "images" / row.image) as file:
            pixels = np.array(file.convert("RGB"))
        pictures.append(see(torch.from_numpy(pixels).permute(2, 0, 1)))
    return torch.stack(pictures)


def part_of(output: Any, layer: str) -> Tensor:
    """Return the part of an output that a layer's name means, by Python's own brackets."""
    brackets = layer[layer.index("[") :] if "[" in layer else ""
    found: Tensor = eval(f"output{brackets}", {"output": output})
    return found


def see_plainly(
    model: nn.Module, pictures: Tensor, readings: Mapping[str, Reading]
) -> dict[str, Tensor]:
    """Return what layers put out, by a hook on each module that is asked for, image by image."""
    found: dict[str, list[Tensor]] = {layer: [] for layer in readings}
    calls: dict[str, list[Tensor]] = {layer: [] for layer in readings}
    for layer, outputs in calls.items():

        def keep(
            _module: nn.Module, _given: Any, output: Any, layer: str = layer,
            outputs: list[Tensor] = outputs,
        ) -> None:  # fmt: skip
            outputs.append(part_of(output, layer).clone())

        path = layer.partition("[")[0].partition("#")[0]
        model.get_submodule(path).register_forward_hook(keep)
    for picture in pictures:
        for outputs in calls.values():
            outputs.clear()
        with torch.no_grad():
            model(picture[None])
        for layer, outputs in calls.items():
            number = layer.partition("#")[2].partition("[")[0]
            found[layer].append(outputs[int(number or 0) - 1])
    return {layer: arrange(outputs, readings[layer]) for layer, outputs in found.items()}


def arrange(outputs: Sequence[Tensor], reading: Reading) -> Tensor:
    """Return outputs, an image each, as (image, unit, y, x): of tokens row by row."""
    axes = reading.axes.split()
    images = []
    for output in outputs:
        order = [name for name in ("image", "unit", "y", "x", "token") if name in axes]
        maps = output.movedim([axes.index(name) for name in order], list(range(len(order))))[0]
        h, w = reading.grid
        if "token" in axes:
            starts = range(reading.prefix, reading.prefix + h * w, w)
            maps = torch.stack([maps[:, start : start + w] for start in starts], dim=1)
        images.append(maps.reshape(reading.units, h, w))
    return torch.stack(images)


def units_last(model: nn.Module, readings: Mapping[str, Reading]) -> list[str]:
    """Return layers whose units are read from another axis than their module has them on."""
    wrong = []
    for layer, reading in readings.items():
        module = model.get_submodule(layer.partition("[")[0].partition("#")[0])
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm):
            known = getattr(module, "out_channels", None) or getattr(module, "num_features", None)
            if reading.axes == "image y x unit" or known not in (None, reading.units):
                wrong.append(layer)
        elif type(module) is nn.Linear and reading.units != module.out_features:
            wrong.append(layer)
    return wrong


class Notes(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.messages.append(record.getMessage())


def compare(
    case: Case, layers: Sequence[str], data: Broden, given: Input
) -> tuple[Network, dict[str, tuple[float, float]], list[str]]:
    """Return the prepared network, how far each layer and float32 itself lie off, and the notes."""
    notes = Notes()
    logging.getLogger("dissect_embed").addHandler(notes)
    logging.getLogger("dissect_embed").setLevel(logging.INFO)
    try:
        pictures = look(data, given)
        network = prepare_network(
            make_lively(case, pictures), layers, given, batch_size=1, device="cpu"
        )
    finally:
        logging.getLogger("dissect_embed").removeHandler(notes)
    kinds = dict.fromkeys(network.readings, "float32")

    def keep(start: int, maps: dict[str, Maps]) -> dict[str, Tensor]:
        return {layer: m.maps for layer, m in maps.items()}

    span = range(len(data.rows))
    batches = list(forward_maps(network, data, span, kinds, keep, n_threads=2))
    plain = make_lively(case, pictures)
    expected = see_plainly(plain.float(), pictures, network.readings)
    exact = see_plainly(make_lively(case, pictures).double(), pictures.double(), network.readings)
    off = {}
    for layer, right in expected.items():
        stored = torch.cat([batch[layer] for batch in batches])
        if stored.shape != right.shape:
            message = f"{layer}: {tuple(stored.shape)}, not {tuple(right.shape)}"
            raise AssertionError(message)
        off[layer] = share(stored, right), share(right, exact[layer])
    if wrong := units_last(plain, network.readings):
        notes.messages.append(f"units on another axis: {', '.join(wrong)}")
    return network, off, notes.messages


def share(maps: Tensor, right: Tensor) -> float:
    """Return the largest difference, in parts of the largest value."""
    error, largest = (maps.double() - right.double()).abs().max(), right.double().abs().max()
    return float(error / largest) if largest else float(error)


def try_one(name: str, data: Broden, *, all_layers: bool) -> dict[str, Any]:
    case = find_case(name)
    model = make_lively(case)
    known = "stated" if case.name else "given"
    given = find_input(model, case.given, None, name=case.name, weights=known)
    network, off, messages = compare(case, case.layers, data, given)
    start = time.perf_counter()
    kinds = dict.fromkeys(network.readings, "float32")
    span = range(len(data.rows))
    list(forward_maps(network, data, span, kinds, lambda *_: None, n_threads=1))
    speed = len(data.rows) / (time.perf_counter() - start)
    readings = dict(network.readings)
    if all_layers and case.name and sum(p.numel() for p in model.parameters()) <= SMALL:
        rows = [row.layer for row in list_layers(model, given) if row.layer not in readings]
        if rows:
            _, others, more = compare(case, rows, data, given)
            off, messages = off | others, [*messages, *more]
    return {
        "input": f"{given.channels} × {given.size[0]} × {given.size[1]}",
        "layers": len(readings), "others": len(off) - len(readings),
        "units": [reading.units for reading in readings.values()],
        "axes": sorted({describe_axes(reading) for reading in readings.values()}),
        "off": off, "difference": max(a for a, _ in off.values()),
        "float32": max(b for _, b in off.values()), "messages": messages,
        "images_a_second": speed,
    }  # fmt: skip


def describe_axes(reading: Reading) -> str:
    before = f" after {reading.prefix}" if reading.prefix else ""
    return f"{reading.axes}{before}"


def line(name: str, row: Mapping[str, Any]) -> str:
    if "failed" in row:
        return f"| {name} | | | | | | | {row['failed']} | |"
    notes = [short for long, short in NOTES.items() if long in " ".join(row["messages"])]
    notes += [note for note in row["messages"] if note.startswith("units on")]
    others = f" + {row['others']}" if row["others"] else ""
    units = row["units"]
    span = f"{min(units)} to {max(units)}" if len(set(units)) > 1 else str(units[0])
    return (
        f"| {name} | {row['input']} | {row['layers']}{others} | {span} | {'; '.join(row['axes'])} "
        f"| {row['difference']:.1e} | {row['float32']:.1e} | {', '.join(notes) or 'in full'} | "
        f"{row['images_a_second']:.3g} |"
    )


def main(
    dataset: Path,
    networks: Annotated[list[str] | None, typer.Argument()] = None,
    images: int = 4,
    *,
    all_layers: bool = False,
    json: Path | None = None,
) -> None:
    torch.set_num_threads(1)
    record = Record(json, describe_device("cpu"))
    data = load_broden(dataset)
    data = dataclasses.replace(data, rows=data.rows[:images])
    odd = [*(f"odd:{name}" for name in ODD), "odd:digits", "odd:autoencoder over deit_tiny"]
    names = networks or [*odd, *(f"timm:{name}" for name in TIMM), *TORCHVISION]
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    for name in names:
        if name not in record:
            try:
                record.add(name, try_one(name, data, all_layers=all_layers))
            except Exception as error:  # to be seen in the table
                record.add(name, {"failed": f"{type(error).__name__}: {error}"})
        print(line(name, record.rows[name]), flush=True)
    record.finish()


if __name__ == "__main__":
    typer.run(main)
