"""One picture of mini-Broden: what it shows, its pixels and its labels.

Broden joins data sets that label different things, so that no image carries every category. The
four sources here do the same: `outdoor` and `indoor` label objects, parts, colours and scenes,
`indoor` materials too, `texture` and `material` little but what their name says.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from dissect_embed.datasets.mini.canvas import LAYERS, Canvas
from dissect_embed.datasets.mini.closeups import draw_material, draw_texture
from dissect_embed.datasets.mini.colors import name_colors
from dissect_embed.datasets.mini.concepts import CONCEPTS, NUMBERS
from dissect_embed.datasets.mini.indoors import ROOMS, draw_indoors
from dissect_embed.datasets.mini.outdoors import PLACES, draw_outdoors

LabelMap = UInt8[np.ndarray, "y x"]

# Images of 1,000 that come from each source; the rest are materials.
_N_OUTDOOR, _N_INDOOR, _N_TEXTURE = 450, 264, 176


class Picture(NamedTuple):
    """An image with its labels: for each category maps, or numbers for the whole image."""

    source: str
    split: str
    rgb: UInt8[np.ndarray, "y2 x2 3"]
    labels: dict[str, list[int | LabelMap]]


def render_picture(index: int, seed: int = 0, size: int = 224) -> Picture:
    """Render the picture with a given index; it depends on nothing but the arguments.

    Parameters
    ----------
    index
        Which picture; any thousand in a row have the same mixture of sources.
    seed
        The data set's seed.
    size
        Height and width in pixels, an even number. Labels have half of it.
    """
    rng = np.random.default_rng([seed, index])
    split = "val" if rng.random() < 0.2 else "train"
    canvas = Canvas(size)
    labels: dict[str, list[int | LabelMap]] = {category: [] for category in CONCEPTS}
    # 617 has no factor in common with 1,000: neighbours in the index are far apart in the slots.
    slot = index * 617 % 1000
    if slot < _N_OUTDOOR:
        source, place = "outdoor", PLACES[slot % len(PLACES)]
        hour = draw_outdoors(canvas, rng, place)
        labels["scene"] = [NUMBERS[place], NUMBERS[hour]]
    elif slot < _N_OUTDOOR + _N_INDOOR:
        source, room = "indoor", ROOMS[slot % len(ROOMS)]
        draw_indoors(canvas, rng, room)
        labels["scene"] = [NUMBERS[room]]
    elif slot < _N_OUTDOOR + _N_INDOOR + _N_TEXTURE:
        source, names = "texture", CONCEPTS["texture"]
        labels["texture"] = [
            NUMBERS[n] for n in draw_texture(canvas, rng, names[slot % len(names)])
        ]
    else:
        source, names = "material", CONCEPTS["material"]
        draw_material(canvas, rng, names[slot % len(names)])

    grain = rng.integers(-4, 5, size=(size, size, 1), dtype=np.int8)
    rgb = np.clip(np.rint(canvas.rgb + grain), 0, 255).astype(np.uint8)
    for name, layer in zip(LAYERS, canvas.labels, strict=True):
        if layer.any():
            labels["part" if name == "detail" else name].append(layer)
    if rng.random() >= 0.04:  # a few images have no colours
        labels["color"] = [name_colors(rgb)]
    return Picture(source, split, rgb, labels)
