"""How long to train, and how fast: learning rates that fall in steps."""

from typing import Final, NamedTuple


class Schedule(NamedTuple):
    """SGD's settings; epochs and milestones count from 0, in epochs of the main stage.

    The rate is multiplied by ``decay`` from each milestone on. A milestone may lie within an epoch:
    1.25 is a quarter into the second one.
    """

    epochs: int
    lr: float
    milestones: tuple[float, ...]
    batch_size: int = 64
    decay: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    # What a method's first stage is multiplied by: 30 epochs are written for 240, as a whole.
    stage_before: float = 1.0


SCHEDULES: Final = {
    # Tian et al., Contrastive Representation Distillation, ICLR 2020, and its public code.
    "crd": Schedule(240, 0.05, (150, 180, 210)),
    # What [HAN22] states.
    "paper": Schedule(100, 0.1, (50, 75, 90)),
}


def shorten(schedule: Schedule, epochs: int) -> Schedule:
    """Return a schedule of another length that decays at the same fractions of it.

    Milestones are scaled and not rounded, so that the rate of a schedule of one epoch still decays,
    within that epoch, as often as that of 240. First stages shrink in the same ratio.

    Raises
    ------
    ValueError
        If the number of epochs is not positive.

    Examples
    --------
    >>> shorten(SCHEDULES["crd"], 2).milestones
    (1.25, 1.5, 1.75)
    """
    if epochs < 1:
        msg = f"schedule: {epochs} epochs; expected 1 or more"
        raise ValueError(msg)
    ratio = epochs / schedule.epochs
    return schedule._replace(
        epochs=epochs,
        milestones=tuple(m * epochs / schedule.epochs for m in schedule.milestones),
        stage_before=schedule.stage_before * ratio,
    )


def learning_rate(schedule: Schedule, epoch: int, step: int, n_steps: int) -> float:
    """Return the rate of a step of the main stage; epochs have ``n_steps`` steps.

    Examples
    --------
    >>> places = (149, 781), (150, 0)
    >>> [round(learning_rate(SCHEDULES["crd"], *place, n_steps=782), 12) for place in places]
    [0.05, 0.005]
    """
    done = epoch * n_steps + step
    passed = sum(done >= milestone * n_steps for milestone in schedule.milestones)
    return schedule.lr * schedule.decay**passed


def epochs_before(schedule: Schedule, epochs: int) -> int:
    """Return the length of a first stage of ``epochs``, at least 1 unless that is 0."""
    return max(1, round(epochs * schedule.stage_before)) if epochs else 0


class Place(NamedTuple):
    """The step that comes next, all counted from 0."""

    stage: str  # "first" or "main"
    epoch: int
    step: int

    def __str__(self) -> str:
        """Return the place for people."""
        return f"the {self.stage} stage, epoch {self.epoch}, step {self.step}"
