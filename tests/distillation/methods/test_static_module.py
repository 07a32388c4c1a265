"""SKD's loss in a loop of one's own: the trainer's values, hooks, and what is refused."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toy import images

from dissect_embed.distillation import StaticLoss as public_name
from dissect_embed.distillation.extraction import write_prior
from dissect_embed.distillation.methods.method import build_method
from dissect_embed.distillation.methods.static_module import StaticLoss
from dissect_embed.distillation.prior import Prior, prior_targets
from dissect_embed.distillation.zoo import build_network
from dissect_embed.errors import ArtefactError, ModelError
from dissect_embed.mathematics.vectors import Schedule

LAYERS = ["layer1", "layer2", "layer3"]


def make_prior(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors = {f"layer{n}": torch.randn(c, 6, generator=generator) for n, c in enumerate(sizes, 1)}
    return Prior("prior.h5", "net", "p", None, "toy", "d", 0, (), (), vectors, None)


class Own(nn.Module):
    """A student that nobody made for this."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean(dim=(2, 3)))


def draw(n=5, size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, size, size, generator=generator), torch.arange(n) % 4


def own_loss(temperature=1.0, **options):
    layers = ["stem", "body.2"]
    return StaticLoss(make_prior(4, 6), layers, temperature=temperature, **options)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
@pytest.mark.parametrize("name", ["resnet20", "wrn-16-2"])
def test_value_and_gradient_are_the_trainers(name, temperature):
    x, labels = draw(4, 16)
    student = build_network(name, 4, seed=0)
    layers = student.stage_names[1:]
    sizes = [maps.shape[1] for maps in student.outputs(x).maps[1:]]
    prior = make_prior(*sizes)
    p = prior_targets(prior, temperature=temperature)
    theirs = copy.deepcopy(student)
    outputs = theirs.outputs(x)
    method = build_method("skd", outputs, None, labels, 0, targets=p, temperature=temperature)
    method.recipe = method.recipe._replace(beta=3.0)
    method(outputs, None, labels, torch.arange(4)).backward()
    loss = StaticLoss(prior, layers, temperature=temperature)
    with loss.attach(student):
        (F.cross_entropy(student(x), labels) + 3.0 * loss()).backward()
    found = [p.grad for p in student.parameters()]
    expected = [p.grad for p in theirs.parameters()]
    for ours, other in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-6)
    maps = theirs.outputs(x).maps[1:]
    assert torch.equal(loss(maps), method.term(theirs.outputs(x), None, torch.arange(4)))


def test_a_loop_of_ones_own_from_a_file(tmp_path):
    teacher = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU())
    write_prior(
        tmp_path / "prior.h5", images(), teacher, ["1", "3"], name="own", mean=(0.5,) * 3,
        std=(0.5,) * 3, schedule=Schedule(epochs=1, steps_per_epoch=5), device="cpu",
    )  # fmt: skip
    torch.manual_seed(0)
    student, (x, labels) = Own(), draw(16)
    static = StaticLoss(str(tmp_path / "prior.h5"), ["stem", "body"])
    optimiser = torch.optim.SGD(student.parameters(), lr=0.1)
    values = []
    with static.attach(student):
        for _ in range(15):
            optimiser.zero_grad()
            logits = student(x)
            values.append(static())
            (F.cross_entropy(logits, labels) + 5 * values[-1]).backward()
            optimiser.step()
    assert values[-1] < values[0]
    assert not list(static.parameters())
    assert not student.stem._forward_hooks
    assert not student.body._forward_hooks


def test_hooks_are_removed_and_a_copy_of_the_student_has_none_that_count():
    static, student, (x, _) = own_loss(), Own(), draw()
    handle = static.attach(student)
    copied = copy.deepcopy(student)
    student(x)
    expected = static()
    student(x)
    copied(2 * x)
    assert torch.equal(static(), expected)
    other = Own()
    static.attach(other)  # the first student is let go
    student(x)
    with pytest.raises(ModelError, match=r"stem has given no maps since the last call; attach"):
        static()
    other(x)
    static.attach(other).remove()
    handle.remove()
    other(x)
    with pytest.raises(ModelError, match="stem has given no maps since the last call"):
        static()
    assert not other.stem._forward_hooks


