"""Corrupted triples: which end is replaced, and by what, as a function of each sample's own seed."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tutelage.data.seeds import integers, uniform
from tutelage.data.triples import HEAD, TAIL, Known, degrees

Corrupt = Literal["both", "alternate", "bernoulli", "head", "tail"]
_SIDE, _WHO = 0x1D, 0x2E


class Corruption:
    """Replaces heads or tails by entities drawn uniformly.

    What a triple is corrupted to depends on its seed alone: not on the batch it sits in, nor on processes or resuming.

    Args:
        triples: ``[count, 3]`` int64 training triples.
        entities: Number of entities.
        relations: Number of relations.
        count: Replacements for each triple.
        corrupt: Which end: ``both`` by chance for each triple; ``alternate`` between steps; ``bernoulli`` by chance,
            the head the more often the more tails a head of the relation has (Wang et al., AAAI 2014, section 3.2);
            or always the one.
        known: Facts that a replacement may not make true; ``None`` to take it as it comes.
    """

    def __init__(
        self,
        triples: Tensor,
        entities: int,
        relations: int,
        *,
        count: int,
        corrupt: Corrupt = "both",
        known: Known | None = None,
    ) -> None:
        self.entities, self.count, self.corrupt, self.known = entities, count, corrupt, known
        self._tails = torch.full((relations,), 0.5)
        if corrupt == "bernoulli":
            per_head, per_tail = degrees(triples, relations)
            self._tails = (per_tail / (per_head + per_tail).clamp(min=1e-9)).float()

    def sides(self, triples: Tensor, seeds: Tensor, step: int) -> Tensor:
        """``[batch]`` bool: whose tail is replaced."""
        if self.corrupt in ("head", "tail"):
            return torch.full((len(triples),), self.corrupt == "tail", device=triples.device)
        if self.corrupt == "alternate":
            return torch.full((len(triples),), step % 2 == 1, device=triples.device)
        share = self._tails.to(triples.device)[triples[:, 1]] if self.corrupt == "bernoulli" else 0.5
        return uniform(seeds, _SIDE) < share

    def __call__(self, triples: Tensor, seeds: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Candidates of each triple.

        Args:
            triples: ``[batch, 3]`` int64.
            seeds: ``[batch]`` int64 seeds of the samples' views.
            step: Of the stage, for those that alternate.

        Returns:
            ``[batch]`` bool whose tail is asked for; ``[batch, 1 + count]`` int64 entities, the true one first; and
            ``[batch, count]`` bool which of the others make the triple false, ``None`` where all are taken to.
        """
        tails = self.sides(triples, seeds, step)
        drawn = integers(seeds, 0, self.entities, _WHO, (self.count,))
        true = torch.where(tails, triples[:, TAIL], triples[:, HEAD])
        valid = None
        if self.known is not None:
            whole = triples[:, None].expand(-1, self.count, -1)
            head = torch.where(tails[:, None], whole[..., HEAD], drawn)
            tail = torch.where(tails[:, None], drawn, whole[..., TAIL])
            valid = ~self.known.holds(torch.stack([head, whole[..., 1], tail], -1))
        return tails, torch.cat([true[:, None], drawn], 1), valid
