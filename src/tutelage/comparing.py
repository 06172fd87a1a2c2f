"""Variants by seeds, each in a run folder of its own: what is done is not done again, what was left goes on."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tutelage.engine.stopping import Interrupted, Interruption
from tutelage.places import Place, place_of
from tutelage.recipe.errors import InputError, Problem, RecipeError, nearest
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.registry import registry
from tutelage.recipe.runfolder import RunFolder
from tutelage.recipe.spec import Recipe

_STEPS = re.compile(r"(?P<stage>[^:]+): (?P<done>\d+)/(?P<total>\d+) steps")
_PAUSE = 0.2
Outcome = Literal["done", "failed", "interrupted"]


@dataclass(frozen=True)
class Job:
    """One run of a comparison.

    Args:
        variant: What it is called in the table.
        seed: Its seed.
        recipe: What it does, checked.
        source: The file that the recipe comes from.
        overrides: What is changed in it.
        folder: Its run folder.
        log: What it says while it runs.
    """

    variant: str
    seed: int
    recipe: Recipe
    source: Path
    overrides: tuple[str, ...]
    folder: Path
    log: Path

    def __str__(self) -> str:
        return f"{self.variant} seed {self.seed}"


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Args:
        job: Which.
        error: What it said.
    """

    job: Job
    error: str


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


class Watcher(Protocol):
    """Hears of progress, from several threads."""

    def began(self, total: int, done: int) -> None:
        """So many runs, of which so many were finished earlier."""

    def started(self, job: Job, how: str) -> None:
        """A run is ``started``, ``resumed``, or ``waited for`` because another process works in it."""

    def moved(self, job: Job, stage: str, done: int, total: int) -> None:
        """A run did steps of a stage."""

    def ended(self, job: Job, outcome: Outcome, error: str) -> None:
        """A run ended; the error is empty unless it failed."""

    def note(self, text: str) -> None:
        """Something worth reading happened."""


class Unwatched:
    """Listens to nothing."""

    def began(self, total: int, done: int) -> None:
        """Ignored."""

    def started(self, job: Job, how: str) -> None:
        """Ignored."""

    def moved(self, job: Job, stage: str, done: int, total: int) -> None:
        """Ignored."""

    def ended(self, job: Job, outcome: Outcome, error: str) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""


