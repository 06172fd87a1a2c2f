"""Comparisons of models of learners: `python results/tracing.py [name ...]` writes results/raw/trace/<name>.json."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from tutelage.api import run
from tutelage.data.answer_sets import AnswerFiles
from tutelage.data.simulated_answers import Prerequisites
from tutelage.models.weights import load_model

ROOT = Path(__file__).resolve().parents[1]
RAW = ROOT / "results" / "raw" / "trace"
RUNS = Path(os.environ.get("STUDY_RUNS", ROOT / "runs" / "study"))
REAL = ROOT.parent / "shared" / "data" / "tracing"
COLUMNS = ("auc", "accuracy", "nll", "auc_ahead", "accuracy_ahead", "auc_after_0_to_4", "auc_after_5_to_9")
PATIENCE = 4


def trained(
    name: str, data: Mapping[str, Any], *, lr: float, batch: int, epochs: int = 60, **model: Any
) -> dict[str, Any]:
    """A recipe that trains until validation has not got better for a while, and keeps the best epoch."""
    watching = [
        {"name": "best-checkpoint", "metric": "loss"},
        {"name": "early-stopping", "metric": "loss", "patience": PATIENCE},
    ]
    return {
        "method": name,
        "model": {"model": name, **model},
        "data": dict(data),
        "train": {
            "epochs": epochs,
            "batch_size": batch,
            "optimizer": {"name": "adam", "lr": lr},
            "schedule": "constant",
        },
        "callbacks": watching,
        "measure": [{"name": "tracing", "known": 10, "ahead": 10}, "cost"],
    }


def fitted(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of a model without steps."""
    return {"method": name, "model": {"model": name}, "data": dict(data), "measure": ["tracing"]}


