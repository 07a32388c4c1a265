"""The atlas: its numbers, its folder, and its page in a browser."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from given import model_of
from PIL import Image
from torch import nn

from dissect_embed.activations import write_activations
from dissect_embed.artefacts.tables import write_artefact_table
from dissect_embed.atlas.content import unit_curves
from dissect_embed.atlas.projection import project_vectors
from dissect_embed.chance import write_chance
from dissect_embed.config import Activations, Dissection, Embedding
from dissect_embed.datasets.broden import load_broden
from dissect_embed.dissection import write_profiles
from dissect_embed.embedding import write_embedding
from dissect_embed.errors import ArtefactError
from dissect_embed.figures.gallery import read_pixels
from dissect_embed.labels import write_labels
from dissect_embed.mathematics.scores import score_vectors
from dissect_embed.mathematics.vectors import profile_target
from dissect_embed.relations import write_relations
from dissect_embed.run import Run
from dissect_embed.similarity import write_similarity

for _package in ("altair", "vl_convert"):
    pytest.importorskip(_package, reason="the atlas is drawn with it")

from dissect_embed.atlas.making import write_atlas  # noqa: E402  only now: it imports both
from dissect_embed.atlas.pictures import SMALL, draw_units  # noqa: E402

HOSTILE = ["<script>alert(1)</script>", 'say "a", it\'s b', "שלום <b>", "a & b;c", "</script>"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_tiny) -> Path:
    """All files of a run on the tiny data set: layers of 1, 12 and 2 dead units."""
    return make_run(tmp_path_factory.mktemp("atlas"), make_tiny, n_units=12)


def make_run(folder: Path, make_tiny, *, n_units: int) -> Path:
    data = load_broden(make_tiny(folder / "tiny"))
    concepts = tuple(
        dataclasses.replace(concept, name=HOSTILE[n % len(HOSTILE)])
        for n, concept in enumerate(data.concepts)
    )
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("one", nn.Sequential(nn.Conv2d(3, 1, 4, 4), nn.ReLU()))
    model.add_module("many", nn.Sequential(nn.Conv2d(1, n_units, 1), nn.ReLU()))
    dead = nn.Conv2d(n_units, 2, 1)
    nn.init.constant_(dead.weight, 0)
    nn.init.constant_(dead.bias, -1)
    model.add_module("dead", nn.Sequential(dead, nn.ReLU()))
    layers = ["one", "many", "dead"]
    files = ("activations", "labels", "profiles", "chance", "similarity", "embedding")
    path = {name: folder / f"{name}.h5" for name in files}
    write_activations(
        path["activations"], data, model,
        model_of(*layers, name="own:network", weights="random"), Activations(batch_size=2),
        name="<tiny>",
    )  # fmt: skip
    write_labels(path["labels"], dataclasses.replace(data, concepts=concepts), name="<tiny>")
    maps, labels = path["activations"], path["labels"]
    write_profiles(path["profiles"], maps, labels, Dissection(quantile=0.05))
    write_chance(path["chance"], maps, labels, path["profiles"])
    write_similarity(path["similarity"], maps)
    settings = Embedding(dim=4, seeds=(3,), epochs=2, steps_per_epoch=1)
    write_embedding(path["embedding"], path["similarity"], path["profiles"], settings)
    tables = (folder / f"{name}.csv" for name in ("relations", "pairs", "overlap"))
    write_relations(Run(folder), *tables)
    return folder


def make_atlas(run: Path, folder: Path, *, pictures: bool) -> Path:
    write_atlas(Run(run), folder, pictures=pictures)
    return folder


@pytest.fixture(scope="module")
def atlas(run) -> Path:
    return make_atlas(run, run / "atlas", pictures=True)


@pytest.mark.parametrize("n_units", [1, 2, 3, 7, 8, 40])
def test_places_fill_the_map_and_are_the_same_again(n_units):
    vectors = np.random.default_rng(0).normal(size=(n_units, 16)).astype(np.float32)
    places = project_vectors(vectors)
    assert places.shape == (n_units, 2)
    assert np.abs(places).max() == (1 if n_units > 1 else 0)
    np.testing.assert_array_equal(places, project_vectors(vectors))


def test_units_of_two_directions_lie_in_two_groups():
    rng = np.random.default_rng(1)
    centre = np.repeat(np.eye(16)[:2], 20, axis=0)
    places = project_vectors(centre + 0.05 * rng.normal(size=(40, 16)))
    inner = np.linalg.norm(places[:20] - places[:20].mean(axis=0), axis=1).max()
    assert np.linalg.norm(places[:20].mean(axis=0) - places[20:].mean(axis=0)) > inner


def test_units_all_alike_are_drawn_in_one_place():
    assert (project_vectors(np.ones((10, 4))) == 0).all()


def test_the_parts_of_units_average_to_the_score():
    rng = np.random.default_rng(0)
    iou, trajectory = rng.random((9, 5)), rng.normal(size=(61, 9, 4)).astype(np.float32)
    epochs, kl = unit_curves(iou, trajectory)
    assert epochs[0] == 0
    assert epochs[-1] == 60
    score = score_vectors(profile_target(iou), torch.from_numpy(trajectory[epochs]))
    np.testing.assert_allclose(kl.mean(axis=0), score)


def test_the_same_run_gives_the_same_bytes(run, atlas, tmp_path):
    again = make_atlas(run, tmp_path / "again", pictures=True)
    files = sorted(p.relative_to(atlas) for p in atlas.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert {str(f) for f in files if f.suffix == ".jpg"} == {
        f"images/{layer}/{unit}{which}.jpg"
        for layer, n in enumerate((1, 12, 2))
        for unit in range(n)
        for which in ("", ".near")
    }
    for file in files:
        assert (atlas / file).read_bytes() == (again / file).read_bytes(), file


def test_no_name_reaches_the_page_as_html(atlas):
    for file in (atlas / "index.html", atlas / "settings.js", *(atlas / "data").iterdir()):
        assert "<script>alert" not in file.read_text("utf-8")
    content = told_of(atlas, 1)
    assert {label for unit in content["units"] for label, *_ in unit["profile"]} <= set(HOSTILE)
    assert "&lt;tiny&gt;" in (atlas / "index.html").read_text("utf-8")


def test_a_folder_of_something_else_is_kept(run, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(ArtefactError, match="holds something that is no atlas; name another"):
        make_atlas(run, tmp_path, pictures=False)
    assert (tmp_path / "thesis.tex").read_text() == "all of it"


def test_relations_that_tell_of_other_units_are_refused(run, tmp_path):
    copy = tmp_path / "run"
    copy.mkdir()
    for name in ("profiles", "chance", "embedding"):
        shutil.copy(run / f"{name}.h5", copy)
    table = Run(run).read_table("relations")
    rows = [[*r.values()] for r in table.rows if (r["layer"], r["unit"]) != ("many", "7")]
    assert len(rows) == len(table.rows) - 2 * 3
    for name in ("pairs", "overlap"):
        for suffix in ("", ".json"):
            shutil.copy(run / f"{name}.csv{suffix}", copy)
    write_artefact_table(
        copy / "relations.csv", "relations", rows, table.config, table.made_from
    )  # fmt: skip
    with pytest.raises(ArtefactError, match=r"nothing of unit many:7; .*--forcerun relations"):
        make_atlas(copy, tmp_path / "atlas", pictures=False)
    assert not list(tmp_path.glob("atlas*"))


def told_of(folder: Path, layer: int) -> dict[str, Any]:
    """Return what the atlas tells of a layer."""
    told = (folder / "data" / f"{layer}.js").read_text("utf-8")
    content = re.fullmatch(rf"atlas\.receive\({layer}, (.*)\);\n", told)
    return json.loads(content.group(1))


def test_the_bound_of_a_detector_is_the_askers(run, tmp_path, atlas):
    write_atlas(Run(run), tmp_path / "atlas", Dissection(detector_iou=0.25), pictures=False)
    assert told_of(tmp_path / "atlas", 1)["detector"] == 0.25
    assert told_of(atlas, 1)["detector"] == 0.04


def test_units_are_set_beside_chance(run, atlas):
    opened = Run(run)
    with opened.open_chance() as chance:
        null, dead = np.sort(chance.best("many"), axis=0), chance.pixels("many") == 0
        assert chance.no_p == ""
    iou = opened.profiles("many")
    for unit, told in enumerate(told_of(atlas, 1)["units"]):
        if dead[unit]:
            assert (told["p"], told["q"], told["beyond"]) == (None, None, 0)
            continue
        p = float(1 + (null[:, unit] >= iou[unit].max()).sum()) / (1 + len(null))
        assert told["p"] == round(p, 4) <= told["q"]
        # At most one in twenty of the unit's own draws lies above.
        bound = null[-1 - len(null) // 20, unit]
        assert told["chance"] == round(float(bound), 4)
        assert told["beyond"] == (iou[unit] > bound).sum()


def test_units_are_told_beside_one_drawn_and_pairs_beside_random_vectors(run, atlas):
    """As the tables of the run have it, by its first similarity."""
    opened = Run(run)
    rows = {
        kind: [
            row
            for row in opened.read_table(kind).rows
            if (row["layer"], row["similarity"]) == ("many", "image")
        ]
        for kind in ("relations", "pairs", "overlap")
    }
    content = told_of(atlas, 1)
    for unit in content["units"]:
        near = [row for row in rows["relations"] if row["unit"] == str(unit["unit"])]
        assert [told[0] for told in unit["near"]] == [int(row["neighbour"]) for row in near]
        drawn = near[0]["drawn"]
        assert unit["drawn"] == ([int(drawn), float(near[0]["drawn_overlap"])] if drawn else None)
        pairs = [row for row in rows["pairs"] if row["target"] == str(unit["unit"])]
        assert [told[:2] for told in unit["pairs"]] == [
            [int(row["first"]), int(row["second"])] for row in pairs
        ]
        assert [told[3:5] for told in unit["pairs"]] == [
            [float(row["gain"]), float(row["start_gain"])] for row in pairs
        ]
    mean = opened.overlap().set_index(["layer", "similarity"]).loc[("many", "image")]
    assert content["overlap"] == [int(mean.iloc[0]), *(round(v, 4) for v in mean.iloc[1:])]


def test_the_nearest_and_one_drawn_are_shown_on_the_same_images(run, atlas):
    """The picture beside has what the units' own would show there, but smaller."""
    unit = next(u for u in told_of(atlas, 1)["units"] if u["drawn"])
    with Run(run).gallery("many") as gallery:
        images = [row.image for row in gallery.dataset.rows]
        strip = np.asarray(Image.open(atlas / f"images/1/{unit['unit']}.near.jpg")).astype(int)
        assert strip.shape == (SMALL, 800, 3)
        for n, other in enumerate((unit["near"][0][0], unit["drawn"][0])):
            for k, name in enumerate(unit["pictures"]):
                image = images.index(name)
                (expected,) = draw_units(
                    gallery, image, read_pixels(gallery, image), [other], SMALL
                )
                left = n * (800 - 5 * SMALL) + k * SMALL
                found = strip[:, left : left + SMALL]
                # JPEG's own loss; another unit or image is off by tens.
                assert np.abs(found - expected).mean() < 12


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="needs the group 'test'")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with api.sync_playwright() as play:
        yield play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


