"""What methods share that embed a graph: corrupted triples, losses, penalties, and ranks as what is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tutelage.data.corruption import Corrupt, Corruption
from tutelage.data.graphs import graph_of, own_triples, told, triples_of
from tutelage.data.splits import Examples
from tutelage.data.triples import HEAD, RELATION, TAIL, Known
from tutelage.engine.method import Method, Result, Room, Step, Train, Turn
from tutelage.engine.terms import Losses
from tutelage.graph.parts.growing import keep_facts
from tutelage.graph.parts.picturing import embedding, neighbourhood
from tutelage.losses import link_prediction as losses
from tutelage.measure.links import Links
from tutelage.measure.scored import Scored
from tutelage.models.link_predictor import LinkBatch, LinkOutputs, LinkPredictor
from tutelage.recipe.errors import Problem
from tutelage.recipe.spec import Recipe, Spec

if TYPE_CHECKING:
    from tutelage.engine.run import Run

Loss = Literal["self_adversarial", "logistic", "margin", "softmax", "one_vs_all"]
# Scores that a look in the middle of training may take.
_LOOK = 4_000_000


class GraphEmbedding(Method):
    """A link predictor is trained on the triples of a graph, and measured by where true entities rank.

    Args:
        negatives: Replacements for each triple.
        corrupt: Which end is replaced, see `Corruption`.
        filtered: Whether a replacement that makes a training triple counts for nothing.
        loss: What is minimised.
        temperature: How much more the harder negatives count.
        margin: By which a true triple is to be better than a corrupted one.
        smoothing: Share of the target that is spread over all entities.
        subsampling: Whether triples of frequent pairs count for less.
        penalty: Weight of the penalty on the rows of a triple.
        power: Of the penalty.
    """

    slots: ClassVar[dict[str, str]] = {"model": "model", "data": "data"}
    starts: ClassVar[dict[str, str]] = {"model": "transe", "data": "umls", "measure": "links"}
    learner: ClassVar[str] = "model"
    measured: ClassVar[str] = "links"
    quality: ClassVar[str] = "mrr"
    compared: ClassVar[bool] = False

    def __init__(
        self,
        *,
        negatives: int,
        corrupt: Corrupt,
        filtered: bool,
        loss: Loss,
        temperature: float,
        margin: float,
        smoothing: float,
        subsampling: bool,
        penalty: float,
        power: float,
    ) -> None:
        super().__init__()
        self.negatives, self.corrupt, self.filtered = negatives, corrupt, filtered
        self.loss, self.temperature, self.margin, self.smoothing = loss, temperature, margin, smoothing
        self.subsampling, self.penalty, self.power = subsampling, penalty, power
        self.facts: Tensor | None = None
        """What is true, where it is more than what is learnt."""
        self._corruption: Corruption | None = None
        self._weights: Tensor | None = None
        self._mean = 1.0

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """A model that predicts no links."""
        spec = recipe.slots.get(cls.learner)
        if not isinstance(spec, Spec) or spec.foreign:
            return []
        from tutelage.recipe.registry import registry

        known = registry()
        if issubclass(known.load("model", spec.name), LinkPredictor):
            return []
        fitting = [n for n in known.names("model") if _predicts_links(n)]
        hint = f"Choose among {', '.join(fitting)}."
        where = spec.place
        text = f"the model '{spec.name}' predicts no links of a graph."
        return [Problem(text, (cls.learner,), where.file, where.line, where.column, hint)]

    # ------------------------------------------------------------------ training

    def setup(self, room: Room) -> None:
        """Learn what negatives and weights need to know of the training triples.

        Raises:
            InputError: The data is no graph.
        """
        info = room.info
        model = room.modules[self.learner]
        assert isinstance(model, LinkPredictor)
        model.ready()
        model.penalized = self.penalty > 0
        if room.examples is None:
            return
        triples = triples_of(room.examples)
        facts = triples if self.facts is None else self.facts
        graph = model.graph
        assert graph.fingerprint == info.fingerprint
        device = room.example.inputs.device
        known = Known(facts, graph.entities, graph.relations).to(device) if self.filtered else None
        # Of a triple and its inverse, each is asked for as a tail.
        corrupt: Corrupt = "tail" if graph.inverse else self.corrupt
        self._corruption = Corruption(
            triples, graph.entities, graph.relations, count=self.negatives, corrupt=corrupt, known=known
        )
        if self.subsampling:
            self._weights = losses.subsampling_weights(_occurrences(triples, graph.entities, graph.relations))
            self._places = torch.zeros(int(room.examples.fetch([len(triples) - 1]).ids.max()) + 1, dtype=torch.long)
            self._places[_ids(room.examples)] = torch.arange(len(triples))

    def turns(self) -> Sequence[Turn]:
        """One."""
        return (Turn("embed", self.fit, trains=(self.learner,)),)

    def before_step(self, step: Step) -> None:
        """The weight of the whole step, which the loss is divided by, whatever the parts."""
        if self._weights is not None:
            self._mean = float(self._weight(step).mean())

    def _weight(self, step: Step) -> Tensor:
        assert self._weights is not None
        return self._weights[self._places[step.batch.ids.cpu()]].to(step.batch.inputs.device)

    def fit(self, step: Step) -> Losses:
        """The loss of each triple, and the penalty on its rows."""
        batch, corruption = step.batch, self._corruption
        assert corruption is not None
        if self.loss == "one_vs_all":
            tails = corruption.sides(batch.inputs, batch.seeds, step.index)
            candidates, valid = batch.inputs.new_empty(len(batch), 0), None
        else:
            tails, candidates, valid = corruption(batch.inputs, batch.seeds, step.index)
        asked = LinkBatch(batch.inputs, batch.labels, batch.ids, batch.seeds, tails, candidates)
        outputs = step.on(asked).forward(self.learner)
        assert isinstance(outputs, LinkOutputs)
        if self.loss == "one_vs_all":
            true = torch.where(tails, batch.inputs[:, TAIL], batch.inputs[:, HEAD])
            value = losses.against_all(outputs.logits, true, smoothing=self.smoothing)
        else:
            value = self._against(outputs.logits[:, 0], outputs.logits[:, 1:], valid)
        if self._weights is not None:
            value = value * (self._weight(step) / self._mean)
        terms = Losses(task=value)
        if outputs.factors:
            penalty = losses.power_penalty(list(outputs.factors), power=self.power)
            terms = (terms | Losses(penalty=penalty)).weighted(penalty=self.penalty)
        return terms

    def _against(self, positive: Tensor, negative: Tensor, valid: Tensor | None) -> Tensor:
        if self.loss == "self_adversarial":
            return losses.self_adversarial(positive, negative, temperature=self.temperature, valid=valid)
        if self.loss == "logistic":
            return losses.logistic(positive, negative, valid=valid)
        if self.loss == "margin":
            return losses.margin_ranking(positive, negative, margin=self.margin, valid=valid)
        return losses.sampled_softmax(positive, negative, valid=valid)

    # ------------------------------------------------------------------ work and results

    def stages(self, run: Run) -> Iterator[Train]:
        """One: the model on the graph."""
        graph_of(run.splits)
        yield Train("embed", self, {self.learner: run.source(self.learner)}, run.recipe.train, validated=self.learner)

    def results(self, run: Run) -> Sequence[Result]:
        """The model."""
        return (self.result("model", run.models[self.learner], "recipient"),)

    def result(self, name: str, model: nn.Module, role: Any, **more: Any) -> Result:
        """Something that scores triples."""
        return Result(name, model, role, (model,), **more)

    def validate(self, model: nn.Module, examples: Examples, device: torch.device) -> Mapping[str, float]:
        """Mean reciprocal rank and hits@10, of as many validation triples as can be ranked in passing."""
        assert isinstance(model, LinkPredictor)
        entities = model.graph.entities
        few = torch.arange(len(examples))[: max(1, _LOOK // (2 * entities))]
        triples = examples.fetch(few).inputs.to(device)
        with torch.no_grad():
            ranks = Links(filtered=False).ranks(model, triples, None, entities=entities)
        return {"mrr": float(ranks.reciprocal().mean()), "hits@10": float(ranks.within(10).mean())}

    def scored(self, run: Run, result: Result) -> Scored:
        """Ranks of the test triples, as the recipe's ``links`` measure says, or as usual."""
        model = result.modules[0]
        assert isinstance(model, LinkPredictor)
        asked = next((spec.build() for spec in run.recipe.measure if spec.name == "links"), Links())
        device = run.accelerator.device
        graph = graph_of(run.splits)
        own = graph.relations // 2 if graph.inverse else graph.relations
        known = Known(told(run.splits), graph.entities, own).to(device)
        found: Scored = asked.scored(result.name, model, run.splits.test, known, told(run.splits), seed=run.recipe.seed)
        return found

    def keep(self, run: Run, folder: Path) -> None:
        """The triples that were learnt, so that what changes later can be told."""
        keep_facts(folder, graph_of(run.splits), triples_of(run.splits.train))

    def pictures(self, run: Run) -> Sequence[Mapping[str, Any]]:
        """The embedding in the plane, and one entity among what it is joined with."""
        model = next(r for r in self.results(run) if r.role == "recipient").modules[0]
        assert isinstance(model, LinkPredictor)
        learnt, held_out = own_triples(run.splits), triples_of(run.splits.test)
        model.cpu()
        return embedding(model, learnt), neighbourhood(model, learnt, held_out)


def _predicts_links(name: str) -> bool:
    from tutelage.recipe.registry import registry

    return registry().get("model", name).module.startswith("tutelage.models.") and issubclass(
        registry().load("model", name), LinkPredictor
    )


def _occurrences(triples: Tensor, entities: int, relations: int, start: int = 3) -> Tensor:
    """``[count]``: how often a triple's (head, relation) and (relation, tail) occur, each counted from ``start`` on."""
    total = torch.zeros(len(triples))
    for end in (HEAD, TAIL):
        key = triples[:, end] * relations + triples[:, RELATION]
        _, place, counts = key.unique(return_inverse=True, return_counts=True)
        total += counts[place] + start
    return total


def _ids(examples: Examples) -> Tensor:
    from tutelage.data.splits import ids_of

    return ids_of(examples)
