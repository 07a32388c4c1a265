"""A method at work: its loss, what it trains and remembers, made from a row of the registry."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, cast

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
from dissect_embed.distillation.methods.registry import METHODS, Recipe
from dissect_embed.distillation.methods.static_module import Static
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

# Takes example outputs of student and teacher, the training set's labels and the seed. Methods that
# are not here compare logits alone, or nothing; SKD's term is made of its targets.
MakeTerm = Callable[[Outputs, Outputs, Tensor, int], Term]
TERMS: Final[dict[str, MakeTerm]] = {
    "fitnet": lambda s, t, *_: Hint(s, t),
    "at": lambda *_: OnStages(attention_loss),
    "sp": lambda *_: OnLast(similarity_loss),
    "cc": lambda s, t, *_: Correlation(s, t),
    "vid": lambda s, t, *_: Variational(s, t),
    "rkd": lambda *_: OnPooled(relation_loss),
    "pkt": lambda *_: OnPooled(neighbour_loss),
    "ab": lambda s, t, *_: Boundaries(s, t),
    "ft": lambda s, t, *_: Factors(s, t),
    "fsp": lambda *_: Flow(),
    "nst": lambda *_: OnStages(selectivity_loss),
    "crd": Contrast,
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
            if recipe.teacher_beside:
                teacher = _detach(teacher, recipe.title)
            if recipe.divergence and teacher is not None:
                divergence = softened_divergence(logits, teacher.logits.float())
                loss = loss + recipe.divergence * divergence
            if self.term is not None and recipe.beta:
                loss = loss + recipe.beta * self.term(student, teacher, images)
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
    *,
    targets: Sequence[Float[Tensor, "_ _"]] | None = None,
    temperature: float = 1.0,
) -> Method:
    """Return a method for a student and what guides it, on the student's device.

    Parameters
    ----------
    name
        A key of ``METHODS``.
    student, teacher
        Outputs of both for a few images, of which only the shapes count. The teacher's may be None
        where the method's guide is another.
    labels
        Classes of the whole training set.
    seed
        Of the method's modules and of CRD's negatives.
    targets, temperature
        SKD's p of f1, f2, …, (unit, unit) each, and the temperature of q.

    Raises
    ------
    ModelError
        If the name is unknown, the teacher or the targets are missing, or do not fit to the
        student; the message says which.

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
    if recipe.guide == "prior":
        if targets is None:
            msg = f"{recipe.title}: it needs the targets of a prior, got None"
            raise ModelError(msg)
        return Method(recipe, Static(targets, temperature)).to(student.logits.device)
    if recipe.guide == "none":
        return Method(recipe, None)
    if teacher is None:
        msg = f"{recipe.title}: it needs a teacher, got None"
        raise ModelError(msg)
    if name not in TERMS:
        return Method(recipe, None)
    _check_maps(name, student, teacher)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        term = TERMS[name](student, teacher, labels, seed)
    return Method(recipe, term).to(student.logits.device)


def feature_modules(network: nn.Module) -> list[nn.Module]:
    """Return a network's modules up to the last of its ``stage_names``: what makes its maps.

    Raises
    ------
    ModelError
        If the last stage is no attribute of the network.
    """
    last = cast("tuple[str, ...]", network.stage_names)[-1]
    names = [name for name, _ in network.named_children()]
    if last not in names:
        msg = (
            f"method: the student's last stage, {last!r}, is none of its attributes "
            f"({', '.join(names)}), so what makes its maps cannot be trained first; choose another "
            "method than AB and FSP"
        )
        raise ModelError(msg)
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
    if name != "fsp":
        return
    for i, ((_, *lower), (_, *upper)) in enumerate(pairwise(ours)):
        if any(a % b for a, b in zip(lower, upper, strict=True)):
            grids = [" × ".join(map(str, grid)) for grid in (lower, upper)]
            msg = (
                f"{title}: f{i} is on {grids[0]} and f{i + 1} on {grids[1]}; "
                "each grid must be a multiple of the next: choose another student"
            )
            raise ModelError(msg)
