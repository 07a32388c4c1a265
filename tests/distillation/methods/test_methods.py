"""The table of methods: weights, features, first stages, precision, all pairs."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from dissect_embed.distillation.methods import losses
from dissect_embed.distillation.methods.method import TERMS, build_method
from dissect_embed.distillation.methods.registry import METHODS, list_methods
from dissect_embed.distillation.methods.static_loss import static_loss
from dissect_embed.distillation.outputs import Outputs

N_TRAIN, N_CLASSES, B = 40, 10, 4
LABELS = torch.arange(N_TRAIN) % N_CLASSES
IMAGES = torch.tensor([3, 17, 25, 38])
# Units and grid of f0, f1, ..., which teacher and student share, of all six pairs.
PAIRS = {
    "wrn-40-2 wrn-16-2": ((16, 32), (32, 32), (64, 16), (128, 8)),
    "resnet56/110 resnet20/32": ((16, 32), (16, 32), (32, 16), (64, 8)),
    "resnet32x4 resnet8x4": ((32, 32), (64, 32), (128, 16), (256, 8)),
    "vgg13 vgg8": ((64, 32), (128, 16), (256, 8), (512, 4), (512, 4)),
}
SMALL = ((3, 8), (3, 8), (4, 4), (6, 2))
TAUGHT = list_methods("teacher")
WEIGHTED = [name for name in METHODS if METHODS[name].beta]
STAGED = ["ab", "ft", "fsp"]


def fake(shapes=SMALL, seed=0, n_images=B, signed=False, **kind):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    def leaf(x):
        return x.clone().to(**kind).requires_grad_()

    before = [draw(n_images, c, g, g) for c, g in shapes]
    maps = tuple(leaf(x if signed else x.relu()) for x in before)
    pooled = leaf(before[-1].relu().mean(dim=(2, 3)))
    logits = leaf(draw(n_images, N_CLASSES))
    return Outputs(logits, pooled, maps, tuple(leaf(x) for x in before))


def leaves(outputs):
    return [outputs.logits, outputs.pooled, *outputs.maps, *outputs.before_relu]


def build(name, student=None, teacher=None, seed=0):
    student = fake() if student is None else student
    teacher = fake(seed=1) if teacher is None else teacher
    return build_method(name, student, teacher, LABELS, seed, targets=targets_of(student))


def targets_of(student):
    """Return p of each stage, the same for equal numbers of units."""
    sizes = [x.shape[1] for x in student.maps[1:]]
    return [torch.randn(n, n, generator=torch.Generator().manual_seed(n)).softmax(1) for n in sizes]


def call(method, student, teacher, images=IMAGES):
    return method(student, teacher, LABELS[images], images)


def pick(outputs, index):
    return Outputs(
        outputs.logits[index],
        outputs.pooled[index],
        tuple(x[index] for x in outputs.maps),
        tuple(x[index] for x in outputs.before_relu),
    )


def expected_term(name, method, s, t):
    """Return β·L of the table, with the features named."""
    term = method.term
    stages = list(zip(s.maps[1:], t.maps[1:], strict=True))
    if name == "fitnet":
        return 100 * F.mse_loss(term.regressor(s.maps[2]), t.maps[2])
    if name == "at":
        return 1000 * sum(losses.attention_loss(a, b) for a, b in stages)
    if name == "sp":
        return 3000 * losses.similarity_loss(s.maps[-1], t.maps[-1])
    if name == "cc":
        embedded = term.embed_student(s.pooled), term.embed_teacher(t.pooled)
        assert embedded[0].shape == (B, 128)
        return 0.02 * losses.correlation_loss(*embedded)
    if name == "vid":
        total = 0.0
        for (a, b), f in zip(stages, term.regressors, strict=True):
            total += (0.5 * ((f(a) - b) ** 2 / 5 + math.log(5))).mean()
        return total
    if name == "rkd":
        return losses.relation_loss(s.pooled, t.pooled)
    if name == "pkt":
        return 30_000 * losses.neighbour_loss(s.pooled, t.pooled)
    if name == "ft":
        return 200 * losses.factor_loss(term.translator(s.maps[-1]), term.encoder(t.maps[-1]))
    if name == "nst":
        return 50 * sum(losses.selectivity_loss(a, b) for a, b in stages)
    if name == "skd":
        return 0.5 * static_loss(s.maps[1:], targets_of(s))
    if name == "crd":
        return 0.8 * copy.deepcopy(term)(s, t, IMAGES)
    return 0.0


@pytest.mark.parametrize("name", METHODS)
def test_the_main_loss_is_that_of_the_table(name):
    student, teacher = fake(), fake(seed=1)
    method = build(name)
    entropy = F.cross_entropy(student.logits, LABELS[IMAGES])
    if name == "kd":
        divergence = losses.softened_divergence(student.logits, teacher.logits)
        expected = 0.1 * entropy + 0.9 * divergence
    else:
        expected = entropy + expected_term(name, method, student, teacher)
    found = call(method, student, teacher)
    torch.testing.assert_close(found, expected)
    if name not in ("plain", "ab", "fsp"):
        assert abs(found - entropy).item() > 1e-3


def test_first_stages_are_those_of_the_table():
    student, teacher = fake(signed=True), fake(seed=1, signed=True)
    method = build("ab")
    weighted = [
        w * losses.boundary_loss(s, t)
        for w, s, t in zip(
            (0.25, 0.5, 1), student.before_relu[1:], teacher.before_relu[1:], strict=True
        )
    ]
    torch.testing.assert_close(method.before(student, teacher), 0.003 * sum(weighted))
    method = build("fsp")
    s, t = student.maps, teacher.maps
    flows = [losses.flow_loss((s[i], s[i + 1]), (t[i], t[i + 1])) for i in range(3)]
    torch.testing.assert_close(method.before(student, teacher), sum(flows))
    method = build("ft")
    code = method.term.encoder(t[-1])
    assert code.shape == (B, 3, 2, 2)
    torch.testing.assert_close(
        method.before(None, teacher), F.mse_loss(method.term.decoder(code), t[-1])
    )
    assert {
        name: METHODS[name].epochs_before for name in METHODS if name in STAGED
    } == dict.fromkeys(STAGED, 30)
    assert [build(name).lr_before for name in STAGED] == [None, 0.01, None]
    vgg = fake(((2, 8), (3, 4), (4, 2), (6, 1), (6, 1)))
    assert build("ft", vgg, vgg).lr_before is None


@pytest.mark.parametrize("name", ["at", "sp", "rkd", "pkt", "nst"])
def test_nothing_is_left_to_learn_from_oneself(name):
    student = fake()
    entropy = F.cross_entropy(student.logits, LABELS[IMAGES])
    torch.testing.assert_close(call(build(name), student, student), entropy, rtol=0, atol=2e-4)


def test_a_perfect_hint_costs_nothing():
    student = fake()
    method = build("fitnet").eval()
    conv, norm, _ = method.term.regressor
    norm.eps = 0
    with torch.no_grad():
        conv.weight.copy_(torch.eye(4)[:, :, None, None])
        conv.bias.zero_()
    entropy = F.cross_entropy(student.logits, LABELS[IMAGES])
    torch.testing.assert_close(call(method, student, student), entropy)


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_images_matters_to_cc_alone(name):
    student, teacher = fake(n_images=6), fake(seed=1, n_images=6)
    images = torch.tensor([3, 17, 25, 38, 12, 1])
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    value = call(build(name), student, teacher, images)
    other = call(build(name), pick(student, order), pick(teacher, order), images[order])
    assert torch.allclose(value, other, rtol=1e-4) == (name != "cc")


@pytest.mark.parametrize("pair", PAIRS)
def test_every_method_trains_every_pair(pair):
    """Finite scalars; gradients of the student, its helpers, and never of the teacher."""
    signed = pair.startswith("wrn")
    student, teacher = (fake(PAIRS[pair], seed, 3, signed) for seed in range(2))
    images = IMAGES[:3]
    for name, recipe in METHODS.items():
        for x in (*leaves(student), *leaves(teacher)):
            x.grad = None
        method = build(name, student, teacher)
        value = call(method, student, teacher, images)
        value.backward()
        assert value.shape == ()
        assert value.isfinite(), name
        assert student.logits.grad.abs().sum() > 0
        features = {"rkd", "pkt", "cc", "crd"} & {name}
        touched = [x for x in leaves(student)[1:] if x.grad is not None]
        assert bool(touched) == bool(recipe.beta), name
        assert (student.pooled.grad is not None) == bool(features), name
        assert all(x.grad.isfinite().all() and x.grad.any() for x in touched), name
        assert all(x.grad is None for x in leaves(teacher)), name
        beside = method.parameters_beside()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in beside), name
        others = {id(p) for p in method.parameters()} - {id(p) for p in beside}
        assert all(p.grad is None for p in method.parameters() if id(p) in others), name
        if recipe.epochs_before:
            loss = method.before(student if recipe.student_before else None, teacher)
            loss.backward()
            assert loss.shape == ()
            assert loss.isfinite(), name
            assert all(p.grad is not None for p in method.term.parameters_before()), name
            assert all(x.grad is None for x in leaves(teacher)), name
            if recipe.student_before:
                group = student.maps if name == "fsp" else student.before_relu[1:]
                assert all(x.grad.any() for x in group), name


@pytest.mark.parametrize("name", METHODS)
def test_losses_are_float32_under_autocast(name):
    student, teacher = fake(dtype=torch.bfloat16), fake(seed=1, dtype=torch.bfloat16)
    plain = [
        Outputs(*(tuple(y.float() for y in x) if isinstance(x, tuple) else x.float() for x in o))
        for o in (student, teacher)
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = call(build(name), student, teacher)
        if METHODS[name].epochs_before:
            before = build(name).before(student, teacher)
    assert found.dtype == torch.float32
    assert torch.equal(found, call(build(name), *plain))
    if METHODS[name].epochs_before:
        assert torch.equal(before, build(name).before(*plain))
    found.backward()
    assert student.logits.grad.isfinite().all()


@pytest.mark.parametrize("name", TAUGHT)
@pytest.mark.parametrize("dead", ["unit", "image", "all"])
def test_dead_units_give_no_nan(name, dead):
    student, teacher = fake(), fake(seed=1)
    with torch.no_grad():
        for x in leaves(student)[1:]:
            x[{"unit": (slice(None), 0), "image": 1, "all": ...}[dead]] = 0
        for x in leaves(teacher)[1:] if dead == "all" else []:
            x[:] = 0
    method = build(name)
    value = call(method, student, teacher)
    if method.epochs_before:
        value = value + method.before(student, teacher)
    value.backward()
    assert value.isfinite()
    for x in leaves(student):
        assert x.grad is None or x.grad.isfinite().all()


@pytest.mark.parametrize("name", TAUGHT)
def test_seeds_make_methods_and_leave_the_generator_alone(name):
    state = torch.get_rng_state()
    first, same, other = build(name), build(name), build(name, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    tensors = [list(m.state_dict().values()) for m in (first, same, other)]
    assert all(torch.equal(a, b) for a, b in zip(tensors[0], tensors[1], strict=True))
    if len([p for p in first.parameters() if p.dim() > 1]):
        assert any(not torch.equal(a, b) for a, b in zip(tensors[0], tensors[2], strict=True))


@pytest.mark.parametrize("name", WEIGHTED)
def test_state_resumes_training_bit_for_bit(name):
    def step(method):
        optimiser = torch.optim.SGD(method.parameters_beside() or [torch.zeros(1)], lr=0.01)
        value = call(method, fake(), fake(seed=1))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        return value

    method = build(name)
    step(method)
    resumed = build(name, seed=5)
    resumed.load_state_dict(copy.deepcopy(method.state_dict()))
    for _ in range(2):
        assert torch.equal(step(method), step(resumed))


class Student(nn.Module):
    """A stem, a pool without parameters, a stage, and what comes after the maps."""

    def __init__(self):
        super().__init__()
        self.conv1, self.pool, self.layer1 = nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1)
        self.bn, self.fc = nn.BatchNorm2d(4), nn.Linear(4, 10)
        self.stage_names = ("conv1", "layer1")


def test_first_stages_train_what_makes_the_maps():
    network = Student()
    maps = [*network.conv1.parameters(), *network.layer1.parameters()]
    wide = fake(((3, 8), (5, 8), (4, 4), (6, 2)), seed=1)
    ab = build("ab", teacher=wide)
    connectors = list(ab.term.connectors[0].parameters())
    assert len(connectors) == 4
    ft = build("ft")
    paraphraser = [*ft.term.encoder.parameters(), *ft.term.decoder.parameters()]
    for method, expected in ((build("fsp"), maps), (ab, maps + connectors), (ft, paraphraser)):
        found = method.parameters_before(network)
        assert [id(p) for p in found] == [id(p) for p in expected]
        network.train()
        method.train_before(network)
        modes = [m.training for m in (network.conv1, network.layer1, network.bn, network.fc)]
        trained = method.recipe.student_before
        assert modes == [trained, trained, False, False]
    assert ab.parameters_beside() == build("fsp").parameters_beside() == []
    assert {id(p) for p in ft.parameters_beside()} == {
        id(p) for p in ft.term.translator.parameters()
    }


def test_methods_say_whether_they_need_a_teacher():
    assert [name for name in METHODS if name not in TAUGHT] == ["plain", "skd"]
    others = [name for name in METHODS if not METHODS[name].teacher_beside]
    assert others == ["plain", "ab", "fsp", "skd"]
    assert set(TERMS) < set(TAUGHT)
    student = fake()
    plain = build_method("plain", student, None, LABELS, 0)
    assert call(plain, student, None) == call(build("ab"), student, None)
    for name in TAUGHT:
        if METHODS[name].teacher_beside:
            with pytest.raises(ValueError, match="needs the teacher's outputs, got None"):
                call(build(name), student, None)


def test_errors_name_what_is_wrong():
    student = fake()
    with pytest.raises(ValueError, match="unknown 'kdd'; choose one of plain, kd, fitnet"):
        build("kdd")
    for name in TAUGHT:
        with pytest.raises(ValueError, match="needs a teacher, got None"):
            build_method(name, student, None, LABELS, 0)
    with pytest.raises(ValueError, match="SKD: it needs the targets of a prior, got None"):
        build_method("skd", student, None, LABELS, 0)
    with pytest.raises(ValueError, match="AT: the student has 4 maps and the teacher 3"):
        build("at", teacher=fake(SMALL[:3]))
    with pytest.raises(
        ValueError, match=r"SP: f2 is \(4, 4, 4\) .* and \(4, 2, 2\) in the teacher; their grids"
    ):
        build("sp", teacher=fake(((3, 8), (3, 8), (4, 2), (6, 2))))
    other_units = fake(((3, 8), (5, 8), (7, 4), (9, 2)), seed=1)
    with pytest.raises(ValueError, match=r"FSP: f1 .* units and grids must agree"):
        build("fsp", teacher=other_units)
    odd = fake(((3, 8), (3, 3), (4, 3), (6, 1)))
    message = "FSP: f0 is on 8 × 8 and f1 on 3 × 3; each grid must be a multiple of the next"
    with pytest.raises(ValueError, match=message):
        build("fsp", odd, odd)
    with pytest.raises(ValueError, match="KD has no first stage"):
        build("kd").before(student, student)
    with pytest.raises(ValueError, match="AB: its first stage needs the student's outputs"):
        build("ab").before(None, student)
    # The others compare different units.
    for name in TAUGHT:
        if name != "fsp":
            assert call(build(name, student, other_units), student, other_units).isfinite()


@pytest.mark.parametrize("name", METHODS)
def test_a_step_asks_for_no_value(name):
    """No step waits for the device, and shapes depend on no values: fake tensors have none."""
    method = build(name)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for module in method.modules():
            for key, p in module.named_parameters(recurse=False):
                setattr(module, key, nn.Parameter(mode.from_tensor(p.detach())))
            for key, x in module.named_buffers(recurse=False):
                setattr(module, key, mode.from_tensor(x))
        student, teacher = fake(), fake(seed=1)
        images = mode.from_tensor(IMAGES)
        value = method(student, teacher, mode.from_tensor(LABELS)[images], images)
        if method.epochs_before:
            value = value + method.before(student, teacher)
        value.backward()
    with pytest.raises(DataDependentOutputException):
        value.item()


@pytest.mark.parametrize("name", METHODS)
def test_steps_can_be_captured(name, device):
    """On CUDA as a graph; on the CPU, which has none, a step is made twice."""
    student, teacher = fake(device=device), fake(seed=1, device=device)
    images = IMAGES.to(device)
    labels = LABELS.to(device)[images]
    method = build(name, student, teacher)
    state = copy.deepcopy(method.state_dict())

    def step():
        value = method(student, teacher, labels, images)
        # Detached: what is left of a graph of autograd belongs to the stream it was made on.
        return value.detach(), *torch.autograd.grad(value, student.logits)

    if device == "cpu":
        expected = step()
        method.load_state_dict(state)
        torch.testing.assert_close(step(), expected, rtol=0, atol=0)
        return
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        expected = step()
    torch.cuda.current_stream().wait_stream(side)
    method.load_state_dict(state)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    graph.replay()
    torch.testing.assert_close(found, expected)
