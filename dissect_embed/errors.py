"""The errors a user can meet.

Every message says what is wrong, where (file, row or key) and what to do; the command line prints
it without a stack trace.
"""

from collections.abc import Sequence


def first_of(names: Sequence[str], most: int = 5) -> str:
    """Return the first of some names, for the end of a message.

    Examples
    --------
    >>> first_of(["a", "b", "c"], 2)
    'a, b, …'
    """
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


class DissectEmbedError(Exception):
    """What a user can put right: bad input, a missing file, a full disk."""


class DatasetError(DissectEmbedError, ValueError):
    """A data set that is not in Broden's format, or not whole."""


class ArtefactError(DissectEmbedError, ValueError):
    """A file between stages that is missing, unreadable or made from something else."""


class ModelError(DissectEmbedError, ValueError):
    """A network that cannot be built, loaded or probed as asked."""


class DiskSpaceError(DissectEmbedError, OSError):
    """Not enough room for what a stage is about to write."""


class TrainingError(DissectEmbedError, RuntimeError):
    """A training that cannot begin, go on or be resumed as asked."""


class DeviceError(DissectEmbedError, RuntimeError):
    """A device that does not exist, or cannot do what is asked of it."""


class ConfigError(DissectEmbedError, ValueError):
    """A setting is unknown or out of bounds."""
