from __future__ import annotations

import copy
import io
import json
from typing import Any

import pytest
from rich.console import Console
from tests.report.test_html import self_contained

from tutelage.measure.bootstrap import across_seeds
from tutelage.recipe.errors import InputError
from tutelage.report.comparison import Run, compare, render, table

VALUES = {"kd": [0.90, 0.91, 0.92], "wttm": [0.93, 0.935, 0.95], "fitnets": [0.80, 0.81, 0.805]}
BASELINE = 0.88


def varied(report: dict[str, Any], value: float) -> dict[str, Any]:
    changed = copy.deepcopy(report)
    changed["arrived"]["after"]["value"] = value
    gain = value - BASELINE
    changed["arrived"]["gain"] = {"value": gain, "low": gain - 0.01, "high": gain + 0.01, "n": 797}
    return changed


@pytest.fixture(scope="module")
def runs(report: dict[str, Any]) -> list[Run]:
    return [(name, seed, varied(report, value)) for name, values in VALUES.items() for seed, value in enumerate(values)]


def test_means_and_paired_differences(runs: list[Run]) -> None:
    found = compare(runs)
    assert (found["reference"], found["metric"]) == ("kd", "accuracy")
    rows = {row["name"]: row for row in found["variants"]}
    assert list(rows) == list(VALUES)
    for name, values in VALUES.items():
        assert rows[name]["value"] == across_seeds(values).to_dict()
    assert rows["kd"]["difference"] is None
    pairs = [b - a for a, b in zip(VALUES["kd"], VALUES["wttm"], strict=True)]
    assert rows["wttm"]["difference"] == pytest.approx(across_seeds(pairs).to_dict())
    json.dumps(found, allow_nan=False)


def test_negative_transfer_is_flagged(runs: list[Run]) -> None:
    found = compare(runs)
    assert [row["negative_transfer"] for row in found["variants"]] == [False, False, True]
    assert [w for w in found["warnings"] if "Negative transfer" in w] == [
        "Negative transfer: 'fitnets' is worse than its own baseline without transfer."
    ]


def test_missing_and_failed_runs_are_shown_and_left_out(runs: list[Run]) -> None:
    broken = list(runs)
    broken[4] = ("wttm", 1, None)
    broken[8] = ("fitnets", 2, {**runs[8][2], "status": "failed"})
    found = compare(broken, reference="wttm")
    rows = {row["name"]: row for row in found["variants"]}
    assert (rows["wttm"]["finished"], rows["fitnets"]["finished"]) == (2, 2)
    assert [run["status"] for run in rows["wttm"]["runs"]] == ["done", "missing", "done"]
    # Only the seeds that both variants finished are paired: 0 and 2, and 0 alone.
    assert rows["kd"]["difference"]["value"] == pytest.approx(((0.90 - 0.93) + (0.92 - 0.95)) / 2)
    assert (rows["fitnets"]["difference"]["n"], rows["fitnets"]["difference"]["low"]) == (1, None)
    assert sum("is left out" in warning for warning in found["warnings"]) == 2
    source = render(found)
    assert "missing" in source
    assert "failed" in source


def test_one_seed_has_no_spread_but_says_so(runs: list[Run]) -> None:
    found = compare([runs[0], runs[3], runs[6]])
    row = found["variants"][2]
    assert (row["value"]["low"], row["value"]["n"]) == (None, 1)
    assert row["gain"]["n"] == 797
    assert row["negative_transfer"] is True
    assert sum("one finished run" in warning for warning in found["warnings"]) == 3


def test_a_comparison_in_which_nothing_finished(runs: list[Run]) -> None:
    found = compare([(name, seed, None) for name, seed, _ in runs])
    assert all(row["value"] is None for row in found["variants"])
    assert "0/3" in render(found)


def test_lower_is_better(runs: list[Run]) -> None:
    flipped = [
        (name, seed, {**r, "arrived": {**r["arrived"], "metric": "nll", "higher_is_better": False}})
        for name, seed, r in runs
    ]
    assert [row["negative_transfer"] for row in compare(flipped)["variants"]] == [True, True, False]


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_table_fits(runs: list[Run], width: int) -> None:
    file = io.StringIO()
    Console(file=file, width=width).print(table(compare(runs)))
    output = file.getvalue()
    assert max(map(len, output.splitlines())) <= width
    for part in ("93.8 %", "3/3", "(reference)", "(negative transfer)", "recovered", "-10.5 points"):
        assert part in output


def test_the_page_is_self_contained(runs: list[Run]) -> None:
    page = self_contained(render(compare(runs), name="Which <method>?"))
    for part in ("Which <method>?", "93.8 %", "-10.5 points", "negative transfer", "wttm"):
        assert part in page.words
    assert "svg" in {tag for tag, _ in page.tags}


def test_bad_input_is_refused(runs: list[Run]) -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        compare([])
    with pytest.raises(InputError, match=r"'wtm' is none of the variants. Did you mean 'wttm'\?"):
        compare(runs, reference="wtm")
    with pytest.raises(InputError, match="'kd' seed 0 is there more than once"):
        compare([*runs, runs[0]])
    other = {**runs[0][2], "arrived": {**runs[0][2]["arrived"], "metric": "nll"}}
    with pytest.raises(InputError, match=r"different metrics \(accuracy, nll\)"):
        compare([("x", 0, other), *runs])
