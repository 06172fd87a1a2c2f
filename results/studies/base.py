"""What studies share: the same division, teacher and control for every variant and seed; rows with their intervals."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.api import run
from tutelage.measure.bootstrap import across_seeds
from tutelage.recipe.loading import load_recipe

ROOT = Path(__file__).resolve().parents[2]
RUNS = Path(os.environ.get("STUDY_RUNS", ROOT / "runs" / "study"))
SEEDS = (0, 1, 2, 3, 4)
DATA: dict[str, Any] = {"name": "digits", "test_fraction": 0.4, "split_seed": None}
IMAGES: dict[str, Any] = {
    "teacher": {"model": "convnet", "width": 32},
    "student": {"model": "convnet", "width": 8},
    "data": {**DATA, "limit": 100, "augment": ["shift"]},
    "train": {"epochs": 200, "batch_size": 20, "optimizer": {"name": "adamw", "lr": 5e-3}, "schedule": "cosine"},
    "measure": ["accuracy", "agreement", "calibration"],
}
_VIT = {"model": "vit", "patch": [1, 8], "dim": 32, "heads": 4}
TOKENS: dict[str, Any] = {
    **IMAGES,
    "teacher": {**_VIT, "depth": 6},
    "student": {**_VIT, "depth": 3},
    "data": {**DATA, "limit": 200},
    "train": {**IMAGES["train"], "epochs": 100, "optimizer": {"name": "adamw", "lr": 3e-3}},
}
ABOUT = (
    "Digits, divided anew for each of 5 seeds, 719 test images; {models}; batch 20, AdamW with cosine. The control is "
    "the same student from the same start on the same batches, on labels alone; {converged}. Intervals are 95 % "
    "t-intervals over seeds; 'gain' is the paired difference to the control, before correction for the number of "
    "variants."
)
CONV = (
    "teacher convnet width 32 on the 899 training images, student convnet width 8 on 100 of them, shifts of one pixel"
)
VIT = (
    "teacher: transformer of 6 blocks, width 32, reading 8 tokens of 8 pixels, on the 899 training images; student: 3 "
    "blocks, random start, on 200 of them"
)


def taught(base: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The teacher's slot, trained on all training images of the seed's division, none of which is a test image."""
    data = {key: value for key, value in base["data"].items() if key != "limit"}
    train = {**base["train"], "epochs": 60, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 3e-3}}
    recipe = {"method": "supervised", "student": base["teacher"], "data": data, "train": train, "measure": ["accuracy"]}
    folder = RUNS / f"teacher-{base['teacher']['model']}-{seed}"
    if not (folder / "report.json").is_file():
        run({"name": "study-teacher", **recipe, "seed": seed}, run_dir=folder)
    return {**base["teacher"], "weights": str(folder / "model")}


def row(name: str, metric: str, values: Sequence[float]) -> dict[str, Any]:
    """A row of a record: the mean over seeds and its interval."""
    number = across_seeds(values)
    low, high = number.low, number.high
    return {
        "name": name,
        "metric": metric,
        "mean": round(number.value, 4),
        "low": round(low, 4) if low is not None else None,
        "high": round(high, 4) if high is not None else None,
        "n_seeds": len(values),
    }


