from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tutelage.measure import Number
from tutelage.recipe.errors import InputError
from tutelage.report.store import load_report, plain, save_report, to_json


def test_a_report_survives_its_file(report: dict[str, Any], tmp_path: Path) -> None:
    path = save_report(report, tmp_path)
    assert load_report(tmp_path) == load_report(path) == json.loads(to_json(report)) == report
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_numbers_that_are_not_finite_become_null_with_a_warning() -> None:
    warnings: list[str] = []
    value = {
        "a": Number(float("inf")),
        "b": [{"name": "x", "c": float("nan")}],
        "d": Number(1.0, float("-inf"), 2.0, 3),
    }
    assert plain(value, warnings) == {
        "a": None,
        "b": [{"name": "x", "c": None}],
        "d": {"value": 1.0, "low": None, "high": 2.0, "n": 3},
    }
    assert [warning.split(" is ")[0] for warning in warnings] == ["a", "b.x.c"]
    with pytest.raises(ValueError, match="JSON"):
        to_json({"a": float("nan")})


def test_a_missing_folder_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "digits-wttm-1").mkdir()
    with pytest.raises(InputError, match=r"no run folder .*digits-wtm-1'. Did you mean 'digits-wttm-1'\?"):
        load_report(tmp_path / "digits-wtm-1")


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no report\.json\.$"):
        load_report(tmp_path)
    (tmp_path / "recipe.yaml").write_text("method: wttm\n")
    with pytest.raises(InputError, match="tutelage resume"):
        load_report(tmp_path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is not JSON: .* line 1"),
        ("[]", "holds a list"),
        ('{"format": 99}', "format 99; this version of Tutelage reads up to 1"),
        ('{"format": "one"}', "format one"),
        ('{"method": "kd"}', "lacks route, status"),
    ],
)
def test_what_is_not_a_report_is_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match=match):
        load_report(tmp_path)


def test_reading_and_printing_a_report_imports_nothing_heavy() -> None:
    code = (
        "import sys, tutelage.report.store, tutelage.report.terminal, tutelage.report.html, tutelage.report.comparison;"
        "print([m for m in ('torch', 'numpy', 'matplotlib', 'jinja2', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
