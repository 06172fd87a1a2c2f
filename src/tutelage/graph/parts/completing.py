"""Answers to an incomplete triple: the best candidates, how likely each is, and what in the graph speaks for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tutelage.data.triples import HEAD, RELATION, TAIL, GraphInfo, Known, Side
from tutelage.models.link_predictor import LinkPredictor

_CANDIDATES = 20


@dataclass(frozen=True)
class Answer:
    """A candidate for the missing place.

    Args:
        entity: Which.
        score: The model's.
        share: Of the scores' softmax among candidates that are not known to be true.
    """

    entity: int
    score: float
    share: float


def best_answers(
    model: LinkPredictor, side: Side, given: int, relation: int, known: Known | None, *, count: int = 10
) -> list[Answer]:
    """The candidates with the highest scores that are not known to be true.

    Args:
        model: Scores them.
        side: What is missing.
        given: The entity that is there.
        relation: The relation.
        known: Facts to leave out; ``None`` to leave out none.
        count: How many.
    """
    triple = torch.tensor([[given, relation, given]])
    scores = model.rank_scores(side, triple)[0]
    if known is not None:
        scores = scores.index_fill(0, known.answers(side, triple)[1], float("-inf"))
    shares = torch.softmax(scores.double(), 0)
    best = scores.topk(min(count, int(scores.isfinite().sum())))
    return [Answer(int(e), float(s), float(shares[e])) for s, e in zip(best.values, best.indices, strict=True)]


@dataclass(frozen=True)
class Calibration:
    """From scores to the share of candidates that held-out triples confirm.

    A logistic function of a candidate's score, of the logarithm of its softmax share among those that are not known,
    and of the side that is asked for, fitted to the best candidates of held-out queries.

    Args:
        weights: Of score, logarithm of the share, and whether the tail is asked for.
        bias: What is added.
        error: Its expected calibration error on queries that it was not fitted to; ``None`` where there were too few.
        queries: How many it was fitted to.
    """

    weights: tuple[float, float, float]
    bias: float
    error: float | None
    queries: int

    def probability(self, answer: Answer, side: Side) -> float:
        """How likely an answer is."""
        features = (answer.score, float(np.log(max(answer.share, 1e-12))), float(side == "tail"))
        total = self.bias + sum(w * x for w, x in zip(self.weights, features, strict=True))
        return float(1.0 / (1.0 + np.exp(-total)))


def calibrate(
    model: LinkPredictor, learnt: Tensor, held_out: Tensor, *, seed: int = 0, most: int = 1000
) -> Calibration:
    """Fit probabilities to held-out triples; half of their queries are kept to say how well it fits.

    Args:
        model: Whose scores.
        learnt: ``[count, 3]`` int64 triples whose answers do not compete.
        held_out: ``[count, 3]`` int64 true triples that were not learnt.
        seed: Of the division.
        most: Triples that are used.
    """
    from sklearn.linear_model import LogisticRegression

    graph = model.graph
    known, true = (Known(part, graph.entities, graph.relations) for part in (learnt, held_out))
    order = np.random.default_rng(seed).permutation(len(held_out))[:most]
    features: list[list[float]] = []
    labels: list[bool] = []
    group: list[int] = []
    for place, at in enumerate(order):
        head, relation, tail = held_out[int(at)].tolist()
        for side, given in (("tail", head), ("head", tail)):
            for answer in best_answers(model, side, given, relation, known, count=_CANDIDATES):  # type: ignore[arg-type]
                pair = [given, relation, answer.entity] if side == "tail" else [answer.entity, relation, given]
                features.append([answer.score, float(np.log(max(answer.share, 1e-12))), float(side == "tail")])
                labels.append(bool(true.holds(torch.tensor([pair]))))
                group.append(place)
    x, y, fold = np.array(features), np.array(labels), np.array(group) % 2
    whole = LogisticRegression(max_iter=1000).fit(x, y) if len(set(labels)) == 2 else None
    if whole is None:
        return Calibration((0.0, 0.0, 0.0), float(np.log((y.mean() + 1e-6) / (1 - y.mean() + 1e-6))), None, len(order))
    error = None
    if all(len(set(y[fold == f])) == 2 for f in (0, 1)):
        predicted = np.empty(len(y))
        for f in (0, 1):
            half = LogisticRegression(max_iter=1000).fit(x[fold == f], y[fold == f])
            predicted[fold != f] = half.predict_proba(x[fold != f])[:, 1]
        bins = np.minimum((predicted * 10).astype(int), 9)
        gaps = [abs(predicted[bins == b].mean() - y[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
        error = float(sum(gaps))
    a, b, c = (float(w) for w in whole.coef_[0])
    return Calibration((a, b, c), float(whole.intercept_[0]), error, len(order))


@dataclass(frozen=True)
class Path:
    """Facts that lead from one entity to another, and how often such a way ends where the relation does.

    Args:
        steps: Relation, whether it is followed forwards, and the entity it leads to.
        support: Of the pairs that such a way joins, how many the relation joins too.
        pairs: How many pairs it joins.
    """

    steps: tuple[tuple[int, bool, int], ...]
    support: float
    pairs: int


@dataclass
class Paths:
    """Ways of one or two facts through a graph, and how well each kind of way predicts a relation.

    Args:
        facts: ``[count, 3]`` int64.
        graph: Their names.
    """

    facts: Tensor
    graph: GraphInfo
    _pairs: dict[tuple[tuple[int, bool], ...], set[tuple[int, int]]] = field(default_factory=dict)
    _next: dict[int, list[tuple[int, bool, int]]] = field(default_factory=dict)
    _by: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for head, relation, tail in self.facts.tolist():
            self._next.setdefault(head, []).append((relation, True, tail))
            self._next.setdefault(tail, []).append((relation, False, head))
            self._by.setdefault(relation, []).append((head, tail))

    def between(self, head: int, relation: int, tail: int, *, most: int = 3, tried: int = 200) -> list[Path]:
        """Ways from head to tail, those whose kind predicts the relation best first.

        Args:
            head: Where they begin.
            relation: What they speak for.
            tail: Where they end.
            most: How many.
            tried: Kinds of ways that are looked at.
        """
        found: dict[tuple[tuple[int, bool], ...], tuple[tuple[int, bool, int], ...]] = {}
        for first in self._next.get(head, ()):
            if first[2] == tail and first[:2] != (relation, True):
                found.setdefault((first[:2],), (first,))
            elif first[2] != head:
                for second in self._next.get(first[2], ()):
                    if second[2] == tail:
                        found.setdefault((first[:2], second[:2]), (first, second))
            if len(found) >= tried:
                break
        joined = set(self._by.get(relation, ()))
        paths = []
        for kind, steps in found.items():
            pairs = self._joined(kind)
            # The fact itself must not speak for itself.
            others = pairs - {(head, tail)}
            if others:
                paths.append(Path(steps, len(others & joined) / len(others), len(others)))
        return sorted(paths, key=lambda p: (-p.support, -p.pairs, len(p.steps)))[:most]

    def _joined(self, kind: tuple[tuple[int, bool], ...], most: int = 50_000) -> set[tuple[int, int]]:
        """Pairs that a kind of way joins; at most so many."""
        if kind in self._pairs:
            return self._pairs[kind]

        def ends(relation: int, forward: bool) -> list[tuple[int, int]]:
            return [pair if forward else (pair[1], pair[0]) for pair in self._by.get(relation, ())]

        pairs = set(ends(*kind[0]))
        if len(kind) == 2:
            onward: dict[int, list[int]] = {}
            for start, end in ends(*kind[1]):
                onward.setdefault(start, []).append(end)
            longer: set[tuple[int, int]] = set()
            for start, middle in sorted(pairs):
                longer.update((start, end) for end in onward.get(middle, ()) if end != start)
                if len(longer) > most:
                    break
            pairs = longer
        self._pairs[kind] = pairs
        return pairs


def described(path: Path, head: int, graph: GraphInfo) -> str:
    """A way in words: ``a -[likes]-> b <-[knows]- c``."""
    text = graph.entity_names[head]
    for relation, forward, entity in path.steps:
        name = graph.relation_names[relation]
        text += f" -[{name}]-> " if forward else f" <-[{name}]- "
        text += graph.entity_names[entity]
    return text


def nearest(model: LinkPredictor, entity: int, count: int = 10) -> list[tuple[int, float]]:
    """Entities whose rows point where this one's does, with the cosine of the angle between them."""
    with torch.no_grad():
        rows = torch.nn.functional.normalize(model.present(model.rows()), dim=1)
        cosine = rows @ rows[entity]
    cosine[entity] = float("-inf")
    best = cosine.topk(min(count, len(cosine) - 1))
    return [(int(e), float(c)) for c, e in zip(best.values, best.indices, strict=True)]


def shared_facts(facts: Tensor, one: int, other: int, graph: GraphInfo) -> Mapping[str, int]:
    """By relation and direction, how many facts two entities have in common."""
    found: dict[str, int] = {}
    for end, ask, arrow in ((HEAD, TAIL, "{} →"), (TAIL, HEAD, "→ {}")):
        mine, theirs = (
            {(r, e) for r, e in facts[facts[:, end] == x][:, [RELATION, ask]].tolist()} for x in (one, other)
        )
        for relation, _ in mine & theirs:
            name = arrow.format(graph.relation_names[relation])
            found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))
