"""Several processes: the same recipe, and the same result within what float32 sums in another order differ by."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.engine.conftest import apart, distillation, quality, run, stage_end, weights

from tutelage import api

pytestmark = pytest.mark.slow

TOLERANCE = 1e-5
# The last batch of 120 samples holds 24; with 3 processes, every batch of 32 is spread unevenly.
SPREAD = distillation(
    train={"optimizer": {"name": "sgd", "lr": 0.05}, "clip_norm": 0.5, "accumulate": 2},
    data={"augment": ["shift"]},
    callbacks=[{"name": "ema", "decay": 0.5}, "best-checkpoint"],
    baseline=True,
)


def launch(
    content: dict[str, Any], place: Path, *launcher: str, wait: bool = True
) -> tuple[subprocess.Popen[str], Path]:
    """Run a recipe under a launcher, on the CPU."""
    recipe, folder = place / "recipe.yaml", place / "run"
    place.mkdir(exist_ok=True)
    recipe.write_text(yaml.safe_dump(content))
    environment = {
        **os.environ,
        "TUTELAGE_CACHE": str(place / "cache"),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "plugin"), str(Path(api.__file__).parents[2])]),
    }
    command = [*launcher, "-m", "tutelage", "run", str(recipe), "--run-dir", str(folder)]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    if wait:
        said, _ = process.communicate(timeout=180)
        assert process.returncode == 0, said[-3000:]
    return process, folder


def torchrun(count: int) -> tuple[str, ...]:
    return sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)


def accelerate(count: int, *flags: str) -> tuple[str, ...]:
    plain = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
    # --multi_gpu is what makes Accelerate start processes; on a machine without GPUs they use gloo.
    start = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(count))
    return *start, "--main_process_port", "0", *plain, *flags


def processes(folder: Path) -> int:
    count: int = json.loads((folder / "manifest.json").read_text())["processes"]
    return count


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTELAGE_CACHE", str(place / "cache"))
        return run(SPREAD, place / "run")


@pytest.mark.parametrize(
    ("launcher", "count"), [(accelerate(2), 2), (torchrun(3), 3)], ids=["accelerate-2", "torchrun-3"]
)
def test_the_result_does_not_depend_on_the_number_of_processes(
    tmp_path: Path, alone: Path, launcher: tuple[str, ...], count: int
) -> None:
    _, folder = launch(SPREAD, tmp_path, *launcher)
    assert processes(folder) == count
    assert apart(weights(alone), weights(folder)) < TOLERANCE
    for stage in ("teacher", "transfer", "baseline"):
        one, two = stage_end(alone, stage)["models"], stage_end(folder, stage)["models"]
        assert all(apart(one[name], two[name]) < TOLERANCE for name in one), stage
    first, second = quality(alone), quality(folder)
    assert first["arrived"]["after"]["value"] == pytest.approx(second["arrived"]["after"]["value"], abs=0.01)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events].count("done") == 1
    assert len([e for e in events if e["event"] == "epoch"]) == 2 + 3 + 3


def test_each_process_stores_its_part_of_the_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {**SPREAD, "teacher": {**SPREAD["teacher"], "store": {"views": 2, "dtype": "fp32"}}, "baseline": False}
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "own"))
    whole = run(content, tmp_path / "whole")
    _, folder = launch(content, tmp_path / "two", *torchrun(2))
    assert apart(weights(whole), weights(folder)) < TOLERANCE
    assert len(list((tmp_path / "two" / "cache" / "stores").rglob("view-*/*.sha256"))) == 2


def test_a_run_of_two_processes_that_was_killed_is_finished_by_one(
    tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {**SPREAD, "train": {**SPREAD["train"], "checkpoint": {"seconds": None, "steps": 1}}}
    process, folder = launch(content, tmp_path, *torchrun(2), wait=False)
    checkpoints, end = folder / "stages" / "transfer" / "checkpoints", time.monotonic() + 120
    while not list(checkpoints.glob("step-????????0[3-9]")):
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.01)
    # The first worker holds the lock; the launcher ends the other when one is gone.
    os.kill(int((folder / ".lock").read_text()), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not (folder / "report.json").exists()
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    api.resume(folder)
    assert processes(folder) == 1
    assert apart(weights(alone), weights(folder)) < TOLERANCE


def test_two_turns_and_what_a_method_owns(tmp_path: Path) -> None:
    """Its parameters are in no wrapper that averages gradients."""
    base = {**SPREAD, "baseline": False, "callbacks": []}
    del base["teacher"]
    game = {**base, "method": "trial-game", "critic": {"model": "mlp", "hidden": [8]}}
    owner = {**base, "method": "trial-projected"}
    for name, content in (("game", game), ("owner", owner)):
        whole = run(content, tmp_path / name)
        _, folder = launch(content, tmp_path / f"{name}-2", *torchrun(2))
        one, two = stage_end(whole, "train"), stage_end(folder, "train")
        assert apart(one["models"]["student"], two["models"]["student"]) < TOLERANCE
        assert all(apart(one["models"][key], two["models"][key]) < TOLERANCE for key in one["models"])
        assert not one["method"] or apart(one["method"], two["method"]) < TOLERANCE


def test_ctrl_c_reaches_all_processes_and_saves(tmp_path: Path) -> None:
    content = {**SPREAD, "train": {**SPREAD["train"], "epochs": 400}}
    process, folder = launch(content, tmp_path, *torchrun(2), wait=False)
    end = time.monotonic() + 120
    while not (folder / "stages" / "teacher" / "record.json").exists():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.01)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    saved = re.search(r"interrupted in stage 'transfer' after step (\d+) of 1600", " ".join(said.split()))
    assert saved is not None, said[-2000:]
    assert (folder / "stages" / "transfer" / "checkpoints" / f"step-{int(saved[1]):010d}").is_dir()
