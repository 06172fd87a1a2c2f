"""TEMT: when a fact held, from its text and a scorer of times (arXiv:2309.16357, ESWC 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from tutelage.data.dated_files import OPEN
from tutelage.data.seeds import integers, shuffle
from tutelage.data.splits import Examples
from tutelage.data.temporal import TemporalBatch, TemporalExamples, temporal_info, with_text
from tutelage.engine.method import Finding, Method, Result, Step, Train, Turn
from tutelage.engine.terms import Losses
from tutelage.measure.bootstrap import mean_interval
from tutelage.measure.intervals import affinity_iou, closeness, coalesce, gap_iou, generalized_iou, iou
from tutelage.measure.scored import Scored
from tutelage.models.temporal_scorer import TemporalScorer
from tutelage.recipe.registry import method
from tutelage.recipe.runfolder import BASELINE

if TYPE_CHECKING:
    from tutelage.engine.run import Run

_MEASURES = {"gaeiou": gap_iou, "aeiou": affinity_iou, "iou": iou, "giou": generalized_iou, "tac": closeness}
_WHICH, _END = 0x7E, 0x7F
# Facts whose curves are made at once: each has a hidden layer for every time.
_AT_ONCE = 16


@method("temt", paper="arXiv:2309.16357", route="graph")
class TEMT(Method):
    """Score facts at times from the vector of their text, so that entities that nobody has seen can be dated too.

    The encoder of texts is frozen, and the data's. The control is the same scorer on texts that were shuffled among
    the facts: what it can tell, it tells from the times alone.

    Args:
        negatives: Times drawn for each one in which a fact is known to have begun or ended, outside of it.
        loss: ``margin`` between the two, as in the paper; ``bce`` on each; or a ``softmax`` among them.
        margin: By which the right time is to be better.
        sampling: Which times are right: ``ends`` of a fact, or ``all`` times of it, one drawn for each step.
        threshold: Mass of probability that an interval is to hold: one number, ``relation`` for the mean mass of the
            true intervals of the relation in the validation split, or ``validation`` for that of all.
        intervals: How many are predicted.
    """

    slots: ClassVar[dict[str, str]] = {"model": "model", "data": "data"}
    starts: ClassVar[dict[str, str]] = {"model": "temporal-scorer", "data": "eras"}
    learner: ClassVar[str] = "model"
    measured: ClassVar[str] = "intervals"
    quality: ClassVar[str] = "gaeiou"
    compared: ClassVar[bool] = False

    def __init__(
        self,
        *,
        negatives: Annotated[int, Ge(1)] = 128,
        loss: Literal["margin", "bce", "softmax"] = "margin",
        margin: Annotated[float, Gt(0)] = 2.0,
        sampling: Literal["ends", "all"] = "ends",
        threshold: Annotated[float, Gt(0), Le(1)] | Literal["relation", "validation"] = 0.65,
        intervals: Annotated[int, Ge(1)] = 10,
    ) -> None:
        super().__init__()
        self.negatives, self.loss, self.margin, self.sampling = negatives, loss, margin, sampling
        self.threshold, self.intervals = threshold, intervals

    def turns(self) -> Sequence[Turn]:
        """One."""
        return (Turn("date", self.fit, trains=(self.learner,)),)

    # ------------------------------------------------------------------ training

    def right(self, batch: TemporalBatch) -> Tensor:
        """``[batch]`` a time in which each fact held: one of the ends that are known, or any between them."""
        start, end = batch.spans.unbind(1)
        known = torch.stack([start, end], 1) != OPEN
        low, high = torch.where(known[:, 0], start, end), torch.where(known[:, 1], end, start)
        if self.sampling == "all":
            share = integers(batch.seeds, 0, 1 << 30, _END).double() / (1 << 30)
            return (low + (share * (high - low + 1)).floor()).long()
        return torch.where(integers(batch.seeds, 0, 2, _END) == 0, low, high)

    def wrong(self, batch: TemporalBatch, times: int) -> tuple[Tensor, Tensor]:
        """``[batch, negatives]`` times in which a fact's triple is not known to have held, and whether there is any.

        Of a fact whose start is not known these are the times after its end, and the other way round.
        """
        spans = batch.others
        sizes = (spans[..., 1] - spans[..., 0] + 1).clamp(min=0)
        free = times - sizes.sum(1)
        draw = integers(batch.seeds, 0, 1 << 30, _WHICH, (self.negatives,)).double() / (1 << 30)
        place = (draw * free[:, None].clamp(min=1)).floor().long()
        # The place among what is free, moved past each time that is taken; spans stand in order.
        for one in range(spans.shape[1]):
            taken = (sizes[:, one, None] > 0) & (place >= spans[:, one, :1])
            place = place + torch.where(taken, sizes[:, one, None], 0)
        return place.clamp(max=times - 1), free > 0

    def fit(self, step: Step) -> Losses:
        """The loss of each fact; 0 for one that fills the whole range."""
        batch = step.batch
        assert isinstance(batch, TemporalBatch)
        participant: Any = step.participants[self.learner]
        times, usable = self.wrong(batch, participant.module.info.times)
        asked = torch.cat([self.right(batch)[:, None], times], 1)
        scores = participant.forward(batch.inputs, asked).logits
        positive, negative = scores[:, :1], scores[:, 1:]
        softplus = nn.functional.softplus
        if self.loss == "margin":
            value = torch.relu(self.margin - positive + negative).mean(1)
        elif self.loss == "bce":
            value = 0.5 * (softplus(-positive[:, 0]) + softplus(negative).mean(1))
        else:
            value = torch.logsumexp(scores, 1) - positive[:, 0]
        return Losses(task=value * usable)

    # ------------------------------------------------------------------ work and results

    def stages(self, run: Run) -> Iterator[Train]:
        """The scorer; then, as the control, one that sees the texts of other facts."""
        temporal_info(run.splits)
        yield Train("date", self, {self.learner: run.source(self.learner)}, run.recipe.train, validated=self.learner)
        if run.recipe.baseline:
            train = run.splits.train
            assert isinstance(train, TemporalExamples)
            mixed = with_text(train, train.text[shuffle(len(train), run.recipe.seed)])
            self._control = run.fresh(self.learner)
            models = {self.learner: self._control}
            yield Train(BASELINE, self, models, run.recipe.train, validated=self.learner, examples=mixed)

    def results(self, run: Run) -> Sequence[Result]:
        """The scorer, and the control."""
        model = run.models[self.learner]
        found = [Result("temt", model, "recipient", (model,), ("date",))]
        if run.recipe.baseline:
            found.append(Result("texts shuffled", self._control, "baseline", (self._control,), (BASELINE,)))
        return found

    def validate(self, model: nn.Module, examples: Examples, device: torch.device) -> Mapping[str, float]:
        """GaeIOU of the best interval, of at most 50 facts."""
        assert isinstance(examples, TemporalExamples)
        few = examples.select(torch.arange(min(len(examples), 50)))
        spans = self.predicted(model, few, 0.65, 1)
        return {"gaeiou": float(gap_iou(spans[:, 0], _gold(few.spans)).mean())}

    def predicted(self, model: nn.Module, examples: TemporalExamples, threshold: float | Tensor, count: int) -> Tensor:
        """``[facts, count, 2]`` intervals of facts, the likeliest first, counted from the first time."""
        limit = torch.as_tensor(threshold).expand(len(examples))
        parts = [
            coalesce(self.curve(model, examples.text[at]), limit[at], count)
            for at in torch.arange(len(examples)).split(_AT_ONCE)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def curve(self, model: nn.Module, text: Tensor) -> Tensor:
        """``[batch, times]``: how a fact's probability is spread over all times."""
        device = next(model.parameters()).device
        return torch.softmax(model(text.to(device)).double(), 1).cpu()

    def limits(self, run: Run, model: nn.Module, relations: Tensor) -> Tensor:
        """``[facts]``: the mass that an interval of each fact is to hold."""
        validation = run.splits.validation
        if not isinstance(self.threshold, str):
            return torch.full((len(relations),), self.threshold, dtype=torch.float64)
        default = torch.full((len(temporal_info(run.splits).relation_names),), 0.65, dtype=torch.float64)
        if not isinstance(validation, TemporalExamples):
            return default[relations]
        gold, mass = _gold(validation.spans), []
        for at in torch.arange(len(validation)).split(_AT_ONCE):
            total = self.curve(model, validation.text[at]).cumsum(1)
            total = torch.nn.functional.pad(total, (1, 0))
            mass.append(total.gather(1, gold[at, 1:] + 1)[:, 0] - total.gather(1, gold[at, :1])[:, 0])
        inside = torch.cat(mass)
        if self.threshold == "validation":
            return inside.mean().clamp(1e-3, 1.0).expand(len(relations))
        for relation in validation.relations.unique().tolist():
            default[relation] = inside[validation.relations == relation].mean().clamp(1e-3, 1.0)
        return default[relations]

    def scored(self, run: Run, result: Result) -> Scored:
        """How well the best interval fits, and the best of all; apart for facts with an entity that nobody has seen."""
        model, test = result.modules[0], run.splits.test
        assert isinstance(test, TemporalExamples)
        limits = self.limits(run, model, test.relations)
        spans, gold = self.predicted(model, test, limits, self.intervals), _gold(test.spans)
        samples: dict[str, Tensor] = {}
        for name, function in _MEASURES.items():
            each = function(spans, gold[:, None])
            samples[name], samples[f"{name}@{self.intervals}"] = each[:, 0], each.amax(1)
        numbers = {}
        for name, mask in (("unseen", test.unseen), ("seen", ~test.unseen)):
            if bool(mask.any()):
                numbers[f"gaeiou_{name}"] = mean_interval(samples["gaeiou"][mask].numpy())
        return Scored(result.name, test.ids, {"quality": samples}, {"quality": numbers})

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """What the most frequent interval of each relation would have given."""
        train, test = run.splits.train, run.splits.test
        assert isinstance(train, TemporalExamples)
        assert isinstance(test, TemporalExamples)
        model = next(m for m in run.models.values() if isinstance(m, TemporalScorer))
        guess, gold = _usual(train, len(model.info.relation_names))[test.relations], _gold(test.spans)
        return {
            "gaeiou_of_the_most_usual_interval": mean_interval(gap_iou(guess, gold).numpy()),
            "tests_with_an_unseen_entity": f"{int(test.unseen.sum())} of {len(test)}",
        }


def _gold(spans: Tensor) -> Tensor:
    """Closed intervals: of one with an open side, the end that is known."""
    start, end = spans.unbind(1)
    return torch.stack([torch.where(start == OPEN, end, start), torch.where(end == OPEN, start, end)], 1)


def _usual(train: TemporalExamples, relations: int) -> Tensor:
    """``[relations, 2]``: of each relation the most frequent interval in training; of all, where there are ties."""
    gold = _gold(train.spans)
    out = torch.empty(relations, 2, dtype=torch.long)
    for relation in range(relations):
        mine = gold[train.relations == relation]
        pairs, counts = (mine if len(mine) else gold).unique(dim=0, return_counts=True)
        # Where no interval comes twice, none is usual: the middle ones of starts and ends stand for it.
        usual = pairs[counts.argmax()] if int(counts.max()) > 1 else (mine if len(mine) else gold).median(0).values
        out[relation] = usual
    return out
