"""Writes the pages of results/ from what runs and benchmarks left: `python results/make.py [page ...]`.

Nothing on a page is written by hand: a number that is not there was not measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.runfolder import RunFolder
from tutelage.report.store import load_report
from tutelage.report.text import full, value

ROOT = Path(__file__).resolve().parents[1]
NONE = "-"
_FIRST = frozenset(
    (
        *("quickstart", "supervised", "kd", "rkd", "ttm", "wttm", "topkd"),
        *("fitnet", "attention-transfer", "layer-selection", "born-again"),
    )
)


_LANGUAGE = frozenset(("gkd", "distillm", "llm-neo", "lm-quickstart"))
"""Recipes and methods of language models."""


def benchmarks(root: Path) -> str:
    """The page of the benchmarks, from results/raw/bench."""
    records = [_read(path) for path in sorted((root / "results" / "raw" / "bench").glob("*.json"))]
    ratios = [
        [r["name"], f"{r['ratio']:.3f}", f"{r['limit']:g}", _side(r, "ours"), _side(r, "peer"), _judged(r["ratio"], r)]
        for r in records
        if "ratio" in r
    ]
    values = [
        [r["name"], f"{r['value']:.3f} {r['unit']}", f"{r['limit']:g} {r['unit']}", _judged(r["value"], r)]
        for r in records
        if "value" in r
    ]
    parts = [
        "# Benchmarks",
        "Written by `make bench`; the scripts in `benchmarks/` say what is measured. Medians over repeats, with the "
        "least and the most; sides of a ratio take turns.",
        *_section("Ratios", ["benchmark", "ratio", "limit", "ours", "peer", ""], ratios),
        *_section("Times", ["benchmark", "measured", "limit", ""], values),
        "\n".join(f"- **{r['name']}**: {r['about']}" for r in records if r.get("about")),
        "## Measured on",
        "\n".join(dict.fromkeys(_setting(r) for r in records)),
    ]
    return _page(parts if records else [parts[0], "Nothing was measured yet: `make bench`."])


def foundation(root: Path) -> str:
    """The page of the first recipes and methods, from runs/reproduce and results/raw/distill."""
    return _page(["# Foundation", *_recipes(root, _FIRST.__contains__)])


def distill_vision(root: Path) -> str:
    """The page of the vision methods that came after, likewise; and the comparison of the shelf, where it was run."""
    parts = ["# Distilling vision models", *_recipes(root, lambda name: name not in _FIRST | _LANGUAGE)]
    shelf = root / "results" / "raw" / "vision-shelf.json"
    return _page([*parts, *(_shelf(_read(shelf)) if shelf.is_file() else ())])


_STORE = ("kgcl",)
_STORE_COSTS = ("graph-kgcl-", "graph-loading", "graph-change-")


def distill_language(root: Path) -> str:
    """The page of the methods for language models, likewise."""
    return _page(["# Distilling language models", *_recipes(root, _LANGUAGE.__contains__)])


def graph(root: Path) -> str:
    """The page of knowledge graphs: what studies of their methods left in results/raw/graph, and the benchmarks."""
    folder = root / "results" / "raw" / "graph"
    found = [_read(path) for path in sorted(folder.glob("*.json"))]
    order = {"link-prediction": 0, "trans": 1}
    found.sort(key=lambda entry: (order.get(entry["method"], 9), entry["method"]))
    parts = ["# Knowledge graphs", "Written by `results/make.py` from what `results/study.py` and `make bench` left."]
    for heading, mine in (("Embed and complete", False), ("Store and change", True)):
        those = [entry for entry in found if (entry["method"] in _STORE) == mine]
        if those:
            parts.append(f"## {heading}")
        for entry in those:
            parts += [f"### {entry['method']}: {entry['what']}", str(entry["setup"]), _pivot(entry["rows"])]
            parts.append(str(entry.get("note", "")))
    records = [_read(path) for path in sorted((root / "results" / "raw" / "bench").glob("graph-*.json"))]
    for heading, peer, mine in (("What store and change cost", "beside", True), ("Beside PyKEEN", "PyKEEN", False)):
        those = [r for r in records if "ratio" in r and r["name"].startswith(_STORE_COSTS) == mine]
        rows = [
            [
                r["name"].removeprefix("graph-"),
                f"{r['ratio']:.3f}",
                f"{r['limit']:g}",
                _side(r, "ours"),
                _side(r, "peer"),
            ]
            for r in those
        ]
        parts += _section(heading, ["", "ratio", "limit", "ours", peer], rows)
        parts.append("\n".join(dict.fromkeys(f"- {r['about']}" for r in those if r.get("about"))))
    return _page(parts)


def _recipes(root: Path, wanted: Callable[[str], bool]) -> Iterable[str]:
    """What came out of shipped recipes and of experiments with their methods."""
    rows, notes, machines = [], [], []
    home = root / "recipes"
    for path in sorted(home.rglob("*.yaml"), key=lambda p: (len(p.relative_to(home).parts), p)):
        name = path.relative_to(home).with_suffix("")
        # Other routes have pages of their own.
        if not wanted(name.name) or name.parts[0] not in ("distill", name.name):
            continue
        folder = root / "runs" / "reproduce" / name
        try:
            report = load_report(folder)
            manifest = RunFolder.open(folder).manifest()
            if manifest["recipe"] != load_recipe(path).fingerprint():
                stale = folder.relative_to(root)
                notes.append(f"- `{name}`: the run is of an older recipe; remove `{stale}` to repeat it.")
        except RecipeError as error:
            notes.append(f"- `{name}`: {error}")
            continue
        except InputError:
            notes.append(f"- `{name}` has not been run.")
            continue
        machines.append(_where(manifest))
        rows.append(_recipe_row(str(name), report))
    heads = ["recipe", "method", "metric", "teacher", "student", "control", "gap recovered", "agreement", "ECE", "time"]
    yield (
        "Written by `make reproduce`, which runs every recipe below `recipes/`. Intervals are 95 % bootstrap intervals "
        "over the test samples of one run. The control is the same student, trained as long on the same batches "
        "without transfer."
    )
    yield from _section("Shipped recipes", heads, rows)
    yield "\n".join(notes)
    yield "\n".join(f"Measured on {machine}." for machine in dict.fromkeys(machines))
    yield from _methods(root / "results" / "raw" / "distill", wanted)


def _shelf(record: Mapping[str, Any]) -> Iterable[str]:
    """A comparison of methods on one pair, as `tutelage compare --json` says it."""
    yield f"## {record['title']}"
    yield str(record["setup"])
    yield _pivot(record["rows"])
    yield str(record.get("note", ""))


def _recipe_row(name: str, report: Mapping[str, Any]) -> list[str]:
    arrived, metric = report["arrived"], report["arrived"]["metric"]
    columns = [full(metric, arrived[key]) if arrived[key] else NONE for key in ("source", "after", "baseline")]
    gap, agreement, ece = (
        arrived["gap_recovered"],
        report["fidelity"].get("agreement"),
        report["calibration"].get("ece"),
    )
    return [
        f"`{name}`",
        report["method"],
        metric,
        *columns,
        full("gap_recovered", gap) if gap else NONE,
        full("agreement", agreement) if agreement else NONE,
        full("ece", ece) if ece else NONE,
        value("wall_time", report["cost"].get("wall_time")) if report["cost"].get("wall_time") else NONE,
    ]


def _methods(folder: Path, wanted: Callable[[str], bool]) -> Iterable[str]:
    """A section for each file that an experiment left: mean over seeds with its interval."""
    found = [_read(path) for path in sorted(folder.glob("*.json")) if wanted(path.stem)]
    if not found:
        return
    yield "## Experiments"
    yield "Each table is one experiment: means over seeds, with 95 % intervals."
    for entry in found:
        yield f"### {entry['method']}: {entry['what']}"
        yield str(entry["setup"])
        yield _pivot(entry["rows"])
        if entry.get("note"):
            yield str(entry["note"])


def _pivot(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row for each thing that was measured, a column for each metric."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    lines: dict[tuple[str, int], dict[str, str]] = {}
    for row in rows:
        cells = lines.setdefault((row["name"], row["n_seeds"]), {})
        cells[row["metric"]] = _interval(row["mean"], row.get("low"), row.get("high"))
    body = [
        [name, *(cells.get(metric, NONE) for metric in metrics), str(seeds)] for (name, seeds), cells in lines.items()
    ]
    return _table(["", *metrics, "seeds"], body)


def _interval(mean: float, low: float | None, high: float | None) -> str:
    bounds = f" [{low:.4g}, {high:.4g}]" if low is not None and high is not None else ""
    return f"{mean:.4g}{bounds}"


def _judged(measured: float, record: Mapping[str, Any]) -> str:
    return "" if measured <= record["limit"] else "**over its limit**"


def _side(record: Mapping[str, Any], name: str) -> str:
    from statistics import median

    values, unit = record[name], record["unit"]
    scale, unit = (1000, "ms") if unit == "s" and median(values) < 0.1 else (1, unit)
    low, middle, high = (scale * pick(values) for pick in (min, median, max))
    return f"{middle:.4g} {unit} ({low:.4g} to {high:.4g}, {len(values)} repeats)"


def _setting(record: Mapping[str, Any]) -> str:
    machine, versions = record["machine"], record["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"- {machine['processor']}, {machine['cores']} cores, {machine['system']}; {packages}"


def _where(manifest: Mapping[str, Any]) -> str:
    hardware, versions = manifest["hardware"], manifest["versions"]
    return (
        f"{hardware['processor']}, {hardware['cores']} cores, {hardware['system']}; Python {versions['python']}, "
        f"torch {versions['torch']}, Tutelage {versions['tutelage']}"
    )


def _section(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    if rows:
        yield f"## {title}"
        yield _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SystemExit(f"{path}: {error}") from error


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def trace(root: Path) -> str:
    """The page of models of learners, from results/raw/trace and the records of the benchmarks."""
    home = root / "results" / "raw" / "trace"
    found = [_read(path) for path in sorted(home.glob("*.json"))]
    parts = [
        "# Knowledge tracing",
        "Written by `python results/tracing.py` and `python results/make.py trace`; nothing on it is written by hand.",
    ]
    for record in found:
        parts += [
            f"## {record['title']}",
            record["setup"],
            _graphs(record) if "edges" in record["rows"][0] else _board(record),
        ]
    return _page(parts if found else [*parts, "Nothing was measured yet."])


def _board(record: Mapping[str, Any]) -> str:
    """A row for each model: its scores with their intervals, and by how much it beats the average of each concept."""
    names = list(dict.fromkeys(name for row in record["rows"] for name in row["scores"]))
    body = []
    for row in record["rows"]:
        scores = [row["scores"].get(name) for name in names]
        cells = [_interval(s["value"], s["low"], s["high"]) if s else NONE for s in (*scores, row["ece"], row["gain"])]
        body.append([row["name"], *cells])
    return _table(["", *names, "ECE", "AUC gained"], body)


def _graphs(record: Mapping[str, Any]) -> str:
    """A row for each way of inferring and number of learners."""
    body = [
        [
            row["inference"],
            str(row["learners"]),
            ", ".join(f"{v:.3f}" for v in row["edges"]),
            f"{sum(row['edges']) / len(row['edges']):.3f}",
        ]
        for row in record["rows"]
    ]
    return _table(["states", "learners", "edge AUROC by seed", "mean"], body)


PAGES: dict[str, Callable[[Path], str]] = {
    "benchmarks": benchmarks,
    "foundation": foundation,
    "distill-vision": distill_vision,
    "distill-language": distill_language,
    "trace": trace,
    "graph": graph,
}


def main(names: Sequence[str]) -> int:
    unknown = [name for name in names if name not in PAGES]
    if unknown:
        raise SystemExit(f"there is no page '{unknown[0]}'; expected {' or '.join(PAGES)}")
    for name in names or PAGES:
        path = ROOT / "results" / f"{name}.md"
        path.write_text(PAGES[name](ROOT), encoding="utf-8")
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