@pytest.fixture
def browse(browser):
    """Open a page; hold at the end that it reported nothing and asked for nothing elsewhere."""
    problems, requests, folders = [], [], []

    def load(folder: Path, address: str = "", scheme: str = "light", width: int = 1200):
        view = {"width": width, "height": 900}
        page = browser.new_context(color_scheme=scheme, viewport=view).new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((folder / "index.html").as_uri() + address)
        page.wait_for_selector("html[data-ready]")
        folders.append(folder.as_uri())
        return page

    yield load
    assert problems == []
    assert [url for url in requests if not url.startswith((folders[0], "data:"))] == []


def test_search_finds_a_concept_and_enter_opens_it(browse, atlas):
    page = browse(atlas, "#many")
    assert page.inner_text("#found") == "12 units of 12"
    concept = page.locator("#table tbody tr td").nth(1).inner_text()
    page.fill("#search", concept.upper())
    shown = page.locator("#table tbody tr td:nth-child(2)").all_inner_texts()
    assert set(shown) == {concept}
    assert page.inner_text("#found") == f"{len(shown)} units of 12".replace("1 units", "1 unit")
    page.press("#search", "Enter")
    page.wait_for_function("document.documentElement.dataset.ready.startsWith('#many/')")
    assert page.inner_text("#unit-title").startswith("many/")
    assert concept in page.inner_text("#best")
    page.fill("#search", "no such thing")
    assert page.inner_text("#found") == "no unit of this layer"
    assert "No unit matches." in page.inner_text("#table")


