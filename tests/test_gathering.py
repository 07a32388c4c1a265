"""Parts of the images, and maps computed twice: the same numbers as the plain way."""

import json
import os
import shutil
from pathlib import Path

import h5py
import pytest
import torch
from given import model_of
from torch import nn

from dissect_embed.activations import write_activations
from dissect_embed.artefacts.files import open_artefact
from dissect_embed.artefacts.shards import parse_shard, shard_span
from dissect_embed.chance import write_chance
from dissect_embed.config import Activations, Dissection
from dissect_embed.datasets.broden import Broden, load_broden
from dissect_embed.dissection import write_profiles, write_thresholds
from dissect_embed.errors import ArtefactError, ConfigError, DatasetError
from dissect_embed.gathering import gather
from dissect_embed.labels import write_labels
from dissect_embed.networks.inputs import to_input
from dissect_embed.similarity import write_similarity

LAYERS = ["low", "high"]
QUANTILE = Dissection(quantile=0.05)


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("low", nn.Sequential(nn.Conv2d(3, 3, 4, 4), nn.ReLU()))
    model.add_module("high", nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU()))
    return model


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, make_tiny) -> Broden:
    return load_broden(make_tiny(tmp_path_factory.mktemp("shards") / "tiny", 9))


def make(
    folder: Path,
    dataset: Broden,
    n_shards: int = 1,
    model: nn.Module | None = None,
    **settings: object,
) -> Path:
    """Run all stages over the data set, in so many shards."""
    model = model or network()
    again = {"model": model, "dataset": dataset} if "cache" in settings else {}
    write_labels(folder / "labels.h5", dataset)
    shards = [f"{k + 1}-of-{n_shards}" for k in range(n_shards)] if n_shards > 1 else [None]

    def path(stage: str, shard: str | None) -> Path:
        return folder / f"{stage}/shard-{shard}.h5" if shard else folder / f"{stage}.h5"

    def gather_all(stage: str) -> None:
        if n_shards > 1:
            gather_stage(folder, stage, n_shards)

    for shard in shards:
        write_activations(
            path("activations", shard), dataset, model, model_of(*LAYERS),
            Activations(batch_size=1, **settings), name="tiny", shard=shard,
            n_threads=2,
        )  # fmt: skip
    gather_all("activations")
    if n_shards > 1:
        write_thresholds(folder / "thresholds.h5", folder / "activations.h5", QUANTILE, **again)
    for shard in shards:
        write_profiles(
            path("profiles", shard), path("activations", shard), folder / "labels.h5", QUANTILE,
            thresholds_path=folder / "thresholds.h5" if shard else None, **again,
        )  # fmt: skip
        write_similarity(path("similarity", shard), path("activations", shard))
    gather_all("profiles")
    gather_all("similarity")
    for shard in shards:
        write_chance(
            path("chance", shard), path("activations", shard), folder / "labels.h5",
            folder / "profiles.h5", **again,
        )  # fmt: skip
    gather_all("chance")
    return folder


def gather_stage(folder: Path, stage: str, n_shards: int) -> None:
    parts = [folder / f"{stage}/shard-{k + 1}-of-{n_shards}.h5" for k in range(n_shards)]
    whole = {} if stage == "activations" else {"activations_path": folder / "activations.h5"}
    if stage == "chance":
        whole["profiles_path"] = folder / "profiles.h5"
    gather(folder / f"{stage}.h5", parts[::-1], stage, **whole)


def content(path: Path, leave_out: tuple[str, ...] = ()) -> dict[str, object]:
    found: dict[str, object] = {}

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and not any(part in name for part in leave_out):
            found[name] = (str(item.dtype), item[()].tolist())

    with h5py.File(path) as file:
        file.visititems(keep)
        for name in ("fingerprint", "made_from"):
            found[name] = file.attrs[name]
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory, dataset) -> Path:
    return make(tmp_path_factory.mktemp("plain"), dataset)


@pytest.mark.parametrize("n_shards", [2, 7])
def test_shards_give_the_same_numbers(tmp_path, plain, dataset, n_shards):
    run = make(tmp_path, dataset, n_shards)
    for name in ("activations", "profiles", "similarity", "chance"):
        assert content(run / f"{name}.h5") == content(plain / f"{name}.h5")


@pytest.mark.parametrize("n_shards", [1, 3])
@pytest.mark.parametrize("cached", [[], ["high"]])
def test_maps_that_are_not_stored_give_the_same_numbers(tmp_path, plain, dataset, cached, n_shards):
    run = make(tmp_path, dataset, n_shards, cache=cached or "none")
    with h5py.File(run / "activations.h5") as file:
        stored = [layer for layer in LAYERS if "activations" in file[f"layers/{layer}"]]
        assert stored == cached
    for name in ("profiles", "similarity", "chance"):
        assert content(run / f"{name}.h5") == content(plain / f"{name}.h5")
    # The gathered activations hold the sums as well.
    write_similarity(run / "again.h5", run / "activations.h5")
    assert content(run / "again.h5") == content(plain / "similarity.h5")


