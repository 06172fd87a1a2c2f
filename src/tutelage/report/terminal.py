"""The report in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tutelage.report import text

if TYPE_CHECKING:
    from rich.console import RenderableType

_FACTS = (
    *(("fidelity", "agreement"), ("calibration", "ece"), ("leakage", "membership_auc")),
    *(("cost", name) for name in text.COSTS),
)
_LABELS, _WIDE, _NARROW = 23, 23, 15


class ReportView:
    """A report as something rich can print, fitted to the width it is given.

    Args:
        report: A report as `tutelage.report.answers.build` makes it.
    """

    def __init__(self, report: Mapping[str, Any]) -> None:
        self.report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Title, table, the four answers and the warnings."""
        report = self.report
        yield Text.assemble((report["method"], "bold"), f" ({report['route']}), {report['status']}")
        rows = list(report.get("rows", ()))
        # Participants are columns; those that do not fit beside each other follow in another table.
        room = max(options.max_width - _LABELS, _NARROW)
        wide = len(rows) * _WIDE <= room
        abreast = max(1, len(rows) if wide else room // _NARROW)
        for start in range(0, len(rows), abreast):
            yield _table(report, rows[start : start + abreast], wide)
        yield answers(report)
        for name, found in report.get("findings", {}).items():
            yield from _finding(name, found)
        for warning in report["warnings"]:
            yield Padding(Text.assemble(("warning: ", "yellow"), warning), (0, 0, 0, 1))


def table(report: Mapping[str, Any]) -> RenderableType:
    """The report as something rich can print: participants side by side, then the four answers and the warnings.

    Colour is never the only bearer of a meaning, and nothing is drawn that a plain file or an ASCII terminal cannot
    show.

    Args:
        report: A report as `tutelage.report.answers.build` makes it.
    """
    return ReportView(report)


def answers(report: Mapping[str, Any]) -> RenderableType:
    """The four answers, one line each (more where the terminal is narrow)."""
    grid = Table.grid(padding=(0, 2, 0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for answer in text.four_answers(report):
        style = {True: "green", False: "red", None: ""}[answer.good]
        grid.add_row(Text(answer.title, "bold"), Text(answer.text, style))
    return Group(grid)


def _finding(name: str, found: Any) -> Iterator[RenderableType]:
    """What a method measured itself: a line, or a table."""
    if not isinstance(found, list):
        yield Padding(Text.assemble((text.title(name), "bold"), f"  {text.finding(found)}"), (0, 0, 0, 1))
        return
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), title=text.title(name), title_justify="left")
    heads, cells = text.finding_table(found)
    for head in heads:
        drawn.add_column(Text(text.title(head)), justify="right", overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    yield drawn


def _table(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], wide: bool) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    drawn.add_column("", no_wrap=wide, min_width=10)
    for row in rows:
        drawn.add_column(Text(str(row["name"])), justify="right", overflow="fold")
    metric = report["arrived"]["metric"]
    for group, name in (*(("quality", name) for name in _qualities(rows, metric)), *_FACTS):
        numbers = [row["measures"].get(group, {}).get(name) for row in rows]
        if any(number is not None for number in numbers):
            drawn.add_row(Text(text.title(name)), *(_cell(name, number, wide) for number in numbers))
        gap = report["arrived"].get("gap_recovered")
        if name == metric and gap is not None:
            last = [row["name"] for row in report["rows"] if row["role"] == "recipient"][-1]
            cells = [_cell("gap_recovered", gap if row["name"] == last else None, wide) for row in rows]
            if any(row["name"] == last for row in rows):
                drawn.add_row(Text(text.title("gap_recovered")), *cells)
    return drawn


def _qualities(rows: Sequence[Mapping[str, Any]], metric: str) -> list[str]:
    """What says what arrived; and beside it, of answers that are no classes, whatever else was measured of them."""
    given = dict.fromkeys(name for row in rows for name in row["measures"].get("quality", {}))
    others = [] if "accuracy" in given else [name for name in given if name != metric]
    return [metric, *others]


def _cell(name: str, number: Mapping[str, Any] | None, wide: bool) -> Text:
    if number is None:
        return Text("-", "dim")
    cell = Text(text.value(name, number))
    if name == "gap_recovered" and number["low"] is None:
        cell.append((" " if wide else "\n") + "may be chance", "dim")
    elif text.bounds(name, number):
        cell.append((" " if wide else "\n") + text.bounds(name, number), "dim")
    return cell
