"""From the files of a run to the folder of the atlas."""

from contextlib import ExitStack
from pathlib import Path

from dissect_embed.artefacts.tables import largest_losses, mean_overlaps
from dissect_embed.atlas.content import describe_layer
from dissect_embed.atlas.pictures import write_strips
from dissect_embed.atlas.writing import fill_folder, write_layer, write_page
from dissect_embed.config import Dissection
from dissect_embed.figures.pages import run_title
from dissect_embed.run import Run


def write_atlas(
    run: Run,
    folder: Path,
    settings: Dissection = Dissection(),
    *,
    similarity: str | None = None,
    pictures: bool = True,
    dataset: Path | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> int:
    """Write the folder of the atlas and return its size in bytes.

    Parameters
    ----------
    similarity
        That the vectors were learned from, by default the run's first.
    pictures
        Without, no image of the data set is read, and the page says so.
    dataset
        Where the data set lies now, if it was moved.

    Raises
    ------
    ArtefactError
        If a file of the run is missing, there are no vectors by this similarity, or ``folder``
        holds something else.
    """
    name = run.similarity(similarity)
    relations, pairs, overlap = (
        [row for row in run.read_table(kind).rows if row["similarity"] == name]
        for kind in ("relations", "pairs", "overlap")
    )
    means = mean_overlaps(overlap)
    there = "importance" in run.kinds
    losses = largest_losses(run.read_table("importance").rows) if there else {}
    formulas = run.read_table("compositions").rows if "compositions" in run.kinds else []
    with fill_folder(folder) as part, ExitStack() as stack:
        profiles = stack.enter_context(run.open_profiles())
        embedding = stack.enter_context(run.open_embedding())
        chance = stack.enter_context(run.open_chance())
        gallery = (
            stack.enter_context(run.gallery(dataset=dataset, device=device)) if pictures else None
        )
        written = []
        for number, layer in enumerate(profiles.layers):
            content = describe_layer(
                layer,
                profiles,
                embedding.of(layer, name),
                chance,
                relations,
                pairs,
                means.get((layer, name)),
                losses.get(layer),
                formulas,
                settings.detector_iou,
            )
            if gallery:
                images = part / "images" / str(number)
                # Its nearest, and one drawn at random.
                beside = [
                    [told[0] for told in (*unit["near"][:1], unit["drawn"]) if told]
                    for unit in content["units"]
                ]
                of_layer = gallery.of_layer(profiles, layer)
                strips = write_strips(images, of_layer, beside, n_threads)
                for unit, names in zip(content["units"], strips, strict=True):
                    unit["pictures"] = names
            write_layer(part, number, content)
            written.append({"name": layer, "units": len(content["units"])})
        write_page(
            part, f"{run_title(profiles)}; similarity {name}", written, profiles.categories,
            pictures=pictures, n_images=profiles.config["dataset"]["images"],
        )  # fmt: skip
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
