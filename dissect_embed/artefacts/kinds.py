"""What a run makes, in one table: the version of each kind of file, who writes and who reads it.

Loads neither torch nor h5py, for the Snakefile reads it too.
"""

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of file.

    Attributes
    ----------
    version
        Rises when the numbers change their meaning or their layout; the rules pass it on, so that
        files of an older version are made again.
    rule
        The rule and command that make it.
    reader
        ``package.module:function`` that opens it, checked; empty where nothing reads it again.
    """

    version: int
    rule: str
    reader: str = ""


_HERE = "dissect_embed.artefacts"
KINDS = {
    # HDF5
    "labels": Kind(2, "labels", f"{_HERE}.labels:open_labels"),
    "activations": Kind(5, "activations", f"{_HERE}.activations:open_activations"),
    "thresholds": Kind(2, "thresholds", f"{_HERE}.thresholds:open_thresholds"),
    "profiles": Kind(3, "dissect", f"{_HERE}.profiles:open_profiles"),
    "chance": Kind(1, "chance", f"{_HERE}.chance:open_chance"),
    "similarity": Kind(3, "similarity", f"{_HERE}.similarity:open_similarity"),
    "embedding": Kind(3, "embed", f"{_HERE}.embedding:open_embedding"),
    "classes": Kind(2, "classes", "dissect_embed.datasets.classes:load_classes"),
    "prior": Kind(2, "prior", "dissect_embed.distillation.prior:load_prior"),
    # Tables, each with a JSON beside it
    "units": Kind(1, "units", f"{_HERE}.tables:read_table"),
    "scores": Kind(2, "score", f"{_HERE}.tables:read_table"),
    "controls": Kind(2, "score", f"{_HERE}.tables:read_table"),
    "relations": Kind(2, "relations", f"{_HERE}.tables:read_table"),
    "pairs": Kind(2, "relations", f"{_HERE}.tables:read_table"),
    "overlap": Kind(1, "relations", f"{_HERE}.tables:read_table"),
    # Others
    "dataset": Kind(1, "dataset", f"{_HERE}.dataset:read_dataset_file"),
    "mini": Kind(1, "mini"),
    "fetch": Kind(1, "fetch"),
    "model": Kind(1, "train"),
    "figures": Kind(2, "figure2, figure3, figure4, detectors"),
    "vectors": Kind(2, "export"),
    "atlas": Kind(2, "atlas"),
    "report": Kind(1, "report"),
    "table1": Kind(1, "table1"),
}
# Those of KINDS that are HDF5 files.
HDF5_KINDS = (
    "labels", "activations", "thresholds", "profiles", "chance", "similarity", "embedding",
    "classes", "prior",
)  # fmt: skip


def remedy(kind: str) -> str:
    """Return how a file of a kind is made again, for the end of an error."""
    return f"delete it and run 'snakemake --forcerun {KINDS[kind].rule}'"
