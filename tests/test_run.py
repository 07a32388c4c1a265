"""What a user does from Python: dissect a network of one's own, open a run, ask it."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from given import IMAGENET
from PIL import Image
from torch import nn

import dissect_embed as de
from dissect_embed.artefacts.embedding import open_embedding
from dissect_embed.embedding import write_embedding
from dissect_embed.errors import ArtefactError, ConfigError, DatasetError, ModelError

SETTINGS = {
    "input": IMAGENET,
    "activations": de.Activations(batch_size=2),
    "dissection": de.Dissection(quantile=0.05),
    "embedding": de.Embedding(dim=4, epochs=3, steps_per_epoch=2, seeds=[3, 8]),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.ReLU(), nn.Conv2d(5, 7, 1), nn.ReLU())


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_tiny) -> de.Run:
    folder = tmp_path_factory.mktemp("python")
    tiny = make_tiny(folder / "tiny", 9)
    return de.dissect(network(), tiny, ["1", "3"], folder / "mine", **SETTINGS)


def test_importing_the_package_loads_neither_torch_nor_h5py():
    code = (
        "import sys, dissect_embed as de; dir(de);"
        "print(sorted({'torch', 'h5py', 'numpy', 'pandas', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_public_and_others_are_told():
    assert {"dissect", "open_run", "Embedding"} <= set(dir(de))
    with pytest.raises(AttributeError, match="has no attribute 'disect'; it has"):
        de.disect  # noqa: B018


def test_a_run_opens_again(run):
    again = de.open_run(str(run.folder))
    assert again.layers == run.layers == ["1", "3"]
    assert repr(again).startswith(f"Run('{run.folder}': labels, activations, profiles")
    assert again.config["embedding"]["dim"] == 4
    model = again.config["model"]
    assert (model["name"], model["weights"], model["layers"]) == ("Sequential", "given", ["1", "3"])
    assert model["input"]["mean"] == [0.485, 0.456, 0.406]


def test_units_have_their_best_concept(run):
    units = run.units()
    assert list(units.columns) == ["layer", "unit", "concept", "category", "iou", "p", "q"]
    assert units.groupby("layer").size().to_dict() == {"1": 5, "3": 7}
    profiles = run.profiles("3")
    np.testing.assert_allclose(units[units.layer == "3"].iou, profiles.max(axis=1))
    alive = units.p.dropna()  # one unit never fires
    assert len(alive) == 11
    assert ((alive > 0) & (alive <= 1)).all()


def test_units_of_a_concept_come_best_first(run):
    units = run.units("sky")
    assert set(units.concept) == {"sky"}
    assert units.iou.is_monotonic_decreasing
    layer, unit = units.iloc[0][["layer", "unit"]]
    concepts = run.concepts(layer, int(unit))
    assert concepts[concepts.concept == "sky"].iou.item() == units.iloc[0].iou
    with pytest.raises(ArtefactError, match=r"none of its 4 concepts is 'skye'; did you mean sky"):
        run.units("skye")


def test_neighbours_are_those_of_the_vectors(run):
    vectors = run.vectors("3")
    assert vectors.shape == (7, 4)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit[2]
    near = run.neighbours("3", 2, n=3)
    expected = [u for u in np.argsort(-cosine).tolist() if u != 2][:3]
    assert near.unit.tolist() == expected
    np.testing.assert_allclose(near.cosine, cosine[expected], rtol=1e-5)
    assert not np.allclose(run.vectors("3", seed=8), vectors)


def test_vectors_of_either_similarity_begin_alike_and_end_apart(run):
    by = {name: run.vectors("3", similarity=name) for name in ("image", "dataset")}
    np.testing.assert_array_equal(by["image"], run.vectors("3"))
    assert not np.allclose(by["image"], by["dataset"])
    with run.open_embedding() as embedding:
        assert embedding.similarities == ["image", "dataset"]
        assert embedding.methods == ["image", "dataset", "supervised"]
        starts = [embedding.of("3", method).trajectory[:, 0] for method in embedding.methods]
        for start in starts[1:]:
            np.testing.assert_array_equal(start, starts[0])
        vectors = embedding.of("3", "dataset").vectors[0]
        np.testing.assert_array_equal(vectors, by["dataset"])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = run.neighbours("3", 2, n=6, similarity="dataset")
    np.testing.assert_allclose(near.cosine, (unit @ unit[2])[near.unit], rtol=1e-5)


def test_minibatches_are_those_of_the_published_similarity_alone(run, tmp_path, monkeypatch):
    """As published there are batches; the other's vectors are trained at its mean, as always."""
    monkeypatch.setattr("dissect_embed.embedding.BATCH", 4)
    embedding = SETTINGS["embedding"].model_copy(update={"target": "minibatch"})
    path = tmp_path / "embedding.h5"
    files = run.path("similarity"), run.path("profiles")
    write_embedding(path, *files, embedding, activations_path=run.path("activations"))
    with open_embedding(path) as batches, run.open_embedding() as mean:
        for method, alike in (("image", False), ("dataset", True), ("supervised", True)):
            both = (file.of("3", method).vectors for file in (batches, mean))
            assert np.array_equal(*both) is alike
    alone = embedding.model_copy(update={"similarity": ("dataset",)})
    write_embedding(path, *files, alone)  # without the activations
    with pytest.raises(ArtefactError, match=r"minibatch replays the activations: name activat"):
        write_embedding(path, *files, embedding)


