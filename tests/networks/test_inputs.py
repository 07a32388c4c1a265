"""What networks are given: pixels by hand, and what torchvision, timm and others state."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.inputs import (
    Input,
    UnknownColoursError,
    find_input,
    made_up,
    takes,
    to_input,
)
from dissect_embed.networks.settings import ModelInput

PLAIN = Input((2, 3), (0.0,) * 3, (1.0,) * 3, (0.0, 1.0), 3, "bilinear")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5,) * 3, (0.5,) * 3


def pixels(height: int, width: int, n: int = 1, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (n, height, width, 3), dtype=np.uint8))


# ---- from pixels to numbers ----


def test_numbers_by_hand():
    """One pixel of 255, 128 and 0; on three scales."""
    pixel = torch.tensor([[[[255, 128, 0]]]], dtype=torch.uint8)
    one = PLAIN._replace(size=(1, 1), mean=(0.5, 0.25, 0.1), std=(0.5, 0.2, 0.4))
    expected = [1, (128 / 255 - 0.25) / 0.2, -0.25]
    torch.testing.assert_close(to_input(pixel, one).flatten(), torch.tensor(expected))
    bytes_ = one._replace(range=(0.0, 255.0), mean=(127.0,) * 3, std=(128.0,) * 3)
    expected = [1, 1 / 128, -127 / 128]
    torch.testing.assert_close(to_input(pixel, bytes_).flatten(), torch.tensor(expected))
    signed = one._replace(range=(-1.0, 1.0), mean=(0.0, 0.5, 0.0), std=(1.0, 1.0, 2.0))
    expected = [1, 256 / 255 - 1.5, -0.5]
    torch.testing.assert_close(to_input(pixel, signed).flatten(), torch.tensor(expected))


def test_channels_come_first_and_lie_last():
    images = pixels(2, 3, 4)
    found = to_input(images, PLAIN)
    torch.testing.assert_close(found, images.permute(0, 3, 1, 2) / 255)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_an_image_is_resized_whole():
    """What lies in the left third lies in the left third, the corners in the corners."""
    image = torch.zeros((1, 60, 90, 3), dtype=torch.uint8)
    image[:, :, :30], image[:, -20:, 60:] = 255, 51
    found = to_input(image, PLAIN._replace(size=(12, 9)))[0, 0]
    assert found.shape == (12, 9)
    torch.testing.assert_close(found[:, 0], torch.ones(12))
    torch.testing.assert_close(found[0, 4:], torch.zeros(5))
    torch.testing.assert_close(found[-1, -1], torch.tensor(0.2))


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "nearest"])
def test_resizing_is_pillows(name):
    image = pixels(37, 50)
    mode = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "nearest": Image.NEAREST}[name]
    expected = np.array(Image.fromarray(image[0].numpy()).resize((20, 25), mode))
    given = PLAIN._replace(size=(25, 20), interpolation=name)
    found = to_input(image, given)[0].permute(1, 2, 0) * 255
    assert (found - torch.from_numpy(expected)).abs().max() <= (0 if name == "nearest" else 1.01)


def test_gray_is_pillows():
    image = pixels(40, 30)
    gray = np.array(Image.fromarray(image[0].numpy()).convert("L"))
    given = PLAIN._replace(size=(40, 30), channels=1, mean=(0.0,), std=(1.0,), range=(0.0, 255.0))
    found = to_input(image, given)
    assert found.shape == (1, 1, 40, 30)
    assert np.array_equal(found[0, 0].numpy(), gray.astype(np.float32))


def test_made_up_images_are_the_same_every_time_and_differ():
    given = PLAIN._replace(mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 1.0))
    found = made_up(given, 4)
    assert found.shape == (4, 3, 2, 3)
    assert found.is_contiguous()
    assert torch.equal(found, made_up(given, 4))
    assert not torch.equal(found[0], found[1])


# ---- what networks state ----


class Net(nn.Module):
    """Takes any image; states what it is told to."""

    def __init__(self, **stated: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        for name, value in stated.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@pytest.mark.parametrize(
    ("name", "weights", "size", "colours", "interpolation"),
    [
        ("resnet18", "IMAGENET1K_V1", 224, IMAGENET, "bilinear"),
        ("inception_v3", "IMAGENET1K_V1", 299, IMAGENET, "bilinear"),
        ("efficientnet_v2_l", "IMAGENET1K_V1", 480, HALF, "bicubic"),
        ("efficientnet_b0", "IMAGENET1K_V1", 224, IMAGENET, "bicubic"),
        ("swin_v2_t", "IMAGENET1K_V1", 256, IMAGENET, "bicubic"),
        # The weights that are named, not the newest: 384 pixels; of a file, as the newest.
        ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1", 384, IMAGENET, "bicubic"),
        ("vit_b_16", "weights.pth", 224, IMAGENET, "bilinear"),
    ],
)
def test_torchvisions_own(name, weights, size, colours, interpolation):
    """By torchvision's tables; the network itself is not looked at."""
    found = find_input(nn.Identity(), ModelInput(), (64, 64), name=name, weights=weights)
    assert found == Input((size, size), *colours, (0.0, 1.0), 3, interpolation)


