"""RotatE: a relation turns complex numbers."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.losses.candidates import distances
from tutelage.models.link_predictor import LinkPredictor, halves
from tutelage.recipe.registry import component


@component("model", "rotate")
class RotatE(LinkPredictor):
    """``margin − Σ |h∘r − t|`` with complex entities and ``|r_i| = 1`` (arXiv:1902.10197, equations 2 and 4).

    Args:
        data: The graph.
        width: Real numbers of an entity, so twice its complex ones: even.
        margin: Score of a triple that fits exactly.
        norm: Of the complex difference: the sum of ``moduli`` as in the paper, or the ``euclidean`` norm.
    """

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        width: Annotated[int, Ge(2)] = 64,
        margin: Annotated[float, Ge(0)] = 6.0,
        norm: Literal["moduli", "euclidean"] = "moduli",
    ) -> None:
        half = halves(width, "RotatE")
        super().__init__(data, width, half)
        self.margin, self.norm = margin, norm
        # Phases are kept in units in which a step of the optimiser is as large as for entities.
        self.reach = (margin + 2.0) / half
        nn.init.uniform_(self.entities, -self.reach, self.reach)
        nn.init.uniform_(self.relations, -self.reach, self.reach)

    def query(self, known: Tensor, relation: Tensor, tails: Tensor) -> Tensor:
        """The known entity, turned forwards for a tail and back for a head: turning keeps distances."""
        phase = relation * (math.pi / self.reach)
        cosine, sine = phase.cos(), phase.sin() * torch.where(tails, 1.0, -1.0).to(known.dtype)[:, None]
        real, imaginary = known.chunk(2, dim=1)
        return torch.cat([real * cosine - imaginary * sine, real * sine + imaginary * cosine], 1)

    def compare(self, query: Tensor, table: Tensor, index: Tensor | None) -> Tensor:
        """``margin − distance``."""
        return self.margin - distances(query, table, index, by="modulus" if self.norm == "moduli" else "l2")

    def magnitudes(self, rows: Tensor) -> Tensor:
        """Moduli."""
        return torch.hypot(*rows.chunk(2, dim=1))

    def relation_magnitudes(self, rows: Tensor) -> Tensor:
        """1: a turn has no size."""
        return torch.ones_like(rows)
