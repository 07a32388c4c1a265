"""Write the folder of the atlas: a page, its data, its pictures, and the libraries it needs."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import vl_convert

from dissect_embed.atlas.charts import build_charts, category_colours
from dissect_embed.errors import ArtefactError

# Files of the page as they stand, and the table's library (MIT, its licence beside it).
STATIC = ("page/atlas.js", "page/atlas.css")
VENDOR = ("dataTables.min.js", "dataTables.dataTables.min.css", "LICENSE-datatables.txt")


@contextmanager
def fill_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder``; filled without an error, it takes its place.

    Raises
    ------
    ArtefactError
        If ``folder`` is there and is no atlas: it is not replaced.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "atlas.js").is_file():
        msg = f"{folder}: holds something that is no atlas; name another folder, or empty it"
        raise ArtefactError(msg)
    part = folder.with_name(f"{folder.name}.part")
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part)
        raise
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)


def write_layer(part: Path, number: int, content: Mapping[str, Any]) -> None:
    """Write what is told of a layer, as a script: pages opened from disk may load nothing else."""
    data = part / "data"
    data.mkdir(exist_ok=True)
    (data / f"{number}.js").write_text(f"atlas.receive({number}, {as_script(content)});\n", "utf-8")


def write_page(
    part: Path, title: str, layers: Sequence[Mapping[str, Any]], categories: Sequence[str],
    *, pictures: bool, n_images: int,
) -> None:  # fmt: skip
    """Write the page itself.

    Parameters
    ----------
    layers
        Of each its ``name`` and the number of its ``units``.
    pictures
        Whether there are pictures of units; the page says so where there are none.
    n_images
        Images of the data set.
    """
    package = files("dissect_embed.atlas")
    for name in STATIC:
        source = package.joinpath(*name.split("/"))
        (part / Path(name).name).write_bytes(source.read_bytes())
    for name in VENDOR:
        (part / name).write_bytes(package.joinpath("vendor", name).read_bytes())
    # A scope of its own, for the bundle's many short names would be the page's.
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    vega = f"(() => {{\n{bundle}\n}})();\n"
    (part / "vega.js").write_text(vega, "utf-8")
    settings = {
        "layers": [layer["name"] for layer in layers],
        "colours": category_colours(categories),
        "charts": build_charts(categories),
        "pictures": pictures,
    }
    (part / "settings.js").write_text(f"const settings = {as_script(settings)};\n", "utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(package.joinpath("page", "index.html.j2").read_text("utf-8"))
    page = template.render(
        title=title, layers=layers, colours=category_colours(categories), pictures=pictures,
        n_images=n_images,
    )  # fmt: skip
    (part / "index.html").write_text(page, "utf-8")


def as_script(value: Any) -> str:
    r"""Return a value as JSON that holds in a script and in a page: nothing in it ends a script.

    Examples
    --------
    >>> as_script({"concept": "</script>"})
    '{"concept":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