def test_timms_own():
    model = timm.create_model("mixer_s32_224", pretrained=False)
    found = find_input(model, ModelInput(), None, name="timm:mixer_s32_224", weights="pretrained")
    assert found == Input((224, 224), *HALF, (0.0, 1.0), 3, "bicubic")
    digits = timm.create_model("test_resnet", pretrained=False)
    digits.pretrained_cfg = digits.pretrained_cfg | {"input_size": (1, 28, 30), "mean": [0.1]}
    digits.pretrained_cfg["std"] = [0.3]
    found = find_input(digits, ModelInput(), None, name="timm:test_resnet", weights="pretrained")
    assert (found.size, found.channels, found.mean) == ((28, 30), 1, (0.1,))


PRETRAINED_MODELS = {
    "mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, 331, 320], "input_range": [0, 1],
    "input_space": "RGB",
}  # fmt: skip
OPEN_CLIP = {"image_mean": (0.48, 0.45, 0.4), "image_std": (0.26, 0.26, 0.27), "image_size": 336}


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (
            PRETRAINED_MODELS,
            Input((331, 320), (0.5,) * 3, (0.25,) * 3, (0, 1), 3, "bilinear"),
        ),
        (
            PRETRAINED_MODELS | {"mean": [104, 117, 123], "std": [1] * 3, "input_range": [0, 255]},
            Input((331, 320), (104, 117, 123), (1, 1, 1), (0, 255), 3, "bilinear"),
        ),
        (
            OPEN_CLIP,
            Input((336, 336), (0.48, 0.45, 0.4), (0.26, 0.26, 0.27), (0.0, 1.0), 3, "bilinear"),
        ),
        (
            OPEN_CLIP | {"image_size": (224, 336)},
            Input((224, 336), (0.48, 0.45, 0.4), (0.26, 0.26, 0.27), (0.0, 1.0), 3, "bilinear"),
        ),
        # What is no number says nothing: a method of the name, a size of words.
        (
            OPEN_CLIP | {"mean": torch.mean, "std": torch.std, "image_size": "large"},
            Input((64, 48), (0.48, 0.45, 0.4), (0.26, 0.26, 0.27), (0.0, 1.0), 3, "bilinear"),
        ),
        # timm's words for what torch has not.
        (
            {"default_cfg": {"mean": (0.5,), "std": (0.5,), "interpolation": "lanczos"}},
            Input((64, 48), (0.5,), (0.5,), (0.0, 1.0), 1, "bilinear"),
        ),
    ],
)
def test_attributes_of_other_libraries(stated, expected):
    assert find_input(Net(**stated), ModelInput(), (64, 48)) == expected
    wrapped = nn.DataParallel(Net(**stated))
    assert find_input(wrapped, ModelInput(), (64, 48)) == expected


def test_what_is_asked_for_comes_before_what_is_stated():
    asked = ModelInput(
        size=(40, 50), mean=(0.1, 0.2, 0.3), std=(1, 2, 3), range=(-1, 1), interpolation="nearest"
    )
    found = find_input(Net(**OPEN_CLIP), asked, (64, 48))
    assert found == Input((40, 50), (0.1, 0.2, 0.3), (1, 2, 3), (-1, 1), 3, "nearest")
    part = find_input(Net(**OPEN_CLIP), ModelInput(size=40), (64, 48))
    assert (part.size, part.mean) == ((40, 40), (0.48, 0.45, 0.4))


