"""What a network says of its grids of patches, where the number of tokens does not tell."""

from typing import NamedTuple

from torch import nn


class Grid(NamedTuple):
    """What a network says of its tokens: so many rows and columns, and so many before them."""

    rows: int
    columns: int
    prefix: int


def known_grids(model: nn.Module) -> list[Grid]:
    """Return what a network says of its tokens, as those of timm, torchvision and others do."""
    grids, prefixes = [], []
    for module in model.modules():
        grid = getattr(module, "grid_size", None)
        image, patch = getattr(module, "image_size", None), getattr(module, "patch_size", None)
        if not _is_pair(grid) and image and patch:
            (h, w), (ph, pw) = _pair(image), _pair(patch)
            grid = (h // ph, w // pw) if ph and pw else None
        if _is_pair(grid) and min(_pair(grid)) > 0:
            grids.append(_pair(grid))
        if isinstance(prefix := getattr(module, "num_prefix_tokens", None), int):
            prefixes.append(prefix)
    if not prefixes:
        tokens = {
            name.rpartition(".")[2]: value.shape[1]
            for name, value in model.named_parameters()
            if name.rpartition(".")[2]
            in ("class_token", "cls_token", "dist_token", "register_tokens", "reg_token")
            and value.ndim == 3
        }
        prefixes = [sum(tokens.values())]
    return [Grid(h, w, p) for h, w in dict.fromkeys(grids) for p in dict.fromkeys(prefixes)]


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_number, value))


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, tuple | list) and _is_pair(value):
        return int(value[0]), int(value[1])
    return (int(value), int(value)) if isinstance(value, int) else (0, 0)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
