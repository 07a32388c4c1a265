"""The files of a run: where they lie, and whether they belong together."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dissect_embed.artefacts.chance import Chance, open_chance
from dissect_embed.artefacts.files import open_hdf5
from dissect_embed.artefacts.headers import check_version, read_header
from dissect_embed.artefacts.kinds import HDF5_KINDS, KINDS, WITHOUT_RULE, remedy
from dissect_embed.artefacts.profiles import Profiles, open_profiles
from dissect_embed.artefacts.tables import COLUMNS, Table, read_table
from dissect_embed.errors import ArtefactError

# These need torch, and what only reads tables and profiles shall not wait for it.
if TYPE_CHECKING:
    from dissect_embed.artefacts.activations import Activations
    from dissect_embed.artefacts.embedding import Embedding
    from dissect_embed.artefacts.labels import Labels
    from dissect_embed.artefacts.similarity import Similarity
    from dissect_embed.artefacts.words import WordSimilarity

# The files of a run: HDF5 files, and tables, which have a JSON beside them.
FILES = tuple(kind for kind in HDF5_KINDS if kind not in ("classes", "prior", "thresholds"))
TABLES = (*(kind for kind in COLUMNS if kind not in WITHOUT_RULE), "units")


class RunFolder:
    """The files of a run; what is asked for is checked, and what it was made from.

    A file that has nothing to do with what is asked for may be of an older run: snakemake makes one
    after the other anew.

    Attributes
    ----------
    folder
        ``results/<run>``.
    """

    def __init__(self, folder: Path | str) -> None:
        """Name a folder.

        Raises
        ------
        ArtefactError
            If there is none, or no file of a run in it.
        """
        self.folder = Path(folder)
        self._headers: dict[str, dict[str, Any]] = {}
        self._tables: dict[str, Table] = {}
        self._checked: set[str] = set()
        if not self.folder.is_dir():
            msg = f"{self.folder}: no such folder; name that of a run, results/<run>"
            raise ArtefactError(msg)
        if not self.kinds:
            msg = (
                f"{self.folder}: no file of a run lies here; name results/<run>, or make one with "
                "'snakemake --cores all'"
            )
            raise ArtefactError(msg)

    def __repr__(self) -> str:
        """Return what it is, in a line."""
        return f"{type(self).__name__}({str(self.folder)!r}: {', '.join(self.kinds)})"

    def path(self, kind: str) -> Path:
        """Return where a kind of file lies."""
        return self.folder / f"{kind}{'.csv' if kind in TABLES else '.h5'}"

    @property
    def kinds(self) -> list[str]:
        """The kinds of files that are there."""
        return [kind for kind in (*FILES, *TABLES) if self.path(kind).is_file()]

    @property
    def config(self) -> dict[str, Any]:
        """The settings that the files were made with, those of the first stages before others."""
        found: dict[str, Any] = {}
        for kind in reversed([kind for kind in self.kinds if kind in FILES]):
            try:
                found |= self.header(kind)["config"]
            except ArtefactError:
                continue  # of another version; who asks for that file is told
        return found

    @property
    def layers(self) -> list[str]:
        """The layers that were probed, in the order in which they were asked for."""
        return [str(layer) for layer in self.config["layers"]]

    @contextmanager
    def open_activations(self) -> Iterator["Activations"]:
        """Open ``activations.h5``."""
        from dissect_embed.artefacts.activations import open_activations

        with open_activations(self.need("activations")) as file:
            yield file

    @contextmanager
    def open_labels(self) -> Iterator["Labels"]:
        """Open ``labels.h5``."""
        from dissect_embed.artefacts.labels import open_labels

        with open_labels(self.need("labels")) as file:
            yield file

    @contextmanager
    def open_profiles(self) -> Iterator[Profiles]:
        """Open ``profiles.h5``."""
        with open_profiles(self.need("profiles")) as file:
            yield file

    @contextmanager
    def open_chance(self) -> Iterator[Chance]:
        """Open ``chance.h5``."""
        with open_chance(self.need("chance")) as file:
            yield file

    @contextmanager
    def open_similarity(self) -> Iterator["Similarity"]:
        """Open ``similarity.h5``."""
        from dissect_embed.artefacts.similarity import open_similarity

        with open_similarity(self.need("similarity")) as file:
            yield file

    @contextmanager
    def open_embedding(self) -> Iterator["Embedding"]:
        """Open ``embedding.h5``."""
        from dissect_embed.artefacts.embedding import open_embedding

        with open_embedding(self.need("embedding")) as file:
            yield file

    @contextmanager
    def open_words(self) -> Iterator["WordSimilarity"]:
        """Open ``words.h5``."""
        from dissect_embed.artefacts.words import open_words

        with open_words(self.need("words")) as file:
            yield file

    def read_table(self, kind: str) -> Table:
        """Read a table: ``units``, or one of those that ``tables.COLUMNS`` names."""
        self.need(kind)
        return self._tables[kind]

    def header(self, kind: str) -> dict[str, Any]:
        """Return what a file says of itself: ``config``, ``made_from``, ``fingerprint`` and more.

        Raises
        ------
        ArtefactError
            If it is damaged or of another version.
        """
        if kind not in self._headers:
            path = self.path(kind)
            if kind in TABLES:
                table = self._tables[kind] = read_table(path, kind)
                self._headers[kind] = {"config": table.config, "made_from": table.made_from}
            else:
                with open_hdf5(path, remedy(kind)) as file:
                    check_version(path, file.attrs, kind)
                    self._headers[kind] = read_header(file)
        return self._headers[kind]

    def need(self, kind: str) -> Path:
        """Return the path of a file that must be there, checked against what it was made from.

        Raises
        ------
        ArtefactError
            If it is missing, damaged, of another version, or made from another file than that which
            lies beside it.
        """
        path = self.path(kind)
        if not path.is_file():
            msg = (
                f"{path}: missing, the run is half made; run snakemake, or 'dissect-embed "
                f"{KINDS[kind].rule}'"
            )
            raise ArtefactError(msg)
        if kind not in self._checked:
            for source, attested in self.header(kind)["made_from"].items():
                if source not in FILES or not self.path(source).is_file():
                    continue
                if self.header(source)["fingerprint"] != attested:
                    msg = (
                        f"{path}: made from another {source} than {self.path(source)}: files of "
                        "two runs, or one was made anew; run snakemake again"
                    )
                    raise ArtefactError(msg)
                self.need(source)
            self._checked.add(kind)
        return path

    def check(self) -> None:
        """Check every file that is there against those it was made from.

        Raises
        ------
        ArtefactError
            If one is damaged or of another version, or they are those of two runs.
        """
        for kind in self.kinds:
            self.need(kind)
        of_data = [kind for kind in ("labels", "activations", "words") if kind in self.kinds]
        origin = {kind: self.header(kind)["made_from"].get("dataset") for kind in of_data}
        for kind in of_data[1:]:
            if origin[kind] != origin[of_data[0]]:
                msg = (
                    f"{self.path(kind)}: made from another data set than "
                    f"{self.path(of_data[0])}; run snakemake again"
                )
                raise ArtefactError(msg)

    def check_layer(self, layer: str) -> str:
        """Return a layer, of which it is known that it was probed."""
        if layer not in self.layers:
            msg = f"{self.folder}: no layer {layer!r}; there are {', '.join(self.layers)}"
            raise ArtefactError(msg)
        return layer

    def check_unit(self, layer: str, unit: int, n_units: int) -> int:
        """Return a unit, of which it is known that the layer has it."""
        if not isinstance(unit, int | np.integer) or not 0 <= unit < n_units:
            msg = f"{self.folder}: {layer} has the units 0 to {n_units - 1}, not {unit!r}"
            raise ArtefactError(msg)
        return int(unit)

    def check_number(self, n: int) -> int:
        """Return how many rows are asked for, of which it is known that it is some."""
        if not isinstance(n, int | np.integer) or n < 1:
            msg = f"n: {n!r}, expected a whole number of at least 1"
            raise ArtefactError(msg)
        return int(n)
