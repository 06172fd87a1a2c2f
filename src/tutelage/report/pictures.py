"""The data of a report's pictures, kept in ``report.json`` so that the page can be drawn again without the models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tutelage.measure import Predicted
from tutelage.measure.calibration import reliability
from tutelage.report.evidence import Evidence, Row

MOST_CLASSES = 100
"""An agreement matrix of more classes is neither legible nor small."""
MOST_POINTS = 300
"""Points of a curve; longer ones are averaged in groups."""


def pictures(evidence: Evidence, source: Row | None, recipient: Row | None) -> dict[str, Any]:
    """Reliability of each row, agreement of the recipient with its source, and curves by stage."""
    return {
        "class_names": [str(name) for name in evidence.class_names] or None,
        "reliability": [_reliability(row) for row in evidence.rows if isinstance(row.predicted, Predicted)],
        "agreement": _agreement(source, recipient) if source and recipient else None,
        "curves": _curves(evidence.curves),
        "drawn": [dict(one) for one in evidence.drawn],
    }


def _reliability(row: Row) -> dict[str, Any]:
    assert isinstance(row.predicted, Predicted)
    points = reliability(row.predicted)
    return {
        "name": row.name,
        "role": row.role,
        "confidence": points.confidence.round(6).tolist(),
        "accuracy": points.accuracy.round(6).tolist(),
        "count": points.count.tolist(),
    }


def _agreement(source: Row, recipient: Row) -> dict[str, Any] | None:
    if not isinstance(source.predicted, Predicted) or not isinstance(recipient.predicted, Predicted):
        return None
    theirs, mine = source.predicted.aligned_to(recipient.predicted).classes, recipient.predicted.classes
    size = max(source.predicted.logits.shape[1], recipient.predicted.logits.shape[1])
    named = (theirs >= 0) & (mine >= 0)
    if size > MOST_CLASSES or not named.any():
        return None
    counts = np.bincount((theirs[named] * size + mine[named]).numpy(), minlength=size * size)
    return {"source": source.name, "recipient": recipient.name, "counts": counts.reshape(size, size).tolist()}


def _curves(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    series: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for event in events:
        for kind in ("losses", "validation"):
            for term, value in (event.get(kind) or {}).items():
                key = (str(event.get("stage", "")), kind, str(event.get("name", "")), str(term))
                if value is not None and np.isfinite(value):
                    series.setdefault(key, []).append((float(event["step"]), float(value)))
    return [
        {"stage": stage, "kind": kind, "name": name, "term": term, "points": _thinned(points)}
        for (stage, kind, name, term), points in series.items()
    ]


def _thinned(points: list[tuple[float, float]]) -> list[list[float]]:
    array = np.array(points)
    if len(array) > MOST_POINTS:
        array = np.array([group.mean(axis=0) for group in np.array_split(array, MOST_POINTS)])
    return [[float(f"{step:.7g}"), float(f"{value:.7g}")] for step, value in array]
