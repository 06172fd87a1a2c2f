"""Answers of learners over time: the log, windows of it that leak nothing, and batches of windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from tutelage.data.batch import Batch, DataInfo
from tutelage.data.splits import Indices

NONE = -1
"""Stands for no concept, in places that pad a question's concepts, and for no item."""

DAY = 86_400.0
"""Seconds of a day: models count time in days."""


@dataclass(frozen=True)
class TraceInfo(DataInfo):
    """Facts about logs of answers that a model of learners is built from. Learners are not named.

    Args:
        concept_names: Names by index.
        item_names: Names of questions by index; empty where none are known.
        width: The most concepts that a question has.
        timed: Whether answers have times; otherwise their order counts, one day each.
        rate: Share of right answers in training.
        window: The most steps that a window has.
    """

    concept_names: tuple[str, ...] = ()
    item_names: tuple[str, ...] = ()
    width: int = 1
    timed: bool = True
    rate: float = 0.5
    window: int = 200

    @property
    def classified(self) -> bool:
        """No: a sample is a sequence of answers."""
        return False

    @property
    def concepts(self) -> int:
        """How many there are."""
        return len(self.concept_names)

    @property
    def items(self) -> int:
        """How many are known."""
        return len(self.item_names)

    def blank(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """``[count, steps, width]`` int64: questions about the first concept."""
        inputs = torch.full((count, min(self.window, 16), self.width), NONE, dtype=torch.int64, device=device)
        inputs[..., 0] = 0
        return inputs


@dataclass(frozen=True)
class AnswerBatch(Batch):
    """Windows of learners' answers, one step a question; ``inputs`` are its concepts and ``labels`` the answers.

    Args:
        inputs: ``[batch, steps, width]`` int64 concepts; places that a question does not need are -1.
        labels: ``[batch, steps]`` float32, 1 for right, 0 for wrong; something between is a guess of the answer.
        ids: ``[batch]`` int64.
        seeds: ``[batch]`` int64.
        items: ``[batch, steps]`` int64 questions, -1 for unknown.
        times: ``[batch, steps]`` float32 days since the window's first answer.
        real: ``[batch, steps]`` bool: false behind the end of a shorter window.
        scored: ``[batch, steps]`` bool: steps that count; the others are only context.
        learners: ``[batch]`` int64 index of the learner.
        offsets: ``[batch]`` int64: how many answers the learner gave before the window.
    """

    items: Tensor
    times: Tensor
    real: Tensor
    scored: Tensor
    learners: Tensor
    offsets: Tensor

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        """What models of learners are called with."""
        return self.inputs, self.labels, self.items, self.times, self.real, self.offsets

    @property
    def positions(self) -> Tensor:
        """``[batch, steps]`` int64: how many answers the learner gave before each."""
        return self.offsets[:, None] + torch.arange(self.labels.shape[1], device=self.offsets.device)

    @classmethod
    def join(cls, batches: Sequence[Self]) -> Self:
        """The windows of several batches, padded to the longest."""
        steps = max(batch.labels.shape[1] for batch in batches)
        width = max(batch.inputs.shape[2] for batch in batches)
        return super().join([batch.padded(steps, width) for batch in batches])

    def padded(self, steps: int, width: int | None = None) -> Self:
        """The same windows with so many steps, and places for so many concepts."""
        more = steps - self.labels.shape[1]
        wide = (width or self.inputs.shape[2]) - self.inputs.shape[2]
        if not more and not wide:
            return self
        return replace(
            self,
            inputs=pad(self.inputs, (0, wide, 0, more), value=NONE),
            labels=pad(self.labels, (0, more)),
            items=pad(self.items, (0, more), value=NONE),
            times=pad(self.times, (0, more)),
            real=pad(self.real, (0, more)),
            scored=pad(self.scored, (0, more)),
        )

    def until(self, steps: int) -> Self:
        """Only the first steps."""
        cut = {f.name: getattr(self, f.name) for f in fields(self)}
        return type(self)(**{n: t[:, :steps] if t.dim() > 1 else t for n, t in cut.items()})


@dataclass(frozen=True, eq=False)
class AnswerLog:
    """All answers, a learner after the other, each in the order of time.

    Args:
        offsets: ``[learners + 1]`` int64: where each learner's answers begin.
        concepts: ``[answers, width]`` int32, -1 in places that are not needed.
        correct: ``[answers]`` uint8.
        items: ``[answers]`` int32, -1 for unknown.
        times: ``[answers]`` float64 seconds.
        names: What the source called the learners, where that was asked for; never a part of reports.
        home: Keeps the files that arrays are maps of.
    """

    offsets: NDArray[np.int64]
    concepts: NDArray[np.int32]
    correct: NDArray[np.uint8]
    items: NDArray[np.int32]
    times: NDArray[np.float64]
    names: Sequence[str] = ()
    home: Any = None

    def __len__(self) -> int:
        return len(self.correct)

    @property
    def learners(self) -> int:
        """How many there are."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """``[learners]``: how many answers each gave."""
        return np.diff(self.offsets)

    def of(self, learners: NDArray[np.int64]) -> AnswerLog:
        """The answers of some learners alone, in this order."""
        counts = self.counts[learners]
        offsets = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[learners] - offsets[:-1], counts)
        names = tuple(self.names[i] for i in learners) if self.names else ()
        return AnswerLog(offsets, self.concepts[at], self.correct[at], self.items[at], self.times[at], names)


class AnswerWindows:
    """Windows of a log, fetched by position: what is scored in one is context, at most, in another.

    Args:
        log: The answers; arrays may be maps of files.
        starts: ``[count]`` int64: where each window begins.
        stops: ``[count]`` int64: where it ends.
        targets: ``[count]`` int64: from where on its answers are scored.
        learners: ``[count]`` int64: whose it is.
    """

    def __init__(
        self,
        log: AnswerLog,
        starts: NDArray[np.int64],
        stops: NDArray[np.int64],
        targets: NDArray[np.int64],
        learners: NDArray[np.int64],
    ) -> None:
        self.log, self.starts, self.stops, self.targets, self.learners = log, starts, stops, targets, learners
        # The first answer that it scores belongs to no other window.
        self.ids = torch.from_numpy(np.asarray(targets, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def answers(self) -> int:
        """How many answers are scored."""
        return int((self.stops - self.targets).sum())

    def select(self, positions: Tensor) -> AnswerWindows:
        """Only these windows."""
        at = positions.numpy()
        return AnswerWindows(self.log, self.starts[at], self.stops[at], self.targets[at], self.learners[at])

    def fetch(self, indices: Indices) -> AnswerBatch:
        """The windows at these positions, padded to the longest of them."""
        at = np.asarray(indices, dtype=np.int64)
        start, stop = self.starts[at], self.stops[at]
        steps = int((stop - start).max()) if len(at) else 0
        place = start[:, None] + np.arange(steps)
        real = place < stop[:, None]
        place = np.where(real, place, stop[:, None] - 1)
        log = self.log
        concepts = log.concepts[place].astype(np.int64)
        concepts[~real] = NONE
        seconds = log.times[place]
        return AnswerBatch(
            inputs=torch.from_numpy(concepts),
            labels=torch.from_numpy(log.correct[place].astype(np.float32) * real),
            ids=self.ids[torch.from_numpy(at)],
            seeds=torch.zeros(len(at), dtype=torch.int64),
            items=torch.from_numpy(np.where(real, log.items[place], NONE).astype(np.int64)),
            times=torch.from_numpy(((seconds - log.times[start][:, None]) / DAY).astype(np.float32)),
            real=torch.from_numpy(real),
            scored=torch.from_numpy(real & (place >= self.targets[at][:, None])),
            learners=torch.from_numpy(self.learners[at]),
            offsets=torch.from_numpy(start - log.offsets[self.learners[at]]),
        )


def windows(
    log: AnswerLog,
    *,
    steps: int,
    overlap: int = 0,
    learners: NDArray[np.int64] | None = None,
    begin: NDArray[np.int64] | None = None,
    score: NDArray[np.int64] | None = None,
    end: NDArray[np.int64] | None = None,
) -> AnswerWindows:
    """Cut learners' answers into windows; every answer from ``score`` to ``end`` is scored in exactly one of them.

    Args:
        log: The answers.
        steps: The most steps of a window.
        overlap: How many of them may be context from before; less than ``steps``.
        learners: Whose; all unless given.
        begin: ``[learners]`` places in the log from where on answers may be context; each learner's first.
        score: ``[learners]`` places from where on answers are scored; as ``begin``.
        end: ``[learners]`` places where it ends; each learner's last.
    """
    who = np.arange(log.learners) if learners is None else learners
    first = log.offsets[who] if begin is None else begin
    scored = first if score is None else score
    last = log.offsets[who + 1] if end is None else end
    total = np.maximum(last - scored, 0)
    # Until a window is full of context it can score more than the stride.
    stride = steps - overlap
    head = np.minimum(np.maximum(steps - (scored - first), stride), total)
    count = np.where(total > 0, 1 + -(-np.maximum(total - head, 0) // stride), 0)
    row = np.repeat(np.arange(len(who)), count)
    turn = np.arange(len(row)) - np.repeat(count.cumsum() - count, count)
    target = scored[row] + np.where(turn > 0, head[row] + (turn - 1) * stride, 0)
    stop = np.minimum(np.where(turn > 0, target + stride, scored[row] + head[row]), last[row])
    start = np.maximum(first[row], target - overlap)
    return AnswerWindows(log, start, stop, target, who[row])


def one(concepts: Any, answers: Any, items: Any = None, times: Any = None, *, offset: int = 0) -> AnswerBatch:
    """A batch of one learner's answers.

    Args:
        concepts: ``[steps]`` or ``[steps, width]`` concept indices.
        answers: ``[steps]`` of 0 and 1.
        items: ``[steps]`` question indices; unknown unless given.
        times: ``[steps]`` seconds; a day apart unless given.
        offset: How many answers came before.
    """
    asked = torch.as_tensor(concepts, dtype=torch.int64)
    asked = asked[:, None] if asked.dim() == 1 else asked
    steps = len(asked)
    seconds = torch.arange(steps) * DAY if times is None else torch.as_tensor(times, dtype=torch.float64)
    zero, every = torch.zeros(1, dtype=torch.int64), torch.ones(1, steps, dtype=torch.bool)
    what = torch.full((steps,), NONE) if items is None else torch.as_tensor(items, dtype=torch.int64)
    since = ((seconds - seconds[0]) / DAY if steps else seconds).float()
    given = torch.as_tensor(answers, dtype=torch.float32)
    return AnswerBatch(
        asked[None], given[None], zero, zero, what[None], since[None], every, every, zero, torch.tensor([offset])
    )
