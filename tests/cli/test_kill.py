"""Real processes, killed at any moment: what is resumed ends as if nothing had happened, to the bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.cli.moments import Commands

from tutelage.engine import checkpoint

RECIPE = """\
name: killed
method: kd
teacher: {model: mlp, hidden: [24], weights: {train: {epochs: 3}}}
student: {model: mlp, hidden: [16], dropout: 0.2}
data: {name: digits, limit: 128, augment: [shift]}
train:
  epochs: 20
  batch_size: 32
  optimizer: {name: sgd, lr: 0.05}
  accumulate: 2
  clip_norm: 1.0
  checkpoint: {seconds: null, steps: 1}
callbacks: [{name: ema, decay: 0.9}]
measure: [accuracy]
seed: 5
"""
STAGES = ("teacher", "transfer", "baseline")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbed."""
    place = tmp_path_factory.mktemp("whole")
    commands = Commands(place / "output.txt", place / "cache")
    assert commands.run(*new(place)) == 0, commands.output.read_text()[-2000:]
    return place / "run"


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path / "output.txt", tmp_path / "cache")


def new(place: Path) -> tuple[str, ...]:
    """Arguments that start the run ``place/run``."""
    (place / "recipe.yaml").write_text(RECIPE)
    return "run", str(place / "recipe.yaml"), "--run-dir", str(place / "run")


def ends(folder: Path) -> dict[str, dict[str, Any]]:
    out = {}
    for stage in STAGES:
        found = checkpoint.latest(folder / "stages" / stage / "end")
        assert found is not None
        out[stage] = found[1]
    return out


def assert_same(whole: Path, folder: Path) -> None:
    first, second = ends(whole), ends(folder)
    for stage in STAGES:
        for name, weights in first[stage]["models"].items():
            for key, tensor in weights.items():
                assert torch.equal(tensor, second[stage]["models"][name][key]), (stage, name, key)
        assert first[stage]["history"] == second[stage]["history"]
    model, other = (load_file(f / "model" / "model.safetensors") for f in (whole, folder))
    assert all(torch.equal(model[name], other[name]) for name in model)
    reports = [json.loads((f / "report.json").read_text()) for f in (whole, folder)]
    assert reports[0]["arrived"] == reports[1]["arrived"]
    assert reports[0]["fidelity"] == reports[1]["fidelity"]


def progress(folder: Path) -> tuple[str, int]:
    """The stage that is being trained, and its newest checkpoint's step."""
    for stage in reversed(STAGES):
        steps = [int(p.name[5:]) for p in (folder / "stages" / stage / "checkpoints").glob("step-??????????")]
        if steps:
            return stage, max(steps)
    return "", 0


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_again_and_again_at_random_moments(tmp_path: Path, commands: Commands, whole: Path) -> None:
    folder, chance, moments = tmp_path / "run", random.Random(0), list[tuple[str, int]]()
    process = commands.start(*new(tmp_path))
    wait_for((folder / "events.jsonl").exists)
    while process.exitcode is None and len(moments) < 24:
        before = progress(folder)
        # Some die while they start, most while they train: at every step a checkpoint is being written.
        if chance.random() < 0.8:
            wait_for(partial(_moved, process, folder, before))
        time.sleep(chance.uniform(0.0, 0.08))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            moments.append(progress(folder))
            process = commands.start("resume", str(folder))
    process.join(120)
    assert process.exitcode == 0, commands.output.read_text()[-2000:]
    assert len(moments) >= 12, moments
    assert len(set(moments)) >= 6, moments
    assert_same(whole, folder)


def _moved(process: BaseProcess, folder: Path, before: tuple[str, int]) -> bool:
    return progress(folder) != before or process.exitcode is not None


@pytest.mark.slow
def test_killed_inside_every_kind_of_write(tmp_path: Path, commands: Commands, whole: Path) -> None:
    """Before each file of a checkpoint, its folder and its name are on the disk; and inside the run's own files."""
    folder = tmp_path / "run"
    assert commands.run(*new(tmp_path), dies_at_sync=30) == -signal.SIGKILL
    seen = set()
    for number in (6, 7, 8, 9, 10, 11, 12, 53, 101):
        assert commands.run("resume", str(folder), dies_at_sync=number) == -signal.SIGKILL, number
        for half in (folder / "stages").rglob("*.partial"):
            seen.add(frozenset(path.name for path in half.iterdir()))
    assert len(seen) >= 3, "no kill left a checkpoint half written"
    assert commands.run("resume", str(folder)) == 0, commands.output.read_text()[-2000:]
    assert_same(whole, folder)
    assert not list((folder / "stages").rglob("*.partial"))


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on_and_nobody_else_may_work_meanwhile(
    tmp_path: Path, commands: Commands, whole: Path
) -> None:
    folder = tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TUTELAGE_CACHE": str(commands.cache)}
    started = subprocess.Popen(
        [sys.executable, "-m", "tutelage", *new(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        wait_for(lambda: progress(folder)[1] > 2 or started.poll() is not None)
        started.send_signal(signal.SIGSTOP)
        assert commands.run("resume", str(folder)) == 2
        assert f"in use by process {started.pid}" in commands.output.read_text().replace("\n", " ")
        started.send_signal(signal.SIGCONT)
        started.send_signal(signal.SIGINT)
        _, said_at_last = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == 130, said_at_last
    assert f"tutelage resume {folder}" in said_at_last
    assert "Traceback" not in said_at_last
    stage, step = progress(folder)
    assert f"interrupted in stage '{stage}' after step {step}" in said_at_last
    assert commands.run("resume", str(folder)) == 0, commands.output.read_text()[-2000:]
    assert_same(whole, folder)


def test_a_place_that_is_taken_is_refused(tmp_path: Path, commands: Commands, whole: Path) -> None:
    before = sorted(path.name for path in whole.iterdir())
    assert commands.run(*new(tmp_path)[:-1], str(whole)) == 2
    assert sorted(path.name for path in whole.iterdir()) == before
