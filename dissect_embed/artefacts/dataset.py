"""``dataset.json``: what a run's data set is, cheap to make; the rules depend on it."""

import hashlib
import json
from pathlib import Path

from dissect_embed.artefacts.files import atomic_path
from dissect_embed.artefacts.headers import describe
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.folders import list_files


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