def test_a_run_of_one_similarity_trains_and_tells_that_one(run, tmp_path):
    """The other's numbers are what they are beside it, and ``similarity.h5`` has both."""
    settings = SETTINGS | {"embedding": SETTINGS["embedding"].model_copy(
        update={"similarity": ("dataset",)})}  # fmt: skip
    one = de.dissect(network(), run.folder.parent / "tiny", ["1", "3"], tmp_path / "x", **settings)
    np.testing.assert_array_equal(one.vectors("3"), run.vectors("3", similarity="dataset"))
    assert set(one.scores().similarity) == {"dataset", ""}
    for table in ("relations", "pairs", "overlap"):
        told = [{row["similarity"] for row in r.read_table(table).rows} for r in (one, run)]
        assert told == [{"dataset"}, {"image", "dataset"}]
    with one.open_similarity() as ours, run.open_similarity() as theirs:
        assert ours.fingerprint == theirs.fingerprint
        assert ours.similarities == ["image", "dataset"]
    with pytest.raises(ArtefactError, match=r"no vectors by similarity 'image'; there are dataset"):
        one.vectors("3", similarity="image")


def test_tables_are_frames(run):
    scores = run.scores()
    ours = scores[(scores.layer == "3") & (scores.method == "ours") & (scores.seed == 3)]
    for similarity in ("image", "dataset"):
        assert ours[ours.similarity == similarity].epoch.tolist() == [0, 1, 2, 3]
    limit = scores[(scores.layer == "3") & (scores.method == "limit")]
    assert limit.seed.isna().all()
    assert limit.similarity.tolist() == ["image", "dataset"]
    of_none = scores[scores.similarity == ""]
    assert set(of_none.method) == {"random", "supervised", "uniform"}
    controls = run.controls()
    assert set(controls.statistic) == {"kl", "gain", "rank_correlation", "neighbours"}
    # Layers, similarities, seeds; three statistics beside units shuffled, four beside wrong labels.
    assert len(controls) == 2 * 2 * 2 * (3 + 4)
    np.testing.assert_allclose(controls.excess, controls.value - controls.null_mean)
    assert {"first", "second", "target"} <= set(run.pairs().columns)


def test_layers_are_texts_in_frames_and_numbers_are_those_written(run):
    """The layers of this run are called 1 and 3."""
    for kind in ("scores", "controls", "pairs"):
        frame, rows = getattr(run, kind)(), run.read_table(kind).rows
        assert frame.layer.tolist() == [row["layer"] for row in rows]
        number = {"scores": "kl", "controls": "value", "pairs": "cosine"}[kind]
        assert frame[number].tolist() == [float(row[number]) for row in rows]
    assert run.controls().seed.tolist() == [
        int(row["seed"]) for row in run.read_table("controls").rows
    ]
    assert set(run.pairs().first_label) <= {*run.units().concept}


