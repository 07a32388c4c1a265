"""What a run makes, in one table: the version of each kind of file, and who writes it.

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
        The rule and command that make it; a command alone, of those in ``WITHOUT_RULE``.
    """

    version: int
    rule: str


KINDS = {
    # HDF5
    "labels": Kind(2, "labels"),
    "activations": Kind(6, "activations"),
    "thresholds": Kind(2, "thresholds"),
    "profiles": Kind(3, "dissect"),
    "chance": Kind(2, "chance"),
    "similarity": Kind(3, "similarity"),
    "embedding": Kind(3, "embed"),
    "words": Kind(1, "words"),
    "classes": Kind(2, "classes"),
    "prior": Kind(2, "prior"),
    # Tables, each with a JSON beside it
    "units": Kind(2, "units"),
    "evidence": Kind(1, "evidence"),
    "scores": Kind(3, "score"),
    "controls": Kind(3, "score"),
    "relations": Kind(3, "relations"),
    "pairs": Kind(3, "relations"),
    "overlap": Kind(1, "relations"),
    "compare": Kind(1, "compare"),
    "compositions": Kind(1, "compositions"),
    "importance": Kind(1, "ablate"),
    "ablation": Kind(1, "ablate"),
    # Others
    "dataset": Kind(1, "dataset"),
    "mini": Kind(1, "mini"),
    "fetch": Kind(1, "fetch"),
    "model": Kind(1, "train"),
    "figures": Kind(2, "figure2, figure3, figure4, detectors"),
    "vectors": Kind(2, "export"),
    "atlas": Kind(3, "atlas"),
    "report": Kind(1, "report"),
    "table1": Kind(2, "table1"),
}
# Those of KINDS that are HDF5 files.
HDF5_KINDS = (
    "labels", "activations", "thresholds", "profiles", "chance", "similarity", "embedding",
    "words", "classes", "prior",
)  # fmt: skip
# Of several runs, and made by a command alone: a config names one run.
WITHOUT_RULE = ("compare",)


def remedy(kind: str) -> str:
    """Return how a file of a kind is made again, for the end of an error."""
    if kind in WITHOUT_RULE:
        return f"delete it and run 'dissect-embed {KINDS[kind].rule}' again"
    return f"delete it and run 'snakemake --forcerun {KINDS[kind].rule}'"
