"""PSI-KT: predictive, scalable, interpretable knowledge tracing on structured domains (arXiv:2403.13179, ICLR 2024)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from tutelage.data.answers import AnswerBatch
from tutelage.engine.method import Finding, Room
from tutelage.engine.terms import Losses
from tutelage.losses.ornstein_uhlenbeck import (
    gaussian_divergence,
    gaussian_entropy,
    gaussian_log_density,
    positive,
)
from tutelage.losses.tracing import answer_loss
from tutelage.models.beliefs import Gaussian, PsiOutputs
from tutelage.models.outputs import Outputs
from tutelage.models.psi_kt import PsiKT
from tutelage.recipe.registry import method
from tutelage.trace.base import KnowledgeTracing

if TYPE_CHECKING:
    from tutelage.engine.run import Run


@method("psi-kt", paper="arXiv:2403.13179", route="trace")
class PredictiveStructuredTracing(KnowledgeTracing):
    """Fit traits of learners, states that are forgotten and a graph of prerequisites, by variational inference.

    Where states are filtered, the answers' own likelihood is maximised, each given those before, and traits are held
    near their prior; where they are amortised, the paper's objective.

    Args:
        traits_weight: Weight of the traits' log-density under their prior, or of their divergence from it.
        states_weight: Weight of the states' log-density under what was expected of them; of amortised ones only.
        answers_weight: Weight of the answers' log-likelihood.
        entropy_weight: Weight of the posteriors' entropies; of amortised states only.
        cluster_weight: Weight of how far the kinds of learners are from being equally frequent.
        sparsity: Weight of the mean probability of an edge, which keeps those out that nothing speaks for.
    """

    wanted: ClassVar[str] = "psi-kt"

    def __init__(
        self,
        *,
        traits_weight: Annotated[float, Ge(0)] = 1.0,
        states_weight: Annotated[float, Ge(0)] = 1.0,
        answers_weight: Annotated[float, Ge(0)] = 1.0,
        entropy_weight: Annotated[float, Ge(0)] = 0.1,
        cluster_weight: Annotated[float, Ge(0)] = 0.01,
        sparsity: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        super().__init__()
        self.traits_weight, self.states_weight, self.answers_weight = traits_weight, states_weight, answers_weight
        self.entropy_weight, self.cluster_weight, self.sparsity = entropy_weight, cluster_weight, sparsity
        self._model: tuple[PsiKT, ...] = ()

    def setup(self, room: Room) -> None:
        """Remember the model, whose priors the posteriors are held against."""
        model = room.modules[self.learner]
        assert isinstance(model, PsiKT)
        self._model = (model,)

    def loss(self, outputs: Outputs, batch: AnswerBatch) -> Losses:
        """The answers, and what holds traits, states and graph."""
        assert isinstance(outputs, PsiOutputs)
        assert outputs.traits is not None
        assert outputs.clusters is not None
        model, real = self._model[0], batch.real.float()
        total = real.sum().clamp_min(1.0)

        def mean(values: Tensor) -> Tensor:
            return (values * real).sum() / total

        prior = self.prior(outputs.traits)
        usual = outputs.clusters[batch.real].mean(0)
        cluster = (usual * usual.clamp_min(1e-9).log()).sum() + math.log(len(usual))
        terms = {"cluster": cluster}
        weights = {"cluster": self.cluster_weight}
        if outputs.states is None:
            task = answer_loss(outputs.logits, batch.labels, batch.scored)
            apart = gaussian_divergence(outputs.traits.mean, outputs.traits.variance, prior.mean, prior.variance)
            terms |= {"traits": mean(apart.sum(-1))}
            weights |= {"traits": self.traits_weight}
        else:
            assert outputs.expected is not None
            assert outputs.drawn is not None
            asked, _ = model.level(outputs.drawn, torch.zeros_like(outputs.drawn), batch.inputs)
            task = answer_loss(asked, batch.labels, batch.scored)
            drawn = outputs.traits.sample()
            terms |= {
                "traits": -mean(gaussian_log_density(drawn, prior.mean, prior.variance).sum(-1)),
                "states": -mean(
                    gaussian_log_density(outputs.drawn, outputs.expected.mean, outputs.expected.variance).sum(-1)
                ),
                "entropy": -mean(
                    gaussian_entropy(outputs.traits.variance).sum(-1)
                    + gaussian_entropy(outputs.states.variance).sum(-1)
                ),
            }
            weights |= {"traits": self.traits_weight, "states": self.states_weight, "entropy": self.entropy_weight}
        if self.sparsity and model.coupled:
            terms["edges"], weights["edges"] = model.edges().mean(), self.sparsity
        return Losses(task=task, **terms).weighted(task=self.answers_weight, **weights)

    def prior(self, traits: Gaussian) -> Gaussian:
        """What traits at each step are expected to be, from the posterior of the step before."""
        model = self._model[0]
        spread, wander = positive(model.first_spread), positive(model.wander)
        mean = torch.cat([model.first_traits.expand_as(traits.mean[:, :1]), traits.mean[:, :-1] * model.keep], 1)
        grown = traits.variance[:, :-1] * model.keep**2 + wander
        return Gaussian(mean, torch.cat([spread.expand_as(traits.variance[:, :1]), grown], 1))

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """Also the likeliest prerequisites."""
        found = dict(super().findings(run))
        model = run.models[self.learner]
        assert isinstance(model, PsiKT)
        if model.coupled:
            found["prerequisites"] = likeliest(model, 20)
        return found


def likeliest(model: PsiKT, count: int) -> list[dict[str, object]]:
    """The likeliest edges of a model's graph, as rows of a table."""
    with torch.no_grad():
        edges = model.edges().cpu()
    top = edges.flatten().topk(min(count, edges.numel()))
    names = model.info.concept_names
    rows: list[dict[str, object]] = []
    for value, place in zip(top.values.tolist(), top.indices.tolist(), strict=True):
        source, target = divmod(place, len(names))
        if source != target:
            rows.append({"prerequisite": names[source], "of": names[target], "probability": value})
    return rows
