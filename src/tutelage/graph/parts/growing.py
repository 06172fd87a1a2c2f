"""An embedding taken over to a graph that has changed since: rows by name, new ones where their facts put them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutelage.data.triples import HEAD, RELATION, TAIL, GraphInfo, Known
from tutelage.models.link_predictor import LinkPredictor
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, RunError

FACTS = "facts.npz"


def keep_facts(folder: Path, graph: GraphInfo, learnt: Tensor) -> None:
    """Write the triples that a model was trained on beside it, so that what has changed can be told later.

    Raises:
        RunError: The disk is full or cannot be written.
    """
    beside = folder / f".{FACTS}.partial"
    try:
        with beside.open("wb") as stream:
            np.savez_compressed(stream, triples=learnt.int().numpy())
        beside.replace(folder / FACTS)
    except OSError as error:
        raise RunError(f"{folder / FACTS} cannot be written: {error.strerror or error}") from error


@dataclass(frozen=True)
class Earlier:
    """A model of the graph as it was.

    Args:
        model: The model.
        facts: ``[count, 3]`` int64 triples that it was trained on, in its own numbers.
    """

    model: LinkPredictor
    facts: Tensor

    @classmethod
    def load(cls, start: str) -> Earlier:
        """From a run's folder, or its model's.

        Raises:
            InputError: There is no such model of a graph, or it does not say what it was trained on.
        """
        model = load_model(start)
        folder = next((f for f in (Path(start) / "model", Path(start)) if (f / "config.json").is_file()), Path(start))
        if not isinstance(model, LinkPredictor):
            raise InputError(f"{start} holds no model of a graph, but a {type(model).__name__}")
        if not (folder / FACTS).is_file():
            raise InputError(f"{folder} does not say what was learnt: it has no {FACTS}; train it again")
        with np.load(folder / FACTS, allow_pickle=False) as held:
            return cls(model, torch.from_numpy(held["triples"]).long())


@dataclass(frozen=True)
class Change:
    """What a graph's training triples have become.

    Args:
        added: ``[count]`` positions of triples that were not there before.
        touched: ``[count]`` positions of the others that share an entity with one that was added or deleted.
        rest: ``[count]`` positions of those that nothing happened to.
        deleted: ``[count, 3]`` triples that are there no more, in new numbers.
        entities: How many are new.
        relations: How many are new.
    """

    added: Tensor
    touched: Tensor
    rest: Tensor
    deleted: Tensor
    entities: int
    relations: int


def _places(names: tuple[str, ...], now: tuple[str, ...]) -> Tensor:
    index = {name: place for place, name in enumerate(now)}
    return torch.tensor([index.get(name, -1) for name in names], dtype=torch.long)


def compare(earlier: Earlier, graph: GraphInfo, learnt: Tensor) -> Change:
    """What is new, what is gone, and what is near either.

    Args:
        earlier: The graph as it was.
        graph: Names as they are.
        learnt: ``[count, 3]`` int64 training triples as they are.
    """
    before = earlier.model.graph
    nodes, links = (
        _places(before.entity_names, graph.entity_names),
        _places(before.relation_names, graph.relation_names),
    )
    old = torch.stack([nodes[earlier.facts[:, 0]], links[earlier.facts[:, 1]], nodes[earlier.facts[:, 2]]], 1)
    old = old[(old >= 0).all(1)]
    was = Known(old, graph.entities, graph.relations)
    fresh = ~was.holds(learnt)
    deleted = old[~Known(learnt, graph.entities, graph.relations).holds(old)].unique(dim=0)
    moved = torch.zeros(graph.entities, dtype=torch.bool)
    for part in (learnt[fresh], deleted):
        moved[part[:, HEAD]] = True
        moved[part[:, TAIL]] = True
    near = ~fresh & (moved[learnt[:, HEAD]] | moved[learnt[:, TAIL]])
    return Change(
        fresh.nonzero().flatten(),
        near.nonzero().flatten(),
        (~fresh & ~near).nonzero().flatten(),
        deleted,
        graph.entities - int((nodes >= 0).sum()),
        graph.relations - int((links >= 0).sum()),
    )


@torch.no_grad()
def take_over(earlier: Earlier, model: LinkPredictor, learnt: Tensor) -> None:
    """Give a model the rows of an earlier one; a new entity begins as the mean of those with the same neighbours.

    Args:
        earlier: Whose rows.
        model: The new one, of the same kind and width.
        learnt: ``[count, 3]`` int64 training triples, in the new numbers.

    Raises:
        InputError: The two are of different kinds or widths.
    """
    old = earlier.model
    if type(old) is not type(model) or old.entities.shape[1:] != model.entities.shape[1:]:
        raise InputError(
            f"the earlier model is a {type(old).__name__} of width {old.entities.shape[1]}, and the recipe's a "
            f"{type(model).__name__} of width {model.entities.shape[1]}: rows can only be taken over by its like"
        )
    for name, own in model.named_parameters():
        if name not in ("entities", "relations"):
            own.copy_(dict(old.named_parameters())[name])
    for mine, theirs, names, now in (
        (model.entities, old.entities, old.graph.entity_names, model.graph.entity_names),
        (model.relations, old.relations, old.graph.relation_names, model.graph.relation_names),
    ):
        place = _places(names, now)
        mine[place[place >= 0]] = theirs[place >= 0].to(mine.dtype)
    known = set(old.graph.entity_names)
    fresh = torch.tensor([name not in known for name in model.graph.entity_names])
    if not bool(fresh.any()):
        return
    # Entities that stand in the same place of the same relation with the same other end: a new one's likely company.
    total, count = torch.zeros_like(model.entities), torch.zeros(len(fresh), 1)
    for asked, given in ((TAIL, HEAD), (HEAD, TAIL)):
        same = learnt[:, given] * model.graph.relations + learnt[:, RELATION]
        # Company of the same query counts a hundredfold of that which only shares the relation.
        for key, weight in ((same, 1.0), (learnt[:, RELATION], 0.01)):
            _, group = key.unique(return_inverse=True)
            settled = ~fresh[learnt[:, asked]]
            sums = torch.zeros(int(group.max()) + 1, model.entities.shape[1])
            sums.index_add_(0, group[settled], model.entities[learnt[settled, asked]])
            counts = torch.bincount(group[settled], minlength=len(sums)).float()
            usable = ~settled & (counts[group] > 0)
            rows = learnt[usable, asked]
            total.index_add_(0, rows, weight * sums[group[usable]] / counts[group[usable], None])
            count.index_add_(0, rows, torch.full((len(rows), 1), weight))
    found = fresh & (count[:, 0] > 0)
    model.entities[found] = total[found] / count[found]
