"""How units relate: which lie nearest, which add up to a third, and whether they fire together.

Figures 2 and 3 of [HAN22] (Han et al., arXiv 2211.07647) show such units; here every unit is
reported, and beside it what chance gives: ``relations.csv``, ``overlap.csv`` and ``pairs.csv``.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.embedding import Embedding
from dissect_embed.artefacts.files import check_expected
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.tables import write_artefact_table
from dissect_embed.device import choose_device
from dissect_embed.embedding import constant_target, train_layers
from dissect_embed.mathematics.halves import OfSome, Several, second_half
from dissect_embed.mathematics.neighbours import Coactivations, nearest_units, overlap_of
from dissect_embed.mathematics.pairs import AdditivePair, Triples, completing_pairs, union_overlap
from dissect_embed.mathematics.similarities import SimilaritySums
from dissect_embed.mathematics.vectors import Schedule
from dissect_embed.networks.replay import Replay, add_up
from dissect_embed.run import Run

# Nearest units that are reported of each unit, and pairs that add up to it.
NEAREST, PAIRS = 3, 3
# The vectors of half the images are trained in a twentieth of the steps, each twenty times as long:
# they follow the same path to the same place (benchmarks/README.md).
SHORTER = 20
# Draws the units and pairs that the chosen ones are set beside.
SEED = 0

Rows = list[list[object]]


class Relations(NamedTuple):
    """The rows of the three tables."""

    nearest: Rows
    pairs: Rows
    overlap: Rows


class Claim(NamedTuple):
    """Units whose vectors are said to add up to another's, and what that is set beside."""

    pair: AdditivePair
    start: AdditivePair  # the best for the same target by the vectors of the random start
    drawn: tuple[int, int]  # two units drawn at random

    @property
    def triples(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """The pair and its target, and those drawn with the same target."""
        return self.pair[:3], (*self.drawn, self.pair.target)


def write_relations(
    run: Run,
    path: Path,
    pairs_path: Path,
    overlap_path: Path,
    *,
    dataset: Path | None = None,
    expected: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Write ``relations.csv``, ``pairs.csv`` and ``overlap.csv``, of the first seed.

    All have the vectors by each similarity of the run.

    ``relations.csv`` has each unit's nearest units and ``pairs.csv`` the pairs that add up to it,
    by the vectors of the run, with how far their masks overlap over the data set, at the resolution
    of the activation maps. ``overlap.csv`` has the nearest by vectors that are learned from one
    half of the images, and how far they overlap on the other (``mathematics.halves``): beside a
    unit drawn at random, any two units, and the best choice possible.

    Parameters
    ----------
    dataset
        For layers that are not cached: where the data set lies now.
    expected
        Settings that the activations must have been made with (``files.check_expected``).

    Raises
    ------
    ArtefactError
        If a file is missing or damaged, or was not made as ``expected`` says.
    """
    device = choose_device(device)
    with (
        run.open_activations() as source,
        run.open_profiles() as profiles,
        run.open_embedding() as embedding,
    ):
        check_expected(source.file, expected or {})
        replay = run.replay(source, dataset, device)
        found = find_relations(source, profiles, embedding, replay, device, n_threads)
        config = embedding.config
        made_from = {
            "activations": source.fingerprint,
            "profiles": profiles.fingerprint,
            "embedding": embedding.fingerprint,
        }
    write_artefact_table(path, "relations", found.nearest, config, made_from)
    write_artefact_table(pairs_path, "pairs", found.pairs, config, made_from)
    write_artefact_table(overlap_path, "overlap", found.overlap, config, made_from)


def find_relations(
    source: Activations,
    profiles: Profiles,
    embedding: Embedding,
    replay: Replay | None,
    device: str,
    n_threads: int | None = None,
) -> Relations:
    """Return the rows of all tables."""
    layers, similarities = source.layers, embedding.similarities
    vectors, claims = {}, {}
    for layer in layers:
        # The same for all similarities.
        start = completing_pairs(torch.from_numpy(embedding[layer].trajectory[0, 0]), PAIRS)
        for similarity in similarities:
            of_run = torch.from_numpy(embedding.of(layer, similarity).vectors[0])
            vectors[layer, similarity] = of_run
            claims[layer, similarity] = make_claims(completing_pairs(of_run, PAIRS), start)
    thresholds = {k: torch.from_numpy(profiles[k].threshold).to(device) for k in layers}
    together = Triples(
        thresholds,
        {k: np.concatenate([_triples(claims[k, s]) for s in similarities]) for k in layers},
    )
    second = second_half(len(source))
    first_counts, second_counts = Coactivations(thresholds), Coactivations(thresholds)
    sums = SimilaritySums({layer: source[layer].magnitude for layer in layers})
    halves = [OfSome(~second, [first_counts, sums]), OfSome(second, [second_counts])]
    everything = Several([*halves, together])
    add_up(everything, source, layers, replay, device, n_threads, desc="relations")
    learned = _train_half(embedding, sums, int((~second).sum()), device, n_threads)
    found = Relations([], [], [])
    for (layer, similarity), of_run in vectors.items():
        concepts = profiles.best_concepts(layer)
        of_first = first_counts.totals[layer].cpu()
        # Of a single image there is no second half.
        of_second = second_counts.totals.get(layer, torch.zeros_like(of_first)).cpu()
        both = of_first + of_second
        begin = [layer, similarity]
        overlap = overlap_of(both).numpy()
        for row in near_rows(of_run, overlap):
            names = [*concepts[row.unit], *concepts[row.neighbour]]
            found.nearest.append([*begin, *_cells(row, overlap), *names])
        overlap = overlap_of(of_second).numpy()
        for row in near_rows(learned[layer, similarity], overlap):
            best = _beside(row.best, row, overlap)
            fires = int(of_second[row.unit, row.unit])
            found.overlap.append([*begin, fires, *_cells(row, overlap), *best])
        of_similarities = together.totals[layer].reshape(len(similarities), -1)
        counts = of_similarities[similarities.index(similarity)].tolist()
        for rank, cells in enumerate(pair_rows(claims[layer, similarity], both, counts), start=1):
            labels = [concepts[int(str(unit))][0] for unit in cells[:3]]
            found.pairs.append([*begin, rank, *cells, *labels])
    return found


def _train_half(
    embedding: Embedding, sums: SimilaritySums, n_images: int, device: str, n_threads: int | None
) -> dict[tuple[str, str], Float[Tensor, "unit dim"]]:
    """Return the vectors of half of the images, as those of the first seed were learned."""
    settings = embedding.config["embedding"]
    whole = Schedule(**{name: settings[name] for name in Schedule._fields})
    steps = max(1, whole.steps_per_epoch // SHORTER)
    schedule = whole._replace(steps_per_epoch=steps, lr=whole.lr * whole.steps_per_epoch / steps)
    tasks = {}
    for layer, total in sums.totals.items():
        targets = total.targets(n_images)
        for similarity in embedding.similarities:
            p = torch.from_numpy(targets[similarity]).float().to(device)
            tasks[layer, similarity] = constant_target(p), len(p)
    seeds = embedding.seeds[:1]
    trained = train_layers(tasks, settings["dim"], schedule, seeds, device, n_threads)
    return {key: of.trajectory[0, -1].cpu() for key, of in trained.items()}


class Near(NamedTuple):
    """A unit and one of its nearest, and what their overlap is set beside."""

    unit: int
    rank: int  # 1 is the nearest
    neighbour: int
    cosine: float  # of the two vectors
    overlap: float  # IoU of the two masks
    any: float  # the mean overlap with all others that fire
    drawn: int | None  # one of these at random, none of the nearest
    best: int | None  # the one of highest overlap


def near_rows(
    vectors: Float[Tensor, "unit dim"], overlap: Float[np.ndarray, "unit unit"]
) -> Iterator[Near]:
    """Yield the nearest of each unit, beside the others that fire (overlap themselves)."""
    rng = np.random.default_rng(SEED)
    near, cosines = nearest_units(vectors, NEAREST)
    fires = np.flatnonzero(overlap.diagonal())
    for unit, ranked in enumerate(near.tolist()):
        others = fires[fires != unit]
        far = np.setdiff1d(others, ranked)
        beside = overlap[unit, others]
        of_unit = (
            float(beside.mean()) if len(others) else 0.0,
            int(rng.choice(far)) if len(far) else None,
            int(others[beside.argmax()]) if len(others) else None,
        )
        for rank, (other, cosine) in enumerate(
            zip(ranked, cosines[unit].tolist(), strict=True), start=1
        ):
            yield Near(unit, rank, other, cosine, float(overlap[unit, other]), *of_unit)


def _cells(row: Near, overlap: Float[np.ndarray, "unit unit"]) -> list[object]:
    return [
        row.unit, row.rank, row.neighbour, *map(_four, (row.cosine, row.overlap, row.any)),
        *_beside(row.drawn, row, overlap),
    ]  # fmt: skip


def _beside(
    other: int | None, row: Near, overlap: Float[np.ndarray, "unit unit"]
) -> tuple[object, object]:
    return ("", "") if other is None else (other, _four(overlap[row.unit, other]))


def _four(value: float) -> str:
    # Without the sign of what is rounded to zero.
    return f"{round(value, 4) + 0.0:.4f}"


def make_claims(
    pairs: Sequence[Sequence[AdditivePair]], start: Sequence[Sequence[AdditivePair]]
) -> list[Claim]:
    """Return the pairs of all targets, that of the highest gain first.

    Parameters
    ----------
    pairs, start
        Those that add up to each unit, by the vectors and by those of the random start.
    """
    rng = np.random.default_rng(SEED)
    claims = []
    for target, (of_target, of_start) in enumerate(zip(pairs, start, strict=True)):
        others = np.delete(np.arange(len(pairs)), target)
        for pair, beside in zip(of_target, of_start, strict=True):
            first, second = np.sort(rng.choice(others, 2, replace=False)).tolist()
            claims.append(Claim(pair, beside, (first, second)))
    return sorted(claims, key=lambda claim: -claim.pair.gain)


def _triples(claims: Sequence[Claim]) -> Int[np.ndarray, "triple 3"]:
    triples = [triple for claim in claims for triple in claim.triples]
    return np.array(triples, dtype=np.int64).reshape(-1, 3)


def pair_rows(
    claims: Sequence[Claim], coactivation: Int[Tensor, "unit unit"], together: Sequence[int]
) -> Iterator[list[object]]:
    """Yield the cells of each claim, by vectors and by masks, but for names and ranks.

    Parameters
    ----------
    together
        How often the three units of each triple fire, two triples a claim.
    """
    for claim, of_pair, of_drawn in zip(claims, together[::2], together[1::2], strict=True):
        pair = claim.pair
        chosen, drawn = (
            union_overlap(coactivation, triple, count)
            for triple, count in zip(claim.triples, (of_pair, of_drawn), strict=True)
        )
        numbers = (*pair[3:], pair.gain, claim.start.gain, *chosen)
        yield [
            *pair[:3], *map(_four, numbers), *claim.drawn, *map(_four, drawn),
        ]  # fmt: skip
