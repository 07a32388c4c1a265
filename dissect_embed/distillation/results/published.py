"""Published accuracies on the test images of CIFAR-100, percent; never used in place of ours.

[HAN22]
    Han, Wang, Böhm, Shao, arXiv 2211.07647, Table 1: teachers, plain students and SKD.
[TIAN20]
    Tian, Krishnan, Isola, *Contrastive Representation Distillation*, ICLR 2020, Table 1: the other
    methods, as the README of github.com/HobbitLong/RepDistiller (commit b84f547) has them.
"""

from typing import Final

from dissect_embed.distillation.methods.registry import METHODS

HAN22, TIAN20 = "HAN22", "TIAN20"

_PAIRS: Final = (
    ("wrn-40-2", "wrn-16-2"),
    ("resnet56", "resnet20"),
    ("resnet110", "resnet20"),
    ("resnet110", "resnet32"),
    ("resnet32x4", "resnet8x4"),
    ("vgg13", "vgg8"),
)
_ACCURACIES: Final = {
    "teacher": (75.61, 72.34, 74.31, 74.31, 79.42, 74.64),
    "plain": (73.26, 69.06, 69.06, 71.14, 72.50, 70.36),
    "kd": (74.92, 70.66, 70.67, 73.08, 73.33, 72.98),
    "fitnet": (73.58, 69.21, 68.99, 71.06, 73.50, 71.02),
    "at": (74.08, 70.55, 70.22, 72.31, 73.44, 71.43),
    "sp": (73.83, 69.67, 70.04, 72.69, 72.94, 72.68),
    "cc": (73.56, 69.63, 69.48, 71.48, 72.97, 70.71),
    "vid": (74.11, 70.38, 70.16, 72.61, 73.09, 71.23),
    "rkd": (73.35, 69.61, 69.25, 71.82, 71.90, 71.48),
    "pkt": (74.54, 70.34, 70.25, 72.61, 73.64, 72.88),
    "ab": (72.50, 69.47, 69.53, 70.98, 73.17, 70.94),
    "ft": (73.25, 69.84, 70.22, 72.37, 72.86, 70.58),
    "fsp": (72.91, 69.95, 70.11, 71.89, 72.62, 70.23),
    "nst": (73.68, 69.60, 69.53, 71.96, 73.30, 71.53),
    "crd": (75.48, 71.16, 71.46, 73.48, 75.51, 73.94),
    "skd": (73.79, 70.23, 70.27, 71.86, 72.91, 71.09),
}


def published_accuracy(teacher: str, student: str, method: str) -> tuple[float, str] | None:
    """Return a published accuracy in percent and its source, or None where there is none.

    Examples
    --------
    >>> published_accuracy("resnet56", "resnet20", "skd")
    (70.23, 'HAN22')
    """
    if (teacher, student) not in _PAIRS or method not in _ACCURACIES:
        return None
    value = _ACCURACIES[method][_PAIRS.index((teacher, student))]
    return value, HAN22 if method in ("teacher", "plain", "skd") else TIAN20


def published_beta(method: str, teacher: str, student: str) -> float | None:
    """Return the β that is published of a method; None where it has none.

    [HAN22] states one of SKD for each pair; those of the other methods hold for all pairs.

    Examples
    --------
    >>> published_beta("skd", "vgg13", "vgg8"), published_beta("skd", "resnet56", "resnet20")
    (0.05, 0.5)
    """
    if METHODS[method].guide == "prior" and (teacher, student) == ("vgg13", "vgg8"):
        return 0.05
    return float(METHODS[method].beta) or None
