"""What a network is given: from decoded images to its input, as it was trained to see them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torchvision
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchvision.transforms import v2

from dissect_embed.errors import ModelError
from dissect_embed.networks.copies import copy_network
from dissect_embed.networks.settings import ModelInput

EXAMPLE = "input: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}"
# Gray as Pillow has it (ITU-R 601-2): red, green and blue in 65,536ths.
LUMA = (19595, 38470, 7471)


class UnknownColoursError(ModelError):
    """A network does not say which mean and standard deviation it wants, nor does the user."""


class Input(NamedTuple):
    """The input of a network, every setting decided."""

    size: tuple[int, int]  # height, width
    mean: tuple[float, ...]  # of each channel, on the scale of ``range``
    std: tuple[float, ...]
    range: tuple[float, float]  # what black and white become
    channels: int  # 3: red, green, blue; 1: gray
    interpolation: str  # how images are resized

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> "Input":
        """Return the input that was recorded."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()
        }
        return cls(**values)

    def as_settings(self) -> dict[str, Any]:
        """Return what is recorded, which ``model.input`` of a config takes as well."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in self._asdict().items()}


def to_input(
    images: UInt8[Tensor, "image y x 3"], given: Input
) -> Float[Tensor, "image c height width"]:
    """Turn decoded images into a network's input.

    They are resized whole, to (height, width), so that every position stays where its labels are;
    then gray, if the network has one channel; then scaled, less the mean, over the standard
    deviation. The result lies in memory as channels last, which convolutions on it want.
    """
    if tuple(images.shape[1:3]) != given.size:
        # "Nearest" as Pillow has it, by the middles of pixels; torch's own is half a pixel off.
        name = given.interpolation.upper().replace("NEAREST", "NEAREST_EXACT")
        mode = torchvision.transforms.InterpolationMode[name]
        resized = v2.functional.resize(images.permute(0, 3, 1, 2), list(given.size), mode)
        images = resized.permute(0, 2, 3, 1)
    if given.channels == 1:
        luma = torch.tensor(LUMA, device=images.device, dtype=torch.int32)
        images = ((images.int() * luma).sum(dim=3, keepdim=True) + 32768) >> 16
    width, (low, high) = images.shape[2], given.range
    scale = 255 / (high - low)
    # A whole row of pixels at once: four times as fast as three numbers at a time.
    mean = ((torch.tensor(given.mean, device=images.device) - low) * scale).repeat(width)
    std = (torch.tensor(given.std, device=images.device) * scale).repeat(width)
    rows = images.float().flatten(2).sub_(mean).div_(std)
    channels_last: Tensor = rows.unflatten(2, (width, given.channels)).permute(0, 3, 1, 2)
    return channels_last


def find_input(
    model: nn.Module,
    asked: ModelInput,
    image_size: tuple[int, int] | None,
    *,
    name: str = "",
    weights: str = "given",
) -> Input:
    """Return what a network is given: what is asked for, else what it states itself.

    Parameters
    ----------
    image_size
        Height and width of the data set's images, if there is one.
    name, weights
        As in ``model.name`` and ``model.weights``; ``given`` for a network from Python. Weights
        that know no images yet, or were trained on the data set's own, are given these in their own
        size, unless the network takes another alone.

    Raises
    ------
    ModelError
        If mean and standard deviation are neither stated nor named, or do not fit each other.
    """
    is_torchvision = weights != "given" and ":" not in name
    stated = _of_torchvision(name, weights) if is_torchvision else _stated(model)
    values = stated | {k: v for k, v in asked.model_dump().items() if v not in (None, ())}
    if image_size is None and "size" not in values:
        msg = (
            f"model.input: {name or type(model).__name__} does not say which size of images it "
            "takes; name it, as in input: {size: 224} (--input)"
        )
        raise ModelError(msg)
    if "mean" not in values or "std" not in values:
        msg = (
            f"model.input: {name or type(model).__name__} does not say which mean and standard "
            "deviation it was trained with; add them to the config, below 'model:', in the channels"
            f" red, green, blue, for example those of ImageNet: {EXAMPLE} (--input with commands, "
            "input= in Python)"
        )
        raise UnknownColoursError(msg)
    values["mean"], values["std"] = tuple(values["mean"]), tuple(values["std"])
    if len(values["mean"]) != len(values["std"]) or min(values["std"]) <= 0:
        msg = (
            f"model.input: mean {list(values['mean'])} and std {list(values['std'])}; expected as "
            "many numbers in both, and standard deviations above 0"
        )
        raise ModelError(msg)
    low, high = values.get("range", (0.0, 1.0))
    if not all(low <= value <= high for value in values["mean"]):
        msg = (
            f"model.input: mean {list(values['mean'])} lies outside of range {low:g} to {high:g}, "
            "what black and white become; name the range it is of, as in range: [0, 255]"
        )
        raise ModelError(msg)
    channels = values.get("channels", len(values["mean"]))
    if channels != len(values["mean"]):
        msg = (
            f"model.input: {channels} channels, but {len(values['mean'])} numbers in mean and std; "
            "name as many"
        )
        raise ModelError(msg)
    size: Any = values.get("size") or image_size
    found = Input(
        (size[0], size[1]), values["mean"], values["std"],
        tuple(values.get("range", (0.0, 1.0))), channels, values.get("interpolation", "bilinear"),
    )  # fmt: skip
    if image_size and weights in ("random", "trained") and ":" not in name.removeprefix("timm:"):
        own = found._replace(size=image_size)
        if asked.size is None and (found.size == image_size or takes(model, own)):
            return own
    return found


def takes(model: nn.Module, given: Input) -> bool:
    """Say whether a network runs on images of such a size and number of channels."""
    try:
        # Of a copy: some set themselves up by the first images that they see.
        tried = copy_network(model).eval()
        with torch.no_grad():
            tried(made_up(given, 1, next(model.parameters(), None)))
    except Exception:  # whatever a network's own code raises at a size that it does not take
        return False
    return True


def made_up(given: Input, n: int, like: Tensor | None = None) -> Tensor:
    """Return the input that ``n`` images of noise make, on a tensor's device, channels first."""
    noise = torch.randint(
        0, 256, (n, *given.size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(n)
    )
    device = like.device if like is not None else None
    return to_input(noise.to(device), given).contiguous()


def _of_torchvision(name: str, weights: str) -> dict[str, Any]:
    """Return what torchvision's weights want: those named, else the network's newest."""
    known = torchvision.models.get_model_weights(name)
    chosen = known[weights] if weights in known.__members__ else known.DEFAULT
    transforms: Any = chosen.transforms()
    (size,) = transforms.crop_size
    return {
        "size": (size, size),
        "mean": tuple(transforms.mean),
        "std": tuple(transforms.std),
        "interpolation": transforms.interpolation.value,
    }


def _stated(model: nn.Module) -> dict[str, Any]:
    """Return what a network states of its input by attributes, as several libraries have them.

    timm: ``pretrained_cfg``. pretrained-models: ``mean``, ``std``, ``input_size``, ``input_range``.
    open_clip: ``image_mean``, ``image_std``, ``image_size``.
    """
    inner = model.module if isinstance(model, nn.DataParallel) else model
    config = getattr(inner, "pretrained_cfg", None) or getattr(inner, "default_cfg", None)
    if isinstance(config, Mapping):
        return _keep_known(config.get, _TIMM)
    for names in (_PRETRAINED_MODELS, _OPEN_CLIP):
        if found := _keep_known(lambda key: getattr(inner, key, None), names):
            return found
    return {}


_TIMM = {
    "mean": "mean", "std": "std", "size": "input_size", "interpolation": "interpolation",
}  # fmt: skip
_PRETRAINED_MODELS = {
    "mean": "mean", "std": "std", "size": "input_size", "range": "input_range",
}  # fmt: skip
_OPEN_CLIP = {"mean": "image_mean", "std": "image_std", "size": "image_size"}


def _keep_known(get: Callable[[str], Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return what is stated under some names, where mean and std are and are numbers."""
    values = {key: get(name) for key, name in names.items()}
    if not (_are_numbers(values["mean"]) and _are_numbers(values["std"])):
        return {}
    size = values.pop("size")
    if isinstance(size, int) and not isinstance(size, bool):
        values["size"] = (size, size)
    elif _are_numbers(size):
        values["size"] = tuple(int(n) for n in size[-2:])  # (channel, y, x), or (y, x)
    # Pillow's names; whatever else there is comes near one of these.
    if values.get("interpolation") not in ("bilinear", "bicubic", "nearest"):
        values.pop("interpolation", None)
    if not _are_numbers(values.get("range")):
        values.pop("range", None)
    return values


def _are_numbers(values: Any) -> bool:
    return (
        isinstance(values, tuple | list)
        and bool(values)
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    )
