"""CAKT: recent experience with a concept, read by 3-D convolutions, beside an LSTM over all (arXiv:2008.01169)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.losses.tracing import curve_decay
from tutelage.models.tracer import Recurrent, Tracer, before, pooled
from tutelage.recipe.registry import component

_CHANNELS = ((1, 4), (4, 8), (8, 4), (4, 1))


@component("model", "cakt")
class CAKT(Tracer):
    """The last answers on a concept are frames, which decay, of a short film; a network reads the learning curve in it.

    Args:
        data: Facts about the log of answers.
        side: Of the square that an interaction's vector is; vectors and states have its square as their size.
        frames: How many answers on a concept are looked at.
        anchor: Whose concept that is: ``next`` takes what is asked, as the paper's text, ``current`` what was asked
            last, as the released code.
        decay: Whether frames fade with the steps since.
        recent: What reads the frames: convolutions (``cnn``) or an ``lstm``.
        pool: How frames become one: their ``mean``, or a layer over all (``fc``).
        rear: Whether an LSTM reads what was fused (``lstm``), or only a layer (``fc``).
        fusion: Learnt ``gates``, or the plain ``average``.
    """

    def __init__(
        self,
        data: DataInfo,
        *,
        side: Annotated[int, Ge(1)] = 15,
        frames: Annotated[int, Ge(2)] = 4,
        anchor: Literal["next", "current"] = "next",
        decay: bool = True,
        recent: Literal["cnn", "lstm"] = "cnn",
        pool: Literal["mean", "fc"] = "mean",
        rear: Literal["lstm", "fc"] = "lstm",
        fusion: Literal["gates", "average"] = "gates",
    ) -> None:
        super().__init__(data)
        size = side * side
        self.side, self.size, self.count, self.anchor, self.pool = side, size, frames, anchor, pool
        self.table = nn.Embedding(2 * self.concepts + 1, size, padding_idx=0)
        nn.init.kaiming_uniform_(self.table.weight)
        with torch.no_grad():
            self.table.weight[0].zero_()
        self.strength = nn.Parameter(torch.ones(())) if decay else None
        self.front = Recurrent(size, size)
        self.film = (
            nn.Sequential(*(Block(a, b, frames) for a, b in _CHANNELS))
            if recent == "cnn"
            else nn.LSTM(size, size, batch_first=True)
        )
        self.joint = nn.Linear(frames * size, size) if pool == "fc" else None
        self.gates = nn.ModuleList(nn.Linear(2 * size, size) for _ in range(2)) if fusion == "gates" else None
        self.rear: nn.Module = Recurrent(size, size) if rear == "lstm" else nn.Linear(size, size)
        self.head = nn.Linear(size, self.concepts)

    def vectors(self, concepts: Tensor, answers: Tensor) -> Tensor:
        """``[batch, steps, size]`` of ``[batch, steps, width]`` concepts and ``[batch, steps]`` answers in [0, 1]."""
        wrong = torch.where(concepts >= 0, concepts + 1, concepts)
        right = torch.where(concepts >= 0, concepts + 1 + self.concepts, concepts)
        hard = answers.round()
        if torch.equal(hard, answers):
            return pooled(self.table, torch.where(hard[..., None] > 0, right, wrong))
        return torch.lerp(pooled(self.table, wrong), pooled(self.table, right), answers[..., None])

    def recent_steps(self, concepts: Tensor) -> tuple[Tensor, Tensor]:
        """Which answers are a step's frames: the latest before it on its anchor concept, the newest last.

        Args:
            concepts: ``[batch, steps, width]``.

        Returns:
            ``[batch, steps, frames]`` int64 places of answers, -1 where there are fewer; and the steps since each.
        """
        steps = concepts.shape[1]
        asked = concepts
        if self.anchor == "current":
            asked = torch.full_like(concepts, -1)
            asked[:, 1:] = concepts[:, :-1]
        place = torch.arange(steps, device=concepts.device)
        same = torch.zeros(len(concepts), steps, steps, dtype=torch.bool, device=concepts.device)
        for one in asked.unbind(-1):
            for other in concepts.unbind(-1):
                same |= (one[:, :, None] == other[:, None, :]) & (one >= 0)[:, :, None]
        same &= place[:, None] > place
        score = torch.where(same, place, -1)
        latest = score.topk(min(self.count, steps), -1).values.flip(-1)
        latest = nn.functional.pad(latest, (self.count - latest.shape[-1], 0), value=-1)
        since = place[:, None] - latest - (1 if self.anchor == "current" else 0)
        return latest, since

    def curves(self, vectors: Tensor, concepts: Tensor, real: Tensor) -> Tensor:
        """``[batch, steps, size]``: what the last answers on the anchor concept say."""
        latest, since = self.recent_steps(concepts)
        latest, since = latest[real], since[real]
        row = real.nonzero()[:, :1].expand_as(latest)
        film = vectors[row, latest.clamp_min(0)] * (latest >= 0)[..., None]
        if self.strength is not None:
            film = film * curve_decay(since.to(film.dtype), self.strength)[..., None]
        if isinstance(self.film, nn.LSTM):
            read: Tensor = self.film(film)[0][:, -1]
        else:
            read = self.film(film.view(-1, 1, self.count, self.side, self.side))
            flat = read.reshape(len(film), self.count, self.size)
            read = flat.mean(1) if self.joint is None else self.joint(flat.flatten(1))
        made = vectors.new_zeros(*real.shape, self.size)
        made[real] = read.to(made.dtype)
        return made

    def trace(
        self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor, real: Tensor, offsets: Tensor
    ) -> Tensor:
        """The column of what is asked."""
        lengths = real.sum(1)
        vectors = self.vectors(concepts, answers)
        overall = before(self.front(vectors, lengths))
        curve = self.curves(vectors, concepts, real)
        if self.gates is None:
            fused = 0.5 * (curve + overall)
        else:
            both = torch.cat([curve, overall], -1)
            first, second = (gate(both).sigmoid() for gate in self.gates)
            fused = first * curve + second * overall
        smooth = self.rear(fused, lengths) if isinstance(self.rear, Recurrent) else self.rear(fused)
        there = concepts >= 0
        at = concepts.clamp_min(0)
        if concepts.shape[2] == 1:
            # The column of one concept, without those of all others.
            column: Tensor = (smooth * self.head.weight[at[..., 0]]).sum(-1) + self.head.bias[at[..., 0]]
            return column
        logits: Tensor = (self.head(smooth).gather(-1, at) * there).sum(-1) / there.sum(-1).clamp_min(1)
        return logits


class Block(nn.Module):
    """Two convolutions in space and frames, a weight for each frame, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, frames: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm3d(outputs) for _ in range(2))
        self.down, self.up = nn.Linear(frames, frames // 2, bias=False), nn.Linear(frames // 2, frames, bias=False)
        self.shortcut = (
            nn.Identity()
            if inputs == outputs
            else nn.Sequential(nn.Conv3d(inputs, outputs, 1, bias=False), nn.BatchNorm3d(outputs))
        )
        for part in self.modules():
            if isinstance(part, nn.Conv3d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """``[clips, channels, frames, side, side]``."""
        y = self.norms[1](self.second(torch.relu(self.norms[0](self.first(x)))))
        weight = self.up(torch.relu(self.down(y.mean((-1, -2))))).sigmoid()
        made: Tensor = torch.relu(y * weight[..., None, None] + self.shortcut(x))
        return made
