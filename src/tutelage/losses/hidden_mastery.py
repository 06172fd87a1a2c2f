"""Bayesian knowledge tracing as a hidden Markov model of two states: fitted by expectation-maximisation.

Sequences lie step after step, the longest first, so that each step of the recursions is one slice of those still
running.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

PARAMETERS = ("prior", "learn", "forget", "guess", "slip")
_TINY = 1e-300


@dataclass(frozen=True)
class Ragged:
    """Sequences of answers, each on one concept.

    Args:
        answers: ``[answers]`` float64, step by step; within a step, the longest sequences first.
        concepts: ``[answers]`` int64, likewise.
        sizes: How many sequences have each step.
    """

    answers: Tensor
    concepts: Tensor
    sizes: tuple[int, ...]

    @property
    def spans(self) -> list[slice]:
        """Where each step lies."""
        found, start = [], 0
        for size in self.sizes:
            found.append(slice(start, start + size))
            start += size
        return found


def ragged(sequence: Tensor, concepts: Tensor, answers: Tensor) -> Ragged:
    """Sequences from answers that lie one sequence after the other.

    Args:
        sequence: ``[answers]`` int64, not decreasing: whose sequence.
        concepts: ``[answers]`` int64, the same within a sequence.
        answers: ``[answers]`` in {0, 1}.
    """
    _, place, lengths = sequence.unique_consecutive(return_inverse=True, return_counts=True)
    step = torch.arange(len(sequence)) - (lengths.cumsum(0) - lengths)[place]
    rank = torch.empty_like(lengths)
    rank[lengths.argsort(descending=True, stable=True)] = torch.arange(len(lengths))
    order = (step * len(lengths) + rank[place]).argsort()
    return Ragged(answers.double()[order], concepts[order], tuple(torch.bincount(step).tolist()))


def expected(data: Ragged, parameters: dict[str, Tensor]) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor]:
    """Forward and backward recursions: how often what is expected to have happened.

    Args:
        data: The sequences.
        parameters: ``[concepts]`` float64 each of `PARAMETERS`.

    Returns:
        For each parameter, ``[concepts]`` expected cases and chances of it; and the log-likelihood.
    """
    own = {name: value[data.concepts] for name, value in parameters.items()}
    right = data.answers > 0.5
    known = torch.where(right, 1 - own["slip"], own["slip"])
    unknown = torch.where(right, own["guess"], 1 - own["guess"])
    keep, learn, forget = 1 - own["forget"], own["learn"], own["forget"]
    spans = data.spans
    posterior, evidence = torch.empty_like(known), torch.empty_like(known)
    belief = own["prior"][spans[0]]
    for span in spans:
        belief = belief[: span.stop - span.start]
        mine = belief * known[span]
        total = mine + (1 - belief) * unknown[span]
        after = mine / total.clamp_min(_TINY)
        evidence[span], posterior[span] = total, after
        belief = after * keep[span] + (1 - after) * learn[span]
    # What each state at a step makes of all later answers, relative to what was expected of them.
    later_known, later_unknown = torch.ones_like(known), torch.ones_like(known)
    from_known, from_unknown = known / evidence.clamp_min(_TINY), unknown / evidence.clamp_min(_TINY)
    learned, forgot = torch.zeros_like(known), torch.zeros_like(known)
    for now, following in zip(reversed(spans[:-1]), reversed(spans[1:]), strict=True):
        span = slice(now.start, now.start + following.stop - following.start)
        one = from_known[following] * later_known[following]
        none = from_unknown[following] * later_unknown[following]
        later_known[span] = keep[span] * one + forget[span] * none
        later_unknown[span] = learn[span] * one + (1 - learn[span]) * none
        learned[span] = (1 - posterior[span]) * learn[span] * one
        forgot[span] = posterior[span] * forget[span] * none
    state = posterior * later_known
    other = (1 - posterior) * later_unknown
    goes_on = torch.zeros_like(known)
    for now, following in pairwise(spans):
        goes_on[now.start : now.start + following.stop - following.start] = 1.0
    first = torch.zeros_like(known)
    first[spans[0]] = 1.0
    count = len(parameters["prior"])

    def total_of(values: Tensor) -> Tensor:
        return torch.bincount(data.concepts, weights=values, minlength=count)

    return {
        "prior": (total_of(first * state), total_of(first)),
        "learn": (total_of(learned), total_of(goes_on * other)),
        "forget": (total_of(forgot), total_of(goes_on * state)),
        "guess": (total_of(other * data.answers), total_of(other)),
        "slip": (total_of(state * (1 - data.answers)), total_of(state)),
    }, evidence.clamp_min(_TINY).log().sum()


def fit(
    data: Ragged,
    start: dict[str, Tensor],
    *,
    forgets: bool = False,
    iterations: int = 100,
    tolerance: float = 1e-6,
    pseudo: float = 0.0,
) -> tuple[dict[str, Tensor], list[float]]:
    """Expectation-maximisation from a start.

    Args:
        data: The sequences.
        start: ``[concepts]`` float64 each of `PARAMETERS`.
        forgets: Whether what is known can be forgotten; otherwise ``forget`` stays as it is.
        iterations: The most passes.
        tolerance: Gain in log-likelihood an answer below which it ends.
        pseudo: Observations of the start that are added to each parameter's, so that rare concepts stay near it.

    Returns:
        The parameters, and the log-likelihood before each pass.
    """
    now, history = {name: start[name].double() for name in PARAMETERS}, []
    for _ in range(iterations):
        counts, likelihood = expected(data, now)
        history.append(float(likelihood))
        for name, (cases, chances) in counts.items():
            if name == "forget" and not forgets:
                continue
            whole = chances + pseudo
            now[name] = torch.where(whole > 0, (cases + pseudo * start[name]) / whole.clamp_min(_TINY), now[name])
        if len(history) > 1 and history[-1] - history[-2] < tolerance * len(data.answers):
            break
    return now, history
