"""Learners that are simulated, so that what a model recovers can be held against what is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from tutelage.data.answer_splits import divided
from tutelage.data.answers import DAY, AnswerLog
from tutelage.data.splits import Splits
from tutelage.recipe.registry import component

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What simulated learners really are like.

    Args:
        edges: ``[concepts, concepts]`` bool: i is needed for k.
        traits: Per learner and name, e.g. ``forgetting``; ``[learners]`` each.
        parameters: Per concept and name, e.g. ``slip``; ``[concepts]`` each.
        chance: ``[answers]`` the probability that each answer was drawn with.
    """

    edges: NDArray[np.bool_]
    traits: dict[str, Floats]
    parameters: dict[str, Floats]
    chance: Floats


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """Keys of every simulation.

    Args:
        learners: How many there are.
        concepts: Likewise.
        steps: Answers that each gives.
        split: Whole learners are kept back, or each learner's last answers: ``learner`` or ``time``.
        test_fraction: Fraction kept for testing.
        validation_fraction: Fraction of the rest kept for validation.
        simulation_seed: Seed of the learners and the division; ``null`` for the run's.
        window: The most steps that a model sees of a learner at once.
    """

    learners: Annotated[int, Ge(3)] = 300
    concepts: Annotated[int, Ge(1)] = 20
    steps: Annotated[int, Ge(2)] = 60
    split: Literal["learner", "time"] = "learner"
    test_fraction: Annotated[float, Gt(0), Lt(1)] = 0.25
    validation_fraction: Annotated[float, Ge(0), Lt(1)] = 0.15
    simulation_seed: Annotated[int, Ge(0)] | None = 0
    window: Annotated[int, Ge(2)] = 200

    def simulate(self, rng: np.random.Generator) -> tuple[AnswerLog, Truth]:
        """Answers, and what is true of those who gave them."""
        raise NotImplementedError(f"{type(self).__name__} simulates nothing")

    def drawn(self, seed: int = 0) -> tuple[AnswerLog, Truth]:
        """`simulate` from the seed."""
        return self.simulate(np.random.default_rng(seed if self.simulation_seed is None else self.simulation_seed))

    def load(self, seed: int) -> Splits:
        """Simulate and divide.

        Args:
            seed: The run's seed, used only when ``simulation_seed`` is ``None``.
        """
        log, _ = self.drawn(seed)
        return divided(
            log,
            [f"concept {i}" for i in range(self.concepts)],
            (),
            by=self.split,
            test=self.test_fraction,
            validation=self.validation_fraction,
            seed=seed if self.simulation_seed is None else self.simulation_seed,
            window=self.window,
            overlap=self.window // 2,
            timed=True,
            record={"data": type(self).__name__, "simulated": True},
        )

    def _log(self, concepts: NDArray[np.int64], correct: NDArray[np.bool_], times: Floats) -> AnswerLog:
        """A log of ``[learners, steps]`` arrays, times in seconds."""
        count, steps = concepts.shape
        return AnswerLog(
            np.arange(count + 1, dtype=np.int64) * steps,
            concepts.reshape(-1, 1).astype(np.int32),
            correct.reshape(-1).astype(np.uint8),
            np.full(count * steps, -1, dtype=np.int32),
            times.reshape(-1).astype(np.float64),
        )


@component("data", "learning-curves")
@dataclass(frozen=True, kw_only=True)
class LearningCurves(Simulated):
    """Simulated learners who get better with each attempt at a concept, more so after a right answer.

    P(right) = σ(a + 0.5 b - 1.6 + 1.1 m): ability a ~ N(0, 0.4), ease b ~ N(0, 0.8), practice m from 0, plus 1 for a
    right and 0.25 for a wrong answer, at most 3.5.

    Args:
        learners: How many there are.
        concepts: Likewise.
        steps: Answers that each gives.
        active: Concepts that a learner practises.
        split: Whole learners are kept back, or each learner's last answers: ``learner`` or ``time``.
        test_fraction: Fraction kept for testing.
        validation_fraction: Fraction of the rest kept for validation.
        simulation_seed: Seed of the learners and the division; ``null`` for the run's.
        window: The most steps that a model sees of a learner at once.
    """

    learners: Annotated[int, Ge(3)] = 360
    concepts: Annotated[int, Ge(1)] = 30
    test_fraction: Annotated[float, Gt(0), Lt(1)] = 1 / 3
    active: Annotated[int, Ge(1)] = 8

    def simulate(self, rng: np.random.Generator) -> tuple[AnswerLog, Truth]:
        """Answers, and what is true of those who gave them."""
        ease, ability = rng.normal(0, 0.8, self.concepts), rng.normal(0, 0.4, self.learners)
        active = min(self.active, self.concepts)
        own = np.argsort(rng.random((self.learners, self.concepts)), axis=1)[:, :active]
        concepts = np.take_along_axis(own, rng.integers(0, active, (self.learners, self.steps)), axis=1)
        practice = np.zeros((self.learners, self.concepts))
        chance, correct = np.empty(concepts.shape), np.empty(concepts.shape, dtype=bool)
        every = np.arange(self.learners)
        for step in range(self.steps):
            asked = concepts[:, step]
            chance[:, step] = _sigmoid(ability + 0.5 * ease[asked] - 1.6 + 1.1 * practice[every, asked])
            correct[:, step] = rng.random(self.learners) < chance[:, step]
            gained = np.where(correct[:, step], 1.0, 0.25)
            practice[every, asked] = np.minimum(practice[every, asked] + gained, 3.5)
        times = np.cumsum(rng.exponential(0.2 * DAY, concepts.shape), axis=1)
        none = np.zeros((self.concepts, self.concepts), dtype=bool)
        truth = Truth(none, {"ability": ability}, {"ease": ease}, chance.reshape(-1))
        return self._log(concepts, correct, times), truth