def test_a_click_opens_a_unit_and_its_link_opens_it_again(browse, atlas):
    page = browse(atlas, "#many")
    # The point of the unit that the table has first.
    name = page.locator("#table tbody tr a").first.inner_text()
    box = page.locator("#map svg .mark-symbol path").nth(int(name.split("/")[1])).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("document.documentElement.dataset.ready.startsWith('#many/')")
    title, url = page.inner_text("#unit-title"), page.url
    assert title == name
    assert url.endswith(f"#{title}")
    for part in ("#profile svg", "#curve svg", "#near a", "#strip img", "#beside img"):
        assert page.locator(part).first.is_visible(), part
    assert page.evaluate("document.querySelector('#strip img').naturalWidth") == 800
    page.goto(url)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.inner_text("#unit-title") == title


def test_the_keyboard_alone_opens_a_unit(browse, atlas):
    page = browse(atlas, "#many")
    link = page.locator("#table tbody tr a").first
    name = link.inner_text()
    page.locator("#least").focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == name:
            break
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.documentElement.dataset.ready === '#{name}'")
    assert page.evaluate("document.activeElement.id") == "unit-title"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("dark", 360)])
@pytest.mark.parametrize("address", ["#many/3", "#one/0", "#dead/1", ""])
def test_nothing_bars_the_way_and_nothing_is_cut_off(browse, atlas, scheme, width, address):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="group 'test'")
    page = browse(atlas, address, scheme, width)
    found = axe.Axe().run(page, options={"preload": False}).response["violations"]
    grave = [v for v in found if v["impact"] in ("serious", "critical")]
    assert [(v["id"], v["nodes"][0]["html"]) for v in grave] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_what_is_lost_without_a_unit_is_told_where_it_was_looked_at(browse, run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("atlas"))
    rows = [
        ["many", 1, unit, name, 210, 40, 40 - drop, drop, 13, 0, 0.0002, q]
        for unit in range(12)
        for name, drop, q in (("", 1.0, 0.01), ("sky", 2.0, 0.5),
                              (HOSTILE[0], 6.14, 0.003 if unit == 3 else 0.06))
    ]  # fmt: skip
    made_from = {"activations": Run(copy).header("activations")["fingerprint"]}
    write_artefact_table(copy / "importance.csv", "importance", rows, {}, made_from)
    folder = make_atlas(copy, tmp_path / "told", pictures=False)
    lost = [unit["loses"] for unit in told_of(folder, 1)["units"]]
    assert lost[3] == [HOSTILE[0], 6.14, 40, 33.86, 210, 0.003]
    assert lost[:3] + lost[4:] == [None] * 11
    page = browse(folder, "#many/3")
    assert page.inner_text("#loses") == (
        f"Without it {HOSTILE[0]} −6.1 points: right before 40.0 %, after 33.9 %, of 210 images "
        "(q 0.0030)."
    )
    assert "Without it no class loses" in browse(folder, "#many/4").inner_text("#loses")
    # Of another layer nothing is known, and nothing is said.
    assert not browse(folder, "#one/0").is_visible("#loses")


