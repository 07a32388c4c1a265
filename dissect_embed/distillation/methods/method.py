"""The methods that SKD is compared with: loss = γ·cross-entropy + α·T² KL + β·term.

Weights, features and first stages are those of the public code of Tian et al., *Contrastive
Representation Distillation*, ICLR 2020, with which published tables were made.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dissect_embed.distillation.methods.contrastive import Contrast
from dissect_embed.distillation.methods.losses import (
    attention_loss,
    neighbour_loss,
    relation_loss,
    selectivity_loss,
    similarity_loss,
    softened_divergence,
)
from dissect_embed.distillation.methods.terms import (
    Boundaries,
    Correlation,
    Factors,
    Flow,
    Hint,
    OnLast,
    OnPooled,
    OnStages,
    Term,
    Variational,
)
from dissect_embed.distillation.outputs import Outputs
from dissect_embed.errors import ModelError


class Recipe(NamedTuple):
    """A row of the table: weights, the term, and the first stage, if any."""

    title: str
    cross_entropy: float = 1.0  # γ
    divergence: float = 0.0  # α, of T² KL at T = 4
    weight: float = 0.0  # β
    # Takes example outputs of student and teacher, the training set's labels and the seed.
    term: Callable[[Outputs, Outputs, Tensor, int], Term] | None = None
    epochs_before: int = 0
    student_before: bool = False  # whether the first stage trains the student

    @property
    def needs_teacher(self) -> bool:
        """Whether there is a teacher at all."""
        return self.teacher_beside or self.epochs_before > 0

    @property
    def teacher_beside(self) -> bool:
        """Whether the main stage needs the teacher's outputs."""
        return self.divergence > 0 or self.weight > 0


METHODS = {
    "plain": Recipe("plain student"),
    "kd": Recipe("KD", cross_entropy=0.1, divergence=0.9),
    "fitnet": Recipe("FitNet", weight=100, term=lambda s, t, *_: Hint(s, t)),
    "at": Recipe("AT", weight=1000, term=lambda *_: OnStages(attention_loss)),
    "sp": Recipe("SP", weight=3000, term=lambda *_: OnLast(similarity_loss)),
    "cc": Recipe("CC", weight=0.02, term=lambda s, t, *_: Correlation(s, t)),
    "vid": Recipe("VID", weight=1, term=lambda s, t, *_: Variational(s, t)),
    "rkd": Recipe("RKD", weight=1, term=lambda *_: OnPooled(relation_loss)),
    "pkt": Recipe("PKT", weight=30_000, term=lambda *_: OnPooled(neighbour_loss)),
    "ab": Recipe(
        "AB", term=lambda s, t, *_: Boundaries(s, t), epochs_before=30, student_before=True
    ),
    "ft": Recipe("FT", weight=200, term=lambda s, t, *_: Factors(s, t), epochs_before=30),
    "fsp": Recipe("FSP", term=lambda *_: Flow(), epochs_before=30, student_before=True),
    "nst": Recipe("NST", weight=50, term=lambda *_: OnStages(selectivity_loss)),
    "crd": Recipe("CRD", weight=0.8, term=Contrast),
}


class Method(nn.Module):
    """A method's loss, with all it trains and remembers; ``state_dict`` resumes it bit for bit.

    Losses are computed in float32, also under autocast, and the teacher's outputs are detached.
    Nothing waits for the device, and no shape depends on values.

    A first stage, ``epochs_before`` epochs long, minimises ``before`` over ``parameters_before``,
    by SGD with the schedule's momentum and weight decay and a constant learning rate:
    ``lr_before``, or where that is None the schedule's first one. The main stage starts another
    optimiser, over the student's parameters and ``parameters_beside``.
    """

    def __init__(self, recipe: Recipe, term: Term | None) -> None:
        """Take a row of the table and its term."""
        super().__init__()
        self.recipe = recipe
        self.term = term
        self.epochs_before = recipe.epochs_before
        self.lr_before = term.lr_before if term is not None else None

    def forward(
        self,
        student: Outputs,
        teacher: Outputs | None,
        labels: Int64[Tensor, " image"],
        images: Int64[Tensor, " image"],
    ) -> Float[Tensor, ""]:
        """Return the weighted loss of the main stage, cross-entropy included.

        Parameters
        ----------
        student, teacher
            Of the same images. The teacher's may be None unless ``recipe.teacher_beside``.
        labels
            Classes of the batch's images.
        images
            Their indices in the training set, none twice.

        Raises
        ------
        ValueError
            If the teacher is missing.
        """
        recipe = self.recipe
        with torch.autocast(student.logits.device.type, enabled=False):
            logits = student.logits.float()
            loss = recipe.cross_entropy * F.cross_entropy(logits, labels)
            if not recipe.teacher_beside:
                return loss
            teacher = _detach(teacher, recipe.title)
            if recipe.divergence:
                divergence = softened_divergence(logits, teacher.logits.float())
                loss = loss + recipe.divergence * divergence
            if self.term is not None:
                loss = loss + recipe.weight * self.term(student, teacher, images)
        return loss

    def before(self, student: Outputs | None, teacher: Outputs) -> Float[Tensor, ""]:
        """Return the loss of the first stage.

        The student's outputs may be None unless ``recipe.student_before``.

        Raises
        ------
        ValueError
            If the method has no first stage, or needs the student's outputs.
        """
        recipe = self.recipe
        if self.term is None or not recipe.epochs_before:
            msg = f"{recipe.title} has no first stage; call the method itself"
            raise ValueError(msg)
        if student is None and recipe.student_before:
            msg = f"{recipe.title}: its first stage needs the student's outputs, got None"
            raise ValueError(msg)
        with torch.autocast(teacher.logits.device.type, enabled=False):
            loss: Tensor = self.term.before(student, _detach(teacher, recipe.title))
        return loss

    def train_before(self, network: nn.Module) -> None:
        """Set the modes of the first stage: of the student, only what makes its maps is trained."""
        self.train()
        network.eval()
        if self.recipe.student_before:
            for module in feature_modules(network):
                module.train()

    def parameters_before(self, network: nn.Module) -> list[nn.Parameter]:
        """Return what the first stage trains, of the student and of the method."""
        own = self.term.parameters_before() if self.term is not None else []
        if not self.recipe.student_before:
            return own
        modules = feature_modules(network)
        return [parameter for module in modules for parameter in module.parameters()] + own

    def parameters_beside(self) -> list[nn.Parameter]:
        """Return the method's parameters that the main stage trains with the student's."""
        return self.term.parameters_beside() if self.term is not None else []