def test_what_is_recorded_is_read_back():
    for given in (PLAIN, PLAIN._replace(channels=1, mean=(0.1,), std=(0.3,))):
        recorded = given.as_settings()
        assert recorded["size"] == [2, 3]
        assert Input.of_settings(recorded) == given
        assert find_input(Net(), ModelInput(**recorded), (9, 9)) == given


# ---- sizes of weights that know none ----


class OneSize(Net):
    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (224, 224):
            raise ValueError
        return self.conv(x)


@pytest.mark.parametrize(
    ("make", "weights", "asked", "expected"),
    [
        (Net, "random", {}, (64, 48)),
        (Net, "trained", {}, (64, 48)),
        (Net, "IMAGENET1K_V1", {}, (224, 224)),
        (Net, "weights.pth", {}, (224, 224)),
        (Net, "random", {"size": 100}, (100, 100)),
        (OneSize, "random", {}, (224, 224)),
        (OneSize, "trained", {}, (224, 224)),
        (OneSize, "random", {"size": 64}, (64, 64)),
    ],
)
def test_untrained_networks_see_images_in_their_own_size(make, weights, asked, expected):
    """Unless they take one size alone."""
    model = make()
    found = find_input(model, ModelInput(**asked), (64, 48), name="resnet18", weights=weights)
    assert (found.size, found.mean) == (expected, IMAGENET[0])
    without = find_input(model, ModelInput(**asked), None, name="resnet18", weights=weights)
    assert without.size == ((asked["size"],) * 2 if asked else (224, 224))


def test_sizes_of_networks_of_ones_own():
    """What they state they take, trained or not; of timm's, the images' own."""
    for weights in ("random", "weights.pth"):
        stated = find_input(Net(**OPEN_CLIP), ModelInput(), (64, 48), name="a:b", weights=weights)
        assert stated.size == (336, 336)
        colours = ModelInput(mean=(0.5,) * 3, std=(0.5,) * 3)
        assert find_input(Net(), colours, (64, 48), name="a:b", weights=weights).size == (64, 48)
    model = timm.create_model("resnet18", pretrained=False)
    for weights, size in [("random", (64, 48)), ("pretrained", (224, 224))]:
        found = find_input(model, ModelInput(), (64, 48), name="timm:resnet18", weights=weights)
        assert found.size == size


def test_trying_a_size_changes_nothing():
    model = nn.Sequential(Net(), nn.BatchNorm2d(4))
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert takes(model, PLAIN._replace(size=(8, 8)))
    assert not takes(model, PLAIN)
    assert not takes(model, PLAIN._replace(size=(8, 8), channels=1, mean=(0.5,), std=(1.0,)))
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# ---- what is refused ----


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, r"Net does not say which mean .* below 'model:', .*: input: {mean: \[0\.485, 0\.456"),
        ({"mean": (0.5,) * 3}, r"Net does not say which mean and standard deviation"),
        ({"mean": (0.5,) * 3, "std": (0.5,)}, r"mean \[0\.5, 0\.5, 0\.5\] and std \[0\.5\]; expec"),
        (
            {"mean": (0.5,), "std": (0.0,)},
            r"mean .* std \[0\.0\]; .*, and standard deviations above 0",
        ),
        ({"mean": (0.5,), "std": (0.5,), "channels": 3}, r"3 channels, but 1 numbers in mean and"),
        ({"mean": (0.5,) * 3, "std": (1,) * 3, "channels": 1}, r"1 channels, but 3 numbers in m"),
    ],
)
def test_what_does_not_fit_is_refused(asked, message):
    with pytest.raises(ModelError, match=rf"^model\.input: {message}"):
        find_input(Net(), ModelInput(**asked), (64, 48))


def test_a_network_whose_size_nobody_knows():
    message = r"^model\.input: a:b does not say which size of images it takes; .*{size: 224}"
    with pytest.raises(ModelError, match=message) as caught:
        find_input(Net(), ModelInput(), None, name="a:b", weights="random")
    assert not isinstance(caught.value, UnknownColoursError)
    with pytest.raises(UnknownColoursError, match=r"a:b does not say which mean"):
        find_input(Net(), ModelInput(size=32), None, name="a:b", weights="random")
