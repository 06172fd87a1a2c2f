"""The benchmarks compare like with like; how long anything takes is no business of a test."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.recipe.loading import load_recipe

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("change", ["train.epochs=2", "train.batch_size=50"])
def test_the_hand_written_loop_ends_with_the_engines_weights(change: str, tmp_path: Path) -> None:
    bench = importlib.import_module("bench_engine")
    small = ["train.epochs=2", "data.limit=130", "teacher.weights.train.epochs=1"]
    recipe = load_recipe(ROOT / "recipes" / "quickstart.yaml", [*small, change])
    ours, peer = bench.sides(recipe, tmp_path)
    trained, by_hand = ours()[2], peer()[2]
    assert bench.equal(trained, by_hand)
    # It could differ: another order of the same data ends elsewhere.
    other = bench.sides(load_recipe(ROOT / "recipes" / "quickstart.yaml", [*small, change, "seed=1"]), tmp_path)[1]
    assert not bench.equal(trained, other()[2])


def test_sides_take_turns() -> None:
    measuring = importlib.import_module("measuring")
    called: list[str] = []

    def side(name: str) -> Any:
        def measure() -> float:
            called.append(name)
            return float(len(called))

        return measure

    found = measuring.alternate({"a": side("a"), "b": side("b")}, 3)
    assert called == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


def test_a_ratio_of_medians_is_printed_kept_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measuring = importlib.import_module("measuring")
    monkeypatch.setattr(measuring, "RECORDS", tmp_path)
    assert measuring.compared("engine", [1.0, 9.0, 2.0], [4.0, 4.0, 0.1], 0.6, about="x")
    assert capsys.readouterr().out == "engine ratio 0.500 (limit 0.6) ours 2.000 s, peer 4.000 s\n"
    assert not measuring.compared("engine", [2.0], [4.0], 0.4)
    kept = json.loads((tmp_path / "engine.json").read_text())
    assert (kept["ratio"], kept["limit"], kept["ours"], kept["versions"]["torch"]) == (
        0.5,
        0.4,
        [2.0],
        torch.__version__,
    )
    assert not measuring.bounded("help", [0.5, 0.01, 0.04], 0.03)
    assert "help 40.000 ms (limit 0.03 s)" in capsys.readouterr().out


def test_a_process_is_measured_with_its_exit_code() -> None:
    measuring = importlib.import_module("measuring")
    cost = measuring.process([sys.executable, "-c", "import sys; held = b'x' * 60_000_000; sys.exit(3)"])
    assert cost.code == 3
    assert 60_000_000 < cost.peak < 200_000_000
    assert cost.cpu > 0


def test_pictures_of_the_larger_set_contain_the_smaller(tmp_path: Path) -> None:
    bench = importlib.import_module("bench_scale")
    small, large = bench.pictures(tmp_path / "small", 20), bench.pictures(tmp_path / "large", 40)
    assert [len(list((root / "train").rglob("*.bmp"))) for root in (small, large)] == [20, 40]
    for file in small.rglob("*.bmp"):
        assert file.read_bytes() == (large / file.relative_to(small)).read_bytes()


def test_training_from_a_store_ends_as_beside_the_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = importlib.import_module("bench_store")
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    small = ["train.epochs=3", "data.limit=100", "teacher.width=6", "teacher.weights.train.epochs=1"]
    both = bench.sides(load_recipe(bench.RECIPE, small), tmp_path)
    stored, live = both["ours"](), both["peer"]()
    assert len(list((tmp_path / "cache" / "stores").rglob("view-*/*.npy"))) == 2
    assert stored[1] == live[1]
    assert bench.equal(stored[2], live[2])
    # It could differ: with other views the student ends elsewhere.
    other = load_recipe(bench.RECIPE, [*small, "teacher.store.views=3"])
    assert not bench.equal(stored[2], bench.sides(other, tmp_path)["ours"]()[2])


def test_losses_from_hidden_states_are_held_against_the_same_quantity() -> None:
    sides, bench = importlib.import_module("sides.token_losses"), importlib.import_module("bench_token_losses")
    assert {"ours", "plain", *bench.PEERS} == set(sides.SIDES)

    def found(name: str, seed: int = 0) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        student, own, teacher, other = (
            torch.randn(*size, generator=generator) for size in ((9, 5), (40, 5), (9, 7), (40, 7))
        )
        loss = sides.SIDES[name]()(student.requires_grad_(), own.requires_grad_(), teacher, other)
        loss.backward()
        return {"loss": loss.item(), "gradient": [student.grad.norm().item(), own.grad.norm().item()]}

    ours = found("ours")
    assert bench.same(ours, found("plain"))
    assert bench.same(ours, found("trl-dense"))
    assert bench.same(ours, found("trl-tiled"))
    # It could differ: other models have another loss.
    assert not bench.same(ours, found("plain", seed=1))
