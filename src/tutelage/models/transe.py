"""TransE: a relation is a translation."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.losses.candidates import distances, unit_rows
from tutelage.models.link_predictor import LinkPredictor
from tutelage.recipe.registry import component


@component("model", "transe")
class TransE(LinkPredictor):
    """``margin − ‖h + r − t‖`` (Bordes et al., NeurIPS 2013).

    Args:
        data: The graph.
        width: Numbers of an entity and of a relation.
        margin: Score of a triple that fits exactly; losses of single triples need it above 0.
        norm: Sum of absolute values, or the Euclidean norm.
        normalize: Compare entities by their direction alone: rows are divided by their Euclidean norm.
    """

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        width: Annotated[int, Ge(1)] = 64,
        margin: Annotated[float, Ge(0)] = 6.0,
        norm: Literal[1, 2] = 1,
        normalize: bool = False,
    ) -> None:
        super().__init__(data, width, width)
        self.margin, self.norm, self.normalize = margin, norm, normalize
        reach = (margin + 2.0) / width
        nn.init.uniform_(self.entities, -reach, reach)
        nn.init.uniform_(self.relations, -reach, reach)

    def present(self, rows: Tensor) -> Tensor:
        """Rows, on the unit sphere where that is asked for."""
        return unit_rows(rows) if self.normalize else rows

    def query(self, known: Tensor, relation: Tensor, tails: Tensor) -> Tensor:
        """``h + r``, or ``t − r``."""
        sign = torch.where(tails, 1.0, -1.0).to(known.dtype)
        return torch.addcmul(known, sign[:, None], relation)

    def compare(self, query: Tensor, table: Tensor, index: Tensor | None) -> Tensor:
        """``margin − distance``."""
        return self.margin - distances(query, table, index, by="l1" if self.norm == 1 else "l2")