def study(
    method: str,
    what: str,
    base: Mapping[str, Any],
    variants: Mapping[str, Any],
    about: str,
    *,
    each: Callable[[str, int, Path], None] | None = None,
) -> dict[str, Any]:
    """Run every variant with every seed, and its control, and say what came out.

    Args:
        method: Names the file.
        what: The question.
        base: What the variants share.
        variants: The method, or ``{"method", "stages"}``, by name.
        about: The set-up in words.
        each: Told of every finished run: variant, seed, folder.
    """
    rows: list[dict[str, Any]] = []
    gains: dict[str, Sequence[float]] = {}
    others: dict[str, dict[str, list[float]]] = {}
    for name, spec in variants.items():
        found: dict[str, list[float]] = {}
        for seed in SEEDS:
            whole = spec if "method" in spec else {"method": spec}
            slots = {**base, "teacher": taught(base, seed)}
            finished = run(load_recipe({"name": f"study-{method}", **slots, **whole, "seed": seed}), root=RUNS)
            if each is not None:
                each(name, seed, finished.folder)
            by_role = {one["role"]: one["measures"] for one in finished.report["rows"]}
            for role, measures in by_role.items():
                for group, metric in (("quality", "accuracy"), ("fidelity", "agreement"), ("calibration", "ece")):
                    number = measures.get(group, {}).get(metric)
                    if number is not None:
                        found.setdefault(f"{role}/{metric}", []).append(number["value"])
        rows += [row(name, metric, found[f"recipient/{metric}"]) for metric in ("accuracy", "agreement", "ece")]
        pairs = zip(found["recipient/accuracy"], found["baseline/accuracy"], strict=True)
        gains[name] = [after - control for after, control in pairs]
        rows.append(row(name, "gain", gains[name]))
        others = {"control (labels alone)": {}, "teacher": {}}
        for label, role in (("control (labels alone)", "baseline"), ("teacher", "source")):
            for metric in ("accuracy", "agreement", "ece"):
                if f"{role}/{metric}" in found:
                    others[label][metric] = found[f"{role}/{metric}"]
    rows += [row(label, metric, values) for label, metrics in others.items() for metric, values in metrics.items()]
    return {
        "method": method,
        "what": what,
        "setup": about,
        "rows": rows,
        "note": verdict({name: across_seeds(values) for name, values in gains.items()}),
    }


def verdict(gains: Mapping[str, Any]) -> str:
    """One sentence that the numbers decide."""
    better = [name for name, gain in gains.items() if gain.low is not None and gain.low > 0]
    worse = [name for name, gain in gains.items() if gain.high is not None and gain.high < 0]
    said = []
    if better:
        said.append("more accurate than the control beyond what seeds explain: " + ", ".join(better))
    if worse:
        said.append("less accurate than the control beyond what seeds explain: " + ", ".join(worse))
    rest = [name for name in gains if name not in (*better, *worse)]
    if rest:
        said.append("no difference to the control that five seeds can show: " + ", ".join(rest))
    text = "; ".join(said)
    return text[0].upper() + text[1:] + "."


def collected(
    base: Mapping[str, Any],
    variants: Mapping[str, Any],
    seeds: Sequence[int],
    read: Callable[[Any], Mapping[str, float]],
) -> dict[tuple[str, str], list[float]]:
    """What is read from the report of every variant, one number a seed, by variant and metric.

    Args:
        base: What the variants share; their name too, which says whose study it is.
        variants: The method of each, by name.
        seeds: Of the runs.
        read: Metrics by name, from a report; those of the control begin with ``control``.
    """
    found: dict[tuple[str, str], list[float]] = {}
    control: dict[tuple[str, str], list[float]] = {}
    for name, method in variants.items():
        for seed in seeds:
            report = run(load_recipe({**base, "method": method, "seed": seed}), root=RUNS).report
            for metric, value in read(report).items():
                of, _, short = metric.partition(" ")
                if of != "control":
                    found.setdefault((name, metric), []).append(value)
                elif name == next(iter(variants)):
                    control.setdefault(("control (labels alone)", short), []).append(value)
    return {**found, **control}


def accuracies(report: Mapping[str, Any]) -> dict[str, float]:
    """The recipient's accuracy, and the control's."""
    names = {"recipient": "accuracy", "baseline": "control accuracy"}
    return {
        names[one["role"]]: one["measures"]["quality"]["accuracy"]["value"]
        for one in report["rows"]
        if one["role"] in names
    }


def means(rows: Sequence[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """A metric's mean by variant, for the sentence that says what came out."""
    return {one["name"]: one["mean"] for one in rows if one["metric"] == metric}


def across(recipe: Mapping[str, Any], seeds: Sequence[int] = (0, 1, 2)) -> list[Mapping[str, Any]]:
    """Reports of one recipe by seed."""
    return [
        run(load_recipe({**recipe, "name": f"study-{recipe['method']['name']}", "seed": seed}), root=RUNS).report
        for seed in seeds
    ]


def table_rows(
    reports: Sequence[Mapping[str, Any]], table: str, by: Sequence[str], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of a record from a table that every report found: lines by the values of ``by``, each column a metric."""
    values: dict[tuple[str, str], list[float]] = {}
    for report in reports:
        for line in report["findings"][table]:
            name = ", ".join(str(line[key]) for key in by)
            for column in columns:
                if line.get(column) is not None:
                    values.setdefault((name, column), []).append(float(line[column]))
    return [row(name, metric, each) for (name, metric), each in values.items()]
