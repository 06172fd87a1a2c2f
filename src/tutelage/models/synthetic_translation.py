"""Translations by a relation that is put together for each pair of entities: TranS, and InterHT without it."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.losses.candidates import affine_norms, unit_rows
from tutelage.models.link_predictor import LinkPredictor
from tutelage.recipe.registry import component


@component("model", "synthetic-translation")
class SyntheticTranslation(LinkPredictor):
    """``margin − ‖n(h)∘(n(t̃)+u) − n(t)∘(n(h̃)+u) + n(h)∘n(r̄) + r + n(t)∘n(r̂)‖`` (arXiv:2204.08401, eq. 2 to 5).

    An entity has a main vector and an auxiliary one, ``n`` divides each by its Euclidean norm, and a relation has
    three: the two that weigh head and tail, and one that is added.

    Args:
        data: The graph.
        width: Numbers of each vector; an entity has two, a relation three.
        margin: Score of a triple that fits exactly.
        unit: ``u``, which is added to auxiliary vectors.
        norm: Sum of absolute values, or the Euclidean norm.
        normalize: Whether vectors are divided by their norms.
        variant: ``trans``; ``interht`` without what weighs head and tail; ``transe`` without auxiliary vectors too.
    """

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
    ) -> None:
        parts = 1 if variant == "transe" else 2
        super().__init__(data, parts * width, 3 * width if variant == "trans" else width)
        self.width, self.margin, self.unit = width, margin, unit
        self.norm: Literal[1, 2] = norm
        self.normalize, self.variant = normalize, variant
        reach = (margin + 2.0) / width
        nn.init.uniform_(self.entities, -reach, reach)
        nn.init.uniform_(self.relations, -reach, reach)

    def present(self, rows: Tensor) -> Tensor:
        """Main and auxiliary vector, each on its own unit sphere; a zero stays one."""
        if not self.normalize:
            return rows
        return unit_rows(rows.view(len(rows), -1, self.width)).view_as(rows)

    def _relation(self, rows: Tensor) -> tuple[Tensor | float, Tensor, Tensor | float]:
        if self.variant != "trans":
            return 0.0, rows, 0.0
        of_head, middle, of_tail = rows.split(self.width, dim=1)
        if self.normalize:
            of_head, of_tail = unit_rows(of_head), unit_rows(of_tail)
        return of_head, middle, of_tail

    def query(self, known: Tensor, relation: Tensor, tails: Tensor) -> Tensor:
        """The sum inside the norm as a function, linear in both, of the other entity's vectors."""
        of_head, middle, of_tail = self._relation(relation)
        forward = tails[:, None]
        if self.variant == "transe":
            sign = torch.where(forward, self.unit, -self.unit).to(known.dtype)
            return torch.cat([-sign.expand_as(known), torch.addcmul(middle, sign, known)], 1)
        main, aux = known.split(self.width, dim=1)
        on_main = torch.where(forward, of_tail - aux - self.unit, aux + self.unit + of_head)
        on_aux = torch.where(forward, main, -main)
        constant = middle + main * torch.where(forward, self.unit + of_head, of_tail - self.unit)
        return torch.cat([on_main, on_aux, constant], 1)

    def compare(self, query: Tensor, table: Tensor, index: Tensor | None) -> Tensor:
        """``margin − norm``."""
        return self.margin - affine_norms(query, table, index, norm=self.norm)