def test_a_table_is_read_once(run, monkeypatch):
    again, read = de.open_run(run.folder), []
    for name in ("dissect_embed.artefacts.folder.read_table", "pandas.read_csv"):
        monkeypatch.setattr(name, lambda *args, **options: read.append(args))
    assert len(again.scores()) == len(run.scores())
    assert read == []


def test_images_of_a_unit(run):
    with run.open_activations() as source:
        peak = source["3"].peak[:, 1]
        names = source.images
    images = run.images("3", 1, n=4)
    assert images.image.tolist() == [names[i] for i in np.argsort(-peak, kind="stable")[:4]]
    assert images.fires.dtype == bool


def test_a_unit_is_shown(run, tmp_path):
    figure = run.show("3", 1, n=3)
    assert len(figure.axes) == 3
    figure.savefig(tmp_path / "unit.png")


def test_a_unit_is_shown_on_any_picture(run, tmp_path):
    """A picture of the data set, under another name elsewhere, looks as it does there."""
    file = tmp_path / "elsewhere.jpg"
    shutil.copy(run.folder.parent / "tiny/images/4.jpg", file)
    by_name, by_file = run.show("3", 1, images=["4.jpg", file]).axes
    np.testing.assert_array_equal(*(ax.images[0].get_array() for ax in (by_name, by_file)))
    # Larger, and of another shape: brought to the size of the data set's.
    Image.new("L", (90, 50)).save(file.with_suffix(".png"))
    figure = run.show("3", 1, images=[file.with_suffix(".png")])
    assert figure.axes[0].images[0].get_array().shape == (32, 32, 3)


def test_what_is_no_picture_is_one_clear_error(run, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DatasetError, match=r"notes\.txt: cannot be read as a picture \(.*JPEG"):
        run.show("3", 1, images=[tmp_path / "notes.txt"])
    with pytest.raises(ArtefactError, match=r"^9\.jpg: no image of the data set.*and no file"):
        run.show("3", 1, images=["9.jpg"])
    picture = run.folder.parent / "tiny/images/4.jpg"
    with pytest.raises(ArtefactError, match="given in Python; name it again"):
        de.open_run(run.folder).show("3", 1, images=[picture])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: r.profiles("2"), "no layer '2'; there are 1, 3"),
        (lambda r: r.concepts("3", 7), "3 has the units 0 to 6, not 7"),
        (lambda r: r.neighbours("3", -1), "3 has the units 0 to 6, not -1"),
        (lambda r: r.images("1", 5), "1 has the units 0 to 4, not 5"),
        (lambda r: r.show("9", 0), "no layer '9'"),
        (lambda r: r.vectors("3", seed=1), "no vectors of seed 1; there are 3, 8"),
        (lambda r: r.vectors("3", similarity="x"), "similarity 'x'; there are image, dataset"),
        (lambda r: r.images("3", 1, n=-1), "n: -1, expected a whole number of at least 1"),
        (lambda r: r.neighbours("3", 1, n=0), "n: 0, expected a whole number of at least 1"),
        (lambda r: r.show("3", 1, n=-2), "n: -2, expected a whole number of at least 1"),
        (lambda r: de.open_run(r.folder).network(), r"given in Python; name it again: open_run"),
    ],
)
def test_what_is_not_there_is_named(run, ask, message):
    with pytest.raises(ArtefactError, match=message):
        ask(run)


def test_a_seed_is_a_whole_number(run):
    """As a user sees it: without the checks of types that tests have."""
    code = "import sys, dissect_embed as de; de.open_run(sys.argv[1]).vectors('3', seed='3')"
    command = [sys.executable, "-c", code, str(run.folder)]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "embedding.h5: no vectors of seed '3'; there are 3, 8, whole numbers" in told


