"""Link prediction: an embedding of a graph from its triples and corrupted ones (arXiv:1902.10197, ICLR 2019)."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from tutelage.graph.base import GraphEmbedding
from tutelage.recipe.registry import method


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
    """

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
