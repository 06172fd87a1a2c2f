"""The pages of results/ say what was measured, and say what was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from results.make import benchmarks, distill_vision, foundation

from tutelage import api
from tutelage.report.text import full

RECIPE = """
method: kd
teacher: {model: mlp, weights: {train: {epochs: 2}}}
student: {model: mlp, hidden: [8]}
data: {name: digits, limit: 200}
train: {epochs: 2}
measure: [accuracy, agreement, calibration, cost]
"""


def _record(**fields: Any) -> dict[str, Any]:
    machine = {"processor": "Abacus", "cores": 2, "system": "Linux", "load": 0.1}
    return {"machine": machine, "versions": {"python": "3.11", "torch": "2"}, "unit": "s", **fields}


def test_benchmarks(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "raw" / "bench"
    folder.mkdir(parents=True)
    assert "Nothing was measured yet" in benchmarks(tmp_path)
    records = [
        _record(name="engine", ratio=1.02, limit=1.05, ours=[1.0, 2.0, 3.0], peer=[2.0], about="loops"),
        _record(name="slow", ratio=1.2, limit=1.05, ours=[0.012], peer=[0.01]),
        _record(name="help", value=0.4, limit=0.3, ours=[0.4]),
    ]
    for record in records:
        (folder / f"{record['name']}.json").write_text(json.dumps(record))
    page = benchmarks(tmp_path)
    assert "| engine | 1.020 | 1.05 | 2 s (1 to 3, 3 repeats) | 2 s (2 to 2, 1 repeats) |  |" in page
    assert (
        "| slow | 1.200 | 1.05 | 12 ms (12 to 12, 1 repeats) | 10 ms (10 to 10, 1 repeats) | **over its limit** |"
        in page
    )
    assert "| help | 0.400 s | 0.3 s | **over its limit** |" in page
    assert page.count("Abacus, 2 cores, Linux; python 3.11, torch 2") == 1


def test_foundation(tmp_path: Path) -> None:
    recipe = tmp_path / "recipes" / "distill" / "kd.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(RECIPE)
    (tmp_path / "recipes" / "quickstart.yaml").write_text(RECIPE)
    assert "`distill/kd` has not been run." in foundation(tmp_path)
    finished = api.run(recipe, run_dir=tmp_path / "runs" / "reproduce" / "distill" / "kd")
    arrived = finished.report["arrived"]
    page = foundation(tmp_path)
    (row,) = [line for line in page.splitlines() if line.startswith("| `distill/kd`")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:6] == ["kd", "accuracy", *(full("accuracy", arrived[k]) for k in ("source", "after", "baseline"))]
    assert cells[7] == full("agreement", finished.report["fidelity"]["agreement"])
    assert "`quickstart` has not been run." in page
    assert "`distill/kd` has not been run." not in page

    recipe.write_text(RECIPE.replace("hidden: [8]", "hidden: [9]"))
    assert "`distill/kd`: the run is of an older recipe" in foundation(tmp_path)
    recipe.write_text(RECIPE.replace("hidden: [8]", "hiden: [9]"))
    assert "Did you mean 'hidden'?" in foundation(tmp_path)


def test_experiments(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "raw" / "distill"
    folder.mkdir(parents=True)
    rows = [
        {"name": "kd", "metric": "accuracy", "mean": 0.91234, "low": 0.9, "high": 0.92, "n_seeds": 5},
        {"name": "kd", "metric": "entropy", "mean": 0.5, "low": None, "high": None, "n_seeds": 5},
        {"name": "control", "metric": "accuracy", "mean": 0.9, "low": 0.89, "high": 0.91, "n_seeds": 5},
    ]
    entry = {"method": "kd", "what": "Does it help?", "setup": "Digits.", "rows": rows, "note": "A little."}
    (folder / "kd.json").write_text(json.dumps(entry))
    page = foundation(tmp_path)
    assert "### kd: Does it help?" in page
    assert "| kd | 0.9123 [0.9, 0.92] | 0.5 | 5 |" in page
    assert "| control | 0.9 [0.89, 0.91] | - | 5 |" in page
    assert page.rstrip().endswith("A little.")
    (folder / "rkd.json").write_text("{")
    with pytest.raises(SystemExit, match=r"rkd\.json"):
        foundation(tmp_path)


def test_later_methods_have_a_page_of_their_own(tmp_path: Path) -> None:
    recipe = tmp_path / "recipes" / "distill" / "cat-kd.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(RECIPE)
    raw = tmp_path / "results" / "raw"
    (raw / "distill").mkdir(parents=True)
    rows = [{"name": "cat", "metric": "accuracy", "mean": 0.5, "low": 0.4, "high": 0.6, "n_seeds": 3}]
    record = {"method": "cat-kd", "what": "maps?", "setup": "digits", "rows": rows, "note": "as expected"}
    (raw / "distill" / "cat-kd.json").write_text(json.dumps(record))
    (raw / "vision-shelf.json").write_text(json.dumps({"title": "The shelf", "setup": "one pair", "rows": rows}))
    page = distill_vision(tmp_path)
    assert "`distill/cat-kd` has not been run." in page
    assert page.count("| cat | 0.5 [0.4, 0.6] | 3 |") == 2
    assert "cat-kd" not in foundation(tmp_path)
