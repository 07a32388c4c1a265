"""The table of methods: loss = γ·cross-entropy + α·T² KL + β·term; and the controls of SKD.

Weights, features and first stages of all but SKD are those of the public code of Tian et al.,
*Contrastive Representation Distillation*, ICLR 2020, with which published tables were made; SKD's
are those of Han et al., arXiv 2211.07647. The terms stand in ``method.TERMS``: nothing here imports
torch, so that the Snakefile can read the table.
"""

from collections.abc import Collection
from typing import Final, Literal, NamedTuple


class Recipe(NamedTuple):
    """A row of the table: weights, what guides the student, and the first stage, if any."""

    title: str
    # What the student learns from beside the labels: a teacher that is trained and looks on, or
    # that was looked at before; the prior that is left of a teacher; or nothing.
    guide: Literal["none", "teacher", "prior"]
    cross_entropy: float = 1.0  # γ
    divergence: float = 0.0  # α, of T² KL at T = 4
    beta: float = 0.0  # β, of the term
    epochs_before: int = 0
    student_before: bool = False  # whether the first stage trains the student

    @property
    def teacher_beside(self) -> bool:
        """Whether the main stage needs the teacher's outputs."""
        return self.guide == "teacher" and (self.divergence > 0 or self.beta > 0)


METHODS: Final = {
    "plain": Recipe("plain student", "none"),
    "kd": Recipe("KD", "teacher", cross_entropy=0.1, divergence=0.9),
    "fitnet": Recipe("FitNet", "teacher", beta=100),
    "at": Recipe("AT", "teacher", beta=1000),
    "sp": Recipe("SP", "teacher", beta=3000),
    "cc": Recipe("CC", "teacher", beta=0.02),
    "vid": Recipe("VID", "teacher", beta=1),
    "rkd": Recipe("RKD", "teacher", beta=1),
    "pkt": Recipe("PKT", "teacher", beta=30_000),
    "ab": Recipe("AB", "teacher", epochs_before=30, student_before=True),
    "ft": Recipe("FT", "teacher", beta=200, epochs_before=30),
    "fsp": Recipe("FSP", "teacher", epochs_before=30, student_before=True),
    "nst": Recipe("NST", "teacher", beta=50),
    "crd": Recipe("CRD", "teacher", beta=0.8),
    "skd": Recipe("SKD", "prior", beta=0.5),
}

# What stands in place of S, the units' vectors, and its name for people; ``prior.prior_targets``
# makes them. What weighs more as a control comes first.
CONTROLS: Final = {
    "uniform": "uniform p",
    "shuffled": "d(S, S) shuffled",
    "random": "random S",
    "similarity": "P instead of S",
}


def known_control(name: str, known: Collection[str] = tuple(CONTROLS)) -> str:
    """Return the name of a control.

    Raises
    ------
    ValueError
        If it is none of those that are known.
    """
    if name == "permuted":
        msg = (
            "it is SKD itself, by symmetry: a fresh student's units have no names; ask for "
            "'shuffled', which keeps the cosines of S and no structure, or for more seeds of SKD"
        )
        raise ValueError(msg)
    if name not in known:
        msg = f"expected one of {', '.join(known)}"
        raise ValueError(msg)
    return name


def list_methods(guide: str) -> list[str]:
    """Return the names of all methods with a guide.

    Examples
    --------
    >>> list_methods("prior")
    ['skd']
    """
    return [name for name, recipe in METHODS.items() if recipe.guide == guide]
