"""A run, to be asked: which units a concept has, which images, which neighbours.

What notebooks, figures, the atlas and ``inspect`` read through: it knows that its files belong
together, and with which network and data set they were made.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from dissect_embed.artefacts.frames import RunTables, as_frame
from dissect_embed.artefacts.tables import largest_losses
from dissect_embed.errors import ArtefactError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

    from dissect_embed.artefacts.activations import Activations
    from dissect_embed.datasets.broden import Broden
    from dissect_embed.figures.gallery import Gallery
    from dissect_embed.networks.replay import Replay


class Run(RunTables):
    """The files of a run, to be asked; ``open_run`` opens one, and checks them all."""

    def __init__(self, folder: Path | str, network: "nn.Module | None" = None) -> None:
        """Open a folder; ``network`` where it cannot be built again by its name."""
        super().__init__(folder)
        self._network = network

    def dataset(self, root: Path | str | None = None) -> "Broden":
        """Return the data set of the run; ``root`` where its folder was moved.

        Raises
        ------
        ArtefactError, DatasetError
            If it is not where it was, or not what it was.
        """
        from dissect_embed.datasets.broden import load_recorded

        self.need("activations")
        recorded = self.config["dataset"]
        folder = Path(root or recorded["root"])
        if not (folder / "index.csv").is_file():
            msg = (
                f"{folder}: the run's data set is not here, as seen from {Path.cwd()}; name its "
                "folder (--dataset FOLDER)"
            )
            raise ArtefactError(msg)
        dataset = load_recorded(folder, recorded)
        expected = self.header("activations")["made_from"]["dataset"]
        if dataset.fingerprint != expected:
            msg = (
                f"{folder}: not the data set that {self.folder} was made from, or changed since; "
                "name that one (--dataset FOLDER), or run snakemake again"
            )
            raise ArtefactError(msg)
        return dataset

    def network(self) -> "nn.Module":
        """Return the network of the run, with its weights.

        Raises
        ------
        ArtefactError, ModelError
            If it was given in Python, or cannot be built again from what is recorded.
        """
        from dissect_embed.networks.models import load_network

        if self._network is not None:
            return self._network
        model = self.config["model"]
        if model["weights"] == "given":
            msg = (
                f"{self.folder}: its network, {model['name']}, was given in Python; name it again: "
                "open_run(folder, network)"
            )
            raise ArtefactError(msg)
        trained = model["weights"] == "trained"
        weights = str(self.folder / "model.pt") if trained else model["weights"]
        # What a file of weights lacks was found to come after all layers.
        return load_network(model["name"], weights, model["arguments"], trained=trained).model

    def replay(
        self, source: "Activations", dataset: Path | str | None, device: str
    ) -> "Replay | None":
        """Return what computes the maps that ``activations.h5`` lacks; None where it has all.

        Parameters
        ----------
        dataset
            Where the data set lies now, if it was moved.

        Raises
        ------
        ArtefactError, DatasetError, ModelError
            If network or data set cannot be had again, or are not what they were.
        """
        from dissect_embed.networks.replay import prepare_replay

        if not source.uncached:
            return None
        return prepare_replay(source, self.network(), self.dataset(dataset), device)

    @contextmanager
    def gallery(
        self,
        layer: str | None = None,
        *,
        dataset: Path | str | None = None,
        device: str | None = None,
    ) -> Iterator["Gallery"]:
        """Open what pictures of a layer's units are made from; by default of the last layer."""
        from dissect_embed.figures.gallery import gallery_of

        with gallery_of(self, layer, dataset, device) as gallery:
            yield gallery

    def profiles(self, layer: str) -> Float[np.ndarray, "unit concept"]:
        """Return the profiles T of a layer: the IoU of each unit with each concept."""
        with self.open_profiles() as profiles:
            return profiles[self.check_layer(layer)].iou

    def vectors(
        self, layer: str, seed: int | None = None, similarity: str | None = None
    ) -> Float[np.ndarray, "unit dim"]:
        """Return the vectors S of a layer's units, of a seed and a similarity.

        Parameters
        ----------
        seed, similarity
            By default the first of the run.

        Raises
        ------
        ArtefactError
            If there is no such layer or seed, or no vectors by this similarity.
        """
        with self.open_embedding() as embedding:
            seed = embedding.seeds[0] if seed is None else seed
            if not isinstance(seed, int | np.integer) or seed not in embedding.seeds:
                seeds = ", ".join(map(str, embedding.seeds))
                msg = f"{embedding.path}: no vectors of seed {seed!r}; there are {seeds}"
                msg += ", whole numbers" if isinstance(seed, str) else ""
                raise ArtefactError(msg)
            name = embedding.check_similarity(similarity)
            vectors = embedding.of(self.check_layer(layer), name).vectors
            return np.asarray(vectors[embedding.seeds.index(seed)])

    def similarity(self, name: str | None = None) -> str:
        """Return a similarity that vectors were learned from, checked; by default the first.

        Raises
        ------
        ArtefactError
            If there are no vectors by it.
        """
        with self.open_embedding() as embedding:
            return embedding.check_similarity(name)

    def units(self, concept: str | None = None) -> "pd.DataFrame":
        """Return the units and their best concepts; with a concept, those that overlap it.

        Returns
        -------
        Columns ``layer, unit, concept, category, iou, p, q``: of each unit its best concept, or of
        each unit that overlaps ``concept`` at all that one, best first. p is how often labels of
        other images give this unit a best IoU as high, q the same among all units of the layer
        (Benjamini-Hochberg); both are missing where ``chance.h5`` is, and of units that never fire.
        Where ``importance.csv`` is there, also ``loses``, the class that loses most without the
        unit beyond chance, if any, and ``drop``, by how many points.

        Raises
        ------
        ArtefactError
            If there is no such concept; names that are near are listed.
        """
        from dissect_embed.tally import unit_rows

        with ExitStack() as stack:
            profiles = stack.enter_context(self.open_profiles())
            there = "chance" in self.kinds
            chance = stack.enter_context(self.open_chance()) if there else None
            rows = unit_rows(profiles, chance, concept)
        frame = as_frame(rows, ("layer", "unit", "concept", "category", "iou", "p", "q"))
        if "importance" in self.kinds:
            losses = largest_losses(self.read_table("importance").rows)
            found = [losses.get(row[0], {}).get(row[1]) for row in rows]
            frame["loses"] = [loss.name if loss else "" for loss in found]
            frame["drop"] = [loss.drop if loss else np.nan for loss in found]
        return frame

    def concepts(self, layer: str, unit: int) -> "pd.DataFrame":
        """Return the concepts that a unit overlaps, best first.

        Returns
        -------
        Columns ``concept, category, iou, intersection`` (pixels in common), ``pixels`` (of it).
        """
        with self.open_profiles() as profiles:
            of_layer = profiles[self.check_layer(layer)]
            unit = self.check_unit(layer, unit, len(of_layer))
            iou = of_layer.iou[unit]
            rows = [
                (
                    profiles.concepts[c], profiles.concept_categories[c], float(iou[c]),
                    int(of_layer.intersection[unit, c]), int(profiles.pixels[c]),
                )
                for c in of_layer.concepts_of(unit)
            ]  # fmt: skip
        return as_frame(rows, ("concept", "category", "iou", "intersection", "pixels"))

    def neighbours(
        self, layer: str, unit: int, n: int = 10, similarity: str | None = None
    ) -> "pd.DataFrame":
        """Return the units whose vectors lie nearest: unit, cosine, and their best concepts.

        Vectors are those of the first seed and of a similarity, by default the run's first.
        """
        import torch

        from dissect_embed.mathematics.neighbours import nearest_units

        vectors = torch.from_numpy(self.vectors(layer, similarity=similarity))
        unit = self.check_unit(layer, unit, len(vectors))
        near, cosines = nearest_units(vectors, self.check_number(n))
        with self.open_profiles() as profiles:
            names, best = profiles.best_names(layer), profiles[layer].best.iou
        rows = [
            (other, cosine, names[other], float(best[other]))
            for other, cosine in zip(near[unit].tolist(), cosines[unit].tolist(), strict=True)
        ]
        return as_frame(rows, ("unit", "cosine", "concept", "iou"))

    def images(self, layer: str, unit: int, n: int = 10) -> "pd.DataFrame":
        """Return the images of a unit's highest activations: image, peak, and whether it fires."""
        with self.open_activations() as source, self.open_profiles() as profiles:
            of_layer = source[self.check_layer(layer)]
            unit = self.check_unit(layer, unit, of_layer.n_units)
            peak = of_layer.peaks[:, unit]
            threshold = profiles[layer].threshold[unit]
            order = np.argsort(-peak, kind="stable")[: self.check_number(n)].tolist()
            rows = [(source.images[i], float(peak[i]), bool(peak[i] > threshold)) for i in order]
        return as_frame(rows, ("image", "peak", "fires"))

    def show(
        self,
        layer: str,
        unit: int,
        n: int = 5,
        *,
        images: Sequence[Path | str] = (),
        dataset: Path | str | None = None,
    ) -> "Figure":
        """Return a figure of a unit's top images of different content, bright where it is active.

        Or of ``images``: of the data set by their names, or any pictures' files.
        """
        from dissect_embed.figures.unit import draw_unit

        n = self.check_number(n)
        with self.gallery(self.check_layer(layer), dataset=dataset) as gallery:
            unit = self.check_unit(layer, unit, len(gallery.thresholds))
            return draw_unit(gallery, unit, n, list(map(str, images)))


def open_run(folder: Path | str, network: "nn.Module | None" = None) -> Run:
    """Open a results folder, cross-checked.

    Parameters
    ----------
    network
        That of the run, where it was given in Python and layers are not cached: pictures of these
        are computed by it.

    Raises
    ------
    ArtefactError
        If it is none, empty, of another version, or has files of two runs. What of a run that is
        half made is missing is said when it is asked for.
    """
    run = Run(folder, network)
    run.check()
    return run
