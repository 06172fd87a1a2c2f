"""Variants by seeds, each in a run folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.comparing.places import place_of
from tutelage.comparing.planning import Job, default_folder, plan, wanted
from tutelage.comparing.working import Failure, Outcome, Unwatched, Watcher, Work
from tutelage.recipe.errors import InputError

__all__ = ["Compared", "Failure", "Job", "Outcome", "Unwatched", "Watcher", "compare", "plan"]


@dataclass(frozen=True)
class Compared:
    """A comparison that went through all of its runs.

    Args:
        folder: Where the runs, ``comparison.json`` and ``comparison.html`` are.
        comparison: As in ``comparison.json``.
        failures: Runs that failed.
        page: The HTML page; ``None`` where the packages that draw it are missing.
    """

    folder: Path
    comparison: Mapping[str, Any]
    failures: Sequence[Failure]
    page: Path | None


def compare(
    recipes: Sequence[str | Path],
    overrides: Sequence[str] = (),
    *,
    methods: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    jobs: int | None = None,
    on: str = "local",
    out: str | Path | None = None,
    reference: str | None = None,
    watcher: Watcher | None = None,
) -> Compared:
    """Run variants by seeds and compare them; called again, it goes on where it was.

    Args:
        recipes: Recipe files; each is a variant, unless methods are named.
        overrides: ``key.key=value`` changes to all of them.
        methods: With one recipe: variants that replace its method by these, with their defaults; those of its
            ``compare`` section unless given.
        seeds: Each variant runs once with each; by default as the recipe says, or 0, 1 and 2.
        jobs: Runs at a time; by default one here, and on Ray as many as it has devices.
        on: ``local`` for processes of this machine, ``ray`` for a Ray cluster that shares the file system.
        out: Folder of the comparison; named after the recipes and the changes by default.
        reference: The variant that others are compared with; by default as the recipe says, or the first.
        watcher: Hears of progress.

    Raises:
        InputError: Something is wrong with what was asked; all mistakes at once, before anything is started.
        Interrupted: It was asked to leave; running variants have saved their state.
    """
    from tutelage.report.comparison import compare as side_by_side
    from tutelage.report.comparison import render
    from tutelage.report.store import load_report, to_json, write

    folder = Path(out) if out is not None else default_folder(recipes, overrides)
    asked = wanted(recipes, overrides, methods=methods, seeds=seeds, reference=reference)
    planned = plan(recipes, overrides, asked, folder=folder)
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs is the number of runs at a time, at least 1, not {jobs}")
    ears = watcher or Unwatched()
    with place_of(on, jobs) as place:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        failures = Work(planned, place, ears).carry()
    failed = {id(failure.job) for failure in failures}
    reports = [None if id(job) in failed else load_report(job.folder) for job in planned]
    model = next((report["arrived"] for report in reports if report is not None), {"metric": "accuracy"})
    absent = {"status": "failed", "arrived": {**model, "after": None}}
    rows = [(job.variant, job.seed, report or absent) for job, report in zip(planned, reports, strict=True)]
    comparison = side_by_side(rows, reference=asked.reference)
    write(folder / "comparison.json", to_json(comparison))
    page: Path | None = None
    try:
        page = write(folder / "comparison.html", render(comparison, name=folder.name))
    except InputError as error:
        ears.note(str(error))
    return Compared(folder, comparison, failures, page)
