"""What an entity is made of where it has no row of its own: near anchors, how far they are, and relations it heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tutelage.data.triples import HEAD, RELATION, TAIL

# Distances between anchors and entities that exist at once.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Pieces:
    """Pieces of every entity of a graph (NodePiece, arXiv:2106.12144, section 3).

    Args:
        anchors: ``[entities, nearest]`` int64 places among the anchors, nearest first; −1 where there is none.
        distances: ``[entities, nearest]`` int64 steps to them, cut at ``furthest``.
        context: ``[entities, context]`` int64 relations that an entity heads; −1 where there are no more.
    """

    anchors: Tensor
    distances: Tensor
    context: Tensor


def pieces_of(
    triples: Tensor, entities: int, *, anchors: int, nearest: int, context: int, furthest: int = 5, seed: int = 0
) -> Pieces:
    """Anchors are the entities with the most triples; distances are steps along triples in either direction.

    Args:
        triples: ``[count, 3]`` int64 training triples.
        entities: How many there are.
        anchors: How many of them are anchors.
        nearest: Anchors of each entity.
        context: Relations of each entity, drawn without repetition.
        furthest: Distances beyond this count as this.
        seed: Of the relations that are drawn.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra

    array = triples.numpy()
    degree = np.bincount(array[:, [HEAD, TAIL]].ravel(), minlength=entities)
    chosen = np.argsort(-degree, kind="stable")[: min(anchors, entities)]
    ones = np.ones(len(array))
    links = coo_matrix((ones, (array[:, HEAD], array[:, TAIL])), shape=(entities, entities)).tocsr()
    count = min(nearest, len(chosen))
    best = np.full((entities, count), np.inf)
    which = np.full((entities, count), -1, dtype=np.int64)
    step = max(1, _AT_ONCE // entities)
    for start in range(0, len(chosen), step):
        part = chosen[start : start + step]
        reached = dijkstra(links, directed=False, indices=part, unweighted=True, limit=float(furthest)).T
        both = np.concatenate([best, reached], 1)
        names = np.concatenate([which, np.broadcast_to(np.arange(start, start + len(part)), reached.shape)], 1)
        order = np.argsort(both, axis=1, kind="stable")[:, :count]
        best, which = np.take_along_axis(both, order, 1), np.take_along_axis(names, order, 1)
    found = np.isfinite(best)
    pairs = np.unique(array[:, [HEAD, RELATION]], axis=0)
    pairs = np.random.default_rng(seed).permutation(pairs)
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    place = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
    drawn = np.full((entities, context), -1, dtype=np.int64)
    kept = place < context
    drawn[pairs[kept, 0], place[kept]] = pairs[kept, 1]
    return Pieces(
        torch.from_numpy(np.where(found, which, -1)),
        torch.from_numpy(np.where(found, np.minimum(best, furthest), furthest).astype(np.int64)),
        torch.from_numpy(drawn),
    )
