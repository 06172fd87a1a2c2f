"""Inference or memory: a text model on twins of a graph that nobody could know (arXiv:2311.09109, NAACL 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from tutelage.data.graphs import graph_of, told, triples_of
from tutelage.data.text_vectors import vectors_of, width_of
from tutelage.data.triples import HEAD, TAIL, Known
from tutelage.data.twins import remaining, texts_of, twin
from tutelage.engine.method import Finding, Result, Train
from tutelage.engine.randomness import reseed
from tutelage.graph.base import GraphEmbedding
from tutelage.measure.bootstrap import paired_difference
from tutelage.measure.link_prediction import Ranks, rank
from tutelage.models.link_predictor import LinkPredictor
from tutelage.models.text_bilinear import TextBilinear
from tutelage.recipe.registry import method
from tutelage.recipe.runfolder import BASELINE
from tutelage.recipe.spec import Spec

if TYPE_CHECKING:
    from tutelage.engine.run import Run

Setting = Literal["original", "virtual-world", "anonymised", "inconsistent", "fully-anonymised"]
_SHOWN = 5
# What each share is the difference of, by setting and start of the encoder.
_SHARES = (
    ("memory", ("original", "trained"), ("virtual-world", "trained")),
    ("meaning of names", ("virtual-world", "trained"), ("anonymised", "trained")),
    ("meaning of descriptions", ("anonymised", "trained"), ("fully-anonymised", "trained")),
    ("inference from pre-training, all hidden", ("fully-anonymised", "trained"), ("fully-anonymised", "random")),
    ("inference from pre-training, virtual world", ("virtual-world", "trained"), ("virtual-world", "random")),
)


@method("plm-kgc-inference", paper="arXiv:2311.09109", route="graph")
class PlmKgcInference(GraphEmbedding):
    """Train the same text model on a graph and on its twins, and divide its score into memory, meaning and inference.

    The graph never changes, only what its entities and relations are called. The text model is a bilinear one over a
    frozen encoder's vectors; the recipe's model, which sees no text, is the floor that the graph alone gives, and the
    control. What a score loses in a world of permuted names was memory of facts; what is left when nothing can be
    remembered was inferred.

    Args:
        settings: Worlds: ``original``; ``virtual-world``, names permuted; ``anonymised``, names random strings;
            ``inconsistent``, descriptions permuted; ``fully-anonymised``, every word a random string. The last two need
            descriptions.
        encoder: Of texts: ``minilm`` (a package's), ``hashed`` pieces of words, which knows nothing, or a folder.
        untrained: Whether the same encoder with random weights is tried in each world too; not for ``hashed``.
        texts: A file with a line for each entity: its identifier, a tab, its name, and after a comma what is said of
            it; null for names alone, which are the identifiers in words.
        groups: Among which entities names are permuted: ``all``, or those of like ``degree``, which is harder.
        length: Letters of a random string.
        negatives: Replacements for each triple; none are drawn for ``one_vs_all``.
        loss: What is minimised.
        penalty: Weight of the penalty on a triple's rows.
    """

    def __init__(
        self,
        *,
        settings: Annotated[tuple[Setting, ...], MinLen(1)] = ("original", "virtual-world", "anonymised"),
        encoder: str = "minilm",
        untrained: bool = True,
        texts: str | None = None,
        groups: Literal["all", "degree"] = "all",
        length: Annotated[int, Ge(3)] = 10,
        negatives: Annotated[int, Ge(1)] = 32,
        loss: Literal["self_adversarial", "logistic", "margin", "softmax", "one_vs_all"] = "one_vs_all",
        penalty: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        super().__init__(
            negatives=negatives,
            corrupt="both",
            filtered=True,
            loss=loss,
            temperature=1.0,
            margin=1.0,
            smoothing=0.0,
            subsampling=False,
            penalty=penalty,
            power=3.0,
        )
        self.settings, self.encoder, self.texts = tuple(dict.fromkeys(("original", *settings))), encoder, texts
        self.untrained = untrained and encoder != "hashed"
        self.groups, self.length = groups, length
        self._ranks: dict[tuple[str, str], Ranks] = {}
        self._left: dict[str, int] = {}

    # ------------------------------------------------------------------ work

    def stages(self, run: Run) -> Iterator[Train]:
        """The text model in each world, with an encoder that was trained and with one that was not; then the floor."""
        graph = graph_of(run.splits)
        own = graph.relations // 2 if graph.inverse else graph.relations
        texts = texts_of(graph.entity_names, graph.relation_names[:own], self.texts)
        width = int(run.recipe.models[self.learner].args.get("width", 64))
        settings = run.recipe.train
        for start in ("trained", "random") if self.untrained else ("trained",):
            encoder = self.encoder if start == "trained" else f"{self.encoder}@random"
            self._spec = Spec("model", "text-bilinear", {"width": width, "text_width": width_of(encoder)})
            for setting in self.settings:
                other = twin(texts, setting, run.recipe.seed, self._groups(run), self.length)
                if setting != "original":
                    self._left[setting] = remaining(texts, other)
                # The same start in every world: only the texts differ.
                reseed(run.recipe.seed, "text-bilinear")
                model: TextBilinear = self._spec.build(run.splits.info)
                with torch.no_grad():
                    model.text.copy_(vectors_of(other.told(), encoder))
                models: dict[str, nn.Module] = {self.learner: model}
                yield Train(f"{setting}-{start}", self, models, settings, validated=self.learner)
                self._ranks[setting, start] = self._ranked(run, model)
                if (setting, start) == ("original", "trained"):
                    self._model = model
        floor = run.source(self.learner)
        yield Train(BASELINE, self, {self.learner: floor}, settings, validated=self.learner)
        self._ranks["graph alone", "no text"] = self._ranked(run, floor)

    def _groups(self, run: Run) -> list[int] | None:
        if self.groups == "all":
            return None
        triples = triples_of(run.splits.train)
        count = graph_of(run.splits).entities
        degree = torch.bincount(triples[:, [HEAD, TAIL]].flatten(), minlength=count)
        groups: list[int] = (degree.double() + 1).log2().floor().long().tolist()
        return groups

    def _ranked(self, run: Run, model: nn.Module) -> Ranks:
        assert isinstance(model, LinkPredictor)
        graph, facts = model.graph, told(run.splits)
        device = run.accelerator.device
        model.to(device)
        known = Known(facts, graph.entities, graph.relations // 2 if graph.inverse else graph.relations).to(device)
        triples: Tensor = triples_of(run.splits.test).to(device)
        return rank(model, triples, known, entities=graph.entities)

    # ------------------------------------------------------------------ what came out

    def results(self, run: Run) -> Sequence[Result]:
        """The text model in the original world, and the floor."""
        spec = Spec("model", "text-bilinear", {**self._spec.args, "text_width": self._model.text.shape[1]})
        stages = ("original-trained",)
        found = [self.result("with texts", self._model, "recipient", stages=stages, spec=spec)]
        return [*found, self.result("graph alone", run.models[self.learner], "baseline", stages=(BASELINE,))]

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """The table of worlds, what the score is made of, and where memory counts most."""
        worlds = [
            {"world": setting, "encoder": start, "mrr": ranks.mrr(), "hits@1": ranks.hits(1), "hits@10": ranks.hits(10)}
            for (setting, start), ranks in self._ranks.items()
        ]
        found: dict[str, Finding] = {"worlds": worlds, "shares_of_mrr": self.shares()}
        if memory := self.by_relation(graph_of(run.splits).relation_names):
            found["memory_by_relation"] = memory
        for setting, count in self._left.items():
            if count:
                found[f"names_that_are_left_in_{setting}"] = f"{count} entities are still told by their own name"
        floor, text = self._ranks["graph alone", "no text"], self._ranks["original", "trained"]
        if float(text.reciprocal().mean()) < float(floor.reciprocal().mean()):
            found["below_the_floor"] = "the model with texts ranks worse than the graph alone"
        return found

    def shares(self) -> list[dict[str, Any]]:
        """What the score is made of: differences between worlds, resampled in pairs over the same test triples."""
        rows = []
        for name, first, second in _SHARES:
            if first in self._ranks and second in self._ranks:
                a, b = (self._ranks[key].reciprocal().numpy() for key in (first, second))
                rows.append({"share": name, "mrr": paired_difference(a, b)})
        return rows

    def by_relation(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Relations whose score loses most when names are permuted."""
        keys = (("original", "trained"), ("virtual-world", "trained"))
        if not all(key in self._ranks for key in keys):
            return []
        first, second = (self._ranks[key] for key in keys)
        lost = first.reciprocal() - second.reciprocal()
        relations = first.relations
        rows = []
        for relation in relations.unique().tolist():
            mine = lost[relations == relation]
            if len(mine) >= _SHOWN:
                rows.append({"relation": names[relation], "memory share": float(mine.mean()), "tests": len(mine)})
        return sorted(rows, key=lambda row: -row["memory share"])[:_SHOWN]

    def pictures(self, run: Run) -> Sequence[Mapping[str, Any]]:
        """What the score is made of."""
        bars = [{"name": row["share"], "group": "share of MRR", **row["mrr"].to_dict()} for row in self.shares()]
        worlds = [
            {"name": setting, "group": start, **ranks.mrr().to_dict()}
            for (setting, start), ranks in self._ranks.items()
        ]
        about = {"kind": "bars", "axis": "MRR"}
        caption = "Differences of MRR between worlds, with 95 % intervals over the same test triples."
        drawn = [{**about, "name": "worlds", "title": "Worlds", "caption": "MRR by world and encoder.", "bars": worlds}]
        if bars:
            drawn.append(
                {**about, "name": "shares", "title": "What the score is made of", "caption": caption, "bars": bars}
            )
        return drawn
