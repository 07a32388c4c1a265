"""Crops and flips against loops, and what an epoch draws."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from dissect_embed.distillation.training.augmentation import crop_and_flip, draw_epoch, normalise


def crop_by_loops(image, top, left, flip):
    height, width, _ = image.shape
    padded = np.zeros((height + 8, width + 8, 3), np.uint8)
    padded[4:-4, 4:-4] = image
    cropped = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            cropped[y, width - 1 - x if flip else x] = padded[top + y, left + x]
    return cropped


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (5, 9), (3, 2)])
def test_crops_and_flips_equal_loops(height, width):
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, (7, height, width, 3), dtype=np.uint8)
    draws = [(int(rng.integers(7)), i, j, f) for i in range(9) for j in range(9) for f in (0, 1)]
    got = crop_and_flip(torch.from_numpy(images), torch.tensor(draws))
    for batch, (n, top, left, flip) in zip(got.numpy(), draws, strict=True):
        np.testing.assert_array_equal(batch, crop_by_loops(images[n], top, left, flip))


def test_images_stay_as_they_are():
    images = torch.full((2, 8, 8, 3), 200, dtype=torch.uint8)
    crop_and_flip(images, torch.tensor([[0, 0, 0, 1], [1, 8, 8, 0]]))
    assert (images == 200).all()


def test_normalisation_is_that_of_torchvision():
    images = torch.randint(256, (3, 8, 6, 3), dtype=torch.uint8)
    mean, std = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    transform = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    got = normalise(images, torch.tensor(mean), torch.tensor(std))
    torch.testing.assert_close(got, transform(images.permute(0, 3, 1, 2)))
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_an_epoch_draws_every_image_once_and_all_crops_alike():
    draws = draw_epoch(9000, 3, "main", 7)
    assert draws[:, 0].sort().values.equal(torch.arange(9000))
    for column, n in ((1, 9), (2, 9), (3, 2)):
        counts = draws[:, column].bincount(minlength=n)
        assert len(counts) == n
        assert (counts - 9000 / n).abs().max() < 5 * (9000 / n) ** 0.5


def test_draws_depend_on_seed_stage_and_epoch_alone():
    first = draw_epoch(50, 3, "main", 7)
    torch.manual_seed(1)
    assert first.equal(draw_epoch(50, 3, "main", 7))
    others = [draw_epoch(50, *key) for key in ((4, "main", 7), (3, "first", 7), (3, "main", 8))]
    assert not any(first.equal(other) for other in others)
