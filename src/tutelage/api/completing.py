"""What is done with an embedded graph: made, kept up to date, asked to complete a fact, asked who is like whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.api.running import Finished, run
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.registry import registry
from tutelage.recipe.runfolder import RunFolder, atomic_write

if TYPE_CHECKING:
    from torch import Tensor

    from tutelage.data.splits import Splits
    from tutelage.data.triples import Side
    from tutelage.engine.listening import Listener
    from tutelage.graph.parts.completing import Calibration, Paths
    from tutelage.models.link_predictor import LinkPredictor

_CALIBRATION = "calibration.json"


def embed(
    source: str,
    to: str | Path,
    *,
    model: str = "complex",
    width: int = 64,
    epochs: int = 50,
    seed: int = 0,
    earlier: str | Path | None = None,
    listener: Listener | None = None,
) -> Finished:
    """Embed a graph with sensible settings; a recipe of the method ``link-prediction`` says all that can be said.

    Args:
        source: A file of triples, a graph's folder or endpoint, or the name of a data set such as ``umls``.
        to: Folder of the run.
        model: Which link predictor.
        width: Numbers of an entity.
        epochs: Passes over the triples.
        seed: Of everything random.
        earlier: A run of the graph as it was, to learn only what has changed since.
        listener: Hears of progress.

    Raises:
        InputError: The source is neither, or the model predicts no links.
        RunError: The run failed.
    """
    known = registry().find("data", source)
    kept = Path(source).expanduser().is_dir() or source.startswith(("http://", "https://"))
    if known is None and not kept and not Path(source).expanduser().is_file():
        named = [
            e.name for e in registry().entries("data") if e.module == "tutelage.data.graphs" and e.name != "triples"
        ]
        what = "neither a file of triples, nor a graph's folder, nor a graph by name"
        raise InputError(f"'{source}' is {what}. {nearest(source, named)}")
    method: dict[str, Any] = {"name": "link-prediction", "loss": "one_vs_all", "penalty": 0.01}
    if model not in ("complex", "distmult"):
        method = {"name": "link-prediction"}
    if earlier is not None:
        method["start"] = str(earlier)
    path = source if "://" in source else str(Path(source).expanduser())
    recipe = {
        "name": Path(to).name,
        "method": method,
        "model": {"model": model, "width": width},
        "data": {"name": source} if known is not None else {"name": "graph" if kept else "triples", "path": path},
        "train": {"epochs": epochs, "batch_size": 256, "optimizer": {"name": "adam", "lr": 1e-2}},
        "measure": ["links", "cost"],
        "seed": seed,
    }
    return run(recipe, run_dir=to, listener=listener)


class Embedded:
    """An embedded graph that can be asked.

    Args:
        folder: The run that made it.

    Raises:
        InputError: It is no finished run of an embedding, or its data has changed since.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        recipe = RunFolder.open(self.folder).recipe()
        if registry().get("method", recipe.method.name).route != "graph":
            raise InputError(f"{folder} is a run of '{recipe.method.name}', which embeds no graph")
        self._recipe = load_recipe(recipe.to_dict())

    @cached_property
    def model(self) -> LinkPredictor:
        """The model."""
        from tutelage.models.link_predictor import LinkPredictor
        from tutelage.models.weights import load_model

        found = load_model(self.folder / "model")
        if not isinstance(found, LinkPredictor):
            raise InputError(f"{self.folder} holds no model of a graph, but a {type(found).__name__}")
        return found

    @cached_property
    def splits(self) -> Splits:
        """The graph."""
        found: Splits = self._recipe.data.build().load(self._recipe.seed)
        if found.info.fingerprint != self.model.graph.fingerprint:
            raise InputError(
                f"the data of {self.folder} has changed since it was embedded; take the change in with "
                f"`tutelage graph embed SOURCE --to NEW --update {self.folder}`"
            )
        return found

    @cached_property
    def learnt(self) -> Tensor:
        """``[count, 3]`` training triples."""
        from tutelage.data.graphs import own_triples

        return own_triples(self.splits)

    @cached_property
    def held_out(self) -> Tensor:
        """``[count, 3]`` triples that were not learnt."""
        import torch

        from tutelage.data.graphs import triples_of

        parts = [part for part in (self.splits.validation, self.splits.test) if part is not None]
        return torch.cat([triples_of(part) for part in parts])

    @cached_property
    def paths(self) -> Paths:
        """Ways through what was learnt."""
        from tutelage.graph.parts.completing import Paths

        return Paths(self.learnt, self.model.graph)

    @cached_property
    def calibration(self) -> Calibration:
        """From scores to probabilities: fitted once, and kept beside the model."""
        from tutelage.graph.parts.completing import Calibration, calibrate

        path = self.folder / "model" / _CALIBRATION
        if path.is_file():
            held = json.loads(path.read_text(encoding="utf-8"))
            return Calibration(**{**held, "weights": tuple(held["weights"])})
        found = calibrate(self.model, self.learnt, self.held_out, seed=self._recipe.seed)
        atomic_write(path, json.dumps(asdict(found)))
        return found

    def entity(self, name: str) -> int:
        """An entity's number.

        Raises:
            InputError: There is none of this name.
        """
        return _place(name, self.model.graph.entity_names, "entity")

    def relation(self, name: str) -> int:
        """A relation's number.

        Raises:
            InputError: There is none of this name.
        """
        own = self.model.graph.relation_names
        return _place(name, own[: len(own) // 2] if self.model.graph.inverse else own, "relation")

    def complete(
        self, *, head: str | None = None, relation: str, tail: str | None = None, count: int = 10, known: bool = False
    ) -> dict[str, Any]:
        """The most plausible heads or tails of a fact, how likely each is, and what speaks for it.

        Args:
            head: The fact's head; ``None`` to ask for it.
            relation: Its relation.
            tail: Its tail; ``None`` to ask for it.
            count: How many.
            known: Whether facts that were learnt are answers too.

        Raises:
            InputError: Not exactly one of head and tail is missing, or a name is unknown.
        """
        import torch

        from tutelage.data.triples import Known
        from tutelage.graph.parts.completing import best_answers, described

        if (head is None) == (tail is None):
            raise InputError("a fact is completed with its head or its tail: give one of the two, and not both")
        side: Side = "tail" if tail is None else "head"
        given, of = self.entity(str(head if tail is None else tail)), self.relation(relation)
        graph = self.model.graph
        learnt = Known(self.learnt, graph.entities, graph.relations)
        true = Known(self.held_out, graph.entities, graph.relations)
        answers = []
        for answer in best_answers(self.model, side, given, of, None if known else learnt, count=count):
            start, end = (given, answer.entity) if side == "tail" else (answer.entity, given)
            fact = torch.tensor([[start, of, end]])
            there = bool(learnt.holds(fact))
            paths = self.paths.between(start, of, end)
            answers.append(
                {
                    "entity": graph.entity_names[answer.entity],
                    "probability": 1.0 if there else self.calibration.probability(answer, side),
                    "score": answer.score,
                    "status": "learnt" if there else "held out" if bool(true.holds(fact)) else "new",
                    "because": [
                        {"path": described(path, start, graph), "support": path.support, "pairs": path.pairs}
                        for path in paths
                    ],
                }
            )
        return {
            "head": head,
            "relation": relation,
            "tail": tail,
            "answers": answers,
            "calibration": {"error": self.calibration.error, "queries": self.calibration.queries},
        }

    def neighbours(self, entity: str, count: int = 10) -> dict[str, Any]:
        """Entities whose rows point the same way, and the facts that they share.

        Raises:
            InputError: There is no entity of this name.
        """
        from tutelage.graph.parts.completing import nearest as near
        from tutelage.graph.parts.completing import shared_facts

        place, graph = self.entity(entity), self.model.graph
        found = []
        for other, cosine in near(self.model, place, count):
            shared: Mapping[str, int] = shared_facts(self.learnt, place, other, graph)
            found.append({"entity": graph.entity_names[other], "cosine": cosine, "shared": dict(shared)})
        return {"entity": entity, "neighbours": found}


def _place(name: str, names: tuple[str, ...], what: str) -> int:
    try:
        return names.index(name)
    except ValueError:
        raise InputError(f"there is no {what} '{name}' in this graph. {nearest(name, names)}") from None
