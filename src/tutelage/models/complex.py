"""ComplEx: a relation weighs and turns the agreement of two complex entities."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.losses.candidates import inner_products
from tutelage.models.link_predictor import LinkPredictor, halves
from tutelage.recipe.registry import component


@component("model", "complex")
class ComplEx(LinkPredictor):
    """``Re Σ h∘r∘t̄`` with complex entities and relations (arXiv:1606.06357, equation 11).

    Args:
        data: The graph.
        width: Real numbers of an entity and of a relation, so twice their complex ones: even.
        spread: Standard deviation of the numbers at the start.
    """

    def __init__(
        self, data: DataInfo, /, *, width: Annotated[int, Ge(2)] = 64, spread: Annotated[float, Gt(0)] = 0.2
    ) -> None:
        halves(width, "ComplEx")
        super().__init__(data, width, width)
        nn.init.normal_(self.entities, std=spread)
        nn.init.normal_(self.relations, std=spread)

    def query(self, known: Tensor, relation: Tensor, tails: Tensor) -> Tensor:
        """``h∘r``, or ``t∘r̄``: what the other entity's inner product is taken with."""
        real, imaginary = relation.chunk(2, dim=1)
        imaginary = imaginary * torch.where(tails, 1.0, -1.0).to(known.dtype)[:, None]
        a, b = known.chunk(2, dim=1)
        return torch.cat([a * real - b * imaginary, a * imaginary + b * real], 1)

    def compare(self, query: Tensor, table: Tensor, index: Tensor | None) -> Tensor:
        """Inner products, which of complex numbers are the real part of the product with the conjugate."""
        return inner_products(query, table, index)

    def magnitudes(self, rows: Tensor) -> Tensor:
        """Moduli."""
        return torch.hypot(*rows.chunk(2, dim=1))
