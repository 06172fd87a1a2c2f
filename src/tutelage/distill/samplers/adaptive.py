"""Answers that a student wrote, used as often as validation says they are needed, and used again."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from tutelage.data.batch import Batch
from tutelage.data.tokens import TokenBatch, prompted
from tutelage.distill.samplers.on_policy import OnPolicy
from tutelage.engine.method import Room, Step
from tutelage.recipe.registry import component

Replay = Literal["decreasing", "constant", "increasing"]


@component("sampler", "adaptive")
class Adaptive(OnPolicy):
    """Adaptive off-policy sampling (arXiv:2402.03898, section 3.2): writing is rare, and what was written is kept.

    With a share φ of steps the student's own answers are learnt from; of these a share ψ has new ones written, and the
    others take old ones from a buffer. φ grows by ``increase`` after a validation whose loss is ``tolerance`` above
    that of the last time it grew. It starts at 0: while validation does not get worse, nobody writes.

    Args:
        initial: φ at first.
        increase: What φ grows by.
        tolerance: By how much the loss must be worse.
        capacity: Answers that are kept; the oldest go first.
        replay: How ψ goes on: ``decreasing`` φ (1 − t), ``constant`` φ / 2, ``increasing`` φ t, with t the share of the
            stage that is over.
        temperature: Of what is drawn.
        top_p: Draw from the likeliest tokens that together have so much probability.
        max_new_tokens: Most tokens of an answer.
    """

    threshold: Tensor
    reference: Tensor
    texts: Tensor
    spans: Tensor
    held: Tensor

    def __init__(
        self,
        *,
        initial: Annotated[float, Ge(0), Le(1)] = 0.0,
        increase: Annotated[float, Ge(0), Le(1)] = 0.1,
        tolerance: Annotated[float, Ge(0)] = 0.1,
        capacity: Annotated[int, Ge(1)] = 1000,
        replay: Replay = "decreasing",
        temperature: Annotated[float, Ge(0)] = 1.0,
        top_p: Annotated[float, Gt(0), Le(1)] = 1.0,
        max_new_tokens: Annotated[int, Ge(1)] = 128,
    ) -> None:
        super().__init__(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens)
        self.increase, self.tolerance, self.capacity, self.replay = increase, tolerance, capacity, replay
        # All of it is state: a resumed run goes on with the same share and the same answers.
        self.register_buffer("threshold", torch.tensor(float(initial), dtype=torch.float64))
        self.register_buffer("reference", torch.tensor(torch.inf, dtype=torch.float64))
        self.register_buffer("held", torch.tensor(0))

    def setup(self, room: Room) -> None:
        """Make room for answers.

        Raises:
            InputError: The data has no prompts.
        """
        super().setup(room)
        width = room.info.input_shape[0] + self.max_new_tokens
        self.register_buffer("texts", torch.zeros(self.capacity, width, dtype=torch.int32))
        # Where the answer begins, where it ends, and of which sample it is.
        self.register_buffer("spans", torch.zeros(self.capacity, 3, dtype=torch.int64))

    def begin(self, loss: float) -> None:
        """The validation loss of the student as it comes."""
        self.reference.fill_(loss)

    def judge(self, loss: float) -> None:
        """A validation is over: more of the student's own answers, where it has got worse."""
        if loss >= float(self.reference) + self.tolerance:
            self.threshold.fill_(min(float(self.threshold) + self.increase, 1.0))
            self.reference.fill_(loss)

    def rewriting(self, progress: float) -> float:
        """ψ: the share of steps in which new answers are written."""
        share = float(self.threshold)
        return share * {"decreasing": 1 - progress, "constant": 0.5, "increasing": progress}[self.replay]

    def sample(self, step: Step) -> Batch:
        """The data's batch, answers written to it, or answers from the buffer."""
        batch = step.batch
        assert isinstance(batch, TokenBatch)
        draw = float(torch.rand((), generator=torch.Generator().manual_seed(104_729 * step.index + 29)))
        full = int(self.held) >= self.capacity
        if draw < self.rewriting(step.progress) or (draw < float(self.threshold) and not full):
            written = self.written(step, batch, "student")
            self._keep(written)
            return written
        return self._again(batch) if draw < float(self.threshold) else batch

    def _keep(self, written: TokenBatch) -> None:
        for tokens, start, length, which in zip(
            written.inputs, written.starts, written.lengths, written.ids, strict=True
        ):
            row = int(self.held) % self.capacity
            own = int(length)
            self.texts[row, :own] = tokens[:own].int()
            self.spans[row] = torch.stack([start, length, which])
            self.held += 1

    def _again(self, like: TokenBatch) -> TokenBatch:
        rows = torch.randperm(min(int(self.held), self.capacity))[: len(like)]
        spans = self.spans[rows].cpu()
        prompts = [self.texts[row, : int(s)].long().cpu() for row, (s, _, _) in zip(rows, spans, strict=True)]
        answers = [self.texts[row, int(s) : int(e)].long().cpu() for row, (s, e, _) in zip(rows, spans, strict=True)]
        same = like.rows(torch.arange(len(rows), device=like.ids.device)).with_(ids=spans[:, 2].to(like.ids.device))
        return prompted(prompts, answers, same, 0)
