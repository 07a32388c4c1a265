"""What a network loses without a unit: files of a run, by hand and beside slow references."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from given import input_of, model_of
from PIL import Image
from torch import nn

from dissect_embed.ablation import write_ablation
from dissect_embed.activations import write_activations
from dissect_embed.artefacts.activations import open_activations
from dissect_embed.artefacts.tables import COLUMNS, largest_losses, read_table
from dissect_embed.config import Ablation, Activations, Dissection, Embedding
from dissect_embed.datasets.broden import Broden, load_broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.dissection import write_profiles
from dissect_embed.embedding import write_embedding
from dissect_embed.errors import ConfigError, DatasetError
from dissect_embed.labels import write_labels
from dissect_embed.mathematics.ablation import right_concepts
from dissect_embed.networks.inputs import to_input
from dissect_embed.run import Run, open_run
from dissect_embed.similarity import write_similarity

COLOURS = ("blue", "green", "red")
TABLES = ("importance.csv", "ablation.csv")
# Pictures of each colour.
N = 20


def colours() -> nn.Module:
    """Return a network whose unit 0 alone tells red: a unit a colour, and one that nobody asks.

    What is neither bright red nor bright green is blue to it.
    """
    model = nn.Sequential()
    model.add_module("low", nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    model.add_module("mean", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    model.add_module("fc", nn.Linear(4, 3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for unit in range(3):
            model.low[0].weight[unit, unit] = 1
            model.fc.weight[2 - unit, unit] = 1  # blue, green, red
        model.low[0].weight[3] = 1
        model.low[0].bias.fill_(-1)
        model.fc.bias[0] = 0.3
    return model


def concepts() -> nn.Module:
    """Return a network of 6 units with an output for each concept of the tiny data set."""
    model = nn.Sequential()
    model.add_module("low", nn.Sequential(nn.Conv2d(3, 6, 4, 4), nn.ReLU()))
    model.add_module("rest", nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)))
    return model


def around() -> nn.Module:
    """Return the same with a way around the layer."""

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = concepts()

        def forward(self, x):
            return self.inner(x) + 0 * x.mean()

    return Around()


def make_run(folder: Path, data: Broden, function, weights: str = "", **settings) -> Path:
    torch.manual_seed(0)
    model = function()
    torch.save(model.state_dict(), folder / "model.pt")
    of_model = model_of(
        "inner.low" if function is around else "low", name=f"{__name__}:{function.__name__}",
        weights=weights or str(folder / "model.pt"),
    )  # fmt: skip
    path = {
        name: folder / f"{name}.h5"
        for name in ("activations", "labels", "profiles", "similarity", "embedding")
    }
    write_activations(
        path["activations"], data, model, of_model, Activations(batch_size=4, **settings)
    )
    write_labels(path["labels"], data)
    write_profiles(
        path["profiles"], path["activations"], path["labels"], Dissection(quantile=0.05),
        model=model, dataset=data,
    )  # fmt: skip
    write_similarity(path["similarity"], path["activations"])
    write_embedding(
        path["embedding"], path["similarity"], path["profiles"],
        Embedding(dim=4, seeds=(3,), epochs=2, steps_per_epoch=2, milestones=()),
    )  # fmt: skip
    return folder


def ablate(run: Path, settings: Ablation = Ablation()) -> Path:
    write_ablation(Run(run), *(run / name for name in TABLES), settings, device="cpu")
    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory, make_tiny) -> Broden:
    root = make_tiny(tmp_path_factory.mktemp("data") / "tiny", 20)
    header, *lines = (root / "index.csv").read_text().splitlines()
    # Not all concepts in all images.
    for n, line in enumerate(lines):
        *cells, sky, scene = line.split(",")
        lines[n] = ",".join([*cells, "" if n % 3 == 0 else sky, "" if n % 4 < 2 else scene])
    (root / "index.csv").write_text("\n".join([header, *lines]) + "\n")
    return load_broden(root)


@pytest.fixture(scope="module")
def told(tmp_path_factory, data) -> Path:
    """Return a run of a network that tells which concepts are present, ablated."""
    folder = tmp_path_factory.mktemp("told")
    return ablate(make_run(folder, data, concepts, "trained"), Ablation(top=2))


@pytest.fixture(scope="module")
def coloured(tmp_path_factory, data) -> Path:
    """Return a run of a network that tells colours, with pictures of these in class folders."""
    folder = make_run(tmp_path_factory.mktemp("coloured"), data, colours)
    rng = np.random.default_rng(0)
    for c, name in enumerate(COLOURS):
        (folder / "pictures" / name).mkdir(parents=True)
        for n in range(N):
            pixels = rng.integers(0, 40, (32, 32, 3), dtype=np.uint8)
            pixels[..., 2 - c] += np.uint8(150 + 3 * n)  # the first are too dark
            Image.fromarray(pixels).save(folder / f"pictures/{name}/{n}.png")
    return ablate(folder, Ablation(images=str(folder / "pictures"), top=1))


def rows_of(run: Path, k: str = "") -> list[dict[str, str]]:
    """Return the rows of single units, or those of ``k`` together."""
    rows = read_table(run / "importance.csv", "importance").rows
    assert tuple(rows[0]) == COLUMNS["importance"]
    return [r for r in rows if (r["k"] == k and not r["unit"] if k else r["unit"])]


def test_a_unit_that_alone_tells_a_class_takes_it_along_as_by_hand(coloured, data):
    given = input_of(32, 32)

    def units_of(pixels: np.ndarray) -> np.ndarray:
        x = to_input(torch.from_numpy(pixels.copy())[None], given).double()
        return (x - 1).clamp_min(0).mean((0, 2, 3)).numpy()

    # In the order of the channels; the network's outputs are blue, green, red.
    means = np.mean([units_of(read_image(data, row)) for row in data.rows], axis=0)
    assert (0 < means).all()
    assert (means < 0.3).all()
    units, label = [], []
    for c, name in enumerate(COLOURS):
        for path in sorted((coloured / "pictures" / name).iterdir()):
            units.append(units_of(np.asarray(Image.open(path))))
            label.append(c)

    def right(units: np.ndarray) -> np.ndarray:
        return (units[:, ::-1] + [0.3, 0, 0]).argmax(axis=1) == np.array(label)

    def by_class(images: np.ndarray) -> list[int]:
        return images.reshape(3, N).sum(axis=1).tolist()

    is_right = right(np.array(units))
    before = by_class(is_right)
    assert before[0] == N
    assert 8 < before[1] < N
    assert 8 < before[2] < N
    rows = {(int(row["unit"]), row["class"]): row for row in rows_of(coloured)}
    assert len(rows) == 4 * 4
    for unit in range(4):
        changed = np.array(units)
        if unit < 3:
            changed[:, unit] = means[unit]
        is_right_after = right(changed)
        after = by_class(is_right_after)
        lost, gained = by_class(is_right & ~is_right_after), by_class(is_right_after & ~is_right)
        # Red and green need a unit each, and no other; nobody needs the last.
        if unit != 2:
            assert after == [N, 0 if unit == 1 else before[1], 0 if unit == 0 else before[2]]
        for c, name in enumerate(COLOURS):
            row = rows[unit, name]
            found = [int(row[name]) for name in ("images", "lost", "gained")]
            assert found == [N, lost[c], gained[c]]
            assert float(row["before"]) == pytest.approx(100 * before[c] / N)
            assert float(row["after"]) == pytest.approx(100 * after[c] / N)
            assert float(row["drop"]) == pytest.approx(100 * (before[c] - after[c]) / N)
            if not gained[c]:
                assert float(row["p"]) == pytest.approx(min(1, 2 / 2 ** lost[c]), rel=1e-3)
        total = rows[unit, ""]
        assert (int(total["images"]), int(total["lost"])) == (3 * N, sum(lost))


def test_the_most_important_stand_beside_units_drawn_at_random(coloured):
    (together,) = [
        row for row in read_table(coloured / "ablation.csv", "ablation").rows
        if row["statistic"] == "together"
    ]  # fmt: skip
    assert together["units"] in {"0", "1"}
    assert float(together["value"]) > float(together["null_mean"]) > 0
    excess = float(together["value"]) - float(together["null_mean"])
    assert float(together["excess"]) == pytest.approx(excess, abs=2e-4)
    assert 1 / 21 <= float(together["p"]) + 1e-4
    config = read_table(coloured / "importance.csv", "importance").config
    assert config["ablation"]["top"] == 1


def test_concepts_are_judged_by_rank_from_stored_maps(told, data):
    """The slow way: every image and unit alone, from the stored float16 maps."""
    model = Run(told).network()
    with open_activations(told / "activations.h5") as source:
        maps = torch.from_numpy(source["low"].maps[:]).float()
    with Run(told).open_labels() as labels:
        present = np.array(
            [np.isin(np.arange(4), labels.regions(n).member_concept) for n in range(20)]
        )
        names = labels.names
    means = maps.double().mean((0, 2, 3)).float()

    def scores_of(unit: int | None) -> np.ndarray:
        found = []
        for image in maps:
            changed = image.clone()
            if unit is not None:
                changed[unit] = means[unit]
            with torch.no_grad():
                found.append(model.rest(changed[None])[0].numpy())
        return np.array(found)

    before = right_concepts(scores_of(None), present)
    rows = {(int(row["unit"]), row["class"]): row for row in rows_of(told)}
    changes = 0
    for unit in range(6):
        after = right_concepts(scores_of(unit), present)
        for c, name in enumerate(names):
            row = rows[unit, name]
            assert int(row["images"]) == present[:, c].sum()
            assert int(row["lost"]) == (before & ~after)[:, c].sum()
            assert int(row["gained"]) == (after & ~before)[:, c].sum()
            changes += int(row["lost"]) + int(row["gained"])
    assert changes > 5


def test_both_halves_have_the_images_and_the_top_is_told_of_one(told):
    (total,) = [row for row in rows_of(told, "2") if not row["class"]]
    every = next(row for row in rows_of(told) if not row["class"])
    assert 0 < int(total["images"]) < int(every["images"])
    assert total["unit"] == total["q"] == ""


def test_maps_that_are_not_stored_and_a_way_around_the_layer_give_the_same(
    told, data, tmp_path, caplog
):
    """All but what float16 rounds: the counts of the same images and units."""
    caplog.set_level("INFO")
    (tmp_path / "streamed").mkdir()
    (tmp_path / "around").mkdir()
    streamed = make_run(tmp_path / "streamed", data, concepts, "trained", cache="none",
                        dtype="float32")  # fmt: skip
    whole = make_run(tmp_path / "around", data, around, "trained", dtype="float32")
    state = torch.load(streamed / "model.pt")
    assert all(
        torch.equal(value, state[key.removeprefix("inner.")])
        for key, value in torch.load(whole / "model.pt").items()
    )
    for run in (streamed, whole):
        ablate(run, Ablation(top=2))
    assert "inner.low: the whole network runs for each unit" in caplog.text
    counts = [
        [[row[name] for name in ("unit", "class", "before", "lost", "gained")]
         for row in rows_of(run)]
        for run in (told, streamed, whole)
    ]  # fmt: skip
    assert counts[1] == counts[2]
    assert sum(a != b for a, b in zip(counts[0], counts[1], strict=True)) <= 1


def test_the_same_seed_gives_the_same_bytes(told, tmp_path):
    for seed, same in ((0, True), (1, False)):
        paths = [tmp_path / f"{seed}-{name}" for name in TABLES]
        write_ablation(Run(told), *paths, Ablation(top=2, seed=seed, limit=20), device="cpu")
        found = [path.read_bytes() == (told / name).read_bytes()
                 for path, name in zip(paths, TABLES, strict=True)]  # fmt: skip
        assert all(found) == same


def test_a_run_tells_what_is_lost(coloured, told):
    run = open_run(coloured)
    frame = run.importance("low")
    assert frame["unit"].isna().sum() == 4
    assert frame["drop"].dtype == float
    units = run.units()
    assert list(units.columns[-2:]) == ["loses", "drop"]
    losses = largest_losses(run.read_table("importance").rows)["low"]
    for unit, (name, drop) in enumerate(zip(units["loses"], units["drop"], strict=True)):
        if (loss := losses[unit]) is None:
            assert (name, np.isnan(drop)) == ("", True)
        else:
            assert (name, drop) == (loss.name, loss.drop)
    assert [loss.name if loss else None for loss in losses.values()][:2] == ["red", "green"]
    assert losses[3] is None


def test_without_the_table_units_tell_nothing_of_it(told, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(told, copy, ignore=shutil.ignore_patterns("importance.csv*"))
    assert list(open_run(copy).units().columns)[-1] == "q"


def test_what_loses_most_is_told_where_it_is_beyond_chance():
    def row(name: str, drop: float, q: float, k: str = "1", unit: str = "0") -> dict[str, str]:
        return {"layer": "a", "k": k, "unit": unit, "class": name, "images": "9", "before": "50",
                "after": str(50 - drop), "drop": str(drop), "q": str(q)}  # fmt: skip

    rows = [
        row("", 30, 0.01), row("x", 20, 0.2), row("y", 10, 0.05), row("z", 5, 0.01),
        row("g", -40, 0.001), row("x", 3, 0.2, unit="1"), row("x", 50, 0.001, "1", ""),
    ]  # fmt: skip
    losses = largest_losses(rows)["a"]
    assert losses[0] == ("y", 9, 50, 40, 10, 0.05)
    assert losses[1] is None


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, DatasetError, r"network has 3 outputs, which are not the 4 concepts .*--images"),
        ({"classes": "x.txt"}, ConfigError, r"ablation.classes: goes with class folders; name"),
        ({"images": "nowhere"}, DatasetError, r"nowhere: no such folder"),
        ({"layers": ("high",)}, Exception, r"no layer 'high'; there are low"),
    ],
)
def test_what_will_not_do_is_one_line(coloured, settings, error, message):
    before = {name: (coloured / name).read_bytes() for name in TABLES}
    with pytest.raises(error, match=message) as raised:
        ablate(coloured, Ablation(**settings))
    assert "\n" not in str(raised.value)
    assert before == {name: (coloured / name).read_bytes() for name in TABLES}


def test_classes_by_a_file_of_names(coloured, tmp_path):
    """Outputs are blue, green, red; named otherwise, the same folders are wrong."""
    names = tmp_path / "names.txt"
    names.write_text("red\ngreen\nblue\n")
    paths = [tmp_path / name for name in TABLES]
    settings = Ablation(images=str(coloured / "pictures"), classes=str(names), top=1)
    write_ablation(Run(coloured), *paths, settings, device="cpu")
    rows = read_table(paths[0], "importance").rows
    found = {row["class"]: float(row["before"]) for row in rows[1:4]}
    right = {row["class"]: float(row["before"]) for row in rows_of(coloured)[1:4]}
    # What is no bright red is taken for blue, the output that is now called red.
    assert found == {"blue": 0, "green": right["green"], "red": 100 - right["red"]}


def test_other_weights_are_refused(told, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(told, copy)
    torch.manual_seed(1)
    torch.save(concepts().state_dict(), copy / "model.pt")
    with pytest.raises(Exception, match="weights"):
        ablate(copy)
