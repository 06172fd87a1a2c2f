"""Variants by seeds side by side: which of them to use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from tutelage.recipe.errors import InputError, nearest
from tutelage.report import figures, text
from tutelage.report.html import missing, page
from tutelage.report.store import FORMAT, plain

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from tutelage.measure.number import Number

_NAMES, _COLUMN = 24, 17
Run = tuple[str, int, Mapping[str, Any] | None]
"""A variant, its seed and the report of its run; ``None`` for a run that left none."""
Line = tuple[str, str, list[tuple[str, str]]]


def compare(runs: Sequence[Run], *, reference: str | None = None) -> dict[str, Any]:
    """Compare variants over their seeds.

    Args:
        runs: Every run that was asked for, in the order the variants are shown.
        reference: The variant the others are compared with; the first one by default.

    Returns:
        A mapping ready for JSON: ``metric``, ``reference``, ``warnings`` and ``variants``, each with the mean over
        seeds of its quality (``value``), its paired ``difference`` to the reference (over the seeds both finished),
        its ``gain`` over the baseline without transfer, ``gap_recovered``, ``agreement``, ``ece``, ``parameters``,
        ``wall_time``, its ``runs``, and ``negative_transfer``: whether the gain's interval lies on the wrong side of
        zero (``None``: no baseline or too few runs to say). With one seed, gain and gap keep the interval over samples
        of their report.

    Raises:
        InputError: There is no run, a run is there twice, the reference is unknown, or the runs measured different
            metrics.
    """
    names = list(dict.fromkeys(name for name, _, _ in runs))
    if not names:
        raise InputError("there is nothing to compare: expected at least one variant with one run")
    repeated = Counter((name, seed) for name, seed, _ in runs)
    twice = [f"'{name}' seed {seed}" for (name, seed), count in repeated.items() if count > 1]
    if twice:
        raise InputError(f"a variant runs once a seed, but {', '.join(twice)} is there more than once")
    chosen = names[0] if reference is None else reference
    if chosen not in names:
        raise InputError(f"the reference '{chosen}' is none of the variants. {nearest(chosen, names)}")
    arrived = [report["arrived"] for _, _, report in runs if report is not None]
    metrics = sorted({str(found["metric"]) for found in arrived})
    if len(metrics) > 1:
        raise InputError(
            f"the runs measured different metrics ({', '.join(metrics)}) and cannot be compared; expected one"
        )
    upwards = bool(arrived[0].get("higher_is_better", True)) if arrived else True
    done = {name: {seed: report for n, seed, report in runs if n == name and _usable(report)} for name in names}
    warnings = [
        f"'{name}' seed {seed} has no result ({'missing' if report is None else report['status']}) and is left out."
        for name, seed, report in runs
        if not _usable(report)
    ]
    rows = []
    for name in names:
        mine = [run for run in runs if run[0] == name]
        row = _variant(name, mine, done[name], done[chosen] if name != chosen else {}, upwards)
        if row["negative_transfer"]:
            warnings.append(f"Negative transfer: '{name}' is worse than its own baseline without transfer.")
        if len(done[name]) == 1:
            warnings.append(f"'{name}' has one finished run, so how much it varies between seeds is not known.")
        rows.append(row)
    body = plain(
        {
            "format": FORMAT,
            "metric": metrics[0] if metrics else "accuracy",
            "higher_is_better": upwards,
            "reference": chosen,
            "variants": rows,
        },
        warnings,
    )
    return {**body, "warnings": warnings}


def table(comparison: Mapping[str, Any]) -> RenderableType:
    """The comparison as something rich can print; columns that do not fit beside each other follow in another table."""
    return ComparisonView(comparison)


class ComparisonView:
    """A comparison as something rich can print, fitted to the width it is given.

    Args:
        comparison: What `compare` returned.
    """

    def __init__(self, comparison: Mapping[str, Any]) -> None:
        self.comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Tables and warnings."""
        from rich import box
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        columns, lines = _lines(self.comparison)
        names = min(_NAMES, max(len(line[0]) for line in lines) + 2)
        abreast = max(1, (options.max_width - names) // _COLUMN)
        for start in range(0, len(columns) - 1, abreast):
            drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
            drawn.add_column(columns[0], overflow="fold", max_width=_NAMES)
            for column in columns[1 + start : 1 + start + abreast]:
                drawn.add_column(column, justify="right", overflow="fold")
            for name, note, cells in lines:
                shown = [
                    Text.assemble(value, (f"\n{bounds}" if bounds else "", "dim"))
                    for value, bounds in cells[start : start + abreast]
                ]
                drawn.add_row(Text.assemble(name, (f"\n({note})" if note else "", "dim")), *shown)
            yield drawn
        for warning in self.comparison["warnings"]:
            yield Padding(Text.assemble(("warning: ", "yellow"), warning), (0, 0, 0, 1))


def render(comparison: Mapping[str, Any], *, name: str = "Comparison") -> str:
    """The comparison as one self-contained HTML document.

    Raises:
        InputError: matplotlib or jinja2 is not installed.
    """
    columns, lines = _lines(comparison)
    metric = comparison["metric"]
    try:
        figure = figures.variants(comparison["variants"], text.title(metric), comparison["reference"])
    except ModuleNotFoundError as error:
        raise missing(error) from error
    runs = [
        (row["name"], run["seed"], text.full(metric, run["value"]), run["status"])
        for row in comparison["variants"]
        for run in row["runs"]
    ]
    return page(
        "comparison.html", title=name, comparison=comparison, columns=columns, table=lines, figure=figure, runs=runs
    )


def _variant(
    name: str,
    runs: Sequence[Run],
    done: Mapping[int, Mapping[str, Any]],
    reference: Mapping[int, Mapping[str, Any]],
    upwards: bool,
) -> dict[str, Any]:
    paired = [seed for seed in done if seed in reference]
    after = {seed: _value(report["arrived"]["after"]) for seed, report in done.items()}
    gain = _over([report["arrived"].get("gain") for report in done.values()])
    wrong = None
    if gain is not None and gain.low is not None and gain.high is not None:
        wrong = gain.high < 0 if upwards else gain.low > 0
    against = [after[seed] - _value(reference[seed]["arrived"]["after"]) for seed in paired]
    return {
        "name": name,
        "finished": len(done),
        "value": _mean(list(after.values())),
        "difference": _mean(against),
        "gain": gain,
        "gap_recovered": _over([report["arrived"].get("gap_recovered") for report in done.values()]),
        "agreement": _over([report["fidelity"].get("agreement") for report in done.values()]),
        "ece": _over([report["calibration"].get("ece") for report in done.values()]),
        "parameters": _over([report["cost"].get("parameters") for report in done.values()]),
        "wall_time": _over([report["cost"].get("wall_time") for report in done.values()]),
        "negative_transfer": wrong,
        "runs": [
            {
                "seed": seed,
                "status": "missing" if report is None else str(report["status"]),
                "value": report["arrived"]["after"] if report is not None and _usable(report) else None,
            }
            for _, seed, report in runs
        ],
    }


def _lines(comparison: Mapping[str, Any]) -> tuple[list[str], list[Line]]:
    """Headings and, by variant, its name, a note and one (estimate, interval) a column that any variant has."""
    metric, rows = comparison["metric"], comparison["variants"]
    columns = [
        (metric, metric, "value"),
        ("difference", metric, "difference"),
        ("gain", metric, "gain"),
        *((name, name, name) for name in ("gap_recovered", "agreement", "ece", "parameters", "wall_time")),
    ]
    present = [column for column in columns if any(row[column[2]] is not None for row in rows)]
    headings = ["variant", "runs", *(text.title(heading) for heading, _, _ in present)]
    lines = []
    for row in rows:
        note = "reference" if row["name"] == comparison["reference"] else ""
        note = ", ".join(part for part in (note, "negative transfer" if row["negative_transfer"] else "") if part)
        cells = [(f"{row['finished']}/{len(row['runs'])}", "")]
        for heading, name, key in present:
            number = row[key]
            value = text.value(name, number, signed=heading in {"difference", "gain"}) if number else "-"
            # The spread of a size or a time over seeds is of no interest here.
            cells.append((value, "" if name in text.COSTS else text.bounds(name, number)))
        lines.append((str(row["name"]), note, cells))
    return headings, lines


def _usable(report: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    return report is not None and report["status"] != "failed" and report["arrived"].get("after") is not None


def _value(number: Mapping[str, Any]) -> float:
    return float(number["value"])


def _mean(values: Sequence[float]) -> Number | None:
    from tutelage.measure.bootstrap import across_seeds

    return across_seeds(values) if values else None


def _over(numbers: Sequence[Mapping[str, Any] | None]) -> Number | None:
    """Mean over the runs that measured it; a single run keeps its own interval, for that is all there is."""
    from tutelage.measure.number import Number

    found = [number for number in numbers if number is not None]
    if len(found) == 1:
        return Number.from_dict(found[0])
    return _mean([_value(number) for number in found])
