"""What all methods of the route share: exact resuming, accumulation, and divisions by time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import InterruptAt, same, stage_end

from tutelage import api
from tutelage.engine.stopping import Interrupted

Make = Callable[..., dict[str, Any]]
Go = Callable[[Mapping[str, Any]], api.Finished]
SMALL = {"dkt": {"width": 8}, "sakt": {"width": 8, "heads": 2}, "cakt": {"side": 3}, "psi-kt": {"influence": 4.0}}


@pytest.mark.parametrize("name", SMALL)
def test_an_interrupted_run_ends_alike(name: str, recipe: Make, tmp_path: Path) -> None:
    data = {"name": "prerequisites", "learners": 60, "steps": 12}
    content = recipe(name, model={"model": name, **SMALL[name]}, data=data, epochs=3, batch_size=16)
    content["callbacks"] = [{"name": "best-checkpoint", "metric": "loss"}]
    whole = api.run(content, run_dir=tmp_path / "whole")
    with pytest.raises(Interrupted):
        api.run(content, run_dir=tmp_path / "pieces", listener=InterruptAt("trace", 4))
    pieces = api.resume(tmp_path / "pieces")
    one, two = (stage_end(done.folder, "trace") for done in (whole, pieces))
    assert same(one["models"]["model"], two["models"]["model"])
    assert whole.report["arrived"] == pieces.report["arrived"]


def test_each_learners_last_answers_are_predicted_from_the_earlier_ones(recipe: Make, go: Go) -> None:
    data = {"name": "learning-curves", "learners": 60, "concepts": 6, "steps": 40, "split": "time"}
    report = go(recipe("bkt", data=data)).report
    assert report["rows"][0]["n"] == 60
    assert report["rows"][0]["measures"]["quality"]["auc"]["n"] == 60
    cold = report["rows"][0]["measures"]["quality"]
    assert "auc_after_0_to_4" not in cold
    assert "auc_after_20_to_49" in cold


def test_pykts_protocol_leaves_first_answers_out(recipe: Make, go: Go) -> None:
    rows = [
        go(recipe("pfa", measure=[{"name": "tracing", "first": first, "ahead": 0, "cold": [0, 1]}])).report["rows"][0]
        for first in (True, False)
    ]
    qualities = [row["measures"]["quality"] for row in rows]
    assert "auc_after_0_to_0" in qualities[0]
    assert "auc_after_0_to_0" not in qualities[1]
    assert "auc_ahead" not in qualities[0]
