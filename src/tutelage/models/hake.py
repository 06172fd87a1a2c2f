"""HAKE: levels of a hierarchy by modulus, entities of one level by phase."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.losses.candidates import affine_norms, distances
from tutelage.models.link_predictor import LinkPredictor, halves
from tutelage.recipe.registry import component


@component("model", "hake")
class HAKE(LinkPredictor):
    """``margin − λ₁ ‖h_m∘(r_m + b) − t_m∘(1 − b)‖₂ − λ₂ ‖sin((h_p + r_p − t_p) / 2)‖₁`` (arXiv:1911.09419).

    These are equations 1 to 3 and the bias of section 3.2: ``r_m`` is an absolute value, and the bias ``b`` is held
    between ``−r_m`` and 1. Both weights are learnt.

    Args:
        data: The graph.
        width: Numbers of an entity, half of them phases and half moduli: even.
        margin: Score of a triple that fits exactly.
        modulus_weight: ``λ₁`` at the start.
        phase_weight: ``λ₂`` at the start.
    """

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        width: Annotated[int, Ge(2)] = 64,
        margin: Annotated[float, Ge(0)] = 6.0,
        modulus_weight: float = 1.0,
        phase_weight: float = 0.5,
    ) -> None:
        half = halves(width, "HAKE")
        super().__init__(data, width, 3 * half)
        self.margin, self.reach = margin, (margin + 2.0) / half
        nn.init.uniform_(self.entities, -self.reach, self.reach)
        nn.init.uniform_(self.relations, -self.reach, self.reach)
        with torch.no_grad():
            self.relations[:, half : 2 * half] = 1.0
            self.relations[:, 2 * half :] = 0.0
        self.modulus_weight = nn.Parameter(torch.tensor(modulus_weight))
        self.phase_weight = nn.Parameter(torch.tensor(phase_weight * self.reach))

    def query(self, known: Tensor, relation: Tensor, tails: Tensor) -> Tensor:
        """Phase of the other entity, what its modulus is multiplied with, and what is added to that."""
        phase, modulus = known.chunk(2, dim=1)
        turn, size, bias = relation.chunk(3, dim=1)
        size = size.abs()
        bias = torch.maximum(bias.clamp(max=1.0), -size)
        forward = tails[:, None]
        of_head, of_tail = size + bias, 1.0 - bias
        factor = torch.where(forward, -of_tail, of_head)
        constant = modulus * torch.where(forward, of_head, -of_tail)
        return torch.cat([phase + torch.where(forward, turn, -turn), factor, constant], 1)

    def compare(self, query: Tensor, table: Tensor, index: Tensor | None) -> Tensor:
        """Both distances; a phase is a number times ``π / reach``."""
        half = table.shape[1] // 2
        phase, affine = query.split([half, 2 * half], dim=1)
        unit = math.pi / self.reach
        turned = distances(phase * unit, table[:, :half] * unit, index, by="half_sine")
        apart = affine_norms(affine, table[:, half:].contiguous(), index, norm=2)
        return self.margin - self.modulus_weight * apart - self.phase_weight * turned
