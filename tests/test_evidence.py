"""Three kinds of evidence of one run, from files to the table, and files of words that will not do.

A hundred and twenty images. On every second of them some of the color map is red; words are
colours too.
"""

import csv
import json
import shutil

import h5py
import numpy as np
import pytest
from given import IMAGENET
from PIL import Image

import dissect_embed as de
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.words import open_words
from dissect_embed.chance import write_chance
from dissect_embed.config import Dissection, Words, read_config
from dissect_embed.datasets.broden import load_broden
from dissect_embed.dissection import write_profiles
from dissect_embed.errors import ArtefactError, ConfigError, DatasetError, ModelError
from dissect_embed.evidence import write_evidence
from dissect_embed.inspection import print_inspection
from dissect_embed.labels import write_labels
from dissect_embed.words import read_words, write_words

N = 120
# Images have a mean colour and words one each, but for "grey", which all images are like.
MODEL = """
import numpy as np

COLOURS = {"red": [1, -1, -1], "green": [-1, 1, -1], "blue": [-1, -1, 1], "grey": [.1, .1, .1]}
seen = []

def joint(dim=3):
    def images(pixels):
        assert pixels.dtype == np.uint8 and pixels.shape[1:] == (32, 32, 3)
        seen.append(len(pixels))
        return (pixels.mean(axis=(1, 2)) / 255)[:, :dim]
    return images, lambda words: np.array([COLOURS[word] for word in words])
"""


def make_data(root, make_tiny):
    make_tiny(root, N)
    rng = np.random.default_rng(0)
    for n in range(N):
        colour = np.full((16, 16, 3), (2, 0, 0), dtype=np.uint8)
        colour[: 5 * (n % 2), :, 0] = 1
        Image.fromarray(colour).save(root / f"images/{n}_color.png")
        pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        pixels[..., n % 3] += 150
        Image.fromarray(pixels).save(root / f"images/{n}.jpg")
    return load_broden(root)


