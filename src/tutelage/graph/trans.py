"""TranS: translations by a synthetic relation (arXiv:2204.08401, Findings of EMNLP 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Lt
from torch import nn

from tutelage.data.graphs import graph_of, triples_of
from tutelage.data.node_pieces import pieces_of
from tutelage.engine.method import Result, Train
from tutelage.engine.randomness import reseed
from tutelage.graph.base import GraphEmbedding
from tutelage.models.nodepiece_translation import NodePieceTranslation
from tutelage.recipe.errors import Problem
from tutelage.recipe.registry import method
from tutelage.recipe.runfolder import BASELINE
from tutelage.recipe.spec import Recipe, Spec

if TYPE_CHECKING:
    from tutelage.engine.run import Run

_MODEL, _OF_PIECES = "synthetic-translation", "nodepiece-translation"


@method("trans", paper="arXiv:2204.08401", route="graph")
class TranS(GraphEmbedding):
    """Replace a translation's relation by one that is put together for each pair of entities it joins.

    The recipe's ``transe`` gives width, margin and norm; it is trained beside as the control, on the same triples and
    corruptions, as long.

    Args:
        variant: ``trans``; ``interht`` without the parts of the relation that head and tail weigh; ``transe`` without
            auxiliary vectors too, which is a translation on unit vectors.
        unit: What is added to auxiliary vectors.
        normalize: Whether vectors of entities and the weighing parts of relations are divided by their norms.
        negatives: Replacements for each triple.
        corrupt: Which end is replaced: by chance, in alternating steps, by the relation's kind, or always the one.
        filtered: Whether a replacement that makes a training triple counts for nothing.
        loss: What is minimised; the paper's is ``self_adversarial``.
        temperature: Of the self-adversarial weights.
        margin: By which a true triple is to be better, for ``margin``.
        smoothing: Share of the target that is spread over all entities, for ``one_vs_all``.
        subsampling: Whether a triple counts for less the more often its head and tail occur with its relation.
        penalty: Weight of the penalty on a triple's rows.
        power: Of the penalty.
        encoder: What an entity's row is: its own in a ``table``, or put together from ``nodepiece``: near anchors and
            relations, as in the paper's run on a graph of millions.
        anchors: How many entities are anchors, those with the most triples.
        nearest: Anchors of each entity.
        context: Relations of each entity.
    """

    def __init__(
        self,
        *,
        variant: Literal["trans", "interht", "transe"] = "trans",
        unit: float = 1.0,
        normalize: bool = True,
        negatives: Annotated[int, Ge(1)] = 32,
        corrupt: Literal["both", "alternate", "bernoulli", "head", "tail"] = "alternate",
        filtered: bool = True,
        loss: Literal["self_adversarial", "logistic", "margin", "softmax", "one_vs_all"] = "self_adversarial",
        temperature: Annotated[float, Ge(0)] = 2.0,
        margin: Annotated[float, Gt(0)] = 1.0,
        smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0,
        subsampling: bool = False,
        penalty: Annotated[float, Ge(0)] = 0.0,
        power: Annotated[float, Ge(1)] = 3.0,
        encoder: Literal["table", "nodepiece"] = "table",
        anchors: Annotated[int, Ge(1)] = 32,
        nearest: Annotated[int, Ge(1)] = 8,
        context: Annotated[int, Ge(1)] = 6,
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
        self.variant, self.unit, self.normalize, self.encoder = variant, unit, normalize, encoder
        self.pieces = {"anchors": anchors, "nearest": nearest, "context": context}

    @classmethod
    def check(cls, recipe: Recipe) -> list[Problem]:
        """Another model than a translation."""
        problems, spec = super().check(recipe), recipe.slots.get(cls.learner)
        if isinstance(spec, Spec) and spec.name != "transe" and not problems:
            where = spec.place
            text = f"'{spec.name}' is no translation, whose relation could be put together."
            return [Problem(text, (cls.learner,), where.file, where.line, where.column, "Use `model: transe`.")]
        return problems

    def built(self, run: Run) -> tuple[Spec, nn.Module]:
        """The recipe's translation with a synthetic relation, at its start."""
        own = run.recipe.models[self.learner].args
        args = {key: own[key] for key in ("width", "margin", "norm")}
        extra = {"unit": self.unit, "normalize": self.normalize, "variant": self.variant}
        if self.encoder == "nodepiece":
            extra |= self.pieces
        spec = Spec("model", _MODEL if self.encoder == "table" else _OF_PIECES, {**args, **extra})
        reseed(run.recipe.seed, _MODEL)
        module: nn.Module = spec.build(run.splits.info)
        if isinstance(module, NodePieceTranslation):
            learnt, count = triples_of(run.splits.train), graph_of(run.splits).entities
            asked = {"anchors": len(module.anchors), "nearest": module.near.shape[1], "context": module.heads.shape[1]}
            furthest = len(module.distances) - 1
            module.take(pieces_of(learnt, count, **asked, furthest=furthest, seed=run.recipe.seed))
        return spec, module

    def stages(self, run: Run) -> Iterator[Train]:
        """The translation with a synthetic relation; then, as the control, the one without."""
        graph_of(run.splits)
        self._spec, self._model = self.built(run)
        yield Train("embed", self, {self.learner: self._model}, run.recipe.train, validated=self.learner)
        if run.recipe.baseline:
            plain = run.source(self.learner)
            yield Train(BASELINE, self, {self.learner: plain}, run.recipe.train, validated=self.learner)

    def results(self, run: Run) -> Sequence[Result]:
        """The one with, and the one without."""
        found = [self.result(self.variant, self._model, "recipient", stages=("embed",), spec=self._spec)]
        if run.recipe.baseline:
            found.append(self.result("transe", run.models[self.learner], "baseline", stages=(BASELINE,)))
        return found
