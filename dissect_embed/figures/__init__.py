"""The figures of the paper, drawn from the artefacts of a run."""