def test_float32_in_shards_and_streamed(tmp_path, dataset):
    plain = make(tmp_path / "plain", dataset, dtype="float32")
    for name, options in (("shards", {"n_shards": 3}), ("streamed", {"cache": "none"})):
        run = make(tmp_path / name, dataset, dtype="float32", **options)
        for file in ("profiles.h5", "similarity.h5"):
            assert content(run / file) == content(plain / file)


def test_a_view_is_read_from_anywhere_and_moves_with_its_parts(tmp_path, plain, dataset):
    run = make(tmp_path / "run", dataset, 3)
    moved = tmp_path / "moved"
    run.rename(moved)
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        with open_artefact(Path("moved/activations.h5"), "activations") as view:
            assert view["layers/low/activations"].is_virtual
            assert view["layers/low/activations"][:].any(axis=(1, 2, 3)).all()
    finally:
        os.chdir(before)


def test_a_view_of_a_missing_part_is_an_error_and_not_zeros(tmp_path, dataset):
    run = make(tmp_path, dataset, 3)
    (run / "activations/shard-2-of-3.h5").unlink()
    with (
        pytest.raises(ArtefactError, match=r"a view of .*shard-2-of-3\.h5, which is missing"),
        open_artefact(run / "activations.h5", "activations"),
    ):
        pass


def test_parts_that_do_not_fit_are_named(tmp_path, dataset):
    run = make(tmp_path / "run", dataset, 3)
    parts = [run / f"profiles/shard-{k}-of-3.h5" for k in (1, 2, 3)]
    whole = {"activations_path": run / "activations.h5"}
    with pytest.raises(ArtefactError, match="one of 3 shards, but 2 are named"):
        gather(run / "x.h5", parts[:2], "profiles", **whole)
    with pytest.raises(ArtefactError, match=r"shard 2-of-3 is in .*shard-2-of-3\.h5 as well"):
        gather(run / "x.h5", [parts[0], parts[1], parts[1]], "profiles", **whole)
    with pytest.raises(ArtefactError, match="no shard but a whole file"):
        gather(run / "x.h5", [run / "profiles.h5"], "profiles", **whole)
    with pytest.raises(ArtefactError, match=r"name the activations of all shards as well"):
        gather(run / "x.h5", parts, "profiles")
    with h5py.File(parts[1], "r+") as file:
        config = json.loads(file.attrs["config"])
        config["dissection"]["quantile"] = 0.1
        file.attrs["config"] = json.dumps(config)
    with pytest.raises(ArtefactError, match=r"shard-2-of-3\.h5: made with other settings"):
        gather(run / "x.h5", parts, "profiles", **whole)
    assert not (run / "x.h5").exists()


def other_network() -> nn.Module:
    model = network()
    with torch.no_grad():
        model.high[0].bias += 0.5
    return model


def test_a_shard_of_other_weights_is_refused(tmp_path, dataset):
    run, other = (
        make(tmp_path / name, dataset, 2, model)
        for name, model in (("run", network()), ("other", other_network()))
    )
    for stage, message in (
        ("activations", r"made with other settings, weights or images than"),
        ("profiles", r"made from other activations than those in"),
        ("similarity", r"made from other activations than those in"),
        ("chance", r"made with other settings, weights or images than"),
    ):
        name = f"{stage}/shard-2-of-2.h5"
        kept = (run / name).read_bytes()
        shutil.copy(other / name, run / name)
        if stage == "activations":
            # Those who read the view see that a part is another one, before anything is gathered.
            with (
                pytest.raises(ArtefactError, match=r"shard-2-of-2\.h5, which holds other numbers"),
                open_artefact(run / "activations.h5", "activations"),
            ):
                pass
        with pytest.raises(ArtefactError, match=rf"shard-.-of-2\.h5: {message}"):
            gather_stage(run, stage, 2)
        (run / name).write_bytes(kept)
        gather_stage(run, stage, 2)


def test_a_shard_of_a_device_that_rounds_otherwise_is_refused(tmp_path, dataset, monkeypatch):
    run = make(tmp_path, dataset, 2)
    # Another device: the same network and settings, other numbers.
    monkeypatch.setattr(
        "dissect_embed.networks.preparation.to_input", lambda *given: to_input(*given) * 1.001
    )
    write_activations(
        run / "activations/shard-2-of-2.h5", dataset, network(), model_of(*LAYERS),
        Activations(batch_size=1), name="tiny", shard="2-of-2",
    )  # fmt: skip
    with pytest.raises(ArtefactError, match=r"2-of-2\.h5: its network gave other numbers than"):
        gather_stage(run, "activations", 2)


