"""Averages of weights on domains that nobody has seen."""

from __future__ import annotations

from typing import Any

from studies.base import ROOT, RUNS, row
from tutelage.api import run
from tutelage.recipe.loading import load_recipe

SEEDS = (0, 1, 2)
ANGLES = (0, 20, 40, 60)
METRIC = "accuracy on the unseen domain"


def study() -> dict[str, Any]:
    """Leave one of four domains out, with each average of the student, and with and without one of the teacher."""
    swad = "{name: swad, validate_every: 20}"
    averages = {"last weights": "null", "wakd": "wakd", "swad": swad}
    pairs = [("averaged teacher", f"[{swad}]", student) for student in averages]
    pairs += [("plain teacher", "[]", student) for student in ("last weights", "wakd")]
    rows: list[dict[str, Any]] = []
    for teacher, callbacks, student in pairs:
        # The control is the same beside each of them.
        control = (teacher, student) == ("plain teacher", "last weights")
        found: dict[str, list[float]] = {"recipient": [], "source": [], "baseline": []}
        for seed in SEEDS:
            folds: dict[str, list[float]] = {role: [] for role in found}
            for held_out in range(len(ANGLES)):
                changes = [
                    f"method.averaging={averages[student]}",
                    f"teacher.weights.callbacks={callbacks}",
                    f"data.hold_out={held_out}",
                    f"seed={seed}",
                    f"baseline={str(control).lower()}",
                    "measure=[accuracy]",
                    "train.epochs=20",
                    "name=study-wakd",
                ]
                report = run(load_recipe(ROOT / "recipes/distill/wakd.yaml", changes), root=RUNS).report
                for one in report["rows"]:
                    folds[one["role"]].append(one["measures"]["quality"]["accuracy"]["value"])
            for role, values in folds.items():
                found[role] += [sum(values) / len(values)] if values else []
        rows.append(row(f"student: {student}, {teacher}", METRIC, found["recipient"]))
        if student == "last weights":
            rows.append(row(teacher, METRIC, found["source"]))
        if control:
            rows.append(row("control (labels alone)", METRIC, found["baseline"]))
    return {
        "method": "wakd",
        "what": "Do averages of weights help on a domain that nobody has seen?",
        "setup": (
            "The shipped recipe: digits turned by 0, 20, 40 and 60 degrees, each of them left out once; teacher: "
            "a hidden layer of 128; student: one of 16, from scratch, 20 epochs of 17 steps, Adam at 0.01; mean of the "
            "four folds for each of 3 seeds. Intervals are 95 % t-intervals over seeds."
        ),
        "rows": rows,
        "note": verdict(rows),
    }


def verdict(rows: list[dict[str, Any]]) -> str:
    """What the intervals say of averages beside the last weights of the same teacher."""
    apart = []
    for one in rows:
        name = one["name"]
        if not name.startswith("student: ") or "last weights, " in name:
            continue
        last = next(r for r in rows if r["name"] == f"student: last weights, {name.partition(', ')[2]}")
        if one["low"] > last["high"] or one["high"] < last["low"]:
            apart.append(f"{name} ({one['mean'] - last['mean']:+.3f})")
    if not apart:
        return "No average differs from the last weights beyond what three seeds explain."
    return f"Apart from the last weights beyond what three seeds explain: {'; '.join(apart)}."
