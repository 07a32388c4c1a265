"""How alike the data set's images and the words of a text file are: ``words.h5``."""

import functools
import unicodedata
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dissect_embed.artefacts.disk import check_disk_space
from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.words import create_similarity
from dissect_embed.config import Words
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.device import choose_device
from dissect_embed.errors import DatasetError, ModelError
from dissect_embed.networks.joint import embed, load_joint
from dissect_embed.parallel import batched_map

# Images, and words, that the model is given at a time.
IMAGES, WORDS = 32, 256


def write_words(
    path: Path,
    dataset: Broden,
    settings: Words,
    *,
    name: str = "",
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Write the cosine of every image of a data set with every word to ``words.h5``.

    Parameters
    ----------
    settings
        The file of words, and the joint text-image model.
    name
        The data set's, in titles; by default that of its folder.
    device
        Where a model of open_clip runs.
    n_threads
        That decode images.

    Raises
    ------
    DatasetError
        If the file of words will not do, or an image is damaged.
    ModelError
        If the model cannot be made, or returns no vectors of one length for images and words.
    DiskSpaceError
        If the disk is too small.
    """
    words = read_words(Path(settings.file))
    check_disk_space(path, 4 * len(dataset.rows) * len(words))
    joint = load_joint(settings.model, settings.arguments, device=choose_device(device))
    parts = range(0, len(words), WORDS)
    bar = tqdm(parts, "words", unit=" parts", disable=None)
    of_words = np.concatenate([embed(joint.words, words[n : n + WORDS], "words") for n in bar])
    config = {"dataset": dataset.settings(name), "words": settings.model_dump(mode="json")}
    made_from = {"dataset": dataset.fingerprint}
    read = functools.partial(read_image, dataset)
    with (
        create_artefact(path, "words", config, made_from) as file,
        tqdm(total=len(dataset.rows), desc="images", unit=" images", disable=None) as progress,
    ):
        similarity = create_similarity(file, [row.image for row in dataset.rows], words)
        batches = batched_map(read, dataset.rows, IMAGES, n_threads=n_threads)
        for first, images in zip(range(0, len(dataset.rows), IMAGES), batches, strict=True):
            vectors = embed(joint.images, np.stack(images), "images")
            if vectors.shape[1] != of_words.shape[1]:
                msg = (
                    f"words.model: {settings.model} gives images {vectors.shape[1]} dimensions, "
                    f"words {of_words.shape[1]}; they must lie in one space"
                )
                raise ModelError(msg)
            similarity[first : first + len(images)] = vectors @ of_words.T
            progress.update(len(images))


def read_words(path: Path) -> list[str]:
    """Return the words of a text file, one a line; empty lines are passed over.

    Raises
    ------
    DatasetError
        If it cannot be read, has a control character in a word, fewer than two words, or one twice,
        which would share with itself what one word gets.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        msg = f"{path}: cannot be read ({why}); name a text file in UTF-8 with one word a line"
        raise DatasetError(msg) from error
    first: dict[str, int] = {}
    for line, text in enumerate(lines, start=1):
        word = text.strip()
        if odd := next((c for c in word if unicodedata.category(c) == "Cc"), ""):
            msg = (
                f"{path}:{line}: a control character ({ord(odd):#04x}) in {word!r}; save it as a "
                "text file in UTF-8 with one word a line"
            )
            raise DatasetError(msg)
        if word in first:
            msg = f"{path}:{line}: {word!r} stands in line {first[word]} as well; keep one"
            raise DatasetError(msg)
        if word:
            first[word] = line
    if len(first) < 2:
        msg = f"{path}: {len(first)} words; units are told apart by two at least, one a line"
        raise DatasetError(msg)
    return list(first)
