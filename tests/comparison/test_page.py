"""The page: it links the atlases that are there, and shows names as text."""

import re
import shutil

import pytest

from dissect_embed.comparing import write_comparison

HOSTILE = '<b>it\'s & "b"#1 ש'


@pytest.fixture(scope="module")
def page(three_runs, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("page")
    for name in ("a", HOSTILE):
        shutil.copytree(three_runs / "a", folder / name)
    (folder / HOSTILE / "atlas").mkdir()
    (folder / HOSTILE / "atlas/index.html").write_text("the atlas")
    out = write_comparison([folder / "a", folder / HOSTILE], folder / "deep/er")
    return (out / "index.html").read_text("utf-8")


def test_atlases_that_are_there_are_linked_from_where_the_page_lies(page):
    links = re.findall(r'href="([^"]*)"', page)
    atlas = "../../%3Cb%3Eit%27s%20%26%20%22b%22%231%20%D7%A9/atlas/index.html"
    assert links == ["data:,", atlas, "compare.csv", f"{atlas}#one", f"{atlas}#two"]
    assert re.search("none; made by <code>dissect-embed atlas [^<]*/a</code>", page)


def test_names_are_text(page):
    assert "<b>" not in page
    assert "&lt;b&gt;it&#39;s &amp; &#34;b&#34;#1 ש" in page


def test_the_page_loads_nothing(page):
    assert re.findall(r'src="(.{19})', page) == ["data:image/svg+xml;"]
    assert "<script" not in page
    assert "@import" not in page
