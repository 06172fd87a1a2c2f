"""What models of learners share: one logit for each answer, made of what came before it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from tutelage.data.answers import NONE, AnswerBatch, TraceInfo
from tutelage.data.batch import DataInfo
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError


class Tracer(nn.Module):
    """A model that says how likely a learner answers a question rightly, from the answers before.

    Subclasses say in `trace` what the logit of each step is; it may depend on what is asked in that step and on the
    answers before it, never on the step's own. Answers may be probabilities: so predictions can take the place of
    answers that are not there yet.

    Args:
        data: Facts about the log of answers.

    Raises:
        InputError: The data is no log of answers.
    """

    standard_taps: ClassVar[Mapping[str, str]] = {}

    def __init__(self, data: DataInfo) -> None:
        super().__init__()
        if not isinstance(data, TraceInfo):
            raise InputError(
                "this model traces what learners know: use it with logs of answers, such as 'answers' with your file"
            )
        self.info = data
        self.concepts = data.concepts

    @classmethod
    def from_folder(cls, folder: Path, data: DataInfo, **args: Any) -> Self:
        """The model that a folder describes, with the names of its concepts."""
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))["data"]
        own = {f.name: told[f.name] for f in fields(TraceInfo) if f.name in told}
        own = {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}
        return cls(TraceInfo(**own), **args)

    def trace(
        self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor, real: Tensor, offsets: Tensor
    ) -> Tensor:
        """``[batch, steps]`` logits of a right answer in each step.

        Args:
            concepts: ``[batch, steps, width]`` int64, -1 in places that are not needed.
            answers: ``[batch, steps]`` in [0, 1].
            items: ``[batch, steps]`` int64, -1 for unknown.
            times: ``[batch, steps]`` days.
            real: ``[batch, steps]`` bool.
            offsets: ``[batch]`` int64 answers before the window.
        """
        raise NotImplementedError(f"{type(self).__name__} traces nothing")

    def forward(
        self,
        concepts: Tensor,
        answers: Tensor | None = None,
        items: Tensor | None = None,
        times: Tensor | None = None,
        real: Tensor | None = None,
        offsets: Tensor | None = None,
    ) -> Outputs:
        """`trace`, for answers that are all wrong, a day apart and of unknown questions where nothing else is given."""
        batch, steps = concepts.shape[:2]
        device = concepts.device
        if answers is None:
            answers = torch.zeros(batch, steps, device=device)
        if items is None:
            items = torch.full((batch, steps), NONE, device=device)
        if times is None:
            times = torch.arange(steps, device=device).float().expand(batch, steps)
        if real is None:
            real = concepts[..., 0] >= 0
        if offsets is None:
            offsets = torch.zeros(batch, dtype=torch.int64, device=device)
        return self.outputs(concepts, answers, items, times, real, offsets)

    def outputs(self, *arguments: Tensor) -> Outputs:
        """What a forward returns for `trace`'s arguments."""
        return Outputs(self.trace(*arguments))

    @torch.no_grad()
    def ahead(self, batch: AnswerBatch, known: int) -> Tensor:
        """``[batch, steps]`` probabilities of right answers, from step ``known`` on without any answer from there.

        Each prediction takes the place of the answer for those that come after it.
        """
        answers = batch.labels.clone()
        answers[:, known:] = 0.5
        steps = answers.shape[1]
        found = torch.empty_like(answers)
        for step in range(known, max(steps, known + 1)):
            size = min(step + 1, steps)
            part = batch.with_(labels=answers).until(size)
            chance = self.trace(*part.arguments).sigmoid()
            if step == known:
                found[:, :size] = chance
            if step < steps:
                found[:, step] = chance[:, step]
                answers[:, step] = chance[:, step]
        return found

    @torch.no_grad()
    def mastery(self, batch: AnswerBatch) -> Tensor:
        """``[batch, steps + 1, concepts]`` probabilities of right answers before each step, and at last.

        The questions are of no known item, and asked when the step's is.
        """
        size, steps = batch.labels.shape
        found = torch.empty(size, steps + 1, self.concepts)
        asked = torch.full((self.concepts, 1, batch.inputs.shape[2]), NONE, device=batch.inputs.device)
        asked[:, 0, 0] = torch.arange(self.concepts)
        for row in range(size):
            own = batch.rows(torch.tensor([row]))
            for step in range(steps + 1):
                found[row, step] = self._asked(own, step, asked)
        return found

    @torch.no_grad()
    def latest(self, batch: AnswerBatch) -> Tensor:
        """``[batch, concepts]``: `mastery` at last, of learners whose real steps may differ in number."""
        found = torch.empty(len(batch), self.concepts)
        asked = torch.full((self.concepts, 1, batch.inputs.shape[2]), NONE, device=batch.inputs.device)
        asked[:, 0, 0] = torch.arange(self.concepts)
        for row, length in enumerate(batch.real.sum(1).tolist()):
            found[row] = self._asked(batch.rows(torch.tensor([row])), length, asked)
        return found

    def _asked(self, own: AnswerBatch, step: int, asked: Tensor) -> Tensor:
        """``[concepts]``: how likely a right answer is to a question on each, after so many steps."""
        count = len(asked)

        def grown(history: Tensor, last: Tensor) -> Tensor:
            return torch.cat([history[:, :step].expand(count, *history[:, :step].shape[1:]), last], 1)

        time = own.times[:, min(step, own.times.shape[1] - 1)] if own.times.shape[1] else own.times.new_zeros(1)
        column = own.labels.new_zeros(count, 1)
        logits = self.trace(
            grown(own.inputs, asked),
            grown(own.labels, column),
            grown(own.items, torch.full((count, 1), NONE)),
            grown(own.times, time.expand(count)[:, None]),
            torch.ones(count, step + 1, dtype=torch.bool),
            own.offsets.expand(count),
        )
        return logits[:, -1].sigmoid()


