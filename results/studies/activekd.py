"""Which labels are worth buying beside a weak teacher."""

from __future__ import annotations

from typing import Any

from studies.base import ROOT, RUNS, row
from tutelage.api import run
from tutelage.data.querying import STRATEGIES
from tutelage.recipe.loading import load_recipe

SEEDS = (0, 1, 2)


def study() -> dict[str, Any]:
    """Every strategy in the shipped recipe: five trainings, at 10 to 50 labels."""
    rows: list[dict[str, Any]] = []
    teachers: list[float] = []
    for strategy in STRATEGIES:
        found: dict[str, list[float]] = {}
        for seed in SEEDS:
            changes = [f"method.strategy={strategy}", f"seed={seed}", "name=study-activekd"]
            finished = run(load_recipe(ROOT / "recipes/distill/activekd.yaml", changes), root=RUNS)
            findings = finished.report["findings"]
            last = findings["rounds"][-1]
            for metric, value in (
                ("mean accuracy over rounds", findings["mean_accuracy"]),
                ("accuracy", last["accuracy"]),
                ("label-class entropy", last["class_entropy"]),
                ("coverage radius", last["radius"]),
            ):
                found.setdefault(metric, []).append(value)
            teachers.append(last["teacher"])
        rows += [row(strategy, metric, values) for metric, values in found.items()]
    rows.append(row("teacher", "accuracy", teachers[: len(SEEDS)]))
    best = max((r for r in rows if r["metric"].startswith("mean")), key=lambda r: r["mean"])
    chance = next(r for r in rows if r["name"] == "random" and r["metric"].startswith("mean"))
    return {
        "method": "activekd",
        "what": "Which labels are worth buying beside a weak teacher?",
        "setup": (
            "The shipped recipe: digits, one label a class to begin with, four rounds of ten labels, a new student of "
            "64 hidden units each with 80 steps, a linear teacher after two epochs; 3 seeds, each with its own "
            "initialisation, first labels and chance. Intervals are 95 % t-intervals over seeds."
        ),
        "rows": rows,
        "note": (
            f"The best curve is that of {best['name']} ({best['mean']:.3f}), beside {chance['mean']:.3f} at random; "
            "with three seeds, intervals are wide."
        ),
    }
