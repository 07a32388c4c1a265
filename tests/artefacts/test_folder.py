"""The folder of a run: its files belong together, or it is told which do not, and what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from dissect_embed.artefacts.chance import write_draws, write_strata
from dissect_embed.artefacts.embedding import write_trained
from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.folder import FILES, RunFolder
from dissect_embed.artefacts.kinds import KINDS
from dissect_embed.artefacts.labels import ReadLabels, write_label_file
from dissect_embed.artefacts.profiles import ConceptTable, LayerCounts, write_profile_file
from dissect_embed.artefacts.similarity import write_targets
from dissect_embed.artefacts.tables import write_artefact_table
from dissect_embed.artefacts.words import create_similarity
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.index import Concept, ImageRow
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.null import PARTS, Drawn
from dissect_embed.mathematics.vectors import Trained

CONFIG = {"layers": ["a"], "model": {"name": "m", "weights": "random"}}
CONCEPTS = ConceptTable(
    ["sky", "tree"], np.array([1, 2]), ["object"], np.array([0, 0]), np.array([4, 2])
)


def fingerprint(path: Path) -> str:
    with h5py.File(path) as file:
        return str(file.attrs["fingerprint"])


def dataset(name: str) -> Broden:
    """Two images of 2 × 2 pixels, one of sky and tree, one of sky alone."""
    rows = tuple(ImageRow(f"{n}.jpg", "all", (4, 4), (2, 2), (1,)) for n in range(2))
    concepts = tuple(Concept(n, c, "object") for n, c in ((1, "sky"), (2, "tree")))
    return Broden(Path(name), "all", rows, concepts, ("object",), np.array([-1, 0, 1]), name)


def write_labels(path: Path, data: Broden) -> None:
    read = ReadLabels(
        np.array([0, 0, 1, 1, 0, 0, 0, 0], dtype="<u2"), np.array([2, 1]),
        np.array([0, 1, 0], dtype=np.int32), np.array([0, 1, 0], dtype=np.int32), np.array([2, 1]),
    )  # fmt: skip
    config = {"dataset": data.settings()}
    with create_artefact(path, "labels", config, {"dataset": data.fingerprint}) as file:
        write_label_file(file, data, [read], np.dtype("<u2"), lambda n: None)


def write_embedding(path: Path, similarity: str, profiles: str, value: float = 1.0) -> None:
    trained = Trained(torch.full((1, 3, 2, 4), value), torch.tensor([[0.5, 0.25]]))
    made_from = {"similarity": similarity, "profiles": profiles}
    config = CONFIG | {"embedding": {"similarity": ["dataset", "image"]}}
    with create_artefact(path, "embedding", config, made_from) as file:
        write_trained(file, [3], {("a", m): trained for m in ("image", "dataset", "supervised")})


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, write_maps: Callable[..., None]) -> Make:
    """Return what writes all files of a run of one layer of two units, each from the others."""

    def make_run(name: str = "run", value: float = 1.0) -> Path:
        folder = tmp_path / name
        data = dataset("tiny")
        path = {kind: folder / f"{kind}.h5" for kind in FILES}
        write_labels(path["labels"], data)
        maps = np.full((2, 2, 1, 1), value, dtype=np.float16)
        write_maps(path["activations"], data, maps)
        origin = {kind: fingerprint(path[kind]) for kind in ("activations", "labels")}
        counts = LayerCounts(np.array([[2, 0], [1, 1]]), np.array([[4], [3]]))
        threshold = {"a": np.full(2, value)}
        with create_artefact(path["profiles"], "profiles", CONFIG, origin) as file:
            write_profile_file(file, CONCEPTS, threshold, {"a": counts})
        profiles = fingerprint(path["profiles"])
        made_from = {"activations": origin["activations"], "profiles": profiles}
        with create_artefact(path["chance"], "chance", CONFIG, made_from) as file:
            write_strata(file, np.zeros(2, dtype=int), 1)
            both = PARTS * counts.intersection
            draw = Drawn(both[:, None], counts.activation[:, None], both, np.ones(2, dtype=int))
            write_draws(file, CONCEPTS, 0, {"a": draw})
        source = {"activations": origin["activations"]}
        with create_artefact(path["similarity"], "similarity", CONFIG, source) as file:
            p = np.full((2, 2), value / 2)
            write_targets(file, "a", {"image": p, "dataset": p}, 2)
        similarity = fingerprint(path["similarity"])
        write_embedding(path["embedding"], similarity, profiles, value)
        source = {"dataset": data.fingerprint}
        with create_artefact(path["words"], "words", CONFIG, source) as file:
            create_similarity(file, ["0.jpg", "1.jpg"], ["sky", "sea"])[:] = value
        made_from = {"profiles": profiles, "embedding": fingerprint(path["embedding"])}
        rows = [("a", "image", "ours", 3, 0, value)]
        write_artefact_table(folder / "scores.csv", "scores", rows, CONFIG, made_from)
        return folder

    return make_run


def refusal(folder: Path, use: Callable[[RunFolder], Any] = lambda run: None) -> str:
    """Return what is told of a folder that is not opened, or of which a file is not: one line."""
    with pytest.raises(ArtefactError) as caught:
        use(RunFolder(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def use(kind: str) -> Callable[[RunFolder], None]:
    """Return what opens one file of a folder."""

    def open_it(run: RunFolder) -> None:
        with getattr(run, f"open_{kind}")():
            pass

    return open_it


def test_files_that_belong_together_are_opened(make):
    run = RunFolder(str(make()))
    assert run.kinds == [*FILES, "scores"]
    assert run.layers == ["a"]
    assert run.config["dataset"]["name"] == "tiny"  # the labels' setting, as they come first
    assert repr(run).startswith("RunFolder('")
    with run.open_labels() as labels:
        assert labels.names == ["sky", "tree"]
        assert labels.regions(0).region.tolist() == [[0, 0], [1, 1]]
    with run.open_activations() as source:
        assert source.images == ["0.jpg", "1.jpg"]
    with run.open_profiles() as profiles:
        assert profiles["a"].iou.tolist() == [[2 / 6, 0], [1 / 6, 1 / 4]]
    with run.open_chance() as chance:
        assert chance.best("a").tolist() == [[2 / 6, 1 / 4]]
    with run.open_similarity() as similarity:
        assert similarity.target("a").tolist() == [[0.5, 0.5]] * 2
    with run.open_embedding() as embedding:
        assert embedding.seeds == [3]
        assert embedding["a"].vectors.shape == (1, 2, 4)
    assert run.read_table("scores").rows[0]["kl"] == "1.0"


def test_a_folder_that_is_none_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    for name in ("none", "file"):
        told = f"{tmp_path / name}: no such folder; name that of a run, results/<run>"
        assert refusal(tmp_path / name) == told


def test_a_folder_without_files_of_a_run_is_named(tmp_path):
    told = (
        f"{tmp_path}: no file of a run lies here; name results/<run>, or make one with "
        "'snakemake --cores all'"
    )
    assert refusal(tmp_path) == told
    (tmp_path / "model.pt").write_text("x")
    (tmp_path / "figures").mkdir()
    assert refusal(tmp_path) == told


@pytest.mark.parametrize(
    ("kind", "rule"),
    [("labels", "labels"), ("activations", "activations"), ("profiles", "dissect"),
     ("chance", "chance"), ("similarity", "similarity"), ("embedding", "embed"),
     ("words", "words")],
)  # fmt: skip
def test_a_run_that_is_half_made_names_what_is_missing(make, kind, rule):
    folder = make()
    path = folder / f"{kind}.h5"
    path.unlink()
    run = RunFolder(folder)
    assert kind not in run.kinds
    told = f"{path}: missing, the run is half made; run snakemake, or 'dissect-embed {rule}'"
    assert refusal(folder, use(kind)) == told
    for other in set(FILES) - {kind}:
        use(other)(run)


def test_a_table_that_is_missing_is_named(make):
    folder = make()
    for name in ("scores.csv", "scores.csv.json"):
        (folder / name).unlink()
    told = f"{folder / 'scores.csv'}: missing, the run is half made; run snakemake, or 'dissect-em"
    assert refusal(folder, lambda run: run.read_table("scores")).startswith(told)


@pytest.mark.parametrize("source", ["similarity", "profiles"])
def test_vectors_of_another_run_are_refused(make, source):
    folder = make()
    (folder / "scores.csv").unlink()
    origin = {kind: fingerprint(folder / f"{kind}.h5") for kind in ("similarity", "profiles")}
    write_embedding(folder / "embedding.h5", **(origin | {source: "that of another run"}))
    assert refusal(folder, use("embedding")) == (
        f"{folder / 'embedding.h5'}: made from another {source} than {folder / f'{source}.h5'}: "
        "files of two runs, or one was made anew; run snakemake again"
    )


@pytest.mark.parametrize(
    ("kind", "source"),
    [("profiles", "activations"), ("similarity", "activations"), ("chance", "activations")],
)
def test_files_of_another_run_are_refused(make, kind, source):
    folder, other = make("run"), make("other", 2.0)
    for name in {*FILES, "scores"} - {kind, source, "labels"}:
        for path in folder.glob(f"{name}.*"):
            path.unlink()
    (other / f"{kind}.h5").replace(folder / f"{kind}.h5")
    told = f"{folder / f'{kind}.h5'}: made from another {source} than {folder / f'{source}.h5'}"
    assert refusal(folder, use(kind)).startswith(told)


def test_labels_of_another_data_set_are_refused(make):
    folder = make()
    write_labels(folder / "labels.h5", dataset("other"))
    assert refusal(folder, RunFolder.check) == (
        f"{folder / 'activations.h5'}: made from another data set than {folder / 'labels.h5'}; "
        "run snakemake again"
    )


def test_a_file_that_has_nothing_to_do_with_it_may_be_of_an_older_run(make):
    """As when snakemake makes one after the other anew."""
    folder = make()
    profiles, similarity = (fingerprint(folder / f"{k}.h5") for k in ("profiles", "similarity"))
    write_embedding(folder / "embedding.h5", similarity, profiles, 7.0)
    use("embedding")(RunFolder(folder))
    use("chance")(RunFolder(folder))
    told = f"{folder / 'scores.csv'}: made from another embedding than {folder / 'embedding.h5'}"
    assert told in refusal(folder, lambda run: run.read_table("scores"))
    assert told in refusal(folder, RunFolder.check)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_an_older_version_is_named(make, kind):
    folder, version = make(), KINDS[kind].version
    path = folder / f"{kind}.h5"
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = version - 1
    told = f"{path}: expected {kind} version {version}, found {kind} version {version - 1}"
    again = f"delete it and run 'snakemake --forcerun {KINDS[kind].rule}'"
    assert refusal(folder, use(kind)) == f"{told}; {again}"


def test_a_file_of_a_later_version_asks_for_an_update(make):
    folder = make()
    with h5py.File(folder / "profiles.h5", "r+") as file:
        file.attrs["schema_version"] = 99
    told = refusal(folder, use("profiles"))
    assert told.startswith(f"{folder / 'profiles.h5'}: ")
    assert told.endswith("it is of a later version of dissect-embed: update this one")


@pytest.mark.parametrize("name", ["made_from", "config", "fingerprint"])
def test_a_damaged_header_is_named(make, name):
    folder = make()
    with h5py.File(folder / "chance.h5", "r+") as file:
        del file.attrs[name]
    told = refusal(folder, use("chance"))
    assert told.startswith(f"{folder / 'chance.h5'}: damaged (its header: ")
    assert name in told
    assert told.endswith("; delete it and run 'snakemake --forcerun chance'")


def test_a_truncated_file_is_named(make):
    folder = make()
    path = folder / "similarity.h5"
    path.write_bytes(path.read_bytes()[:1000])
    told = refusal(folder, use("similarity"))
    assert told.startswith(f"{path}: no HDF5 file, or a damaged one (")
    assert told.endswith("delete it and run 'snakemake --forcerun similarity'")


def test_the_same_numbers_of_another_run_are_the_same_run(make):
    """Settings alone part no files: what was computed twice alike may be exchanged."""
    folder, other = make("run"), make("other")
    with h5py.File(other / "embedding.h5", "r+") as file:
        file.attrs["config"] = json.dumps(CONFIG | {"created by": "another"})
    (other / "embedding.h5").replace(folder / "embedding.h5")
    assert RunFolder(folder).config["created by"] == "another"


def test_layers_and_units_that_are_not_there_are_named(make):
    run = RunFolder(make())
    assert run.check_layer("a") == "a"
    assert [run.check_unit("a", unit, 2) for unit in (0, 1)] == [0, 1]
    with pytest.raises(ArtefactError, match=r"run: no layer 'b'; there are a$"):
        run.check_layer("b")
    for unit in (-1, 2):
        with pytest.raises(ArtefactError, match=rf"run: a has the units 0 to 1, not {unit}$"):
            run.check_unit("a", unit, 2)
