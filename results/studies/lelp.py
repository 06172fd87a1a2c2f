"""LELP on odd and even digits: what the student's last layer knows of the ten digits that nobody named to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studies.base import RUNS, row
from tutelage.api import run
from tutelage.data.digits import Digits
from tutelage.data.merged import Merged
from tutelage.models.participant import Participant
from tutelage.models.weights import load_model

SEEDS = (0, 1, 2, 3, 4)
PARITY = [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
ADAM = {"optimizer": {"name": "adam", "lr": 1e-2}, "schedule": "constant"}
VARIANTS: dict[str, Any] = {
    "labels alone": "supervised",
    "kd": {"name": "kd", "alpha": 0.0, "temperature": 1.0},
    "lelp": {"name": "lelp"},
    "lelp, no rotation": {"name": "lelp", "rotate": False},
    "lelp, k-means parts": {"name": "lelp", "split": "kmeans"},
    "lelp, true parts": {"name": "lelp", "split": "oracle"},
}


def probe(folder: Path) -> float:
    """Accuracy of a linear classifier of the ten digits on a model's embedding."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    splits = Merged(of=Digits(), groups=PARITY).load(0)
    model = Participant("model", load_model(folder), trainable=False, taps=("embedding",))
    parts = [part.fetch(range(len(part))) for part in (splits.train, splits.test)]
    train, test = (model(part).embedding.numpy() for part in parts)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, splits.train.fine)  # type: ignore[attr-defined]
    return float(classifier.score(test, splits.test.fine))  # type: ignore[attr-defined]


def study() -> dict[str, Any]:
    """Every variant with every seed."""
    data = {"name": "merged", "of": "digits", "groups": PARITY, "limit": 1000}
    base = {"data": data, "measure": ["accuracy"], "baseline": False}
    found: dict[tuple[str, str], list[float]] = {}
    for seed in SEEDS:
        train = {"epochs": 10, "batch_size": 128, "optimizer": {"name": "adam", "lr": 3e-3}, "schedule": "constant"}
        net = {"model": "mlp", "hidden": [128, 64]}
        taught = run({"method": "supervised", "student": net, "train": train, "seed": seed, **base}, root=RUNS)
        found.setdefault(("teacher", "probe"), []).append(probe(taught.folder))
        for name, method in VARIANTS.items():
            slots: dict[str, Any] = {"student": {"model": "mlp", "hidden": [24]}}
            if method != "supervised":
                slots["teacher"] = {**net, "weights": str(taught.folder)}
            train = {"epochs": 15, "batch_size": 100, **ADAM}
            finished = run({"method": method, **slots, "train": train, "seed": seed, **base}, root=RUNS)
            recipient = next(one for one in finished.report["rows"] if one["role"] == "recipient")
            accuracy = recipient["measures"]["quality"]["accuracy"]["value"]
            found.setdefault((name, "accuracy"), []).append(accuracy)
            found.setdefault((name, "probe"), []).append(probe(finished.folder))
    for name in VARIANTS:
        pairs = zip(found[name, "probe"], found["kd", "probe"], strict=True)
        if name != "kd":
            found[name, "probe, gain over kd"] = [own - other for own, other in pairs]
    return {
        "method": "lelp",
        "what": "Does a student of two classes learn what lies inside them?",
        "setup": (
            "Digits as odd and even, 1,000 training images, 5 seeds; teacher mlp 128-64, student mlp 24, 15 epochs; "
            "'probe' is a linear classifier of the ten digits on the last hidden layer, fitted on all training images "
            "and scored on 359 test images."
        ),
        "rows": [row(name, metric, values) for (name, metric), values in found.items()],
        "note": _note(found),
    }


def _note(found: dict[tuple[str, str], list[float]]) -> str:
    gains = {name: row(name, "", found[name, "probe, gain over kd"]) for name in VARIANTS if name != "kd"}
    said = {name: "more" if g["low"] > 0 else "less" if g["high"] < 0 else "no other" for name, g in gains.items()}
    parts = (f"{name}: {word} probe than kd" for name, word in said.items())
    return f"Beyond what seeds explain: {'; '.join(parts)}."
