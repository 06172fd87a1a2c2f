"""Explanations beside answers, on images whose mark tells the class in training and nothing when tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from quick import differences, read_student

from studies.base import RUNS, row
from tutelage.api import run
from tutelage.data.digits import Digits
from tutelage.recipe.loading import load_recipe

SEEDS = (0, 1, 2)
SHOTS = (10,)
PLACES = [(0, column) for column in range(8)] + [(7, 0), (7, 7)]
TRAIN = {"epochs": 20, "batch_size": 20, "optimizer": {"name": "adamw", "lr": 5e-3}, "schedule": "cosine"}
SMALL = {"model": "convnet", "depth": 2}


def study() -> dict[str, Any]:
    """A teacher that has learned to ignore the mark, and students that only see images on which it can be trusted."""
    gradcam = {"name": "e2kd", "temperature": 1.0}
    variants: dict[str, Any] = {
        "kd": {**gradcam, "lambda_exp": 0.0},
        "e2kd, gradcam": {**gradcam, "lambda_exp": 5.0},
        "e2kd, input gradient": {**gradcam, "lambda_exp": 5.0, "explainer": "input-gradient"},
    }
    found: dict[tuple[str, str], list[float]] = {}
    for seed in SEEDS:
        paths = {share: _marked(share, seed) for share in (0.1, 0.95)}
        teacher = _teacher(paths[0.1], seed)
        for shots in SHOTS:
            for name, method in variants.items():
                report = _student(method, teacher, paths[0.95], 10 * shots, seed)
                values = read_student(report)
                kind = "input gradient" if "input" in name else "gradcam"
                values[f"cosine of {kind}"] = report["findings"]["mean cosine of explanations"]
                for metric, value in values.items():
                    found.setdefault((f"{name}, {shots} images a class", metric), []).append(value)
    rows = [row(name, metric, values) for (name, metric), values in found.items()]
    return {
        "method": "e2kd",
        "what": "Do explanations keep a student from learning a mark that its teacher ignores?",
        "setup": (
            "Digits with one bright border pixel for each class; in the students' training images it is the label's in "
            "95 % of cases, in the teacher's and in all test images it is a random class's. Teacher: convnet of 2 "
            "stages, width 16, on all 1,078 training images, 20 epochs; student: the same of width 6, without labels, "
            "60 epochs of batch 20 on 10 images a class. 3 seeds; intervals are 95 % t-intervals. A small study: what "
            "it does not show may still be there."
        ),
        "rows": rows,
        "note": " ".join(
            differences({key: v for key, v in found.items() if key[0].endswith(f", {n} images a class")}, metric, to)
            for n in SHOTS
            for metric in ("accuracy", "agreement")
            for to in [f"kd, {n} images a class"]
        ),
    }


def _marked(share: float, seed: int) -> Path:
    """An archive of digits whose training mark is the label's in this share of cases."""
    path = RUNS / f"marked-{share}-{seed}.npz"
    splits = Digits(test_fraction=0.4, validation_fraction=0.0, split_seed=None).load(seed)
    arrays = {}
    rng = np.random.default_rng(seed)
    for part, examples, trusted in (("train", splits.train, share), ("test", splits.test, 0.1)):
        batch = examples.fetch(range(len(examples)))
        images, labels = batch.inputs.numpy().copy(), batch.labels.numpy()
        told = rng.random(len(labels)) < (trusted - 0.1) / 0.9
        marks = np.where(told, labels, rng.integers(0, 10, len(labels)))
        for image, mark in zip(images, marks, strict=True):
            for place in PLACES:
                image[0][place] = 0.0
            image[0][PLACES[mark]] = 1.0
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def _teacher(path: Path, seed: int) -> Path:
    folder = RUNS / f"teacher-marked-{seed}"
    if not (folder / "report.json").is_file():
        data = {"name": "npz", "path": str(path)}
        student = {**SMALL, "width": 16}
        mapping = {"method": "supervised", "student": student, "data": data, "train": TRAIN, "measure": ["accuracy"]}
        run(load_recipe({"name": "study-teacher", **mapping, "seed": seed}), run_dir=folder)
    return folder / "model"


def _student(method: dict[str, Any], teacher: Path, path: Path, limit: int, seed: int) -> dict[str, Any]:
    mapping = {
        "name": "study-e2kd",
        "method": method,
        "teacher": {**SMALL, "width": 16, "weights": str(teacher)},
        "student": {**SMALL, "width": 6},
        "data": {"name": "npz", "path": str(path), "limit": limit},
        "train": {**TRAIN, "epochs": 60},
        "measure": ["accuracy", "agreement"],
        "baseline": False,
        "seed": seed,
    }
    report: dict[str, Any] = run(load_recipe(mapping), root=RUNS).report
    return report
