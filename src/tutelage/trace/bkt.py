"""BKT: Bayesian knowledge tracing by expectation-maximisation (Corbett and Anderson 1995)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import nn

from tutelage.data.answers import AnswerWindows
from tutelage.losses.hidden_mastery import PARAMETERS, Ragged, fit, ragged
from tutelage.models.bkt import BKT
from tutelage.recipe.registry import method
from tutelage.trace.base import Fitted


@method("bkt", paper="doi:10.1007/BF01099821", route="trace")
class BayesianTracing(Fitted):
    """Fit what each concept needs to be known, learnt, guessed and slipped on, of all concepts at once.

    Args:
        forgets: Whether what is known can be forgotten.
        iterations: The most passes over the answers.
        tolerance: Gain in log-likelihood an answer below which fitting ends.
        pseudo: Observations of the start that are added to each parameter's, so that rare concepts stay near it.
        restarts: Further starts, drawn at random; the likeliest end is kept.
    """

    wanted: ClassVar[str] = "bkt"

    def __init__(
        self,
        *,
        forgets: bool = False,
        iterations: Annotated[int, Ge(1)] = 200,
        tolerance: Annotated[float, Gt(0)] = 1e-7,
        pseudo: Annotated[float, Ge(0)] = 1.0,
        restarts: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        self.forgets, self.iterations, self.tolerance, self.pseudo = forgets, iterations, tolerance, pseudo
        self.restarts = restarts

    def fit_all(self, model: nn.Module, train: AnswerWindows, seed: int) -> None:
        """Expectation-maximisation from the model's own parameters, and from others where restarts are asked for."""
        assert isinstance(model, BKT)
        data = sequences(train)
        start = {name: value.detach().double() for name, value in model.parameters_by_name.items()}
        if self.forgets:
            start["forget"] = start["forget"].clamp_min(0.05)
        generator = torch.Generator().manual_seed(seed)
        best: tuple[float, dict[str, torch.Tensor]] | None = None
        for turn in range(self.restarts + 1):
            own = start if turn == 0 else {n: _drawn(n, v, generator) for n, v in start.items()}
            found, history = fit(
                data,
                own,
                forgets=self.forgets,
                iterations=self.iterations,
                tolerance=self.tolerance,
                pseudo=self.pseudo,
            )
            if best is None or history[-1] > best[0]:
                best = history[-1], found
        assert best is not None
        with torch.no_grad():
            for name in PARAMETERS:
                getattr(model, name).copy_(best[1][name])


def _drawn(name: str, start: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random start in which nobody slips or guesses more often than not."""
    drawn = torch.rand(start.shape, generator=generator, dtype=torch.float64)
    return start if name == "forget" else drawn * 0.5 if name in ("guess", "slip") else drawn


def sequences(train: AnswerWindows) -> Ragged:
    """Each learner's scored answers on each concept, as sequences; several concepts of a question have one each."""
    size = train.stops - train.targets
    at = np.repeat(train.targets - (size.cumsum() - size), size) + np.arange(size.sum())
    who = np.repeat(train.learners, size)
    concepts = np.asarray(train.log.concepts[at])
    there = concepts >= 0
    row, _ = np.nonzero(there)
    flat = concepts[there].astype(np.int64)
    key = who[row] * (flat.max() + 1) + flat
    order = np.argsort(key, kind="stable")
    answers = np.asarray(train.log.correct[at])[row].astype(np.float64)
    return ragged(torch.from_numpy(key[order]), torch.from_numpy(flat[order]), torch.from_numpy(answers[order]))
