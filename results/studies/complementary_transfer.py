"""Whether two networks that saw different digits can be put together in one of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from studies.base import RUNS, row
from tutelage.api import run

SEEDS = (0, 1, 2)
TRAIN = {
    "epochs": 20,
    "batch_size": 50,
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "schedule": "constant",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "more confident teaches": {},
    "closer to the label teaches": {"partition": "supervised"},
    "teacher where it alone is right": {"partition": "flip_st"},
    "start where it alone is right": {"partition": "flip_t"},
    "mean where neither alone is right": {"partition": "flip_avg"},
    "start always": {"partition": "self"},
    "teacher always (kd)": {"partition": "teacher"},
    "teacher always, slow weights": {"partition": "teacher", "slow_decay": 0.99},
    "teacher and labels": {"partition": "teacher", "alpha": 0.5},
}


def pair(seed: int) -> dict[str, Any]:
    """The slots: a student that saw 3 of each of the digits 7 to 9, a teacher that saw 3 of each of 0 to 3."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = (digits.images / 16).astype("float32")[:, None], digits.target
    order = np.random.default_rng(seed).permutation(len(y))
    train, test = order[:1000], order[1000:]
    folder = RUNS / "complementary-transfer" / str(seed)
    folder.mkdir(parents=True, exist_ok=True)

    def data(name: str, missing: tuple[int, ...]) -> dict[str, Any]:
        keep = np.concatenate([train[y[train] == c][: 3 if c in missing else None] for c in range(10)])
        np.savez(folder / f"{name}.npz", x_train=x[keep], y_train=y[keep], x_test=x[test], y_test=y[test])
        return {"name": "npz", "path": str(folder / f"{name}.npz"), "validation_fraction": 0}

    slots: dict[str, Any] = {"data": data("all", ())}
    for name, hidden, missing in (("student", 64, (7, 8, 9)), ("teacher", 32, (0, 1, 2, 3))):
        model = {"model": "mlp", "hidden": [hidden]}
        own = {"method": "supervised", "student": model, "data": data(name, missing), "train": TRAIN}
        done = run({**own, "measure": ["accuracy"], "seed": seed}, root=RUNS)
        slots[name] = {**model, "weights": str(done.folder)}
    return slots


def study() -> dict[str, Any]:
    """Every partition, on the same pairs."""
    found: dict[tuple[str, str], list[float]] = {}
    for seed in SEEDS:
        slots = pair(seed)
        for name, method in VARIANTS.items():
            recipe = {"method": {"name": "complementary-transfer", **method}, **slots, "train": TRAIN, "seed": seed}
            report = run({**recipe, "measure": ["accuracy"], "baseline": False}, root=RUNS).report
            findings = report["findings"]
            for metric in ("delta", "gain", "loss", "transfer_rate"):
                found.setdefault((name, metric), []).append(findings[metric]["value"])
        accuracy = {one["role"]: one["measures"]["quality"]["accuracy"]["value"] for one in report["rows"]}
        found.setdefault(("teacher", "accuracy"), []).append(accuracy["source"])
        known = next(r for r in findings["flips"] if (r["source"], r["recipient"]) == ("teacher", "student"))
        found.setdefault(("student before", "accuracy"), []).append(accuracy["source"] - known["accuracy_difference"])
        found.setdefault(("pair", "known to the teacher alone"), []).append(known["positive"])
    rows = [row(name, metric, values) for (name, metric), values in found.items()]
    delta = {name: next(r for r in rows if (r["name"], r["metric"]) == (name, "delta")) for name in VARIANTS}
    best = max(delta, key=lambda name: delta[name]["mean"])
    kd = delta["teacher always (kd)"]
    return {
        "method": "complementary-transfer",
        "what": "Can two networks that saw different digits be put together in one of them?",
        "setup": (
            "Digits, 1,000 training and 797 test images, divided anew for each of 3 seeds. Student MLP 64-64-10, "
            "trained on all but 3 images of each of 7, 8, 9; teacher MLP 64-32-10, on all but 3 of each of 0 to 3; "
            "transfer on all 1,000 images for 400 steps of SGD, lr 0.05, momentum 0.9, batch 50. delta, gain and "
            "loss are shares of all test images, against the student's own start; transfer_rate is of those that the "
            "teacher alone was right on. Intervals are 95 % t-intervals over seeds."
        ),
        "rows": rows,
        "note": (
            f"Largest change: {best} ({delta[best]['mean']:+.3f}); without labels, the more confident "
            f"({delta['more confident teaches']['mean']:+.3f}); plain distillation {kd['mean']:+.3f}. Variants that "
            "ask who is right use labels for the choice, not in the loss."
        ),
    }
