"""Comparisons run what is asked, skip what is done, go on with what was left, and say what failed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tutelage import api
from tutelage.cli import main
from tutelage.comparing import compare, plan
from tutelage.comparing.planning import wanted
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.runfolder import RunFolder

RECIPE = """
method: {name: wttm, beta: 7.0}
teacher: {model: mlp, weights: {train: {epochs: 1}}}
student: {model: mlp}
data: {name: digits, limit: 128}
train: {epochs: 1, batch_size: 32, checkpoint: {seconds: null, steps: 25}}
measure: [accuracy]
baseline: false
"""
LONG = ["train.epochs=250"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


def _process(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tutelage", "compare", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _until(condition: Callable[[], Any], seconds: float = 100) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.02)


def _saved(run: Path) -> bool:
    return any((run / "stages" / "transfer" / "checkpoints").glob("step-*"))


def _events(run: Path) -> list[str]:
    return [event["event"] for event in RunFolder(run).events()]


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
def test_two_methods_by_two_seeds(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["compare", str(recipe), "--methods", "kd,wttm", "--seeds", "0,1", "--jobs", "2", "--out", str(out)]
    assert main([*command, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(v["name"], [run["seed"] for run in v["runs"]]) for v in shown["variants"]] == [
        ("kd", [0, 1]),
        ("wttm", [0, 1]),
    ]
    assert (shown["failures"], shown["reference"], shown["folder"]) == ([], "kd", str(out))
    assert json.loads((out / "comparison.json").read_text())["variants"] == shown["variants"]
    assert "kd" in (out / "comparison.html").read_text()
    for variant in shown["variants"]:
        for run in variant["runs"]:
            report = json.loads((out / f"{variant['name']}-s{run['seed']}" / "report.json").read_text())
            assert run["value"] == report["arrived"]["after"]
            assert report["method"] == variant["name"]
    # Arguments that the recipe gives its own method are not those of the method that replaces it.
    own = RunFolder.open(out / "wttm-s1").recipe()
    assert (own.method.args["beta"], own.seed) == (type(own.method.build())().beta, 1)
    assert "beta" not in RunFolder.open(out / "kd-s0").recipe().method.args

    before = {path: path.stat().st_mtime_ns for path in out.glob("*/report.json")}
    assert main([*command, "--reference", "wttm"]) == 0
    streams = capsys.readouterr()
    assert "4 of 4 runs are done already" in streams.err
    assert re.search(r"kd\s.*2/2", streams.out)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/report.json")} == before
    assert json.loads((out / "comparison.json").read_text())["reference"] == "wttm"

    # The folder's runs are of these recipes; with other changes they would be mistaken for their results.
    with pytest.raises(RecipeError, match="wttm-s1: holds a run of another recipe"):
        compare([recipe], ["train.epochs=2"], methods=["kd", "wttm"], seeds=[0, 1], out=out)


@pytest.mark.slow
def test_a_killed_run_is_gone_on_with(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = _process(recipe, *LONG, "--seeds", "0,1", "--jobs", "2", "--out", out)
    _until(lambda: _saved(out / "small-s0"))
    os.kill(int((out / "small-s0" / ".lock").read_text()), signal.SIGKILL)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "small seed 0: failed: it was killed by SIGKILL" in said
    assert "small seed 1: done" in said
    shown = json.loads((out / "comparison.json").read_text())["variants"][0]
    assert [run["status"] for run in shown["runs"]] == ["failed", "done"]

    compared = compare([recipe], LONG, seeds=[0, 1], out=out)
    assert compared.failures == ()
    assert compared.comparison["variants"][0]["finished"] == 2
    assert _events(out / "small-s0").count("resumed") == 1
    whole = api.run(recipe, [*LONG, "seed=0"], run_dir=tmp_path / "whole")
    assert _equal(_weights(out / "small-s0"), _weights(whole.folder))


@pytest.mark.slow
def test_leaving_saves_and_an_abandoned_run_is_waited_for(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = (recipe, *LONG, "--seeds", "0", "--out", out)
    process = _process(*command)
    _until(lambda: _saved(out / "small-s0"))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "0 of 1 runs done; the same command goes on" in said
    assert "saved" in (out / "logs" / "small-s0.log").read_text()
    assert RunFolder(out / "small-s0").status() == "interrupted"

    process = _process(*command)
    _until(lambda: "resumed" in _events(out / "small-s0"))
    process.kill()
    process.communicate()
    # The run does not die with the comparison: it is found at work, or done.
    assert RunFolder(out / "small-s0").status() in ("running", "done")
    compared = compare([recipe], LONG, seeds=[0], out=out)
    assert compared.comparison["variants"][0]["finished"] == 1
    assert _events(out / "small-s0").count("resumed") == 1


@pytest.mark.slow
def test_a_failed_run_is_shown_and_the_others_go_on(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = tmp_path / "wild.yaml"
    wild.write_text(RECIPE + "name: wild\n")
    wild.write_text(wild.read_text().replace("batch_size: 32,", "batch_size: 32, optimizer: {name: sgd, lr: 1.0e+30},"))
    out = tmp_path / "out"
    assert main(["compare", str(wild), str(recipe), "--seeds", "0", "--out", str(out)]) == 1
    streams = capsys.readouterr()
    assert "1 of 2 runs failed" in streams.err
    assert "wild seed 0: stopped at step" in streams.err
    assert re.search(r"small\s.*1/1", streams.out)
    assert re.search(r"wild\s.*0/1", streams.out)
    assert "'wild' seed 0 has no result (failed)" in " ".join(streams.out.split())


def test_all_mistakes_at_once_and_nothing_is_started(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RecipeError) as caught:
        compare([recipe, tmp_path / "none.yaml"], ["train.epoch=3", "student.width=0"], out=out)
    said = [str(problem) for problem in caught.value.problems]
    assert len(said) == 3
    assert any("none.yaml: there is no such file" in text for text in said)
    assert any("Did you mean 'epochs'?" in text for text in said)
    with pytest.raises(RecipeError) as caught:
        compare([recipe], ["seed=1", "method=kd"], methods=["kdd", "wttm", "wttm"], seeds=[0, 0, -1], out=out)
    said = [str(problem) for problem in caught.value.problems]
    assert "--methods: there is no method 'kdd'. Did you mean 'kd'?" in said
    assert len(said) == 6
    assert not out.exists()


def test_methods_find_their_own_mistakes(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(RECIPE.replace("weights: {train: {epochs: 1}}", "hidden: [8]"))
    with pytest.raises(RecipeError, match="it would teach noise"):
        compare([recipe], methods=["kd", "wttm"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "0,x"], "--seeds: 'x' is no whole number"),
        (["--seeds", ""], "--seeds: expected at least one seed"),
        (["--jobs", "0"], "--jobs"),
        (["--on", "rai"], "Did you mean 'ray'?"),
        (["--reference", "smal"], "Did you mean 'small'?"),
        (["--methods", "kd", "--reference", "wttm"], "'wttm' is none of the variants"),
        (["again.yaml"], "again.yaml: there is no such file"),
    ],
)
def test_bad_arguments(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    out = tmp_path / "out"
    assert main(["compare", str(recipe), "--out", str(out), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_foreign_folder_is_left_alone(recipe: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "small-s0" / "thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(RecipeError, match=r"small-s0: .*is not a run folder"):
        compare([recipe], seeds=[0], out=tmp_path / "out")
    assert mine.read_text() == "years of work"


def test_recipes_of_one_name_are_told_apart(recipe: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "small.yaml"
    other.parent.mkdir()
    other.write_text(RECIPE)
    jobs = plan([recipe, other], [], wanted([recipe, other], seeds=[3, 5]), folder=tmp_path / "out")
    assert [job.folder.name for job in jobs] == [
        *(f"{tmp_path.name}-small-s{seed}" for seed in (3, 5)),
        *(f"other-small-s{seed}" for seed in (3, 5)),
    ]
    assert [job.recipe.seed for job in jobs] == [3, 5, 3, 5]


def test_a_recipe_can_say_what_is_compared_with_it(recipe: Path, tmp_path: Path) -> None:
    section = "compare: {methods: [kd, {name: wttm, beta: 3.0}], seeds: [4, 6], reference: kd}\n"
    recipe.write_text(RECIPE + section)
    asked = wanted([recipe])
    jobs = plan([recipe], [], asked, folder=tmp_path / "out")
    assert [(job.variant, job.seed) for job in jobs] == [("kd", 4), ("kd", 6), ("wttm", 4), ("wttm", 6)]
    # The recipe's own beta is 7, and kd has none; neither stays.
    assert [job.recipe.method.args.get("beta") for job in jobs] == [None, None, 3.0, 3.0]
    assert asked.reference == "kd"
    told = wanted([recipe], methods=["ttm"], seeds=[0], reference="ttm")
    assert (list(told.methods), list(told.seeds), told.reference) == (["ttm"], [0], "ttm")


def test_a_mistake_in_what_a_recipe_compares(recipe: Path) -> None:
    recipe.write_text(RECIPE + "compare: {methods: [kdd], seeds: [-1]}\n")
    with pytest.raises(RecipeError) as caught:
        wanted([recipe])
    said = str(caught.value)
    assert "compare.methods.0" in said
    assert "Did you mean 'kd'?" in said
    assert "compare.seeds.0" in said


def test_without_ray_it_says_what_to_install(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'pip install "tutelage\[scale\]"'):
        compare([recipe], seeds=[0], on="ray", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_on_ray(recipe: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        # The second recipe fails while it runs, so that an exit code has to come back from the task.
        wild = tmp_path / "wild.yaml"
        wild.write_text(RECIPE.replace("batch_size: 32,", "batch_size: 32, optimizer: {name: sgd, lr: 1.0e+30},"))
        compared = compare([recipe, wild], seeds=[0], on="ray", out=tmp_path / "out")
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert [row["finished"] for row in compared.comparison["variants"]] == [1, 0]
    assert [str(failure.job) for failure in compared.failures] == ["wild seed 0"]
    assert "stopped at step" in compared.failures[0].error
    assert json.loads((tmp_path / "out" / "small-s0" / "manifest.json").read_text())["seed"] == 0