def compare(
    recipes: Sequence[str | Path],
    overrides: Sequence[str] = (),
    *,
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (0, 1, 2),
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
        methods: With one recipe: variants that replace its method by these, with their defaults.
        seeds: Each variant runs once with each.
        jobs: Runs at a time; by default one here, and on Ray as many as it has devices.
        on: ``local`` for processes of this machine, ``ray`` for a Ray cluster that shares the file system.
        out: Folder of the comparison; named after the recipes and the changes by default.
        reference: The variant that others are compared with; the first by default.
        watcher: Hears of progress.

    Raises:
        InputError: Something is wrong with what was asked; all mistakes at once, before anything is started.
        Interrupted: It was asked to leave; running variants have saved their state.
    """
    from tutelage.report.comparison import compare as side_by_side
    from tutelage.report.comparison import render
    from tutelage.report.store import load_report, to_json, write

    folder = Path(out) if out is not None else _default_folder(recipes, overrides)
    planned = plan(recipes, overrides, methods=methods, seeds=seeds, folder=folder, reference=reference)
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs is the number of runs at a time, at least 1, not {jobs}")
    ears = watcher or Unwatched()
    with place_of(on, jobs) as place:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        failures = _Work(planned, place, ears).carry()
    failed = {id(failure.job) for failure in failures}
    reports = [None if id(job) in failed else load_report(job.folder) for job in planned]
    model = next((report["arrived"] for report in reports if report is not None), {"metric": "accuracy"})
    absent = {"status": "failed", "arrived": {**model, "after": None}}
    rows = [(job.variant, job.seed, report or absent) for job, report in zip(planned, reports, strict=True)]
    comparison = side_by_side(rows, reference=reference)
    write(folder / "comparison.json", to_json(comparison))
    page: Path | None = None
    try:
        page = write(folder / "comparison.html", render(comparison, name=folder.name))
    except InputError as error:
        ears.note(str(error))
    return Compared(folder, comparison, failures, page)


# ---------------------------------------------------------------------- planning


def plan(
    recipes: Sequence[str | Path],
    overrides: Sequence[str],
    *,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    reference: str | None = None,
) -> list[Job]:
    """The runs of a comparison, by variant and then by seed: those that share a source's training come apart.

    Raises:
        RecipeError: With all the mistakes found.
    """
    problems = _asked(recipes, overrides, methods, seeds)
    if problems:
        raise RecipeError(problems=tuple(problems))
    loaded: list[tuple[str, int, Recipe, Path, tuple[str, ...]]] = []
    for source in map(Path, recipes):
        for method in methods or (None,):
            # The first change empties the key, so that arguments of the recipe's own method do not stay.
            swap = () if method is None else ("method=null", f"method={method}")
            for seed in seeds:
                changes = (*swap, *overrides, f"seed={seed}")
                try:
                    recipe = load_recipe(source, changes)
                    loaded.append((method or recipe.name, seed, recipe, source, changes))
                except RecipeError as error:
                    problems.extend(error.problems)
    if not problems:
        from tutelage.api import look_over

        for _, _, recipe, _, _ in loaded:
            try:
                look_over(recipe)
            except RecipeError as error:
                problems.extend(error.problems)
    variants = _names([(name, source) for name, _, _, source, _ in loaded])
    jobs = []
    for variant, (_, seed, recipe, source, changes) in zip(variants, loaded, strict=True):
        name = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', variant)}-s{seed}"
        jobs.append(Job(variant, seed, recipe, source, changes, folder / name, folder / "logs" / f"{name}.log"))
    if reference is not None and reference not in variants and not problems:
        hint = nearest(reference, variants)
        problems.append(Problem(f"'{reference}' is none of the variants.", file="--reference", hint=hint))
    if not problems:
        problems.extend(_foreign(jobs))
    if problems:
        raise RecipeError(problems=tuple(dict.fromkeys(problems)))
    return jobs


def _asked(
    recipes: Sequence[str | Path], overrides: Sequence[str], methods: Sequence[str], seeds: Sequence[int]
) -> list[Problem]:
    """Mistakes in what was asked, before any recipe is read."""
    problems = []
    if not recipes:
        problems.append(Problem("there is nothing to compare: expected at least one recipe file.", file="compare"))
    if methods and len(recipes) > 1:
        text = f"replaces the method of one recipe, but {len(recipes)} are given; compare them without it."
        problems.append(Problem(text, file="--methods"))
    names = registry().names("method")
    for method in methods:
        if ":" not in method and method not in names:
            problems.append(Problem(f"there is no method '{method}'.", file="--methods", hint=nearest(method, names)))
    if not seeds:
        problems.append(Problem("expected at least one seed.", file="--seeds"))
    problems += [Problem(f"a seed is at least 0, not {seed}.", file="--seeds") for seed in seeds if seed < 0]
    for what, values in (("--methods", methods), ("--seeds", seeds), ("compare", recipes)):
        repeated = [str(value) for value, count in Counter(values).items() if count > 1]
        problems += [Problem(f"'{value}' is there more than once.", file=what) for value in repeated]
    for change in overrides:
        key = change.partition("=")[0].strip()
        if key == "seed":
            problems.append(Problem("a comparison sets seeds by --seeds.", file=f"override '{change}'"))
        if key == "method" and methods:
            problems.append(Problem("the method is set by --methods.", file=f"override '{change}'"))
    return problems


def _names(found: Sequence[tuple[str, Path]]) -> list[str]:
    """A name for each run's variant; recipes of the same name in different folders are told apart by those."""
    sources: dict[str, set[Path]] = {}
    for name, source in found:
        sources.setdefault(name, set()).add(source)
    shared = {name for name, files in sources.items() if len(files) > 1}
    longer = {source: f"{source.resolve().parent.name}-{source.stem}" for name in shared for source in sources[name]}
    clash = [name for name, count in Counter(longer.values()).items() if count > 1]
    if clash:
        raise InputError(f"several recipes are called '{clash[0]}': give them a 'name' of their own")
    return [longer[source] if name in shared else name for name, source in found]


def _default_folder(recipes: Sequence[str | Path], overrides: Sequence[str]) -> Path:
    """The same command finds the same folder; other changes to the recipes lead to another one."""
    stems = "-".join(Path(recipe).stem for recipe in recipes)[:60]
    mark = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:6] if overrides else ""
    return Path("runs") / "-".join(part for part in ("compare", stems, mark) if part)


def _foreign(jobs: Sequence[Job]) -> list[Problem]:
    """Run folders that hold something else."""
    problems = []
    for job in jobs:
        if not job.folder.exists() or (job.folder.is_dir() and not any(job.folder.iterdir())):
            continue
        try:
            held = RunFolder.open(job.folder).manifest().get("recipe")
        except InputError as error:
            problems.append(Problem(str(error), file=str(job.folder)))
            continue
        if held != job.recipe.fingerprint():
            text = "holds a run of another recipe or with other changes; choose another folder with --out."
            problems.append(Problem(text, file=str(job.folder)))
    return problems


# ---------------------------------------------------------------------- working


