"""From the files of a run to the folder of the atlas."""

from pathlib import Path

from dissect_embed.artefacts.files import check_made_from, open_artefact
from dissect_embed.artefacts.profiles import open_profiles
from dissect_embed.artefacts.tables import read_table
from dissect_embed.atlas.content import describe_layer
from dissect_embed.atlas.pictures import write_strips
from dissect_embed.atlas.writing import begin_folder, finish_folder, write_layer, write_page
from dissect_embed.figures.gallery import Gallery
from dissect_embed.figures.pages import run_title
from dissect_embed.relations import RELATION_COLUMNS


def write_atlas(
    folder: Path,
    profiles_path: Path,
    embedding_path: Path,
    relations_path: Path,
    gallery: Gallery | None,
    n_threads: int | None = None,
) -> int:
    """Write the folder of the atlas and return its size in bytes.

    Parameters
    ----------
    gallery
        What pictures are made from, of any layer; without, there are none and the page says so.

    Raises
    ------
    ArtefactError
        If the files do not belong together, or ``folder`` holds something else.
    """
    relations = read_table(relations_path, RELATION_COLUMNS, "relations")
    part = begin_folder(folder)
    with (
        open_profiles(profiles_path) as profiles,
        open_artefact(embedding_path, "embedding") as embedding,
    ):
        check_made_from(embedding, "profiles", profiles.fingerprint, str(profiles_path))
        told = []
        for number, layer in enumerate(profiles.layers):
            content = describe_layer(layer, profiles, embedding, relations)
            if gallery:
                images = part / "images" / str(number)
                strips = write_strips(images, gallery.of_layer(profiles, layer), n_threads)
                for unit, names in zip(content["units"], strips, strict=True):
                    unit["pictures"] = names
            write_layer(part, number, content)
            told.append({"name": layer, "units": len(content["units"])})
        write_page(
            part, run_title(profiles), told, profiles.categories,
            pictures=gallery is not None, n_images=profiles.config["dataset"]["images"],
        )  # fmt: skip
    return finish_folder(part, folder)
