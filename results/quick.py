"""Studies of minutes: small convolutional students of one teacher a seed, and differences in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studies.base import DATA, IMAGES, RUNS

from tutelage.api import run
from tutelage.measure.bootstrap import across_seeds
from tutelage.recipe.loading import load_recipe

QUICK = (
    "Digits, divided anew for each of 3 seeds, 719 test images; teacher: convnet of 2 stages, width 16, 15 epochs on "
    "the 899 training images; student: the same of width 6, {epochs} epochs of batch 20 on {images}, AdamW 5e-3 with "
    "cosine. Intervals are 95 % t-intervals over seeds. A small study: what it does not show may still be there."
)
QUICK_SEEDS = (0, 1, 2)
_SMALL = {"model": "convnet", "depth": 2}


def quick_teacher(seed: int) -> Path:
    """Weights of the quick studies' teacher."""
    folder = RUNS / f"quick-teacher-{seed}"
    if not (folder / "report.json").is_file():
        train = {"epochs": 15, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 5e-3}, "schedule": "cosine"}
        student = {**_SMALL, "width": 16}
        recipe = {"method": "supervised", "student": student, "data": DATA, "train": train, "measure": ["accuracy"]}
        run(load_recipe({"name": "study-teacher", **recipe, "seed": seed}), run_dir=folder)
    return folder / "model"


def quickly(
    method: str,
    variants: Mapping[str, Any],
    data: Mapping[str, Any],
    epochs: int,
    read: Callable[[str, Mapping[str, Any], Path, int], Mapping[str, float]],
) -> dict[tuple[str, str], list[float]]:
    """Small students of one teacher, without a control beside each: put one among the variants.

    Args:
        method: Names the runs.
        variants: Methods by name.
        data: Beside `DATA`.
        epochs: Of each student.
        read: Metrics of a finished run, from the variant, its report, folder and seed.

    Returns:
        Values over seeds, by variant and metric.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for seed in QUICK_SEEDS:
        teacher = {**_SMALL, "width": 16, "weights": str(quick_teacher(seed))}
        for name, arguments in variants.items():
            recipe = {
                "name": f"study-{method}",
                "method": arguments,
                "teacher": teacher,
                "student": {**_SMALL, "width": 6},
                "data": {**DATA, **data},
                "train": {**IMAGES["train"], "epochs": epochs},
                "measure": ["accuracy", "agreement"],
                "baseline": False,
                "seed": seed,
            }
            finished = run(load_recipe(recipe), root=RUNS)
            for metric, value in read(name, finished.report, finished.folder, seed).items():
                found.setdefault((name, metric), []).append(value)
    return found


def read_student(report: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy of the student, and its agreement with the teacher."""
    mine = next(one["measures"] for one in report["rows"] if one["role"] == "recipient")
    return {
        "accuracy": mine["quality"]["accuracy"]["value"],
        "agreement": mine["fidelity"]["agreement"]["value"],
    }


def differences(found: Mapping[tuple[str, str], Sequence[float]], metric: str, to: str) -> str:
    """Mean paired difference of every variant to one of them, with its interval, in words."""
    said = []
    for (name, what), values in found.items():
        if what == metric and name != to:
            apart = across_seeds([a - b for a, b in zip(values, found[to, metric], strict=True)])
            bounds = "" if apart.low is None or apart.high is None else f" [{apart.low:+.3f}, {apart.high:+.3f}]"
            said.append(f"{name} {apart.value:+.3f}{bounds}")
    return f"{metric[:1].upper()}{metric[1:]} beside '{to}': {'; '.join(said)}."
