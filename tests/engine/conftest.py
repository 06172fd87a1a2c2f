"""Small real runs: multilayer perceptrons on a few of scikit-learn's digits, with a cache of their own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage import api
from tutelage.engine.listening import Silence
from tutelage.engine.stopping import Interrupted
from tutelage.recipe.registry import registry

Trained = Callable[..., Path]


PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(autouse=True, scope="module")
def plugin() -> Iterator[None]:
    sys.path.insert(0, str(PLUGIN))
    registry.cache_clear()
    yield
    sys.path.remove(str(PLUGIN))
    registry.cache_clear()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    # Pictures of what happened take longer than what happened.
    monkeypatch.setattr("tutelage.report.html.save_html", lambda folder: folder)


@pytest.fixture
def noted() -> list[dict[str, Any]]:
    """What the callback ``trial-watch`` notes."""
    from engine_parts import Watch

    Watch.noted.clear()
    return Watch.noted


@pytest.fixture
def snapshots() -> list[dict[str, torch.Tensor]]:
    """What the callback ``trial-scores`` keeps: weights at the ends of epochs."""
    from engine_parts import Snapshots

    Snapshots.kept.clear()
    return Snapshots.kept


def recipe(**changes: Any) -> dict[str, Any]:
    """Supervised training in 3 epochs of 4 steps; keys of ``train`` and ``data`` are added to, others replaced."""
    base: dict[str, Any] = {
        "name": "engine",
        "method": "supervised",
        "student": {"model": "mlp", "hidden": [16]},
        "data": {"name": "digits", "limit": 120},
        "train": {"epochs": 3, "batch_size": 32, "checkpoint": {"seconds": None}},
        "measure": ["accuracy"],
        "baseline": False,
        "seed": 3,
    }
    for key, value in changes.items():
        base[key] = {**base[key], **value} if key in ("train", "data") else value
    return base


def distillation(**changes: Any) -> dict[str, Any]:
    """Distillation from a teacher that is trained first."""
    return recipe(
        **{
            "method": "kd",
            "teacher": {"model": "mlp", "hidden": [24], "weights": {"train": {"epochs": 2}}},
            **changes,
        }
    )


class Record(Silence):
    """What a listener hears."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.advanced: list[tuple[str, int]] = []

    def advance(self, task: str, done: int, terms: Mapping[str, float]) -> None:
        self.advanced.append((task, done))

    def note(self, text: str) -> None:
        self.notes.append(text)


class InterruptAt(Record):
    """Presses Ctrl-C once a step is done."""

    def __init__(self, task: str, step: int) -> None:
        super().__init__()
        self.task, self.step = task, step

    def advance(self, task: str, done: int, terms: Mapping[str, float]) -> None:
        super().advance(task, done, terms)
        if (task, done) == (self.task, self.step):
            self.step = -1
            os.kill(os.getpid(), signal.SIGINT)


def run(content: Mapping[str, Any], folder: Path, listener: Silence | None = None) -> Path:
    """A recipe's run folder, once it is done."""
    return api.run(content, run_dir=folder, listener=listener).folder


def run_in_pieces(content: Mapping[str, Any], folder: Path, *places: tuple[str, int]) -> Path:
    """A run that is interrupted after each of these steps of a stage, and resumed."""
    work: Callable[..., Any] = lambda listener: api.run(content, run_dir=folder, listener=listener)  # noqa: E731
    for task, step in places:
        with pytest.raises(Interrupted, match=rf"tutelage resume {folder}"):
            work(InterruptAt(task, step))
        work = lambda listener: api.resume(folder, listener=listener)  # noqa: E731
    return work(Record()).folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The student's tensors by name."""
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


def stage_end(folder: Path, stage: str) -> dict[str, Any]:
    """The state at the end of a stage."""
    from tutelage.engine import checkpoint

    found = checkpoint.latest(folder / "stages" / stage / "end")
    assert found is not None
    return found[1]


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Whether two states are equal to the bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def apart(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> float:
    """Largest difference of any entry."""
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def quality(folder: Path) -> Any:
    """A report without what depends on the clock."""
    import json

    report = json.loads((folder / "report.json").read_text())
    return {key: value for key, value in report.items() if key not in ("cost", "artifacts", "curves")}