def pooled(table: nn.Embedding, index: Tensor) -> Tensor:
    """``[batch, steps, size]``: the mean of the rows of a question's concepts; zeros where it has none.

    Args:
        table: ``[rows, size]``.
        index: ``[batch, steps, width]`` int64, -1 in places that are not needed.
    """
    if index.shape[2] == 1:
        only = index[..., 0]
        rows: Tensor = table(only.clamp_min(0))
        return rows
    there = index >= 0
    every = table(index.clamp_min(0)) * there[..., None]
    found: Tensor = every.sum(2) / there.sum(2, keepdim=True).clamp_min(1)
    return found


class Interactions(nn.Module):
    """A vector for each concept rightly, and each wrongly answered; between the two for an answer that is a guess.

    Args:
        concepts: How many there are.
        size: Of a vector.
    """

    def __init__(self, concepts: int, size: int) -> None:
        super().__init__()
        self.concepts = concepts
        self.table = nn.Embedding(2 * concepts, size)

    def forward(self, concepts: Tensor, answers: Tensor) -> Tensor:
        """``[batch, steps, size]`` of ``[batch, steps, width]`` concepts and ``[batch, steps]`` answers in [0, 1]."""
        hard = answers.round()
        guessed = not torch.equal(hard, answers)
        if not guessed:
            right = torch.where(concepts >= 0, concepts + (hard.long() * self.concepts)[..., None], concepts)
            return pooled(self.table, right)
        wrong = pooled(self.table, concepts)
        right = pooled(self.table, torch.where(concepts >= 0, concepts + self.concepts, concepts))
        return torch.lerp(wrong, right, answers[..., None])


def before(steps: Tensor) -> Tensor:
    """The same ``[batch, steps, size]`` one step later: zeros, then all but the last."""
    shifted = torch.zeros_like(steps)
    shifted[:, 1:] = steps[:, :-1]
    return shifted


def by_length(call: Callable[..., Tensor], lengths: Tensor, *steps: Tensor, groups: int = 4) -> Tensor:
    """``[batch, steps]`` of windows in groups of similar length, each computed no further than its longest.

    Args:
        call: Gives ``[batch, steps]`` of the arguments.
        lengths: ``[batch]`` real steps.
        *steps: ``[batch, steps, ...]`` each.
        groups: How many there are at most; batches too small to be worth it are one.
    """
    longest = steps[0].shape[1]
    if len(lengths) < 4 * groups or int(lengths.min()) == longest:
        return call(*steps)
    order = lengths.argsort(stable=True)
    made = []
    for part in order.tensor_split(groups):
        size = max(int(lengths[part[-1]]), 1)
        found = call(*(one[part, :size] for one in steps))
        made.append(nn.functional.pad(found, (0, longest - size)))
    return torch.cat(made)[order.argsort()]


class Recurrent(nn.Module):
    """A recurrent layer that stops computing for windows that have ended: zeros come out behind their end.

    Args:
        inputs: Size of a step.
        size: Of the state.
        layers: How many are stacked.
        piece: Steps that are done at once.
    """

    def __init__(self, inputs: int, size: int, *, layers: int = 1, piece: int = 100) -> None:
        super().__init__()
        self.layer = nn.LSTM(inputs, size, layers, batch_first=True)
        self.piece = piece

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """``[batch, steps, size]`` states after each of ``[batch, steps, inputs]``; ``[batch]`` steps are real."""
        ordered, order = lengths.sort(descending=True, stable=True)
        longest = steps.shape[1]
        if longest <= self.piece or int(ordered[-1]) > longest - self.piece:
            whole: Tensor = self.layer(steps)[0]
            return whole
        steps = steps[order]
        made, state = [], None
        for start in range(0, longest, self.piece):
            alive = int((ordered > start).sum())
            if not alive:
                made.append(steps.new_zeros(len(steps), longest - start, self.layer.hidden_size))
                break
            part = steps[:alive, start : start + self.piece].contiguous()
            if state is not None:
                state = (state[0][:, :alive].contiguous(), state[1][:, :alive].contiguous())
            out, state = self.layer(part, state)
            made.append(nn.functional.pad(out, (0, 0, 0, 0, 0, len(steps) - alive)))
        back = order.argsort()
        return torch.cat(made, 1)[back]
