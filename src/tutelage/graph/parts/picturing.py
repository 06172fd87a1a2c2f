"""An embedding in the plane, and one entity among what it is known and predicted to be joined with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tutelage.data.triples import HEAD, RELATION, TAIL, Known
from tutelage.graph.parts.completing import best_answers
from tutelage.models.link_predictor import LinkPredictor

_LABELLED, _GROUPS = 14, 5
_AROUND, _GUESSES = 8, 3


def embedding(model: LinkPredictor, facts: Tensor, most: int = 2000) -> dict[str, Any]:
    """Rows of entities on their two directions of greatest variance.

    Args:
        model: Whose rows.
        facts: ``[count, 3]`` int64, from which entities are grouped: by the relation that they head most often.
        most: Entities that are drawn, those with the most facts first.
    """
    graph = model.graph
    ends = torch.cat([facts[:, HEAD], facts[:, TAIL]])
    degree = torch.bincount(ends, minlength=graph.entities)
    shown = degree.argsort(descending=True, stable=True)[:most]
    with torch.no_grad():
        rows = model.present(model.rows()).cpu().double()[shown]
    rows = rows - rows.mean(0)
    _, spread, axes = torch.linalg.svd(rows, full_matrices=False)
    # The sign of a direction is arbitrary: the largest number is made positive, so that equal models look equal.
    axes = axes[:2] * axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)).sign()
    place = rows @ axes.T
    heads = torch.zeros(graph.entities, graph.relations)
    heads.index_put_((facts[:, HEAD], facts[:, RELATION]), torch.ones(len(facts)), accumulate=True)
    mine = heads.argmax(1)[shown]
    common = torch.bincount(mine, minlength=graph.relations).argsort(descending=True, stable=True)[:_GROUPS].tolist()
    groups = [graph.relation_names[int(r)] if int(r) in common else "other" for r in mine]
    share = float(spread[:2].square().sum() / spread.square().sum().clamp(min=1e-12))
    return {
        "kind": "points",
        "name": "embedding",
        "title": "Entities",
        "caption": (
            f"{len(shown)} of {graph.entities} entities on two directions with {share:.0%} of their rows' variance, by "
            "the relation that each heads most often."
        ),
        "x": [round(v, 5) for v in place[:, 0].tolist()],
        "y": [round(v, 5) for v in place[:, 1].tolist()],
        "group": groups,
        "labels": [[i, graph.entity_names[int(shown[i])]] for i in _apart(place)],
    }


def _apart(place: Tensor) -> list[int]:
    """Places, the first ones if possible, whose names would not stand in each other's way."""
    span = (place.amax(0) - place.amin(0)).clamp(min=1e-12)
    chosen: list[int] = []
    for i in range(len(place)):
        gaps = ((place[i] - place[chosen]) / span).abs()
        if not bool(((gaps[:, 0] < 0.22) & (gaps[:, 1] < 0.05)).any()):
            chosen.append(i)
        if len(chosen) == _LABELLED:
            break
    return chosen


def neighbourhood(model: LinkPredictor, learnt: Tensor, held_out: Tensor, entity: int | None = None) -> dict[str, Any]:
    """An entity, facts about it that were learnt, and the best answers to questions whose answers were not.

    Args:
        model: What answers.
        learnt: ``[count, 3]`` int64 training triples of the graph's own relations.
        held_out: ``[count, 3]`` int64 triples that were not learnt.
        entity: Which; the one that heads most held-out triples unless given.
    """
    graph = model.graph
    if entity is None:
        entity = int(torch.bincount(held_out[:, HEAD], minlength=graph.entities).argmax())
    known = Known(learnt, graph.entities, graph.relations)
    true = Known(held_out, graph.entities, graph.relations)
    edges: list[tuple[int, str, int, str]] = []
    near = learnt[(learnt[:, HEAD] == entity) & (learnt[:, TAIL] != entity)]
    # One fact a neighbour, so that a picture does not show the same two entities a dozen times.
    taken: set[int] = set()
    for _, relation, tail in near.tolist():
        if tail not in taken and len(taken) < _AROUND:
            taken.add(tail)
            edges.append((entity, graph.relation_names[relation], tail, "known"))
    asked = held_out[held_out[:, HEAD] == entity][:, RELATION].unique()[:_GUESSES]
    for relation in asked.tolist():
        for answer in best_answers(model, "tail", entity, relation, known, count=2):
            fact = torch.tensor([[entity, relation, answer.entity]])
            kind = "confirmed" if bool(true.holds(fact)) else "predicted"
            edges.append((entity, graph.relation_names[relation], answer.entity, kind))
    others = list(dict.fromkeys(end for _, _, end, _ in edges if end != entity))
    nodes = [{"name": graph.entity_names[entity], "x": 0.0, "y": 0.0, "weight": 1.0}]
    for place, other in enumerate(others):
        angle = 2 * math.pi * place / max(len(others), 1)
        x, y = round(1.35 * math.cos(angle), 4), round(math.sin(angle), 4)
        nodes.append({"name": graph.entity_names[other], "x": x, "y": y, "weight": 0.4})
    index = {entity: 0, **{other: 1 + place for place, other in enumerate(others)}}
    seen: dict[tuple[int, int], int] = {}
    drawn = []
    for start, label, end, kind in edges:
        if end == entity:
            continue
        bend = seen.setdefault((start, end), 0)
        seen[start, end] += 1
        drawn.append({"start": index[start], "end": index[end], "label": label, "kind": kind, "bend": 0.18 * bend})
    return {
        "kind": "graph",
        "name": "neighbourhood",
        "title": f"Around {graph.entity_names[entity]}",
        "caption": "Facts that were learnt, and the best answers that were not: confirmed by held-out triples, or only "
        "predicted.",
        "nodes": nodes,
        "edges": drawn,
    }
