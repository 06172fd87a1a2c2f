"""Whether bad mentors fall silent, and what the student has of it."""

from __future__ import annotations

from typing import Any

from studies.base import DATA, RUNS, row
from tutelage.api import run

SEEDS = (0, 1, 2)
ADAM = {"batch_size": 32, "optimizer": {"name": "adam", "lr": 3e-3}, "schedule": "constant"}
MENTORS = {"good": (64, 8), "bad": (16, 1), "hardly trained": (16, 0)}
VARIANTS: dict[str, dict[str, Any]] = {
    "classroomkd": {},
    "classroomkd, each sample": {"granularity": "sample"},
    "no filter": {"select": "all"},
    "no filter, no temperatures": {"select": "uniform", "mentoring": "none", "ce_scale": "one"},
    "best mentor only": {"select": "best"},
}


def _mentor(width: int, epochs: int) -> dict[str, Any]:
    hardly = {"epochs": 1, "batch_size": 300, "optimizer": {"name": "sgd", "lr": 1e-6}}
    train = {**ADAM, "epochs": epochs} if epochs else hardly
    return {"model": "mlp", "hidden": [width], "weights": {"train": train}}


def study() -> dict[str, Any]:
    """A classroom of four, the student taught with and without the filter."""
    found: dict[tuple[str, str], list[float]] = {}
    for seed in SEEDS:
        for name, method in VARIANTS.items():
            recipe = {
                "method": {"name": "classroomkd", **method},
                "teacher": {"model": "convnet", "width": 16, "weights": {"train": {**ADAM, "epochs": 20}}},
                "mentors": [_mentor(*one) for one in MENTORS.values()],
                "student": {"model": "mlp", "hidden": [16]},
                "data": {**DATA, "limit": 300},
                "train": {**ADAM, "epochs": 30},
                "measure": ["accuracy"],
                "seed": seed,
                "baseline": name == "classroomkd",
            }
            report = run(recipe, root=RUNS).report
            names = ["teacher", *MENTORS]
            for place, one in enumerate(report["findings"]["mentors"]):
                found.setdefault((name, f"{names[place]}: share of steps"), []).append(one["active"])
            for one in report["rows"]:
                what = {"recipient": name, "baseline": "control (labels alone)"}.get(one["role"])
                if what is not None:
                    value = one["measures"]["quality"]["accuracy"]["value"]
                    found.setdefault((what, "accuracy"), []).append(value)
                elif one["role"] == "source" and name == "classroomkd":
                    who = dict(zip(("teacher", "mentors-1", "mentors-2", "mentors-3"), names, strict=True))[one["name"]]
                    found.setdefault((who, "accuracy"), []).append(one["measures"]["quality"]["accuracy"]["value"])
    rows = [row(name, metric, values) for (name, metric), values in found.items()]
    ours = {r["metric"]: r["mean"] for r in rows if r["name"] == "classroomkd"}
    accuracy = {r["name"]: r for r in rows if r["metric"] == "accuracy"}
    shares = ", ".join(f"{name} {ours[f'{name}: share of steps']:.2f}" for name in ("teacher", *MENTORS))
    return {
        "method": "classroomkd",
        "what": "Do bad mentors fall silent, and does the student gain?",
        "setup": (
            "Digits, divided anew for each of 3 seeds, 719 test images; everybody is trained on the same 300 images: "
            "teacher convnet width 16, mentors MLP of 64 (8 epochs), 16 (1 epoch) and 16 (one step at lr 1e-6), the "
            "student MLP of 16, 30 epochs of Adam 3e-3, batch 32. Intervals are 95 % t-intervals over seeds."
        ),
        "rows": rows,
        "note": (
            f"Shares of steps in which each taught: {shares}. Accuracy {accuracy['classroomkd']['mean']:.3f} beside "
            f"{accuracy['control (labels alone)']['mean']:.3f} on labels alone; three seeds at this size cannot tell "
            "variants of the loss apart, as the card says."
        ),
    }
