from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tutelage.report import text
from tutelage.report.terminal import table


def shown(report: dict[str, Any], width: int, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    Console(file=file, width=width).print(table(report))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [40, 60, 100, 160])
def test_everything_is_shown_whole_at_any_width(report: dict[str, Any], width: int) -> None:
    output = shown(report, width)
    assert max(map(len, output.splitlines())) <= width
    assert "\x1b" not in output
    arrived = report["arrived"]
    for name in ("after", "baseline", "source"):
        number = arrived[name]
        assert text.value("accuracy", number) in output
        assert text.bounds("accuracy", number) in output
    for word in (
        "Arrived",
        "Kept",
        "Lost",
        "Leaked",
        "gap recovered",
        "parameters",
        "wall time",
        "warning: A warning.",
    ):
        assert word in output


def test_a_wide_terminal_shows_participants_in_one_table(report: dict[str, Any]) -> None:
    assert shown(report, 100).count("accuracy  ") == 1
    assert shown(report, 40).count("accuracy  ") == 3


def test_an_ascii_terminal_can_show_it(report: dict[str, Any]) -> None:
    assert "teacher" in shown(report, 80, encoding="ascii")


def test_markup_in_names_is_text(report: dict[str, Any]) -> None:
    rows = [{**report["rows"][0], "name": "[red]teacher[/red]"}, *report["rows"][1:]]
    assert "[red]teacher[/red]" in shown({**report, "rows": rows, "warnings": ["[bold]odd[/]"]}, 120)


def test_a_run_without_results_is_shown(report: dict[str, Any]) -> None:
    empty = {**report, "rows": [], "arrived": dict.fromkeys(report["arrived"]) | {"metric": "accuracy"}}
    empty |= {"kept": {}, "lost": {}, "leaked": {"membership_auc": None}, "status": "failed"}
    output = shown(empty, 80)
    assert "failed" in output
    assert output.count("not measured") == 4


def test_the_four_answers(report: dict[str, Any]) -> None:
    arrived, kept, lost, leaked = text.four_answers(report)
    gain = report["arrived"]["gain"]
    assert f"+{100 * gain['value']:.1f} points [{100 * gain['low']:.1f}, {100 * gain['high']:.1f}]" in arrived.text
    assert "of the gap to the teacher" in arrived.text
    assert arrived.good is True
    assert text.full("kept", report["kept"]["of_source"]) in kept.text
    assert text.full("lost", report["lost"]["of_before"]) in lost.text
    assert "membership AUC" in leaked.text
    worse = {**report["arrived"], "gain": {"value": -0.1, "low": -0.2, "high": -0.05, "n": 9}}
    assert text.four_answers({**report, "arrived": worse})[0].good is False


@pytest.mark.parametrize(
    ("name", "amount", "expected"),
    [
        ("parameters", 650, "650"),
        ("parameters", 999_999, "1 M"),
        ("parameters", 12_345, "12.3 k"),
        ("flops", 1.5e9, "1.5 G"),
        ("peak_memory", 34e6, "32.4 MiB"),
        ("latency", 3e-6, "3 us"),
        ("latency", 0.0042, "4.2 ms"),
        ("wall_time", 31, "31 s"),
        ("wall_time", 59.97, "60 s"),
        ("wall_time", 130, "2 min 10 s"),
        ("cpu_time", 7260, "2 h 1 min"),
    ],
)
def test_quantities(name: str, amount: float, expected: str) -> None:
    assert text.quantity(name, amount) == expected


@given(st.floats(0, 1e18), st.sampled_from(["parameters", "peak_memory", "wall_time"]))
def test_quantities_stay_short(amount: float, name: str) -> None:
    assert len(text.quantity(name, amount)) <= 24


def test_what_was_not_measured_is_said() -> None:
    assert text.full("accuracy", None) == "not measured"
    assert text.full("ece", {"value": 0.1234, "low": None, "high": None, "n": None}) == "0.123"
