"""A newcomer's way through the commands, in one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

Call = Callable[[list[object]], tuple[int, str, str]]
Write = Callable[..., Path]


def test_from_a_starter_to_an_export(call: Call, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 240)
    inputs = generator.normal(size=(240, 1, 8, 8)) + labels[:, None, None, None]
    np.savez(tmp_path / "mine.npz", x=inputs.astype("float32"), y=labels)

    code, starter, _ = call(["new", "wttm"])
    assert code == 0
    content = yaml.safe_load(starter)
    content["data"] = {"name": "npz", "path": str(tmp_path / "mine.npz")}
    content["teacher"] = {"model": "mlp", "weights": {"train": {"epochs": 2}}}
    content["student"] = {"model": "mlp", "hidden": [8]}
    content["train"] = {"epochs": 2, "batch_size": 32}
    mine = tmp_path / "my.yaml"
    mine.write_text(yaml.safe_dump(content))

    code, out, err = call(["check", mine])
    assert code == 0, err
    assert "my.yaml: ok" in out
    assert not (tmp_path / "run").exists()

    run = tmp_path / "run"
    code, out, err = call(["run", mine, "--run-dir", run])
    assert code == 0, err
    assert str(run) in out
    for name in (
        "recipe.yaml",
        "manifest.json",
        "events.jsonl",
        "report.json",
        "report.html",
        "model/model.safetensors",
    ):
        assert (run / name).is_file(), name

    code, out, _ = call(["report", run, "--json"])
    assert code == 0
    report = json.loads(out)
    assert report["status"] == "done"
    assert report["arrived"]["after"]["n"] == report["rows"][0]["n"]
    assert report["leaked"]["membership_auc"] is None

    for to in ("onnx", "safetensors"):
        code, out, err = call(["export", run, "--to", to, "--json"])
        assert code == 0, err
        assert json.loads(out)["max_difference"] < 1e-4
    import onnxruntime

    session = onnxruntime.InferenceSession(str(run / "export" / "model.onnx"))
    (logits,) = session.run(None, {"inputs": inputs[:5].astype("float32")})
    assert logits.shape == (5, 3)


def test_methods_as_json(call: Call) -> None:
    code, out, _ = call(["methods", "--json"])
    assert code == 0
    rows = json.loads(out)
    assert {"kd", "rkd", "ttm", "wttm", "topkd", "layer-selection", "born-again"} <= {row["name"] for row in rows}
    for row in rows:
        assert row["title"]
        assert row["paper"]
        assert row["recipe"] == f"recipes/{row['route']}/{row['name']}.yaml"


@pytest.mark.parametrize(
    "command", [["components"], ["recipes"], ["data", "R"], ["taps", "R"], ["taps", "vit"], ["schema"], ["methods"]]
)
def test_commands_that_print_facts(call: Call, recipe: Write, command: list[object]) -> None:
    code, out, err = call([str(recipe()) if part == "R" else part for part in command])
    assert code == 0, err
    assert len(out.splitlines()) > 3


def test_overrides_reach_the_run(call: Call, recipe: Write, tmp_path: Path) -> None:
    code, _, err = call(
        ["run", recipe(), "method.temperature=2", "seed=7", "baseline=false", "--run-dir", tmp_path / "r"]
    )
    assert code == 0, err
    resolved = yaml.safe_load((tmp_path / "r" / "recipe.yaml").read_text())
    assert resolved["method"]["temperature"] == 2
    assert resolved["seed"] == 7
    assert {p.name for p in (tmp_path / "r" / "stages").iterdir()} == {"teacher", "transfer"}


def test_a_cached_teacher_teaches_the_same(call: Call, recipe: Write, tmp_path: Path) -> None:
    from tutelage.models.weights import load_model

    slot = {"model": "mlp", "hidden": [16], "weights": {"train": {"epochs": 1}}}
    states = []
    for cache in (False, True):
        run = tmp_path / str(cache)
        code, _, err = call(["run", recipe(teacher={**slot, "cache": cache}), "--run-dir", run])
        assert code == 0, err
        states.append(load_model(run).state_dict())
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-5, atol=1e-6)


def test_a_cached_teacher_refuses_changing_views(call: Call, recipe: Write, tmp_path: Path) -> None:
    path = recipe(
        teacher={"model": "mlp", "weights": {"train": {"epochs": 1}}, "cache": True},
        data={"name": "digits", "augment": ["shift"]},
    )
    code, _, err = call(["run", path, "--runs", tmp_path / "runs"])
    assert code == 2
    assert "data.augment" in err
