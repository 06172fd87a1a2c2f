"""Where runs run: in processes of this machine, or as tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tutelage.recipe.errors import InputError, nearest

PLACES = ("local", "ray")
_INTERRUPTED = 130
_PAUSE = 0.2


class Process(Protocol):
    """A run at work."""

    def poll(self) -> int | None:
        """Its exit code once it has one; negative for the signal that ended it."""

    def interrupt(self) -> None:
        """Ask it to save and leave; asked twice, it leaves at once."""


class Place(Protocol):
    """Somewhere to run."""

    jobs: int

    def start(self, arguments: Sequence[str], log: Path) -> Process:
        """Run ``tutelage`` with these arguments; what it says is added to the log."""


@contextlib.contextmanager
def place_of(name: str, jobs: int | None) -> Iterator[Place]:
    """A place to run, and the end of what it started.

    Args:
        name: ``local`` or ``ray``.
        jobs: Runs at a time; ``None`` for what is usual there.

    Raises:
        InputError: There is no such place, or its packages are missing.
    """
    if name not in PLACES:
        raise InputError(f"there is no place to run called '{name}'. {nearest(name, PLACES)}")
    if name == "local":
        yield Local(jobs or 1)
        return
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError('running on Ray needs a package more: pip install "tutelage[scale]"') from error
    mine = not ray.is_initialized()
    if mine:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # An address in RAY_ADDRESS is found by Ray itself; without one, it starts a cluster of this machine.
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield OnRay(ray, jobs)
    finally:
        if mine:
            ray.shutdown()


class Local:
    """Processes of this machine, which divide its cores.

    Args:
        jobs: Runs at a time.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        given = os.environ.get("OMP_NUM_THREADS", "")
        cores = int(given) if given.isdecimal() and int(given) else _cores()
        self.threads = max(1, cores // jobs)

    def start(self, arguments: Sequence[str], log: Path) -> Process:
        """A process in a session of its own: Ctrl-C in the terminal reaches it once, through `Process.interrupt`."""
        return _Child(_launch(arguments, log, os.getcwd(), {"OMP_NUM_THREADS": str(self.threads)}))


class _Child:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def poll(self) -> int | None:
        return self.process.poll()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)


class OnRay:
    """Tasks of a Ray cluster whose machines share this one's file system.

    Args:
        ray: The initialised package.
        jobs: Runs at a time; as many as it has GPUs, or else cores, by default.
    """

    def __init__(self, ray: Any, jobs: int | None) -> None:
        have = ray.cluster_resources()
        cores, devices = max(1, int(have.get("CPU", 1))), int(have.get("GPU", 0))
        self.ray = ray
        self.jobs = jobs or devices or cores
        self.threads = max(1, cores // self.jobs)
        # Without a share of a GPU, Ray hides it from the task; a whole one is the most that a run can use.
        share = min(1.0, devices / self.jobs)
        self.task = ray.remote(num_cpus=self.threads, num_gpus=share, max_retries=0)(work)

    def start(self, arguments: Sequence[str], log: Path) -> Process:
        """A task that starts a process wherever there is room."""
        own = {key: value for key, value in os.environ.items() if key.startswith("TUTELAGE_")}
        environment = {**own, "OMP_NUM_THREADS": str(self.threads)}
        return _Task(self.ray, self.task.remote(list(arguments), str(log), os.getcwd(), environment))


class _Task:
    def __init__(self, ray: Any, reference: Any) -> None:
        self.ray, self.reference = ray, reference

    def poll(self) -> int | None:
        ready, _ = self.ray.wait([self.reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self.ray.get(self.reference))
        except self.ray.exceptions.TaskCancelledError:
            return _INTERRUPTED
        except self.ray.exceptions.RayError:
            # The worker or its machine went away, and the run with it.
            return -signal.SIGKILL

    def interrupt(self) -> None:
        self.ray.cancel(self.reference, force=False)


def work(arguments: list[str], log: str, folder: str, environment: dict[str, str]) -> int:
    """What a Ray task does: the run in a process of its own; the task being cancelled interrupts it.

    Args:
        arguments: Of ``tutelage``.
        log: File that what it says is added to.
        folder: Working folder, for relative paths.
        environment: Variables it gets beside those of the worker.

    Returns:
        The exit code.
    """
    process = _launch(arguments, Path(log), folder, environment)
    try:
        # Cancelling is noticed between two Python instructions: a plain wait would sleep through it.
        while (code := process.poll()) is None:
            time.sleep(_PAUSE)
        return code
    except KeyboardInterrupt:
        # Ray's workers, and what they start, have SIGINT blocked; a run takes SIGTERM for the same request.
        process.terminate()
        return process.wait()


def _launch(
    arguments: Sequence[str], log: Path, folder: str, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    # A file and not a pipe: a run whose comparison was killed goes on, and has somewhere to say so.
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tutelage", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            cwd=folder,
            env={**os.environ, **environment},
            start_new_session=True,
        )


def ended(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}"
    return f"it ended with exit code {code} and said nothing"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
