"""DistMult: a relation weighs the agreement of two entities."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.losses.candidates import inner_products
from tutelage.models.link_predictor import LinkPredictor
from tutelage.recipe.registry import component


@component("model", "distmult")
class DistMult(LinkPredictor):
    """``Σ h∘r∘t`` (arXiv:1412.6575, equation 3): the same in both directions.

    Args:
        data: The graph.
        width: Numbers of an entity and of a relation.
        spread: Standard deviation of the numbers at the start.
    """

    def __init__(
        self, data: DataInfo, /, *, width: Annotated[int, Ge(1)] = 64, spread: Annotated[float, Gt(0)] = 0.2
    ) -> None:
        super().__init__(data, width, width)
        nn.init.normal_(self.entities, std=spread)
        nn.init.normal_(self.relations, std=spread)

    def query(self, known: Tensor, relation: Tensor, tails: Tensor) -> Tensor:
        """The known entity, weighed."""
        return known * relation

    def compare(self, query: Tensor, table: Tensor, index: Tensor | None) -> Tensor:
        """Inner products."""
        return inner_products(query, table, index)
