"""``dataset.json``: what a run's data set is, cheap to make; the rules depend on it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from dissect_embed.artefacts.files import atomic_path
from dissect_embed.artefacts.headers import check_version, describe
from dissect_embed.artefacts.kinds import remedy
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.folders import list_files
from dissect_embed.errors import ArtefactError


def write_dataset_file(path: Path, dataset: Broden, name: str = "") -> None:
    """Write ``dataset.json``: hashes of the tables, how many images and files, concepts.

    Parameters
    ----------
    name
        The data set's, in titles; by default that of its folder.
    """
    tables = {
        table.name: hashlib.sha256(table.read_bytes()).hexdigest()
        for table in sorted(dataset.root.glob("*.csv"))
    }
    sizes = list_files(dataset.root / "images")
    header = describe("dataset", {"dataset": dataset.settings(name)}, {})
    header["fingerprint"] = dataset.fingerprint
    header["tables"] = tables
    header["files"] = {"number": len(sizes), "bytes": sum(sizes.values())}
    header["concepts"] = len(dataset.concepts)
    header["categories"] = list(dataset.categories)
    with atomic_path(path) as part:
        part.write_text(json.dumps(header, indent=1) + "\n", "utf-8")


def read_dataset_file(path: Path) -> dict[str, Any]:
    """Return what ``write_dataset_file`` wrote.

    Raises
    ------
    ArtefactError
        If it is missing, damaged or of another version.
    """
    try:
        header = dict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        msg = f"{path}: missing; make it with 'dissect-embed dataset' or snakemake"
        raise ArtefactError(msg) from error
    except ValueError as error:
        msg = f"{path}: damaged ({error}); {remedy('dataset')}"
        raise ArtefactError(msg) from error
    check_version(path, header, "dataset")
    return header