def build_method(
    name: str,
    student: Outputs,
    teacher: Outputs | None,
    labels: Int64[Tensor, " n"],
    seed: int,
) -> Method:
    """Return a method for a student and a teacher, on the student's device.

    Parameters
    ----------
    name
        A key of ``METHODS``.
    student, teacher
        Outputs of both for a few images, of which only the shapes count. A plain student needs no
        teacher.
    labels
        Classes of the whole training set.
    seed
        Of the method's modules and of CRD's negatives.

    Raises
    ------
    ModelError
        If the name is unknown, the teacher missing, or their maps do not fit together; the message
        says which.

    Examples
    --------
    >>> maps = tuple(torch.zeros(2, n, 8, 8) for n in (4, 4, 8, 16))
    >>> outputs = Outputs(torch.zeros(2, 10), torch.zeros(2, 16), maps, maps)
    >>> method = build_method("fitnet", outputs, outputs, torch.arange(10), seed=0)
    >>> [tuple(parameter.shape) for parameter in method.parameters_beside()]
    [(8, 8, 1, 1), (8,), (8,), (8,)]
    """
    if name not in METHODS:
        msg = f"method: unknown {name!r}; choose one of {', '.join(METHODS)}"
        raise ModelError(msg)
    recipe = METHODS[name]
    if not recipe.needs_teacher:
        return Method(recipe, None)
    if teacher is None:
        msg = f"{recipe.title}: it needs a teacher, got None"
        raise ModelError(msg)
    if recipe.term is None:
        return Method(recipe, None)
    _check_maps(name, student, teacher)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        term = recipe.term(student, teacher, labels, seed)
    return Method(recipe, term).to(student.logits.device)


def feature_modules(network: nn.Module) -> list[nn.Module]:
    """Return a network's modules up to the last of its ``stage_names``: what makes its maps."""
    last = cast("tuple[str, ...]", network.stage_names)[-1]
    names = [name for name, _ in network.named_children()]
    return list(network.children())[: names.index(last) + 1]


def _detach(outputs: Outputs | None, title: str) -> Outputs:
    if outputs is None:
        msg = f"{title}: it needs the teacher's outputs, got None"
        raise ValueError(msg)
    logits, pooled, maps, before_relu = outputs
    detached = [tuple(x.detach() for x in group) for group in (maps, before_relu)]
    return Outputs(logits.detach(), pooled.detach(), *detached)


def _check_maps(name: str, student: Outputs, teacher: Outputs) -> None:
    """Stop where a method cannot compare the maps."""
    title = METHODS[name].title
    ours, theirs = ([tuple(x.shape[1:]) for x in o.maps] for o in (student, teacher))
    if len(ours) != len(theirs):
        msg = (
            f"{title}: the student has {len(ours)} maps and the teacher {len(theirs)}; choose a "
            "student of the teacher's family"
        )
        raise ModelError(msg)
    for i, (got, expected) in enumerate(zip(ours, theirs, strict=True)):
        same_units = got[0] == expected[0] or name != "fsp"
        if got[1:] != expected[1:] or not same_units:
            what = "units and grids" if name == "fsp" else "grids"
            msg = (
                f"{title}: f{i} is {got} (unit, y, x) in the student and {expected} in the "
                f"teacher; their {what} must agree: choose another student"
            )
            raise ModelError(msg)