def test_formulas_are_told_where_they_were_looked_for(browse, run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("atlas"))
    words = f"{HOSTILE[0]} AND NOT sky"
    rows = [
        ["many", 3, words, 2, 0.25, "sky", 0.1, 0.15, -0.0312, 0.2, 0.1, 0.1, 0.01, 0.02],
        ["many", 4, "", 0, 0.0, "", 0.0, 0.0, *[""] * 6],
    ]
    made_from = {"activations": Run(copy).header("activations")["fingerprint"]}
    write_artefact_table(copy / "compositions.csv", "compositions", rows, {}, made_from)
    folder = make_atlas(copy, tmp_path / "told", pictures=False)
    page = browse(folder, "#many/3")
    assert page.inner_text("#formula") == (
        f"Best formula: {words}, IoU 0.2500, +0.1500 over any single concept; on images that it "
        "was not looked for on, −0.0312."
    )
    assert not browse(folder, "#many/4").is_visible("#formula")
    assert not browse(folder, "#one/0").is_visible("#formula")


def test_without_images_the_page_says_so(browse, run, tmp_path):
    page = browse(make_atlas(run, tmp_path / "plain", pictures=False), "#many/3")
    assert "made without the images" in page.inner_text("#unit")
    assert page.locator("#near a").first.is_visible()
    assert page.locator("img:visible").count() == 0


def test_other_layers_are_a_link_away(browse, atlas):
    page = browse(atlas, "#one/0")
    page.click("nav a:has-text('dead')")
    page.wait_for_function("document.documentElement.dataset.ready === '#dead'")
    assert page.inner_text("#found") == "2 units of 2"
    assert page.locator("nav a[aria-current]").inner_text().startswith("dead")


@pytest.mark.slow
def test_a_layer_of_2048_units(browse, make_tiny, tmp_path, monkeypatch):
    # Over all pairs of so many units the search takes a minute.
    monkeypatch.setattr("dissect_embed.relations.completing_pairs", lambda v, _: [[]] * len(v))
    folder = make_atlas(
        make_run(tmp_path, make_tiny, n_units=2048), tmp_path / "atlas", pictures=False
    )
    page = browse(folder, "#many/2047")
    assert page.inner_text("#unit-title") == "many/2047"
    assert page.inner_text("#found") == "2048 units of 2048"
    assert page.locator("#map svg .mark-symbol path").count() == 2048
    assert page.locator("#table tbody tr").count() == 10
    page.fill("#search", "1234")
    assert page.inner_text("#found") == "1 unit of 2048"
    page.press("#search", "Enter")
    page.wait_for_function("document.documentElement.dataset.ready === '#many/1234'")
    assert "fewer than three units" in page.inner_text("#pairs")
