"""Bringing runs to their end: what is done is not done again, what was left goes on."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from tutelage.comparing.places import Place, ended
from tutelage.comparing.planning import Job
from tutelage.engine.stopping import Interrupted, Interruption
from tutelage.recipe.runfolder import RunFolder

_STEPS = re.compile(r"(?P<stage>[^:]+): (?P<done>\d+)/(?P<total>\d+) steps")
_PAUSE = 0.2
Outcome = Literal["done", "failed", "interrupted"]


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Args:
        job: Which.
        error: What it said.
    """

    job: Job
    error: str


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


class Work:
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
