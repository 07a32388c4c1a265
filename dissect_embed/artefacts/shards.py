"""Split the images of a data set into parts for independent jobs.

Every number over the images is a sum, a maximum or a count, so parts add up exactly (``gathering``)
to what an undivided run gives.
"""

import re

from dissect_embed.errors import DatasetError


def shard_span(n_images: int, batch_size: int, shard: str | None) -> range:
    """Return the indices of a shard's images.

    A shard has whole batches, those of an undivided run.

    Parameters
    ----------
    shard
        ``2-of-7``, counted from 1; None for all images.

    Raises
    ------
    DatasetError
        If there is no such shard, or more shards than batches.

    Examples
    --------
    >>> [shard_span(100, 32, f"{k}-of-3") for k in (1, 2, 3)]
    [range(0, 32), range(32, 64), range(64, 100)]
    """
    if shard is None:
        return range(n_images)
    number, count = parse_shard(shard)
    n_batches = -(-n_images // batch_size)
    if count > n_batches:
        msg = (
            f"shards: {count} parts of {n_images} images in batches of {batch_size}; "
            f"choose at most {n_batches}"
        )
        raise DatasetError(msg)
    first, last = ((k * n_batches // count) * batch_size for k in (number - 1, number))
    return range(first, min(last, n_images))


def parse_shard(shard: str) -> tuple[int, int]:
    """Return number and count of ``2-of-7``.

    Raises
    ------
    DatasetError
        If it is nothing of the kind.
    """
    found = re.fullmatch(r"(\d+)-of-(\d+)", shard)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        msg = f"shard {shard!r}: expected for example 2-of-7, counted from 1"
        raise DatasetError(msg)
    return int(found[1]), int(found[2])
