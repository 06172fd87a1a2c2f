"""PSI-KT: traits of learners, states that are forgotten, and a graph of prerequisites (arXiv:2403.13179, ICLR 2024)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from tutelage.data.answers import AnswerBatch
from tutelage.data.batch import DataInfo
from tutelage.losses.ornstein_uhlenbeck import (
    drawn_edges,
    drift,
    drift_variance,
    edge_probabilities,
    moderated,
    observed,
    positive,
)
from tutelage.models.beliefs import Belief, Gaussian, PsiOutputs
from tutelage.models.tracer import Tracer, before, pooled
from tutelage.recipe.registry import component

# Rate of forgetting, long-term mean, volatility and transfer: where learners begin.
_TYPICAL = (0.3, 0.0, 0.5, 0.0)


@component("model", "psi-kt")
class PsiKT(Tracer):
    """Each concept's state is an Ornstein-Uhlenbeck process; a learner's traits and other concepts' states move it.

    Args:
        data: Facts about the log of answers.
        inference: How states follow from answers: ``filter`` takes each answer in by a Gaussian step in closed form, so
            that only traits are amortised; ``amortised`` has a network for the states too, as in the paper.
        traits: 4, or 3 without transfer between concepts.
        graph: Whether prerequisites are ``learned`` or there are ``none``.
        node_width: Size of a concept's vector.
        width: Of the networks that infer.
        clusters: Kinds of learners.
        draws: Hard draws of the graph that are averaged in training; 0 for its probabilities.
        influence: What γ is at most; 1 in the paper, where all concepts together move a mean by at most their average.
        unit: Days of one unit of time.
    """

    def __init__(
        self,
        data: DataInfo,
        *,
        inference: Literal["filter", "amortised"] = "filter",
        traits: Literal[3, 4] = 4,
        graph: Literal["learned", "none"] = "learned",
        node_width: Annotated[int, Ge(1)] = 16,
        width: Annotated[int, Ge(1)] = 16,
        clusters: Annotated[int, Ge(1)] = 10,
        draws: Annotated[int, Ge(0)] = 10,
        influence: Annotated[float, Gt(0)] = 1.0,
        unit: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        super().__init__(data)
        self.inference, self.count, self.width = inference, traits, width
        self.coupled = graph == "learned" and traits == 4
        self.draws, self.influence, self.unit = draws, influence, unit
        # The generative side.
        self.first_traits = nn.Parameter(torch.tensor(_TYPICAL[:traits]))
        self.first_spread = nn.Parameter(torch.full((traits,), math.log(math.expm1(0.05))))
        self.keep = nn.Parameter(torch.ones(traits))
        self.wander = nn.Parameter(torch.full((traits,), math.log(math.expm1(0.01))))
        self.first_state = nn.Parameter(torch.zeros(()))
        self.first_variance = nn.Parameter(torch.tensor(math.log(math.expm1(1.0))))
        self.ease = nn.Embedding(self.concepts, 1)
        nn.init.zeros_(self.ease.weight)
        self.vectors = nn.Embedding(self.concepts, node_width)
        nn.init.normal_(self.vectors.weight, std=node_width**-0.5)
        self.turn = nn.Parameter(torch.randn(node_width, node_width) * node_width**-0.5)
        # The inferring side.
        self.entry = nn.Sequential(
            nn.Linear(2 * node_width, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)
        )
        self.place = nn.Linear(2, node_width)
        self.memory = nn.LSTM(width, 2 * width, batch_first=True)
        self.kind = nn.Linear(2 * width, clusters)
        self.character = nn.Sequential(
            nn.Linear(2 * width + clusters, 2 * width), nn.LeakyReLU(0.2), nn.Linear(2 * width, 2 * traits)
        )
        # Learners begin as the prior has them.
        for parameter in self.character[-1].parameters():
            nn.init.zeros_(parameter)
        if inference == "amortised":
            self.situation = nn.Linear(2 * width, 2 * self.concepts)

    # ------------------------------------------------------------------ what learners and concepts are like

    def edges(self) -> Tensor:
        """``[concepts, concepts]``: how likely i is needed for k."""
        return edge_probabilities(self.vectors.weight, self.turn)

    def graph(self) -> Tensor:
        """The same as it is used: drawn in training."""
        probabilities = self.edges()
        return drawn_edges(probabilities, self.draws) if self.training and self.draws else probabilities

    def named(self, traits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rate of forgetting, mean, volatility and transfer from ``[..., traits]``."""
        forgetting = torch.relu(traits[..., 0]) + 1e-6
        transfer = torch.sigmoid(traits[..., 3]) if self.count == 4 else torch.zeros_like(forgetting)
        return forgetting, traits[..., 1], traits[..., 2], self.influence * transfer

    def pulled(self, state: Tensor, mean: Tensor, transfer: Tensor, graph: Tensor | None) -> Tensor:
        """``[..., concepts]``: the mean that each state drifts to, moved by what it builds on."""
        own = mean[..., None] + self.ease.weight[:, 0]
        if graph is None:
            return own
        return own + transfer[..., None] / self.concepts * (state @ graph)

    def first(self, batch: int) -> tuple[Tensor, Tensor]:
        """``[batch, concepts]`` mean and variance of states before any answer."""
        mean = (self.first_state + self.ease.weight[:, 0]).expand(batch, -1)
        return mean, positive(self.first_variance).expand_as(mean)

    # ------------------------------------------------------------------ what is inferred

    def entries(self, concepts: Tensor, answers: Tensor, days: Tensor) -> Tensor:
        """``[batch, steps, width]``: each answer as the networks see it."""
        size = self.vectors.embedding_dim
        rate = torch.exp(-math.log(10_000.0) * torch.arange(0, size, 2, device=days.device) / size)
        phase = (days / self.unit)[..., None] * rate
        where = torch.cat([phase.sin(), phase.cos()], -1)[..., :size]
        made: Tensor = self.entry(torch.cat([pooled(self.vectors, concepts), answers[..., None] + where], -1))
        return made

    def remembered(self, concepts: Tensor, answers: Tensor, days: Tensor) -> Tensor:
        """``[batch, steps, 2 width]``: the recurrent network's states after each answer."""
        if not concepts.shape[1]:
            return days.new_zeros(len(concepts), 0, 2 * self.width)
        made: Tensor = self.memory(self.entries(concepts, answers, days))[0]
        return made

    def posterior(self, memory: Tensor) -> tuple[Gaussian, Tensor]:
        """Traits, and kinds of learners, from ``[..., 2 width]`` states of the network."""
        logits = self.kind(memory)
        share = nn.functional.gumbel_softmax(logits, dim=-1) if self.training else logits.softmax(-1)
        mean, spread = self.character(torch.cat([memory, share], -1)).chunk(2, -1)
        spread = positive(self.first_spread) * torch.exp(spread.clamp(-4.0, 2.0))
        return Gaussian(self.first_traits + mean, spread), logits.softmax(-1)

    def outputs(self, *arguments: Tensor) -> PsiOutputs:
        """Logits, and the posteriors that a method weighs."""
        concepts, answers, _, days, _, _ = arguments
        memory = self.remembered(concepts, answers, days)
        traits, clusters = self.posterior(before(memory))
        used = traits.sample() if self.training else traits.mean
        if self.inference == "filter":
            return PsiOutputs(self.filtered(concepts, answers, days, used)[0], traits=traits, clusters=clusters)
        mean, spread = self.situation(memory).chunk(2, -1)
        states = Gaussian(mean, torch.exp(spread.clamp(-6.0, 1.0)))
        expected = self._expected(states, used, days)
        logits = moderated(*self.level(expected.mean, expected.variance, concepts))
        return PsiOutputs(
            logits, traits=traits, clusters=clusters, states=states, expected=expected, drawn=states.sample()
        )

    def trace(
        self, concepts: Tensor, answers: Tensor, items: Tensor, times: Tensor, real: Tensor, offsets: Tensor
    ) -> Tensor:
        """Logits of the next answers."""
        return self.outputs(concepts, answers, items, times, real, offsets).logits

    def _gaps(self, days: Tensor) -> Tensor:
        gaps = torch.zeros_like(days)
        gaps[:, 1:] = (days[:, 1:] - days[:, :-1]).clamp_min(0.0) / self.unit
        return gaps

    def _expected(self, states: Gaussian, traits: Tensor, days: Tensor) -> Gaussian:
        """Where states are expected to be at each step, from those after the step before."""
        mean, variance = self.first(len(days))
        past = torch.cat([mean[:, None], states.mean[:, :-1]], 1)
        forgetting, centre, volatility, transfer = self.named(traits)
        gaps = self._gaps(days)
        pulled = self.pulled(past, centre, transfer, self.graph() if self.coupled else None)
        moved = drift(past, pulled, forgetting[..., None], gaps[..., None])
        gained = drift_variance(volatility, forgetting, gaps)[..., None] + 1e-4
        spread = gained.expand_as(moved).clone()
        spread[:, 0] = variance
        return Gaussian(moved, spread)

    def level(self, mean: Tensor, variance: Tensor, concepts: Tensor) -> tuple[Tensor, Tensor]:
        """``[..., ]`` mean and variance of the mean state of what is asked, of ``[..., concepts]`` states."""
        there = (concepts >= 0).to(mean.dtype)
        at, count = concepts.clamp_min(0), there.sum(-1).clamp_min(1)
        return (mean.gather(-1, at) * there).sum(-1) / count, (variance.gather(-1, at) * there).sum(-1) / count**2

    def filtered(
        self, concepts: Tensor, answers: Tensor, days: Tensor, traits: Tensor, known: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answers taken in one after the other.

        Args:
            concepts: ``[batch, steps, width]``.
            answers: ``[batch, steps]``.
            days: ``[batch, steps]``.
            traits: ``[batch, steps, traits]`` as they are before each step.
            known: Only so many answers are taken in; ``None`` for all.

        Returns:
            ``[batch, steps]`` logits, and ``[batch, steps + 1, concepts]`` means and variances before each step and at
            last.
        """
        graph = self.graph() if self.coupled else None
        forgetting, centre, volatility, transfer = self.named(traits)
        gaps = self._gaps(days)
        kept = torch.exp(-forgetting * gaps)[..., None]
        gained = drift_variance(volatility, forgetting, gaps)[..., None]
        mean, variance = self.first(len(concepts))
        logits, means, variances = [], [], []
        for step in range(concepts.shape[1]):
            if step:
                pulled = self.pulled(mean, centre[:, step], transfer[:, step], graph)
                mean = torch.lerp(pulled, mean, kept[:, step].expand_as(mean))
                variance = kept[:, step] ** 2 * variance + gained[:, step]
            means.append(mean)
            variances.append(variance)
            asked = self.level(mean, variance, concepts[:, step])
            logits.append(moderated(*asked))
            if known is None or step < known:
                mean, variance = self._taken(mean, variance, concepts[:, step], answers[:, step], asked)
        return torch.stack(logits, 1), torch.stack([*means, mean], 1), torch.stack([*variances, variance], 1)

    def _taken(
        self, mean: Tensor, variance: Tensor, concepts: Tensor, answers: Tensor, asked: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """States after an answer, which each concept of the question has its part in."""
        level, spread = asked
        after, narrower = observed(level, spread, answers)
        there = (concepts >= 0).to(mean.dtype)
        at = concepts.clamp_min(0)
        own = variance.gather(-1, at) / there.sum(-1, keepdim=True).clamp_min(1)
        gain = own / spread[:, None].clamp_min(1e-9) * there
        mean = mean.scatter_add(-1, at, gain * (after - level)[:, None])
        return mean, variance.scatter_add(-1, at, gain**2 * (narrower - spread)[:, None])

    # ------------------------------------------------------------------ use

    @torch.no_grad()
    def ahead(self, batch: AnswerBatch, known: int) -> Tensor:
        """In closed form: traits and states go on by themselves."""
        concepts, answers, _, days, _, _ = batch.arguments
        steps = answers.shape[1]
        if known >= steps:
            return self.trace(*batch.arguments).sigmoid()
        memory = self.remembered(concepts[:, :known], answers[:, :known], days[:, :known])
        start = memory.new_zeros(len(concepts), 1, memory.shape[-1])
        traits = self.posterior(torch.cat([start, memory], 1))[0].mean
        later = [traits[:, -1] * self.keep ** (i + 1) for i in range(steps - known - 1)]
        whole = torch.cat([traits, *(one[:, None] for one in later)], 1)
        if self.inference == "filter":
            return self.filtered(concepts, answers, days, whole, known)[0].sigmoid()
        mean, spread = self.situation(memory).chunk(2, -1)
        states = Gaussian(mean, torch.exp(spread.clamp(-6.0, 1.0)))
        gaps, graph = self._gaps(days), self.graph() if self.coupled else None
        seen = self._expected(states, whole[:, :known], days[:, :known]) if known else None
        found = [] if seen is None else [moderated(*self.level(seen.mean, seen.variance, concepts[:, :known]))]
        state, variance = (states.mean[:, -1], states.variance[:, -1]) if known else self.first(len(concepts))
        for step in range(known, steps):
            forgetting, centre, volatility, transfer = self.named(whole[:, step])
            pulled = self.pulled(state, centre, transfer, graph)
            elapsed = gaps[:, step, None]
            state = drift(state, pulled, forgetting[:, None], elapsed)
            left = torch.exp(-2 * forgetting[:, None] * elapsed)
            variance = left * variance + drift_variance(volatility[:, None], forgetting[:, None], elapsed)
            found.append(moderated(*self.level(state, variance, concepts[:, step]))[:, None])
        return torch.cat(found, 1).sigmoid()

    @torch.no_grad()
    def beliefs(self, batch: AnswerBatch) -> Gaussian:
        """``[batch, steps + 1, concepts]`` states before each step, and at last, as logits."""
        concepts, answers, _, days, _, _ = batch.arguments
        memory = self.remembered(concepts, answers, days)
        traits = self.posterior(before(memory))[0].mean
        if self.inference == "filter":
            _, mean, variance = self.filtered(concepts, answers, days, traits)
            return Gaussian(mean, variance)
        level, spread = self.situation(memory).chunk(2, -1)
        states = Gaussian(level, torch.exp(spread.clamp(-6.0, 1.0)))
        expected = self._expected(states, traits, days)
        return Gaussian(
            torch.cat([expected.mean, states.mean[:, -1:]], 1),
            torch.cat([expected.variance, states.variance[:, -1:]], 1),
        )

    @torch.no_grad()
    def mastery(self, batch: AnswerBatch) -> Tensor:
        """From the states."""
        found = self.beliefs(batch)
        return moderated(found.mean, found.variance).sigmoid()

    @torch.no_grad()
    def latest(self, batch: AnswerBatch) -> Tensor:
        """From the states at last."""
        every = self.mastery(batch)
        if self.inference == "filter":
            return every[torch.arange(len(batch)), batch.real.sum(1)]
        return torch.cat(
            [
                self.mastery(batch.rows(torch.tensor([i])).until(n))[:, -1]
                for i, n in enumerate(batch.real.sum(1).tolist())
            ]
        )

    @torch.no_grad()
    def character_of(self, batch: AnswerBatch) -> Gaussian:
        """``[batch, traits]``: the traits of learners after their last answers."""
        concepts, answers, _, days, real, _ = batch.arguments
        memory = self.remembered(concepts, answers, days)
        last = memory[torch.arange(len(batch)), real.sum(1) - 1]
        return self.posterior(last)[0]

    # ------------------------------------------------------------------ one answer after the other

    @torch.no_grad()
    def unknown(self, learners: int) -> Belief:
        """Of learners before any answer."""
        mean, variance = self.first(learners)
        memory = torch.zeros(learners, 2, 2 * self.width)
        times = torch.zeros(learners, 2, dtype=torch.float64)
        return Belief(mean.clone(), variance.clone(), memory, times, torch.zeros(learners, dtype=torch.int64))

    @torch.no_grad()
    def expected_at(self, belief: Belief, days: Tensor) -> tuple[Tensor, Tensor]:
        """``[learners, concepts]`` means and variances of states at ``[learners]`` float64 days, or now if later."""
        gap = (days - belief.times[:, 0]).clamp_min(0.0).float() / self.unit
        gap = torch.where(belief.count > 0, gap, torch.zeros_like(gap))[:, None]
        traits = self.posterior(belief.memory[:, 0])[0].mean
        forgetting, centre, volatility, transfer = self.named(traits)
        pulled = self.pulled(belief.mean, centre, transfer, self.graph() if self.coupled else None)
        kept = torch.exp(-forgetting[:, None] * gap)
        gained = drift_variance(volatility[:, None], forgetting[:, None], gap)
        begun = (belief.count > 0)[:, None]
        mean = torch.where(begun, torch.lerp(pulled, belief.mean, kept.expand_as(pulled)), belief.mean)
        return mean, torch.where(begun, kept**2 * belief.variance + gained, belief.variance)

    @torch.no_grad()
    def observe(self, belief: Belief, concepts: Tensor, answers: Tensor, days: Tensor) -> tuple[Tensor, Belief]:
        """Take in an answer of each learner, without looking at earlier ones again.

        Args:
            belief: Before it.
            concepts: ``[learners, width]`` int64, -1 in places that are not needed.
            answers: ``[learners]`` float32.
            days: ``[learners]`` float64 days, of any beginning.

        Returns:
            ``[learners]`` how likely right answers were, and the beliefs after.
        """
        mean, variance = self.expected_at(belief, days)
        asked = self.level(mean, variance, concepts)
        chance = moderated(*asked).sigmoid()
        mean, variance = self._taken(mean, variance, concepts, answers, asked)
        new = belief.count == 0
        start = torch.where(new, days, belief.times[:, 1])
        since = (days - start).float()[:, None]
        entry = self.entries(concepts[:, None], answers[:, None], since)
        before_it = (belief.memory[:, 0][None].contiguous(), belief.memory[:, 1][None].contiguous())
        _, (output, cell) = self.memory(entry, before_it)
        last = torch.where(new, days, torch.maximum(belief.times[:, 0], days))
        after = Belief(
            mean, variance, torch.stack([output[0], cell[0]], 1), torch.stack([last, start], 1), belief.count + 1
        )
        return chance, after
