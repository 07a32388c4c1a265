"""What every open file of a run tells, whose numbers lie layer by layer."""

from pathlib import Path
from typing import Any

import h5py

from dissect_embed.artefacts.files import layer_names, read_config, read_made_from


class LayeredFile:
    """An open file of a run.

    Attributes
    ----------
    path, config, made_from
        Of the file.
    layers
        Their names, in the order in which they were asked for.
    """

    def __init__(self, file: h5py.File) -> None:
        """Read what an open file says of itself."""
        self.file = file
        self.path = Path(file.filename)
        self.config: dict[str, Any] = read_config(file)
        self.made_from = read_made_from(file)
        self.layers = layer_names(file)

    @property
    def fingerprint(self) -> str:
        """That of the file, once it is whole."""
        return str(self.file.attrs["fingerprint"])