def board(name: str, title: str, setup: str, recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """Run recipes on the same division, and keep a row for each model, the average of each concept first."""
    rows: list[dict[str, Any]] = []
    for label, recipe in recipes.items():
        folder = RUNS / name / label.replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        began = time.process_time()
        try:
            report = run({**recipe, "seed": 0}, run_dir=folder).report
        finally:
            print(name, label, f"{time.process_time() - began:.0f} s", flush=True)
        epochs = len(report.get("figures", {}).get("curves", []) or [])
        for row in reversed(report["rows"]) if not rows else report["rows"][:1]:
            quality = row["measures"]["quality"]
            rows.append(
                {
                    "name": label if row["role"] == "recipient" else row["name"],
                    "scores": {key: quality[key] for key in COLUMNS if key in quality},
                    "ece": row["measures"]["calibration"]["ece"],
                    "gain": report["arrived"]["gain"] if row["role"] == "recipient" else None,
                    "cpu": round(time.process_time() - began, 1),
                    "epochs": epochs,
                }
            )
        keep(name, {"title": title, "setup": setup, "rows": rows})


def keep(name: str, record: Mapping[str, Any]) -> None:
    """Write a record, whole."""
    RAW.mkdir(parents=True, exist_ok=True)
    (RAW / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def everyone(data: Mapping[str, Any], *, width: int, side: int, influence: float) -> dict[str, dict[str, Any]]:
    """All models on one log."""
    return {
        "bkt": fitted("bkt", data),
        "pfa": fitted("pfa", data),
        "das3h": fitted("das3h", data),
        "dkt": trained("dkt", data, lr=4e-3, batch=32, width=width),
        "sakt": trained("sakt", data, lr=2e-3, batch=32, width=width),
        "psi-kt": trained("psi-kt", data, lr=1e-2, batch=32, influence=influence),
        "akt": trained("akt", data, lr=2e-3, batch=32, width=width),
        "cakt": trained("cakt", data, lr=2e-3, batch=40, side=side),
        "cakt current": trained("cakt", data, lr=2e-3, batch=40, side=side, anchor="current"),
    }


SAID = (
    "Every model is trained until validation has not improved for {patience} epochs, and the best epoch is kept; whole "
    "learners are kept back. Intervals are 95 % bootstrap intervals over test learners of one seed. `ahead`: ten "
    "answers from a learner's first ten, none seen in between. `after 0 to 4`: a learner's first five answers."
)


def curves() -> None:
    """Simulated learning curves, as CAKT's card has them."""
    data = {"name": "learning-curves", "learners": 420}
    said = "420 simulated learners, 30 concepts, 8 of them practised by each, 60 answers each. "
    board(
        "learning-curves",
        "Simulated learning curves",
        said + SAID.format(patience=PATIENCE),
        everyone(data, width=32, side=5, influence=1.0),
    )


def domain() -> None:
    """Simulated learners who forget, on concepts that build on each other."""
    data = {"name": "prerequisites", "learners": 400, "steps": 40}
    said = "400 simulated learners, 8 concepts with 6 prerequisites, 40 answers each, half a day apart on average. "
    board(
        "prerequisites",
        "A simulated domain with prerequisites",
        said + SAID.format(patience=PATIENCE),
        everyone(data, width=32, side=5, influence=12.0),
    )


def real(name: str, title: str, *, learners: int, tested: int) -> None:
    """A real log, or as many of its learners as there is time for."""
    folder = RUNS / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for part, count in (("train", learners), ("test", tested)):
        lines = (REAL / f"{name}_{part}.csv").read_text().splitlines(keepends=True)
        paths[part] = folder / f"{name}-{part}-{count}.csv"
        paths[part].write_text("".join(lines[: 3 * count]))
    data = {"name": "answers", "path": str(paths["train"]), "test_path": str(paths["test"]), "window": 100}
    splits = AnswerFiles(**{k: v for k, v in data.items() if k != "name"}).load(0)
    said = (
        f"The first {learners:,} learners of the published training part and {tested:,} of the test part: "
        f"{splits.record['answers']:,} answers on {splits.record['concepts']} concepts; windows of 100 answers, "
        "in the test with 50 of context. The logs have no times, so that answers count as a day apart. "
    )
    board(name, title, said + SAID.format(patience=PATIENCE), everyone(data, width=48, side=5, influence=1.0))


def graph() -> None:
    """The prerequisites that PSI-KT finds, over seeds of the simulation and of the training."""
    rows = []
    for learners in (400,):
        for inference in ("filter", "amortised"):
            areas, ahead = [], []
            for seed in range(3):
                data = {"name": "prerequisites", "learners": learners, "steps": 40, "simulation_seed": seed}
                recipe = trained(
                    "psi-kt",
                    data,
                    lr=1e-2,
                    batch=64 if learners > 100 else 16,
                    epochs=30,
                    influence=12.0,
                    inference=inference,
                )
                folder = RUNS / "graph" / f"{inference}-{learners}-{seed}"
                shutil.rmtree(folder, ignore_errors=True)
                report = run({**recipe, "seed": seed}, run_dir=folder).report
                model: Any = load_model(folder / "model")
                _, truth = Prerequisites(learners=learners, steps=40, simulation_seed=seed).drawn()
                apart = ~np.eye(8, dtype=bool)
                edges = model.edges().detach().numpy()
                areas.append(float(roc_auc_score(truth.edges[apart], edges[apart])))
                quality = report["rows"][0]["measures"]["quality"]
                ahead.append(quality["auc_ahead"]["value"] if "auc_ahead" in quality else float("nan"))
                print("graph", inference, learners, seed, areas[-1], flush=True)
            rows.append({"inference": inference, "learners": learners, "edges": areas, "ahead": ahead})
            keep("graph", {"title": "Prerequisites found again", "rows": rows, "setup": GRAPH})


GRAPH = (
    "8 concepts with 6 prerequisites, 40 answers a learner; PSI-KT with its influence at most 12, up to 30 epochs, the "
    "best by validation likelihood. The area under the ROC curve of the learnt probabilities of all 56 ordered pairs "
    "against the true graph; a seed each of simulation and training. In the paper the sum over concepts is divided by "
    "their number, so that an influence of 1 is too weak to be seen in so small a domain."
)
BOARDS: Mapping[str, Callable[[], None]] = {
    "learning-curves": curves,
    "prerequisites": domain,
    "graph": graph,
    "assist2009": lambda: real("assist2009_updated", "ASSISTments 2009", learners=500, tested=500),
    "statics": lambda: real("STATICS", "Statics 2011", learners=100, tested=60),
    "assist2015": lambda: real("assist2015", "ASSISTments 2015", learners=1500, tested=1500),
    "assist2017": lambda: real("assist2017", "ASSISTments 2017", learners=150, tested=120),
}


def main(names: Sequence[str]) -> None:
    """Run those named, or all."""
    torch.set_num_threads(1)
    for name in names or BOARDS:
        BOARDS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
