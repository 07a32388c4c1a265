"""Learning rates against torch's scheduler, and short schedules."""

import pytest
import torch

from dissect_embed.distillation.training.schedules import (
    SCHEDULES,
    epochs_before,
    learning_rate,
    shorten,
)


@pytest.mark.parametrize(("name", "epochs"), [("crd", 240), ("paper", 100)])
def test_rates_are_those_of_torch(name, epochs):
    schedule = SCHEDULES[name]
    assert (schedule.epochs, schedule.batch_size) == (epochs, 64)
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=schedule.lr)
    milestones = [int(m) for m in schedule.milestones]
    reference = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, schedule.decay)
    for epoch in range(epochs):
        for step in (0, 400, 781):
            rate = learning_rate(schedule, epoch, step, 782)
            assert rate == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-12)
        optimiser.step()
        reference.step()


@pytest.mark.parametrize("epochs", [1, 2, 4, 24, 120])
def test_short_schedules_decay_at_the_same_fractions(epochs):
    schedule = shorten(SCHEDULES["crd"], epochs)
    rates = [learning_rate(schedule, e, s, 48) for e in range(epochs) for s in range(48)]
    n = 48 * epochs
    changes = [i / n for i in range(1, n) if rates[i] != rates[i - 1]]
    assert changes == pytest.approx([150 / 240, 180 / 240, 210 / 240])
    assert rates[-1] == pytest.approx(5e-5)


def test_first_stages_shrink_alike_but_not_to_nothing():
    lengths = {n: epochs_before(shorten(SCHEDULES["crd"], n), 30) for n in (240, 80, 16, 1)}
    assert lengths == {240: 30, 80: 10, 16: 2, 1: 1}
    assert epochs_before(SCHEDULES["crd"], 0) == 0
    assert epochs_before(SCHEDULES["paper"], 30) == 30


def test_a_schedule_has_an_epoch():
    with pytest.raises(ValueError, match="0 epochs; expected 1 or more"):
        shorten(SCHEDULES["crd"], 0)
