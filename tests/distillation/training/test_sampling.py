"""Which training images are held out: a share of each class, always the same, none trained on."""

import numpy as np
import pytest
from toy import images

from dissect_embed.distillation.training.sampling import draw_stratified, hold_out
from dissect_embed.errors import TrainingError


def test_as_many_of_each_class():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 50))
    drawn = draw_stratified(labels, 100, seed=0)
    assert np.bincount(labels[drawn]).tolist() == [10] * 10
    assert np.all(np.diff(drawn) > 0)
    assert draw_stratified(labels, 100, seed=0).tolist() == drawn.tolist()
    assert draw_stratified(labels, 100, seed=1).tolist() != drawn.tolist()


@pytest.mark.parametrize("n", [0, 1, 7, 41, 159, 160, 1000])
def test_a_class_gets_its_share_or_one_more_or_less(n):
    labels = np.repeat([0, 1, 2, 5], [10, 20, 30, 100])
    drawn = draw_stratified(labels, n, seed=3)
    assert len(set(drawn.tolist())) == len(drawn) == min(n, 160)
    for label, size in ((0, 10), (1, 20), (2, 30), (5, 100)):
        assert abs((labels[drawn] == label).sum() - size * len(drawn) / 160) < 2


def test_what_is_held_out_is_not_left():
    data = images(n=80)
    left, held = hold_out(data, 20)
    assert (len(left.labels), len(held.labels)) == (60, 20)
    assert np.bincount(held.labels).tolist() == [5] * 4
    all_of_it = {pixels.tobytes() for pixels in data.images}
    ours, theirs = ({pixels.tobytes() for pixels in part.images} for part in (left, held))
    assert not ours & theirs
    assert ours | theirs == all_of_it
    for part in (left, held):
        for pixels, label in zip(part.images, part.labels, strict=True):
            (place,) = np.flatnonzero((data.images == pixels).all(axis=(1, 2, 3)))
            assert data.labels[place] == label
    assert left.fingerprint == held.fingerprint == data.fingerprint


@pytest.mark.parametrize("n", [77, 80, 5000])
def test_every_class_keeps_images_to_train_on(n):
    message = rf"held out: {n:,} of the 80 training images of toy; expected fewer, so .* 4 classes"
    with pytest.raises(TrainingError, match=message):
        hold_out(images(n=80), n)
