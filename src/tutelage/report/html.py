"""The report as one HTML file that needs nothing else: no network, no scripts, no fonts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.recipe.errors import InputError
from tutelage.report import drawings, figures, text
from tutelage.report.store import load_report, write

_GROUPS = ("quality", "fidelity", "calibration", "retention", "leakage", "cost")


def render(
    report: Mapping[str, Any], *, name: str = "", recipe: str = "", manifest: Mapping[str, Any] | None = None
) -> str:
    """The page of a report.

    Args:
        report: A report as `tutelage.report.answers.build` makes it.
        name: What the run is called; the method's name by default.
        recipe: The resolved recipe's text.
        manifest: The run's manifest.

    Returns:
        A complete HTML document; everything taken from the arguments is escaped.

    Raises:
        InputError: matplotlib or jinja2 is not installed.
    """
    rows = list(report.get("rows") or ())
    return page(
        "report.html",
        title=name or str(report["method"]),
        report=report,
        answers=text.four_answers(report),
        names=[row["name"] for row in rows],
        table=_table(rows),
        by_class=_by_class(report),
        findings=_findings(report.get("findings") or {}),
        figures=_figures(report, rows),
        recipe=recipe,
        manifest=list(_flat(manifest or {})),
    )


def save_html(run_dir: Path | str) -> Path:
    """Write ``report.html`` into a run's folder from the ``report.json``, ``recipe.yaml`` and ``manifest.json`` there.

    Raises:
        InputError: There is no readable report, or matplotlib or jinja2 is not installed.
    """
    folder = Path(run_dir)
    report = load_report(folder)
    recipe, manifest = folder / "recipe.yaml", folder / "manifest.json"
    html = render(
        report,
        name=folder.resolve().name,
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        manifest=json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else None,
    )
    return write(folder / "report.html", html)


def page(template: str, **context: Any) -> str:
    """Fill a template of this package; values are escaped unless they are a picture's SVG.

    Raises:
        InputError: matplotlib or jinja2 is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise missing(error) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tutelage.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(heading=text.title)
    return environment.get_template(template).render(**context)


def missing(error: ModuleNotFoundError) -> InputError:
    """What to say when a library of the ``report`` extra is missing."""
    return InputError(f"the page needs {error.name}: install it with \"pip install 'tutelage[report]'\"")


def _table(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, list[tuple[str, str]]]]]]:
    """Groups of lines; a line is a title and one (estimate, interval) a row of the report."""
    groups = []
    for group in dict.fromkeys([*_GROUPS, *(group for row in rows for group in row["measures"])]):
        present = dict.fromkeys(name for row in rows for name in row["measures"].get(group, {}))
        names = [
            *(name for name in text.COSTS if name in present),
            *(name for name in present if name not in text.COSTS),
        ]
        lines = []
        for name in names:
            if name.startswith("kept_class_"):
                continue
            numbers = [row["measures"].get(group, {}).get(name) for row in rows]
            cells = [(text.value(name, n) if n else "–", text.bounds(name, n)) for n in numbers]
            lines.append((text.title(name), cells))
        if lines:
            groups.append((group, lines))
    return groups


def _findings(found: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, heads and cells; what is no table is a line of one for all of them."""
    plain = [[text.title(name), text.finding(value)] for name, value in found.items() if not isinstance(value, list)]
    tables = [(text.title(n), *text.finding_table(rows)) for n, rows in found.items() if isinstance(rows, list)]
    return [*([("", [], plain)] if plain else []), *tables]


def _by_class(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Class, share kept and interval, the greatest loss first."""
    found = report["kept"].get("of_before_by_class") or report["kept"].get("of_source_by_class") or {}
    names = (report.get("figures") or {}).get("class_names")
    kept = sorted(((label, number) for label, number in found.items() if number), key=lambda pair: pair[1]["value"])
    return [
        (
            names[int(label)] if names and int(label) < len(names) else label,
            text.value("kept", n),
            text.bounds("kept", n),
        )
        for label, n in kept
    ]


def _figures(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[figures.Figure]:
    data = report.get("figures") or {}
    metric = report["arrived"]["metric"]
    palette = figures.Palette([row["name"] for row in rows])
    points = []
    for row in rows:
        quality = row["measures"].get("quality", {}).get(metric)
        parameters = row["measures"].get("cost", {}).get("parameters")
        if quality and parameters and parameters["value"] > 0:
            points.append((row["name"], parameters["value"], quality))
    curves = data.get("curves") or []
    try:
        drawn = [
            figures.losses(curves, figures.Palette()),
            figures.validation(curves, figures.Palette()),
            figures.reliability(data.get("reliability") or [], palette),
            figures.agreement(data.get("agreement"), data.get("class_names")),
            figures.quality_against_cost(points, text.title(metric), palette),
            *(drawings.draw(one) for one in data.get("drawn") or ()),
        ]
    except ModuleNotFoundError as error:
        raise missing(error) from error
    return [figure for figure in drawn if figure is not None]


def _flat(value: Any, place: str = "") -> Any:
    """Leaves of nested mappings as (dotted key, text)."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _flat(entry, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and any(isinstance(entry, Mapping | list) for entry in value):
        for index, entry in enumerate(value):
            yield from _flat(entry, f"{place}.{index}")
    else:
        yield place, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