def test_maps_computed_once_more_must_be_what_they_were(tmp_path, dataset, monkeypatch):
    run = make(tmp_path, dataset, cache="none")
    again = {"model": network(), "dataset": dataset}
    files = run / "activations.h5", run / "labels.h5"
    write_profiles(run / "x.h5", *files, QUANTILE, **again)
    monkeypatch.setattr(
        "dissect_embed.networks.preparation.to_input", lambda *given: to_input(*given) * 1.001
    )
    with pytest.raises(ArtefactError, match=r"low on 0\.jpg, computed once more, is not what it"):
        write_profiles(run / "y.h5", *files, QUANTILE, **again)


def test_a_flipped_byte_of_a_map_is_noticed_by_all_that_read_it(tmp_path, dataset):
    run = make(tmp_path, dataset)
    with h5py.File(run / "activations.h5", "r+") as file:
        maps = file["layers/high/activations"]
        maps[4, 2, 0, 0] = maps[4, 2, 0, 0] + 1
    message = r"activations\.h5: high on 4\.jpg is damaged .*; delete it and run"
    with pytest.raises(ArtefactError, match=message):
        write_profiles(run / "x.h5", run / "activations.h5", run / "labels.h5", QUANTILE)
    with pytest.raises(ArtefactError, match=message):
        write_similarity(run / "x.h5", run / "activations.h5")


def test_a_flipped_byte_of_a_label_is_noticed(tmp_path, dataset):
    run = make(tmp_path, dataset)
    with h5py.File(run / "labels.h5", "r+") as file:
        file["region"][16 * 16 * 3 + 7] += 1
    with pytest.raises(ArtefactError, match=r"labels\.h5: the labels of 3\.jpg are damaged"):
        write_profiles(run / "x.h5", run / "activations.h5", run / "labels.h5", QUANTILE)


def test_a_layer_in_float16_and_float32_is_refused(tmp_path, dataset):
    run = make(tmp_path / "run", dataset, 2)
    part = run / "activations/shard-2-of-2.h5"
    with h5py.File(part, "r+") as file:
        file["layers/high"].attrs["dtype"] = "float32"
    parts = [run / "activations/shard-1-of-2.h5", part]
    with pytest.raises(ArtefactError, match=r"high is float32.*set activations\.dtype to float32"):
        gather(run / "activations.h5", parts, "activations")


def test_a_shard_is_not_dissected_with_its_own_thresholds(tmp_path, dataset):
    run = make(tmp_path, dataset, 2)
    shard = run / "activations/shard-1-of-2.h5"
    with pytest.raises(ArtefactError, match="name the thresholds of all"):
        write_profiles(run / "x.h5", shard, run / "labels.h5", QUANTILE)
    with pytest.raises(ArtefactError, match=r"dissection\.quantile = '0\.05', the config says"):
        write_profiles(
            run / "x.h5", shard, run / "labels.h5", thresholds_path=run / "thresholds.h5"
        )


def test_maps_are_computed_again_by_the_same_network_alone(tmp_path, dataset):
    run = make(tmp_path, dataset, cache="none")
    both = run / "activations.h5", run / "labels.h5"
    with pytest.raises(ArtefactError, match="the maps of low are not cached; name the data set"):
        write_profiles(run / "x.h5", *both)
    other = network()
    with torch.no_grad():
        other.high[0].bias += 1
    with pytest.raises(ArtefactError, match="made from another weights than"):
        write_profiles(run / "x.h5", *both, model=other, dataset=dataset)


def test_labels_of_another_data_set_are_refused(tmp_path, plain, dataset, make_tiny):
    other = load_broden(make_tiny(tmp_path / "other", 8))
    write_labels(tmp_path / "labels.h5", other)
    with pytest.raises(ArtefactError, match="made from another dataset than"):
        write_profiles(tmp_path / "x.h5", plain / "activations.h5", tmp_path / "labels.h5")


def test_a_layer_to_cache_must_be_probed(tmp_path, dataset):
    with pytest.raises(ConfigError, match=r"activations\.cache: 'mid' is none of the layers"):
        make(tmp_path, dataset, cache=["mid"])


def test_spans_cover_all_images_in_whole_batches():
    for n_images, batch_size, count in ((100, 7, 5), (9, 1, 9), (64, 16, 3)):
        spans = [shard_span(n_images, batch_size, f"{k + 1}-of-{count}") for k in range(count)]
        assert [n for span in spans for n in span] == list(range(n_images))
        assert all(span.start % batch_size == 0 for span in spans)
    with pytest.raises(DatasetError, match=r"8 parts of 100 images .*; choose at most 7"):
        shard_span(100, 16, "1-of-8")
    for wrong in ("0-of-3", "4-of-3", "2/3", ""):
        with pytest.raises(DatasetError, match="expected for example 2-of-7"):
            parse_shard(wrong)


def test_copies_hold_the_same_numbers(tmp_path, plain):
    """The comparison of this file sees a single changed count."""
    copy = tmp_path / "profiles.h5"
    shutil.copy(plain / "profiles.h5", copy)
    with h5py.File(copy, "r+") as file:
        file["layers/low/intersection"][0, 0] += 1
    assert content(copy) != content(plain / "profiles.h5")