class _Work:
    """Brings every job to its end.

    Args:
        jobs: All of them.
        place: Where they run.
        watcher: Hears of progress.
    """

    def __init__(self, jobs: Sequence[Job], place: Place, watcher: Watcher) -> None:
        self.jobs, self.place, self.watcher = jobs, place, watcher
        self.leaving = threading.Event()
        self.hurrying = threading.Event()

    def carry(self) -> tuple[Failure, ...]:
        """Do what is not done.

        Raises:
            Interrupted: It was asked to leave, and everything that was running has left.
        """
        left = [job for job in self.jobs if _state(job) != "done"]
        self.watcher.began(len(self.jobs), len(self.jobs) - len(left))
        interruption = Interruption()
        with interruption.listening(), ThreadPoolExecutor(self.place.jobs, "run") as pool:
            futures: dict[Future[tuple[Outcome, str]], Job] = {pool.submit(self._job, job): job for job in left}
            try:
                waiting = set(futures)
                while waiting:
                    ready, waiting = wait(waiting, timeout=_PAUSE, return_when=FIRST_EXCEPTION)
                    for future in ready:
                        future.result()
                    if interruption.asked and not self.leaving.is_set():
                        self.watcher.note("leaving: the running variants finish their step and save")
                        self.leaving.set()
            except BaseException as error:
                # The pool waits for its threads; they must not wait for runs that may take hours.
                self.leaving.set()
                if isinstance(error, KeyboardInterrupt):
                    self.hurrying.set()
                raise
        outcomes = [(job, *future.result()) for future, job in futures.items()]
        if any(outcome == "interrupted" for _, outcome, _ in outcomes):
            done = sum(_state(job) == "done" for job in self.jobs)
            raise Interrupted(f"interrupted with {done} of {len(self.jobs)} runs done; the same command goes on")
        return tuple(Failure(job, error) for job, outcome, error in outcomes if outcome == "failed")

    def _job(self, job: Job) -> tuple[Outcome, str]:
        if self.leaving.is_set():
            return "interrupted", ""
        outcome, error = self._attempt(job)
        self.watcher.ended(job, outcome, error)
        return outcome, error

    def _attempt(self, job: Job) -> tuple[Outcome, str]:
        state = _state(job)
        if state == "running":
            # A comparison that was killed leaves its runs at work.
            self.watcher.started(job, "waited for")
            while state == "running" and not self.leaving.wait(_PAUSE):
                state = _state(job)
        if self.leaving.is_set():
            return "interrupted", ""
        if state == "done":
            return "done", ""
        if state == "new":
            arguments = ["run", str(job.source), *job.overrides, "--run-dir", str(job.folder), "--json"]
        else:
            arguments = ["resume", str(job.folder), "--json"]
        self.watcher.started(job, "started" if state == "new" else "resumed")
        return self._process(job, arguments)

    def _process(self, job: Job, arguments: Sequence[str]) -> tuple[Outcome, str]:
        tail = _Tail(job.log)
        process = self.place.start(arguments, job.log)
        asked = hurried = False
        while (code := process.poll()) is None:
            self._listen(job, tail)
            if self.leaving.is_set() and not asked:
                process.interrupt()
                asked = True
            if self.hurrying.is_set() and not hurried:
                process.interrupt()
                hurried = True
            time.sleep(_PAUSE)
        self._listen(job, tail)
        if asked:
            # Where a cluster only reports that the task was cancelled, the run may still be saving.
            while _state(job) == "running" and not self.hurrying.is_set():
                time.sleep(_PAUSE)
        if code == 0 and _state(job) == "done":
            return "done", ""
        if asked:
            return "interrupted", ""
        return "failed", tail.error(code)

    def _listen(self, job: Job, tail: _Tail) -> None:
        for line in tail.read():
            if (found := _STEPS.match(line)) is not None:
                self.watcher.moved(job, found["stage"], int(found["done"]), int(found["total"]))


class _Tail:
    """What a run adds to its log from now on.

    Args:
        path: The log.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start = self.position = path.stat().st_size if path.exists() else 0

    def read(self) -> list[str]:
        """Whole lines since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.position)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.position += len(whole)
        return whole.decode("utf-8", "replace").splitlines()

    def error(self, code: int) -> str:
        """Why the run failed, as it said itself."""
        from tutelage.places import ended

        self.position = self.start
        lines = self.read()
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return " ".join(said) or ended(code)


def _state(job: Job) -> str:
    """``new``, ``running``, ``done``, or something that can be gone on with."""
    if not (job.folder / "manifest.json").exists():
        return "new"
    status = RunFolder(job.folder).status()
    if status == "done" and (job.folder / "report.json").exists():
        return "done"
    return "running" if status == "running" else "left"