@component("data", "hidden-mastery")
@dataclass(frozen=True, kw_only=True)
class HiddenMastery(Simulated):
    """Simulated learners as Bayesian knowledge tracing thinks of them: a concept is known or not, and learnt at once.

    Args:
        learners: How many there are.
        concepts: Likewise.
        steps: Answers that each gives.
        forgetting: The largest probability to forget a concept at an attempt; each has its own below that.
        split: Whole learners are kept back, or each learner's last answers: ``learner`` or ``time``.
        test_fraction: Fraction kept for testing.
        validation_fraction: Fraction of the rest kept for validation.
        simulation_seed: Seed of the learners and the division; ``null`` for the run's.
        window: The most steps that a model sees of a learner at once.
    """

    concepts: Annotated[int, Ge(1)] = 5
    forgetting: Annotated[float, Ge(0), Le(1)] = 0.0

    def simulate(self, rng: np.random.Generator) -> tuple[AnswerLog, Truth]:
        """Answers, and what is true of those who gave them."""
        ranges = {"prior": (0.1, 0.6), "learn": (0.05, 0.3), "guess": (0.1, 0.3), "slip": (0.05, 0.2)}
        own = {name: rng.uniform(low, high, self.concepts) for name, (low, high) in ranges.items()}
        own["forget"] = rng.uniform(0, self.forgetting, self.concepts)
        concepts = rng.integers(0, self.concepts, (self.learners, self.steps))
        known = rng.random((self.learners, self.concepts)) < own["prior"]
        chance, correct = np.empty(concepts.shape), np.empty(concepts.shape, dtype=bool)
        every = np.arange(self.learners)
        for step in range(self.steps):
            asked = concepts[:, step]
            state = known[every, asked]
            chance[:, step] = np.where(state, 1 - own["slip"][asked], own["guess"][asked])
            correct[:, step] = rng.random(self.learners) < chance[:, step]
            moved = rng.random(self.learners)
            known[every, asked] = np.where(state, moved >= own["forget"][asked], moved < own["learn"][asked])
        times = np.cumsum(rng.exponential(0.2 * DAY, concepts.shape), axis=1)
        none = np.zeros((self.concepts, self.concepts), dtype=bool)
        return self._log(concepts, correct, times), Truth(none, {}, own, chance.reshape(-1))


@component("data", "prerequisites")
@dataclass(frozen=True, kw_only=True)
class Prerequisites(Simulated):
    """Simulated learners who forget, and to whom a concept comes easier the better they know what it builds on.

    The state of each concept is an Ornstein-Uhlenbeck process, whose mean is the learner's own plus what the states
    of its prerequisites add: arXiv:2403.13179's domain. P(right) = σ(state).

    Args:
        learners: How many there are.
        concepts: Likewise.
        steps: Answers that each gives.
        edges: Prerequisites in the domain, drawn among pairs in a fixed order so that there is no circle.
        influence: How strongly a prerequisite's state moves the mean of what builds on it.
        noise: Standard deviation σ of the process.
        gap: Mean days between answers.
        order: Concepts come ``random``, or mostly in the order of the ``curriculum``.
        split: Whole learners are kept back, or each learner's last answers: ``learner`` or ``time``.
        test_fraction: Fraction kept for testing.
        validation_fraction: Fraction of the rest kept for validation.
        simulation_seed: Seed of the learners and the division; ``null`` for the run's.
        window: The most steps that a model sees of a learner at once.
    """

    learners: Annotated[int, Ge(3)] = 100
    concepts: Annotated[int, Ge(1)] = 8
    steps: Annotated[int, Ge(2)] = 20
    edges: Annotated[int, Ge(0)] = 6
    influence: Annotated[float, Ge(0)] = 1.5
    noise: Annotated[float, Ge(0)] = 0.8
    gap: Annotated[float, Gt(0)] = 0.5
    order: Literal["random", "curriculum"] = "random"

    def simulate(self, rng: np.random.Generator) -> tuple[AnswerLog, Truth]:
        """Answers, and what is true of those who gave them."""
        count, concepts = self.learners, self.concepts
        pairs = np.array([(i, k) for k in range(concepts) for i in range(k)], dtype=np.int64).reshape(-1, 2)
        chosen = rng.permutation(len(pairs))[: min(self.edges, len(pairs))]
        edges = np.zeros((concepts, concepts), dtype=bool)
        edges[tuple(pairs[chosen].T)] = True
        forgetting, mean = rng.uniform(0.1, 0.6, count), rng.normal(0.2, 0.7, count)
        asked = rng.integers(0, concepts, (count, self.steps))
        if self.order == "curriculum":
            asked = np.sort(asked + rng.integers(-1, 2, asked.shape), axis=1).clip(0, concepts - 1)
        gaps = rng.exponential(self.gap, (count, self.steps))
        state = mean[:, None] + rng.normal(0, self.noise / np.sqrt(2 * 0.35), (count, concepts))
        chance = np.empty(asked.shape)
        for step in range(self.steps):
            decay = np.exp(-forgetting * gaps[:, step])[:, None]
            pulled = mean[:, None] + self.influence * (state @ edges) / np.maximum(edges.sum(0), 1)
            spread = self.noise * np.sqrt((1 - decay**2) / (2 * forgetting[:, None]))
            state = decay * state + (1 - decay) * pulled + spread * rng.normal(size=state.shape)
            chance[:, step] = _sigmoid(state[np.arange(count), asked[:, step]])
        correct = rng.random(asked.shape) < chance
        truth = Truth(edges, {"forgetting": forgetting, "mean": mean}, {}, chance.reshape(-1))
        return self._log(asked, correct, np.cumsum(gaps, axis=1) * DAY), truth


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))
