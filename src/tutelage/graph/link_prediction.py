"""Link prediction: an embedding of a graph from its triples and corrupted ones (arXiv:1902.10197, ICLR 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from tutelage.data.graphs import graph_of, told, triples_of
from tutelage.data.seeds import shuffle
from tutelage.data.splits import select
from tutelage.data.triples import TAIL, Known
from tutelage.engine.method import Finding, Result, Step, Train
from tutelage.engine.terms import Losses
from tutelage.graph.base import GraphEmbedding
from tutelage.graph.parts.growing import Change, Earlier, compare, take_over
from tutelage.measure.link_prediction import rank
from tutelage.models.link_predictor import LinkBatch, LinkPredictor
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.runfolder import BASELINE

if TYPE_CHECKING:
    from tutelage.engine.run import Run

# Triples that are ranked to see what became of those that changed.
_LOOKED = 500


@method("link-prediction", paper="arXiv:1902.10197", route="graph")
class LinkPrediction(GraphEmbedding):
    """Train a model of a graph so that true triples score above corrupted ones, or above all others.

    Any model of links can be trained with any loss; the defaults are self-adversarial negative sampling.

    Args:
        negatives: Replacements for each triple; none are drawn for ``one_vs_all``.
        corrupt: Which end is replaced: ``both`` by chance for each triple, ``alternate`` between steps, ``bernoulli``
            by chance according to the relation's kind, or always the ``head`` or ``tail``.
        filtered: Whether a replacement that makes a training triple counts for nothing.
        loss: ``self_adversarial`` weighs negatives by how plausible they are, ``logistic`` does not; ``margin`` ranks;
            ``softmax`` is cross-entropy among the negatives, ``one_vs_all`` among all entities.
        temperature: Of the self-adversarial weights; 0 for equal ones.
        margin: By which a true triple is to be better, for ``margin``.
        smoothing: Share of the target that is spread over all entities, for ``one_vs_all``.
        subsampling: Whether a triple counts for less the more often its head and tail occur with its relation.
        penalty: Weight of the penalty on a triple's rows, e.g. 0.01 for ``complex`` with ``one_vs_all``; 0 for none.
        power: Of the penalty: 3 is N3, 2 the usual L2.
        start: A run of the same graph as it was before: its rows are taken over by name, what was added since is
            learnt, what was deleted is forgotten, and the control is training anew. Null to begin at random.
        replay: With ``start``, which share of the triples that nothing happened to is learnt again.
    """

    slots: ClassVar[dict[str, str]] = {"model": "model", "data": "data"}

    def __init__(
        self,
        *,
        negatives: Annotated[int, Ge(1)] = 32,
        corrupt: Literal["both", "alternate", "bernoulli", "head", "tail"] = "both",
        filtered: bool = True,
        loss: Literal["self_adversarial", "logistic", "margin", "softmax", "one_vs_all"] = "self_adversarial",
        temperature: Annotated[float, Ge(0)] = 1.0,
        margin: Annotated[float, Gt(0)] = 1.0,
        smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0,
        subsampling: bool = False,
        penalty: Annotated[float, Ge(0)] = 0.0,
        power: Annotated[float, Ge(1)] = 3.0,
        start: str | None = None,
        replay: Annotated[float, Ge(0), Le(1)] = 0.2,
    ) -> None:
        super().__init__(
            negatives=negatives,
            corrupt=corrupt,
            filtered=filtered,
            loss=loss,
            temperature=temperature,
            margin=margin,
            smoothing=smoothing,
            subsampling=subsampling,
            penalty=penalty,
            power=power,
        )
        self.start, self.replay = start, replay
        self._change: Change | None = None
        self._looks: list[dict[str, Any]] = []

    # ------------------------------------------------------------------ a graph that has changed

    def stages(self, run: Run) -> Iterator[Train]:
        """The model on the graph; or what has changed of it, and then, as the control, the whole anew."""
        if self.start is None:
            yield from super().stages(run)
            return
        earlier, graph, model = Earlier.load(self.start), graph_of(run.splits), run.source(self.learner)
        assert isinstance(model, LinkPredictor)
        learnt = triples_of(run.splits.train)
        take_over(earlier, model, learnt)
        change = compare(earlier, graph, learnt)
        if not len(change.added) and not len(change.deleted):
            raise InputError(f"data: nothing has changed since {self.start}, so there is nothing to learn")
        self._looks.append(self._look(run, "before", model, change, learnt))
        again = shuffle(len(change.rest), run.recipe.seed)[: round(self.replay * len(change.rest))]
        focus = torch.cat([change.added, change.touched, change.rest[again]]).sort().values
        self._change, self.facts = change, learnt
        settings = run.recipe.train
        examples = select(run.splits.train, focus)
        yield Train("update", self, {self.learner: model}, settings, validated=self.learner, examples=examples)
        self._looks.append(self._look(run, "updated", model, change, learnt))
        self._change = None
        if run.recipe.baseline:
            self._anew = run.fresh(self.learner)
            yield Train(BASELINE, self, {self.learner: self._anew}, settings, validated=self.learner)
            self._looks.append(self._look(run, "trained anew", self._anew, change, learnt))

    def fit(self, step: Step) -> Losses:
        """The loss of each triple; and, of what was deleted, that it is true no more."""
        terms, change = super().fit(step), self._change
        if change is None or not len(change.deleted):
            return terms
        # Each about once an epoch, as a triple that is learnt.
        share = len(change.deleted) / max(len(change.added) + len(change.touched), 1)
        size = max(1, min(len(change.deleted), round(share * len(step.batch))))
        rows = (torch.arange(size) + step.index * size) % len(change.deleted)
        gone = change.deleted[rows].to(step.batch.inputs.device)
        tails = torch.ones(size, dtype=torch.bool, device=gone.device)
        asked = LinkBatch(gone, gone[:, TAIL], rows, torch.zeros_like(rows), tails, gone[:, [TAIL]])
        scores = step.on(asked).forward(self.learner).logits
        forget = torch.nn.functional.softplus(scores).mean() * (size / len(step.batch))
        return terms | Losses(forget=forget)

    def _look(self, run: Run, name: str, model: nn.Module, change: Change, learnt: Tensor) -> dict[str, Any]:
        """Where triples rank that were added or deleted, among what is true now."""
        assert isinstance(model, LinkPredictor)
        graph = model.graph
        model.to(run.accelerator.device)
        known = Known(told(run.splits), graph.entities, graph.relations).to(run.accelerator.device)
        row: dict[str, Any] = {"model": name}
        for key, triples in (("added", learnt[change.added]), ("deleted", change.deleted)):
            if len(triples):
                few = triples[shuffle(len(triples), 0)[:_LOOKED]].to(run.accelerator.device)
                row[f"mrr of {key}"] = rank(model, few, known, entities=graph.entities).mrr()
        return row

    def results(self, run: Run) -> Sequence[Result]:
        """The model; and with ``start``, as the control, the one that was trained anew."""
        found = [*super().results(run)]
        if self.start is not None:
            found = [replace(found[0], name="updated", stages=("update",))]
            if run.recipe.baseline:
                found.append(self.result("trained anew", self._anew, "baseline", stages=(BASELINE,)))
        return found

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """What became of triples that were added or deleted."""
        return {"triples_that_changed": self._looks} if self._looks else {}
