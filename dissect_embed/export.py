"""Vectors for other tools: ``vectors.npz``, and a folder for TensorBoard's embedding projector.

The projector (``tensorboard --logdir results/<run>/projector``, or projector.tensorflow.org) reads
a table of vectors, one of names, and a sprite: a picture a unit, here its top image, bright where
the unit is active.
"""

import io
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from tqdm import tqdm

from dissect_embed.artefacts.files import atomic_path
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.tables import write_table
from dissect_embed.figures.gallery import Gallery, read_maps, read_pixels
from dissect_embed.figures.maps import shade, share_of_threshold
from dissect_embed.run import Run

# Pixels of a picture's side. A sprite of 2,048 units then has 46 × 46 of them, below the 8,192
# pixels that the projector takes.
SIDE = 64


def write_npz(run: RunFolder, path: Path) -> None:
    """Write ``vectors.npz``: of each layer ``.image``, ``.dataset``, ``.label`` and ``.score``.

    ``<layer>.image`` and ``<layer>.dataset`` are ``(R, C, K)``, the vectors of all seeds by these
    similarities, where the run has them; ``<layer>.label`` and ``<layer>.score`` are each unit's
    best concept and its IoU; ``seeds`` is ``(R,)``.
    """
    with run.open_profiles() as profiles, run.open_embedding() as embedding:
        arrays: dict[str, Any] = {"seeds": np.array(embedding.seeds, dtype=np.int64)}
        for layer in embedding.layers:
            for similarity in embedding.similarities:
                arrays[f"{layer}.{similarity}"] = embedding.of(layer, similarity).vectors
            arrays[f"{layer}.label"] = np.array(profiles.best_names(layer))
            arrays[f"{layer}.score"] = profiles[layer].best.iou
    # Through memory: NumPy would append .npz to a temporary name.
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    with atomic_path(path) as part:
        part.write_bytes(content.getvalue())


def write_projector(
    run: Run, folder: Path, *, dataset: Path | None = None, device: str | None = None
) -> None:
    """Write the vectors of the first seed by each similarity, names and sprites of all layers.

    Parameters
    ----------
    dataset
        Where the data set lies now, if it was moved.
    """
    entries = []
    with (
        run.gallery(dataset=dataset, device=device) as any_layer,
        run.open_profiles() as profiles,
        run.open_embedding() as embedding,
    ):
        for layer, stem in file_stems(embedding.layers).items():
            gallery = any_layer.of_layer(profiles, layer)
            rows = [[f"{layer}:{unit}", *concept] for unit, concept in enumerate(gallery.concepts)]
            write_table(folder / f"{stem}.metadata.tsv", ["unit", "label", "score"], rows, "\t")
            sprite = lay_out(unit_pictures(gallery))
            with atomic_path(folder / f"{stem}.sprite.png") as part:
                Image.fromarray(sprite).save(part, format="PNG")
            for similarity in embedding.similarities:
                file = f"{stem}.{similarity}.tensors.tsv"
                vectors = embedding.of(layer, similarity).vectors[0]
                _write_tensors(folder / file, vectors)
                entries.append(
                    f'embeddings {{\n  tensor_name: "{stem}.{similarity}"\n'
                    f'  tensor_path: "{file}"\n'
                    f'  metadata_path: "{stem}.metadata.tsv"\n  sprite {{\n'
                    f'    image_path: "{stem}.sprite.png"\n'
                    f"    single_image_dim: {SIDE}\n    single_image_dim: {SIDE}\n  }}\n}}\n"
                )
    with atomic_path(folder / "projector_config.pbtxt") as part:
        part.write_text("".join(entries))


def file_stems(layers: Sequence[str]) -> dict[str, str]:
    """Return for each layer the beginning of a file's name, in plain letters.

    Examples
    --------
    >>> file_stems(["layer1", "relu#1", 'out["aux"]', "out['aux']"])
    {'layer1': 'layer1', 'relu#1': 'relu-1', 'out["aux"]': 'out-aux', "out['aux']": 'out-aux-2'}
    """
    stems: dict[str, str] = {}
    for layer in layers:
        plain = re.sub(r"[^A-Za-z0-9_.]+", "-", layer).strip("-")
        names = itertools.chain([plain], (f"{plain}-{n}" for n in itertools.count(2)))
        stems[layer] = next(name for name in names if name not in stems.values())
    return stems


def unit_pictures(gallery: Gallery, side: int = SIDE) -> UInt8[np.ndarray, "unit side side 3"]:
    """Return each unit's top image, as bright as it is active, and as it was where it fires."""
    tops = gallery.peak.argmax(axis=0)
    pictures = np.empty((len(tops), side, side, 3), dtype=np.uint8)
    bar = tqdm(total=len(tops), desc=f"{gallery.layer} pictures", unit=" units", disable=None)
    with bar:
        for image in np.unique(tops).tolist():
            units = np.flatnonzero(tops == image).tolist()
            pixels = read_pixels(gallery, image)
            for unit, maps in zip(units, read_maps(gallery, [image], units)[0], strict=True):
                share = share_of_threshold(maps, float(gallery.thresholds[unit]))
                picture = Image.fromarray(shade(pixels, share))
                pictures[unit] = np.asarray(picture.resize((side, side), Image.Resampling.BOX))
            bar.update(len(units))
    return pictures


def lay_out(pictures: UInt8[np.ndarray, "unit side side 3"]) -> UInt8[np.ndarray, "y x 3"]:
    """Lay pictures out in a square, row by row; what is left over is white.

    Examples
    --------
    >>> lay_out(np.zeros((5, 2, 2, 3), dtype=np.uint8)).shape
    (6, 6, 3)
    """
    n, side = pictures.shape[:2]
    columns = int(np.ceil(np.sqrt(n)))
    sheet = np.full((columns * columns, side, side, 3), 255, dtype=np.uint8)
    sheet[:n] = pictures
    sheet = sheet.reshape(columns, columns, side, side, 3).swapaxes(1, 2)
    return sheet.reshape(columns * side, columns * side, 3)


def _write_tensors(path: Path, vectors: Float[np.ndarray, "unit dim"]) -> None:
    rows: Sequence[str] = ["\t".join(f"{value:.6g}" for value in row) for row in vectors.tolist()]
    with atomic_path(path) as part:
        part.write_text("\n".join(rows) + "\n")
