"""Learners whose answers come one after the other: what is known of each is kept, and moves with every answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.data.answers import DAY, AnswerBatch, one
from tutelage.models.beliefs import Belief
from tutelage.models.psi_kt import PsiKT
from tutelage.models.tracer import Tracer


@dataclass(frozen=True)
class Answer:
    """An answer, in a model's own indices.

    Args:
        concepts: Of the question.
        correct: 0 or 1.
        time: Seconds since 1970.
        item: The question, -1 for an unknown one.
    """

    concepts: tuple[int, ...]
    correct: int
    time: float
    item: int = -1


@dataclass(frozen=True)
class Standing:
    """What is known of a learner now.

    Args:
        chance: ``[concepts]`` how likely a right answer is.
        low: ``[concepts]`` lower end of a 95 % interval of the state behind it; as ``chance`` where models give none.
        high: Upper end.
        answers: How many were taken in.
    """

    chance: Tensor
    low: Tensor
    high: Tensor
    answers: int


class Tracking:
    """Learners' states in memory, those used last; others are made again from their answers when they are needed.

    A model that filters takes an answer in at a cost that does not grow with the history; for others the last window of
    answers is kept, and looked at again.

    Args:
        model: In evaluation mode.
        history: Gives a learner's answers so far, in the order they came.
        held: The most learners that are kept in memory.
    """

    def __init__(self, model: Tracer, history: Callable[[Any], Sequence[Answer]], *, held: int = 10_000) -> None:
        self.model, self.history, self.held = model, history, held
        self.filters = isinstance(model, PsiKT) and model.inference == "filter"
        self._states: OrderedDict[Any, Any] = OrderedDict()
        self._wide = model.info.width

    def load(self, learners: Sequence[Any]) -> None:
        """Have these learners' states in memory, made from their answers so far."""
        for learner in learners:
            self._state(learner)

    def take(self, answers: Sequence[tuple[Any, Answer]]) -> list[float]:
        """Take answers in, in this order; those of different learners move together.

        Learners' states must be in memory, see `load`, where `history` has these answers already.

        Args:
            answers: Learners and their answers.

        Returns:
            How likely a right answer was held before each.
        """
        chances = [0.0] * len(answers)
        rounds: dict[Any, list[int]] = {}
        for place, (learner, _) in enumerate(answers):
            rounds.setdefault(learner, []).append(place)
        for turn in range(max(map(len, rounds.values()), default=0)):
            now = [places[turn] for places in rounds.values() if turn < len(places)]
            found = self._together([answers[place] for place in now])
            for place, chance in zip(now, found, strict=True):
                chances[place] = chance
        while len(self._states) > self.held:
            self._states.popitem(last=False)
        return chances

    def standing(self, learner: Any, time: float) -> Standing:
        """What is known of a learner at a time, in seconds."""
        state = self._state(learner)
        if isinstance(state, Belief):
            assert isinstance(self.model, PsiKT)
            from tutelage.losses.ornstein_uhlenbeck import moderated

            mean, variance = self.model.expected_at(state, torch.tensor([time / DAY], dtype=torch.float64))
            spread = 1.96 * variance[0].sqrt()
            low, high = ((mean[0] + sign * spread).sigmoid() for sign in (-1.0, 1.0))
            return Standing(moderated(mean[0], variance[0]).sigmoid(), low, high, int(state.count))
        chance = self.model.latest(self._batch(state))[0] if state else self._blank()
        return Standing(chance, chance, chance, len(state))

    def _blank(self) -> Tensor:
        asked = one(list(range(self.model.concepts)), [0] * self.model.concepts)
        with torch.no_grad():
            rows = [self.model.trace(*asked.until(1).with_(inputs=asked.inputs[:, i : i + 1]).arguments)[0, 0]
                    for i in range(self.model.concepts)]  # fmt: skip
        return torch.stack(rows).sigmoid()

    def _state(self, learner: Any) -> Any:
        state = self._states.get(learner)
        if state is None:
            answers = self.history(learner)
            if self.filters:
                assert isinstance(self.model, PsiKT)
                state = self.model.unknown(1)
                for answer in answers:
                    _, state = self._observed(state, [answer])
            else:
                state = list(answers)[-self.model.info.window :]
            self._states[learner] = state
        self._states.move_to_end(learner)
        return state

    def _together(self, answers: Sequence[tuple[Any, Answer]]) -> list[float]:
        states = [self._state(learner) for learner, _ in answers]
        if self.filters:
            chance, after = self._observed(Belief.join(states), [answer for _, answer in answers])
            for place, (learner, _) in enumerate(answers):
                self._states[learner] = after.of(place)
            return [float(c) for c in chance]
        size = self.model.info.window
        grown = [[*state, answer][-size:] for state, (_, answer) in zip(states, answers, strict=True)]
        batch = AnswerBatch.join([self._batch(history) for history in grown])
        with torch.no_grad():
            logits = self.model.trace(*batch.arguments)
        for (learner, _), history in zip(answers, grown, strict=True):
            self._states[learner] = history
        return [float(row[len(h) - 1].sigmoid()) for row, h in zip(logits, grown, strict=True)]

    def _observed(self, belief: Belief, answers: Sequence[Answer]) -> tuple[Tensor, Belief]:
        assert isinstance(self.model, PsiKT)
        asked = torch.full((len(answers), max(len(a.concepts) for a in answers)), -1)
        for row, answer in enumerate(answers):
            asked[row, : len(answer.concepts)] = torch.tensor(answer.concepts)
        right = torch.tensor([float(a.correct) for a in answers])
        days = torch.tensor([a.time / DAY for a in answers], dtype=torch.float64)
        return self.model.observe(belief, asked, right, days)

    def _batch(self, history: Sequence[Answer]) -> AnswerBatch:
        width = max(self._wide, *(len(a.concepts) for a in history))
        asked = [[*a.concepts, *[-1] * (width - len(a.concepts))] for a in history]
        return one(asked, [a.correct for a in history], [a.item for a in history], [a.time for a in history])
