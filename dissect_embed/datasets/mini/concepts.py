"""The concepts of mini-Broden: which names there are, in which category, under which number.

As in Broden, numbers are global and start at 1, and a name has one number even when it belongs to
two categories: a `door` is an object in a room and a part of a house.
"""

from typing import Final

CONCEPTS: Final[dict[str, tuple[str, ...]]] = {
    "color": tuple(
        f"{name}-c"
        for name in "black blue brown grey green orange pink purple red white yellow".split()
    ),
    "object": tuple(
        "sky cloud sun moon mountain grass water sand road snow house skyscraper tree pine palm "
        "cactus car bus boat person dog sheep bird flower rock fence balloon umbrella "
        "wall floor rug bed sofa chair table lamp painting window door plant shelf television "
        "clock refrigerator".split()
    ),
    "part": tuple(
        "roof chimney window door wheel hub headlight crown trunk head leg arm eye wing sail hull "
        "basket backrest cushion pillow blanket shade pot leaf screen drawer handle book "
        "frame".split()
    ),
    "material": tuple(
        "wood brick metal grass water sand stone fabric tile marble leather glass plaster "
        "foliage carpet".split()
    ),
    "scene": tuple(
        f"{name}-s"
        for name in "beach street meadow forest mountain desert city park snowfield "
        "bedroom living_room kitchen office day dusk night".split()
    ),
    "texture": tuple(
        "striped dotted chequered zigzagged grid woven honeycombed scaly cracked bubbly "
        "crosshatched swirly spiralled marbled sprinkled waffled".split()
    ),
}

_NAMES = dict.fromkeys(name for names in CONCEPTS.values() for name in names)
NUMBERS: Final[dict[str, int]] = {name: number for number, name in enumerate(_NAMES, start=1)}
