"""Knowledge tracing against pyBKT and pyKT, and how many answers a second a followed learner's state takes in.

pyBKT and pyKT live in environments of their own, made once in the user's cache folder. Sides are processes of one
thread that take turns; what counts is CPU time. pyBKT fits from one start with its own tolerance, ours goes on for
longer; and after the same passes from one start their parameters must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import torch

from tutelage.api.learners import Given, Learners
from tutelage.data.answer_sets import AnswerFiles
from tutelage.data.answers import windows
from tutelage.data.simulated_answers import HiddenMastery
from tutelage.losses.hidden_mastery import PARAMETERS, fit
from tutelage.models.bkt import START
from tutelage.models.psi_kt import PsiKT
from tutelage.models.weights import describe, save_weights
from tutelage.trace.bkt import sequences

HERE = Path(__file__).resolve().parent
SHARED = measuring.ROOT.parent / "shared" / "data" / "tracing" / "assist2009_updated_train.csv"
WINDOWS, STEPS = 1280, 200


def peer(name: str, version: str) -> Path:
    """The interpreter of a peer's environment."""
    return measuring.environment(name, version, wanted=f"{name}.txt")


def side(python: str | Path, script: str, *words: str) -> dict[str, Any]:
    """What a side measured."""
    done = subprocess.run(
        [str(python), str(HERE / "sides" / script), *words],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"{script} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def mastery(folder: Path, repeats: int) -> bool:
    """Fitting of all concepts, and what it ends at."""
    log, _ = HiddenMastery(learners=100, concepts=5, steps=50).drawn()
    who = np.repeat(np.arange(log.learners), log.counts)
    path = folder / "mastery.npz"
    np.savez(path, learner=who, concept=log.concepts[:, 0].astype(np.int64), correct=log.correct.astype(np.int64))
    start = {name: torch.full((5,), START[name], dtype=torch.float64) for name in PARAMETERS}
    peer: dict[str, Any] = {}

    def theirs() -> float:
        found = side(
            measuring.environment("pybkt", "1.4.3", wanted="pybkt.txt"), "pybkt_fit.py", str(path), json.dumps(START)
        )
        peer.update(found)
        return float(found["cpu"])

    def ours() -> float:
        cpu = time.process_time()
        fit(sequences(windows(log, steps=100)), start, iterations=200, tolerance=1e-7)
        return time.process_time() - cpu

    found = measuring.alternate({"ours": ours, "peer": theirs}, repeats)
    converged, _ = fit(sequences(windows(log, steps=100)), start, iterations=40, tolerance=-1.0)
    apart = max(abs(float(converged[name][i]) - peer["parameters"][i][name]) for i in range(2) for name in PARAMETERS)
    about = (
        "CPU seconds to fit 5 concepts to 5,000 answers of 100 learners; peer: pyBKT 1.4.3, one start, not parallel. "
        f"After 40 passes from one start, parameters of two of them differ by at most {apart:.1e}"
    )
    within = measuring.compared("bkt-fit", found["ours"], found["peer"], 0.05, about=about, apart=apart)
    print(f"bkt-fit parameters differ by at most {apart:.2e} (limit 1e-3)", flush=True)
    return within and apart < 1e-3


def training(folder: Path, repeats: int) -> bool:
    """An epoch of DKT and SAKT on the windows of a real log, or of one with as uneven lengths."""
    path = folder / "windows.npz"
    if SHARED.is_file():
        log, said = AnswerFiles(path="").read(str(SHARED)).log(), "ASSISTments 2009"
    else:
        log, said = HiddenMastery(learners=400, concepts=100, steps=150).drawn()[0], "simulated learners"
    cut = windows(log, steps=STEPS)
    batch = cut.fetch(range(min(WINDOWS, len(cut))))
    count = int(log.concepts.max()) + 1
    batch = batch.padded(STEPS)
    asked, answers = batch.inputs[..., 0].clamp_min(0), batch.labels.long()
    np.savez(path, concepts=asked.numpy(), answers=answers.numpy(), real=batch.real.numpy(), count=count)
    within = []
    for name in ("dkt", "sakt"):
        found = measuring.alternate(
            {
                "ours": lambda name=name: side(sys.executable, "tutelage_trace.py", str(path), name)["cpu"],
                "peer": lambda name=name: side(
                    measuring.environment("pykt", "0.0.38", wanted="pykt.txt"), "pykt_train.py", str(path), name
                )["cpu"],
            },
            repeats,
        )
        about = (
            f"CPU seconds of an epoch of {name} on {len(batch):,} windows of {said}, width 64, batch 64; peer: "
            "pykt-toolkit, its own model and step on windows padded to 200"
        )
        within.append(measuring.compared(f"{name}-training", found["ours"], found["peer"], 0.5, about=about))
    return all(within)


def updating(folder: Path, repeats: int) -> bool:
    """PSI-KT's update with its store: answers of 200 learners, 100 in a request, in the order of time."""
    splits = HiddenMastery(learners=200, concepts=100, steps=50).load(0)
    torch.manual_seed(0)
    model = PsiKT(splits.info)
    save_weights(model, folder / "model", describe("psi-kt", {}, splits.info))
    names = model.info.concept_names
    rng = np.random.default_rng(0)
    answers = [
        Given(f"learner {who}", (names[int(rng.integers(0, 100))],), int(rng.integers(0, 2)), 1.6e9 + 3600.0 * step)
        for step in range(50)
        for who in range(200)
    ]
    spent, single = [], []
    for turn in range(repeats):
        learners = Learners(folder / "model", folder / f"learners-{turn}.sqlite")
        began = time.perf_counter()
        for start in range(0, len(answers), 100):
            learners.take(answers[start : start + 100])
        spent.append((time.perf_counter() - began) / len(answers))
        later = [Given("one more", (names[i % 100],), i % 2, 1.7e9 + i) for i in range(200)]
        began = time.perf_counter()
        for one in later:
            learners.take([one])
        single.append((time.perf_counter() - began) / len(later))
        learners.close()
    rate = 1 / float(np.median(spent))
    about = (
        "seconds an answer, kept in SQLite and taken into the state, PSI-KT on 100 concepts, 100 answers a request: "
        f"{rate:,.0f} answers/s; one answer a request takes {1000 * float(np.median(single)):.2f} ms"
    )
    return measuring.bounded("trace-update", spent, 1e-3, about=about)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("mastery", "training", "updating"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    within = []
    with tempfile.TemporaryDirectory() as folder:
        for part in (mastery, training, updating):
            if options.only in (None, part.__name__):
                within.append(part(Path(folder), options.repeats))
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