def test_without_a_cache_the_given_network_is_used(run, tmp_path):
    tiny = run.folder.parent / "tiny"
    settings = SETTINGS | {"activations": de.Activations(batch_size=2, cache="none")}
    streamed = de.dissect(network(), tiny, ["1", "3"], tmp_path / "x", **settings)
    np.testing.assert_array_equal(streamed.profiles("3"), run.profiles("3"))
    np.testing.assert_array_equal(streamed.vectors("3"), run.vectors("3"))
    assert (tmp_path / "x/relations.csv").read_bytes() == (
        run.folder / "relations.csv"
    ).read_bytes()
    assert len(streamed.show("3", 1, n=2).axes) == 2
    assert len(streamed.show("3", 1, images=["0.jpg", tiny / "images/1.jpg"]).axes) == 2


def test_a_folder_that_holds_something_is_left_alone(run):
    before = sorted(run.folder.iterdir())
    with pytest.raises(ArtefactError, match="holds files already; name another folder"):
        de.dissect(network(), run.folder.parent / "tiny", ["1"], run.folder)
    assert sorted(run.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: de.Embedding(target="minibach"), r"embedding\.target: 'minibach', expected"),
        (lambda: de.Embedding(dim=0), r"embedding\.dim: 0, expected at least 1"),
        (lambda: de.Embedding(lr=-0.1), r"embedding\.lr: -0\.1, expected more than 0"),
        (lambda: de.Embedding(momentum=2), r"embedding\.momentum: 2, expected less than 1"),
        (lambda: de.Embedding(epochs=0), r"embedding\.epochs: 0, expected at least 1"),
        (lambda: de.Embedding(seeds=[1, 1]), r"embedding\.seeds: \[1, 1\]: 1 stands there twice"),
        (lambda: de.Dissection(quantile=1), r"quantile: 1: expected at most 0\.5: it is the sh"),
        (lambda: de.Dissection(quantile=1.5), r"quantile: 1\.5: expected at most 0\.5"),
        (lambda: de.Dissection(quantile=-0.2), r"quantile: -0\.2, expected more than 0"),
        (lambda: de.Dissection(quantile=0.995), r"quantile: 0\.995: expected at most 0\.5"),
        (lambda: de.Dissection(quantile=float("nan")), r"quantile: nan, expected a finite number"),
        (lambda: de.Chance(seed=-1), r"chance\.seed: -1, expected at least 0"),
        (lambda: de.Embedding(lrr=1), r"embedding\.lrr: no such setting .* did you mean lr\?"),
    ],
)
def test_a_setting_out_of_bounds_is_one_line(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        settings()
    assert "\n" not in str(caught.value)


def test_a_run_of_which_a_file_was_swapped(run, tmp_path):
    other = de.dissect(
        network(), run.folder.parent / "tiny", ["1", "3"], tmp_path / "other",
        **SETTINGS | {"dissection": de.Dissection(quantile=0.1)},
    )  # fmt: skip
    mixed = tmp_path / "mixed"
    shutil.copytree(run.folder, mixed)
    shutil.copy(other.folder / "profiles.h5", mixed)
    with pytest.raises(ArtefactError, match=r"made from another profiles than .*profiles\.h5"):
        de.open_run(mixed)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("3", r"layers: '3', expected a list of names of modules"),
        ([], r"model.layers: \(\), expected at least 1 of them"),
        (["3", "3"], "'3' stands there twice"),
        (["7"], "has no layer '7'"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_written(run, tmp_path, layers, message):
    out = tmp_path / "out"
    with pytest.raises((ModelError, ConfigError), match=message):
        de.dissect(network(), run.folder.parent / "tiny", layers, out, input=IMAGENET)
    assert not out.exists()


def test_a_part_of_a_data_set(run, tmp_path):
    """Of which the run knows, and finds again."""
    part = de.dissect(
        network(), run.folder.parent / "tiny", ["1"], tmp_path / "part",
        subset={"limit": 5, "exclude": ["sky"]}, **SETTINGS,
    )  # fmt: skip
    assert part.config["dataset"]["limit"] == 5
    assert len(part.images("1", 0, 99)) == len(part.dataset().rows) == 5
    assert set(part.units()["concept"]) <= {"red-c", "blue-c", "day-s", ""}


def test_a_file_is_no_folder(run, tmp_path):
    tiny = run.folder.parent / "tiny"
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtefactError, match="holds files already"):
        de.dissect(network(), tiny, ["1"], tmp_path / "file")
