"""Whatever is wrong with the input: exit code 2, a sentence that helps, and nothing left behind."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

Call = Callable[[list[object]], tuple[int, str, str]]
Write = Callable[..., Path]


class Narrow(nn.Module):
    """A user's own model that names too few classes."""

    def __init__(self, data: Any, *, classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(64, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(inputs.flatten(1))


def refused(call: Call, arguments: list[object], *said: str, root: Path) -> str:
    code, out, err = call([*arguments, "--runs", root / "runs"])
    assert code == 2, err
    assert "Traceback" not in err
    assert out == ""
    for text in said:
        assert text in err
    assert not (root / "runs").exists() or list((root / "runs").iterdir()) == []
    return err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": {"name": "kd", "temprature": 2}}, ["temprature", "Did you mean 'temperature'?", "recipe.yaml:3:3"]),
        ({"method": {"name": "kd", "temperature": "hot"}}, ["temperature", "number", "hot"]),
        ({"method": {"name": "kd", "temperature": -1.0}}, ["temperature", "a number > 0", "-1"]),
        ({"method": {"name": "kdd"}}, ["there is no method named 'kdd'", "Did you mean 'kd'?"]),
        ({"student": None}, ["the method 'kd' needs 'student'"]),
        ({"student": {"model": "mlpp"}}, ["Did you mean 'mlp'?"]),
        ({"teachr": {"model": "mlp"}}, ["teachr", "Did you mean 'teacher'?"]),
        ({"teacher": {"model": "mlp"}}, ["the teacher 'mlp' has no weights", "weights: {train: {epochs: 15}}"]),
        ({"teacher": {"model": "mlp", "weights": "nowhere/model.safetensors"}}, ["teacher.weights", "no weights at"]),
        ({"student": {"model": "mlp", "freeze": ["blokcs.0"]}}, ["blokcs.0", "blocks.0"]),
        ({"train": {"epochs": 1, "groups": [{"match": "haed.*"}]}}, ["haed.*", "head"]),
        ({"data": {"name": "folder", "path": "nowhere"}}, ["nowhere"]),
        ({"data": {"name": "digits", "limit": 100_000}}, ["limit", "1259"]),
        ({"seed": -1}, ["seed", "-1"]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_wrong_recipe_is_answered(
    call: Call, recipe: Write, tmp_path: Path, changes: dict[str, Any], said: list[str]
) -> None:
    refused(call, ["run", recipe(**changes)], *said, root=tmp_path)


def test_all_mistakes_are_told_at_once(call: Call, recipe: Write, tmp_path: Path) -> None:
    path = recipe(method={"name": "kd", "temprature": 2}, train={"epochs": 0}, seed="x")
    err = refused(call, ["run", path], root=tmp_path)
    assert len(err.splitlines()) == 3


def test_a_cycle_of_bases_shows_the_chain(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    refused(call, ["run", tmp_path / "a.yaml"], "a.yaml", "b.yaml", root=tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\x00\x01\xff\xfe\x80", "text"),
        (
            b"a: &a [1,1,1,1,1,1,1,1,1]\n"
            + b"".join(
                f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n".encode() for i in range(8)
            ),
            "expands to more than",
        ),
        (b"method: kd\nmethod: kd\n", "twice"),
        (b"- a\n- b\n", "mapping"),
        (b"x" * 1_100_000, "1 MB"),
    ],
    ids=["empty", "binary", "bomb", "duplicate", "list", "huge"],
)
def test_a_file_that_is_no_recipe(call: Call, tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    refused(call, ["run", path], "r.yaml", said, root=tmp_path)


def test_weights_of_another_shape_list_the_tensors(call: Call, recipe: Write, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"head.weight": torch.zeros(10, 4), "head.bias": torch.zeros(10)}, file)
    path = recipe(teacher={"model": "mlp", "hidden": [16], "weights": str(file)})
    refused(call, ["run", path], "head.weight", "[10, 16]", "[10, 4]", "blocks.0.0.weight", root=tmp_path)
    code, _, err = call(["check", path])
    assert code == 2
    assert "head.weight" in err


def test_a_pickle_is_refused_with_how_to_convert_it(call: Call, recipe: Write, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"w": torch.zeros(1)}, file)
    refused(
        call,
        ["run", recipe(teacher={"model": "mlp", "weights": str(file)})],
        "pickle",
        "safetensors",
        "weights_only=True",
        root=tmp_path,
    )
    disguised = tmp_path / "weights.safetensors"
    disguised.write_bytes(pickle.dumps({"w": 1}))
    refused(call, ["run", recipe(teacher={"model": "mlp", "weights": str(disguised)})], "pickle", root=tmp_path)


def test_class_counts_that_differ(call: Call, recipe: Write, tmp_path: Path) -> None:
    path = recipe(student={"model": f"{__name__}:Narrow"})
    refused(call, ["run", path], "10 classes", "3", "rkd", root=tmp_path)


def test_a_tap_that_matches_nothing_lists_the_nearest(call: Call, recipe: Write, tmp_path: Path) -> None:
    path = recipe(method={"name": "rkd", "feature": "blocsk"})
    refused(call, ["run", path], "blocsk", "blocks", root=tmp_path)


def test_an_unwritable_place(call: Call, recipe: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = call(["run", recipe(), "--run-dir", tmp_path / "file" / "run"])
    assert code == 2
    assert "file" in err
    assert "Traceback" not in err


def test_a_run_folder_that_is_taken(call: Call, recipe: Write, tmp_path: Path) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    (place / "thesis.txt").write_text("precious")
    code, _, err = call(["run", recipe(), "--run-dir", place])
    assert code == 2
    assert "not an empty folder" in err
    assert (place / "thesis.txt").read_text() == "precious"


def test_a_run_of_a_newer_version(call: Call, recipe: Write, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, _, err = call(["run", recipe(), "--run-dir", run])
    assert code == 0, err
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    for command in ("resume", "export"):
        code, _, err = call([command, run])
        assert code == 2
        assert "newer" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "nowhere"],
        ["resume", "nowhere"],
        ["export", "nowhere"],
        ["new", "kdd"],
        ["taps", "convnte"],
        ["chek"],
    ],
    ids=" ".join,
)
def test_commands_that_name_what_is_not_there(call: Call, arguments: list[object]) -> None:
    code, _, err = call(arguments)
    assert code == 2
    assert err
    assert "Traceback" not in err
