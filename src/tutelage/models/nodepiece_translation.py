"""Translations by a synthetic relation, of entities that are put together from pieces."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.data.node_pieces import Pieces
from tutelage.models.synthetic_translation import SyntheticTranslation
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


@component("model", "nodepiece-translation")
class NodePieceTranslation(SyntheticTranslation):
    """TranS (arXiv:2204.08401) over NodePiece (arXiv:2106.12144): an entity's row is made of anchors and relations.

    Each near anchor's vector, with one for its distance added, and each relation that the entity heads go through
    ``Linear, ReLU, Linear``. The table has a row for each anchor, and not for each entity.

    Args:
        data: The graph.
        width: Numbers of each vector.
        margin: Score of a triple that fits exactly.
        unit: What is added to auxiliary vectors.
        norm: Sum of absolute values, or the Euclidean norm.
        normalize: Whether vectors are divided by their norms.
        variant: ``trans``, ``interht`` or ``transe``.
        anchors: How many anchors there are.
        nearest: Anchors of each entity.
        context: Relations of each entity.
        furthest: Largest distance that is told apart.
        dropout: Share of hidden units dropped in training.
    """

    near: Tensor
    far: Tensor
    heads: Tensor

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        width: Annotated[int, Ge(1)] = 64,
        margin: Annotated[float, Ge(0)] = 6.0,
        unit: float = 1.0,
        norm: Literal[1, 2] = 1,
        normalize: bool = True,
        variant: Literal["trans", "interht", "transe"] = "trans",
        anchors: Annotated[int, Ge(1)] = 32,
        nearest: Annotated[int, Ge(1)] = 8,
        context: Annotated[int, Ge(1)] = 6,
        furthest: Annotated[int, Ge(1)] = 5,
        dropout: Annotated[float, Ge(0), Lt(1)] = 0.05,
    ) -> None:
        super().__init__(data, width=width, margin=margin, unit=unit, norm=norm, normalize=normalize, variant=variant)
        del self.entities
        row, reach = (1 if variant == "transe" else 2) * width, (margin + 2.0) / width
        count = min(anchors, self.graph.entities)
        nearest = min(nearest, count)
        self.anchors, self.distances = (
            nn.Parameter(torch.empty(count, row)),
            nn.Parameter(torch.empty(furthest + 1, row)),
        )
        for table in (self.anchors, self.distances):
            nn.init.uniform_(table, -reach, reach)
        tokens = nearest + context
        self.mix = nn.Sequential(
            nn.Linear(tokens * row, 2 * row), nn.Dropout(dropout), nn.ReLU(), nn.Linear(2 * row, row)
        )
        entities = self.graph.entities
        self.register_buffer("near", torch.full((entities, nearest), -1))
        self.register_buffer("far", torch.zeros(entities, nearest, dtype=torch.long))
        self.register_buffer("heads", torch.full((entities, context), -1))

    def take(self, pieces: Pieces) -> None:
        """Take the pieces of the graph's entities.

        Raises:
            InputError: There are none of as many entities, anchors or relations.
        """
        for own, given in ((self.near, pieces.anchors), (self.far, pieces.distances), (self.heads, pieces.context)):
            if own.shape != given.shape:
                raise InputError(f"pieces of shape {list(given.shape)} were given to a model for {list(own.shape)}")
            own.copy_(given)

    def ready(self) -> None:
        """Refuse to be trained without pieces.

        Raises:
            InputError: It was given none.
        """
        if not bool((self.near >= 0).any()):
            raise InputError("the model 'nodepiece-translation' has no pieces yet; the method 'trans' gives it some")

    def rows(self, entities: Tensor | None = None) -> Tensor:
        """Rows that are put together from the pieces; a piece that is not there is a zero."""
        near, far, heads = (
            b if entities is None else b.index_select(0, entities) for b in (self.near, self.far, self.heads)
        )
        row = self.anchors.shape[1]
        anchors = self.anchors.index_select(0, near.clamp(min=0).reshape(-1)).view(*near.shape, row)
        apart = self.distances.index_select(0, far.reshape(-1)).view(*far.shape, row)
        told = (anchors + apart) * (near >= 0)[..., None]
        parts = self._context(self.relations)
        around = parts.index_select(0, heads.clamp(min=0).reshape(-1)).view(*heads.shape, row) * (heads >= 0)[..., None]
        found: Tensor = self.mix(torch.cat([told, around], 1).flatten(1))
        return found

    def _context(self, relations: Tensor) -> Tensor:
        """``[relations, row]``: the parts that weigh head and tail; of a relation that has none, itself as often."""
        if self.variant == "trans":
            return torch.cat([relations[:, : self.width], relations[:, 2 * self.width :]], 1)
        return relations if self.variant == "transe" else torch.cat([relations, relations], 1)