def test_a_forward_pass_is_used_once():
    static, student, (x, _) = own_loss(), Own(), draw()
    with static.attach(student):
        with torch.no_grad():
            student(x)
            first = static()
        assert not first.requires_grad
        with torch.inference_mode():
            student(x)
            assert static().item() == first.item()
        with pytest.raises(ModelError, match="call the student before every call of the loss"):
            static()
    with pytest.raises(ModelError, match="attach"):
        own_loss()()


def test_p_lies_in_buffers_and_is_loaded():
    static, other = own_loss(), StaticLoss(make_prior(4, 6, seed=1), ["stem", "body"])
    assert {k: tuple(v.shape) for k, v in static.state_dict().items()} == {
        "static.p0": (4, 4), "static.p1": (6, 6)
    }  # fmt: skip
    maps = [torch.rand(2, 4, 3, 3), torch.rand(2, 6, 2, 2)]
    assert not torch.equal(static(maps), other(maps))
    other.load_state_dict(static.state_dict())
    assert torch.equal(static(maps), other(maps))
    assert static.to("meta").static.p0.device.type == "meta"


def test_it_works_under_autocast():
    static, student, (x, labels) = own_loss(), Own(), draw()
    with static.attach(student):
        with torch.autocast("cpu", torch.bfloat16):
            logits = student(x)
            loss = static()
        assert loss.dtype == torch.float32
        (F.cross_entropy(logits.float(), labels) + loss).backward()
        rough = loss.item()
        student(x)
        assert rough == pytest.approx(static().item(), rel=0.01)
    assert all(p.grad.isfinite().all() for p in student.parameters())


def test_controls_are_those_of_the_prior():
    maps = [torch.rand(2, 4, 3, 3), torch.rand(2, 6, 2, 2)]
    random, same, other = (own_loss(control="random", seed=n)(maps) for n in (3, 3, 4))
    assert random == same
    assert random != other
    with pytest.raises(ModelError, match="control: 'flat': expected one of uniform"):
        own_loss(control="flat")


def refuse(static, student, message):
    with static.attach(student):
        student(draw()[0])
        with pytest.raises(ModelError, match=message):
            static()


def test_what_does_not_fit_is_named(tmp_path):
    prior, student = make_prior(4, 6), Own()
    message = r"prior\.h5 has 2 layers \(layer1, layer2\), layers names 1 \(stem\); name a module"
    with pytest.raises(ModelError, match=message):
        StaticLoss(prior, ["stem"])
    with pytest.raises(ModelError, match=message):
        StaticLoss(prior, "stem")
    with pytest.raises(ModelError, match=r"temperature 0\.0; expected a positive number"):
        StaticLoss(prior, ["stem", "body"], temperature=0.0)
    with pytest.raises(ArtefactError, match=r"none\.h5: missing"):
        StaticLoss(tmp_path / "none.h5", ["stem", "body"])
    with pytest.raises(ModelError, match="has no layer 'boby'; did you mean body"):
        StaticLoss(prior, ["stem", "boby"]).attach(student)
    message = "body has 6 units, its layer of the prior 4; name another module"
    refuse(StaticLoss(prior, ["body", "stem"]), student, message)
    message = r"head gives \(5, 4\); expected maps \(image, unit, y, x\)"
    refuse(StaticLoss(prior, ["stem", "head"]), student, message)
    pool = nn.AdaptiveMaxPool2d(1, return_indices=True)
    refuse(StaticLoss(make_prior(3), ["0"]), nn.Sequential(pool), "0 gives tuple; expected maps")
    static = StaticLoss(prior, ["stem", "head"])
    with pytest.raises(ModelError, match="1 maps; expected 2: stem, head"):
        static([torch.rand(2, 4, 2, 2)])
    with pytest.raises(ModelError, match=r"stem is on meta, p on cpu; move it: \.to\(device\)"):
        static([torch.rand(2, 4, 2, 2, device="meta"), torch.rand(2, 6, 2, 2)])


def test_maps_that_are_changed_afterwards_are_refused():
    student = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    message = "the maps of 0 were changed in place after it; name the module"
    refuse(StaticLoss(make_prior(4), ["0"]), student, message)
    static = StaticLoss(make_prior(4), ["1"])
    with static.attach(student):
        student(draw()[0])
        assert static().isfinite()


def test_it_can_be_imported_from_the_package():
    assert public_name is StaticLoss