def make_maps():
    """Return maps: unit 0 knows red labels, 1 what is green, 2 is dead, others know nothing."""
    rng = np.random.default_rng(1)
    maps = rng.random((N, 9, 4, 4))
    maps[1::2, 0] += 1
    maps[1::3, 1] += 1
    maps[:, 2] = 0
    return maps.astype(np.float16)


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_tiny, write_maps):
    folder = tmp_path_factory.mktemp("evidence")
    data = make_data(folder / "tiny", make_tiny)
    run = folder / "run"
    write_labels(run / "labels.h5", data)
    write_maps(run / "activations.h5", data, make_maps())
    sources = run / "activations.h5", run / "labels.h5"
    write_profiles(run / "profiles.h5", *sources, Dissection(quantile=0.05))
    write_chance(run / "chance.h5", *sources, run / "profiles.h5")
    (folder / "words.txt").write_text("red\n\n green \nblue\ngrey\n")
    (folder / "colour_words.py").write_text(MODEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        words = Words(file=str(folder / "words.txt"), model="colour_words:joint")
        write_words(run / "words.h5", data, words)
        yield run


@pytest.fixture
def run(made, tmp_path):
    """Return a copy, to be changed."""
    return shutil.copytree(made, tmp_path / "run")


def read(path):
    with path.open() as file:
        return {(row["kind"], int(row["unit"])): row for row in csv.DictReader(file)}


def test_words_are_compared_with_images_in_batches(made):
    with open_words(made / "words.h5") as file:
        assert file.words == ["red", "green", "blue", "grey"]
        assert file.config["words"]["model"] == "colour_words:joint"
        similarity = file.similarity
    assert similarity.shape == (N, 4)
    assert similarity.dtype == np.float32
    assert (similarity[:, :3].argmax(axis=1) == np.arange(N) % 3).all()
    from colour_words import seen

    assert seen == [32, 32, 32, 24]


def test_each_kind_of_evidence_finds_what_it_can(made, tmp_path):
    write_evidence(RunFolder(made), tmp_path / "evidence.csv")
    rows = read(tmp_path / "evidence.csv")
    assert len(rows) == 3 * 9
    images, words = rows["images", 0], rows["words", 1]
    assert (images["concept"], images["category"], images["p"]) == ("red-c", "color", "0.0099")
    assert float(images["score"]) == 1
    assert float(images["excess"]) == pytest.approx(1 - float(images["null_mean"]), abs=1e-4)
    assert (words["concept"], words["category"], words["p"]) == ("green", "", "0.0099")
    # Units that know nothing of it are not beyond chance.
    assert np.median([float(rows["images", n]["p"]) for n in range(3, 9)]) > 0.1
    assert np.median([float(rows["words", n]["p"]) for n in range(3, 9)]) > 0.1
    # A dead one has neither; its IoU is 0.
    for kind, score in (("pixels", "0.0"), ("images", ""), ("words", "")):
        assert list(rows[kind, 2].values())[3:] == ["", "", score, "", "", "", ""]
    about = json.loads((tmp_path / "evidence.csv.json").read_text())
    assert set(about["made_from"]) == {"profiles", "chance", "labels", "activations", "words"}
    # Only red can be told: blue, sky and day are in nearly all images.
    used = about["config"]["evidence"]["images"]
    assert used == {"compared": N - 1, "fewest": 20, "concepts": 1}
    assert about["config"]["evidence"]["words"] == {"top": 12}


def test_pixels_are_those_of_units_csv(made, tmp_path):
    from dissect_embed.tally import write_units

    write_evidence(RunFolder(made), tmp_path / "evidence.csv")
    write_units(RunFolder(made), tmp_path / "units.csv")
    rows = read(tmp_path / "evidence.csv")
    with (tmp_path / "units.csv").open() as file:
        for unit in csv.DictReader(file):
            row = rows["pixels", int(unit["unit"])]
            assert row["concept"] == unit["label"]
            for name in ("category", "score", "p", "q", "null_mean", "excess"):
                assert row[name] == unit[name]


def test_the_same_files_give_the_same_table_and_words_are_left_out_where_told(made, tmp_path):
    tables = []
    for name, words in (("a", True), ("b", True), ("c", False)):
        write_evidence(RunFolder(made), tmp_path / f"{name}.csv", words=words)
        tables.append((tmp_path / f"{name}.csv").read_bytes())
    assert tables[0] == tables[1]
    without = [line for line in tables[0].splitlines() if b",words," not in line]
    assert tables[2].splitlines() == without


def test_without_a_concept_to_tell_there_is_nothing_by_images(run, monkeypatch, capsys):
    monkeypatch.setattr("dissect_embed.mathematics.auc.FEWEST", 100)
    write_evidence(RunFolder(run), run / "evidence.csv")
    rows = read(run / "evidence.csv")
    assert list(rows["images", 0].values())[3:] == [""] * 7
    print_inspection(run)
    assert (
        "Nothing by images: no concept is in 20 images and lacks in 20" in capsys.readouterr().out
    )


def test_it_is_read_from_python_and_inspected(run, capsys):
    write_evidence(RunFolder(run), run / "evidence.csv")
    frame = de.open_run(run).evidence("a")
    assert frame.shape == (27, 10)
    assert frame.loc[(frame.unit == 1) & (frame.kind == "words"), "concept"].tolist() == ["green"]
    assert str(frame["p"].dtype) == "float64"
    print_inspection(run, unit="a:0")
    shown = capsys.readouterr().out
    assert "a:0 by each kind of evidence" in shown
    assert [line.split()[:5] for line in shown.splitlines() if line.startswith("images")] == [
        ["images", "red-c", "color", "AUC", "1.0000"]
    ]
    print_inspection(run)
    shown = capsys.readouterr().out
    assert "Units beyond chance (q at most 0.05) by each kind of evidence" in shown
    print_inspection(run / "words.h5")
    shown = capsys.readouterr().out
    assert "Cosines of 120 images and 4 words by colour_words:joint" in shown
    assert "Words: red to grey." in shown


def test_words_of_another_data_set_are_refused(run, tmp_path, make_tiny):
    other = load_broden(make_tiny(tmp_path / "other", 3))
    settings = Words(file=str(tmp_path / "words.txt"), model="colour_words:joint")
    (tmp_path / "words.txt").write_text("red\nblue")
    write_words(run / "words.h5", other, settings)
    with pytest.raises(
        ArtefactError, match=r"words.h5: made from another dataset than .*labels.h5"
    ):
        write_evidence(RunFolder(run), run / "evidence.csv")
    assert not list(run.glob("evidence*"))
    with pytest.raises(ArtefactError, match=r"words.h5: made from another data set than .*labels"):
        RunFolder(run).check()


def test_a_damaged_word_is_noticed(run):
    with h5py.File(run / "words.h5", "r+") as file:
        file["similarity"][3, 2] = 0.5
    with pytest.raises(ArtefactError, match=r"/similarity is damaged .*--forcerun words"):
        write_evidence(RunFolder(run), run / "evidence.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"red\nblue\n\nred\n", r"words.txt:4: 'red' stands in line 1 as well; keep one"),
        (b"red\n\n", r"words.txt: 1 words; units are told apart by two at least"),
        (b"", r"words.txt: 0 words"),
        (b"red\nbl\0ue\n", r"words.txt:2: a control character \(0x00\) in 'bl.*ue'; save it as"),
        (b"red\nblue\t3\n", r"words.txt:2: a control character \(0x09\) in 'blue"),
        (b"gr\xfcn\nblau", r"words.txt: cannot be read \(.*codec can't decode.*in UTF-8 with one"),
    ],
)
def test_a_file_of_words_that_will_not_do(tmp_path, content, message):
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_words(tmp_path / "words.txt")


def test_a_file_of_words_that_is_missing_and_one_with_a_mark_at_its_start(tmp_path):
    with pytest.raises(DatasetError, match=r"words.txt: cannot be read \(No such file"):
        read_words(tmp_path / "words.txt")
    (tmp_path / "words.txt").write_bytes(b"\xef\xbb\xbfred\r\nMeer bei Nacht\r\n")
    assert read_words(tmp_path / "words.txt") == ["red", "Meer bei Nacht"]


def test_images_and_words_of_two_spaces_are_refused(made, tmp_path, make_tiny):
    data = load_broden(make_tiny(tmp_path / "tiny"))
    file = made.parent / "words.txt"
    settings = Words(file=str(file), model="colour_words:joint", arguments={"dim": 2})
    message = "gives images 2 dimensions, words 3; they must lie in one space"
    with pytest.raises(ModelError, match=message):
        write_words(tmp_path / "words.h5", data, settings)
    assert not list(tmp_path.glob("words.h5*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"file": "a.txt"}, "words.model: words.file is named alone; name both or neither"),
        ({"model": "a:b"}, "words.file: words.model is named alone"),
        ({"files": "a.txt"}, "words.files: no such setting .*mean file"),
    ],
)
def test_half_a_setting_of_words_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        read_config({"words": words})


def test_a_run_from_python_has_words(made, tmp_path):
    from torch import nn

    network = nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.ReLU())
    run = de.dissect(
        network, made.parent / "tiny", ["1"], tmp_path / "out",
        input=IMAGENET, embedding=de.Embedding(epochs=2, seeds=[0]),
        activations=de.Activations(cache="none"),
        words=de.Words(file=str(made.parent / "words.txt"), model="colour_words:joint"),
    )  # fmt: skip
    assert run.evidence().groupby("kind").size().to_dict() == {
        "images": 5, "pixels": 5, "words": 5
    }  # fmt: skip
