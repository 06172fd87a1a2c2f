"""Progress on stderr."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_SHOWN = ("loss", "task", "transfer")


class Bars:
    """A bar for each stage, with the latest losses; lines of text where stderr is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        quiet = int(os.environ.get("RANK", "0")) != 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[terms]}"),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
            expand=True,
        )
        self._plain = not quiet and not self.console.is_terminal
        self._quiet = quiet
        self._tasks: dict[str, TaskID] = {}
        self._totals: dict[str, int] = {}
        self._tenths: dict[str, int] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, task: str, total: int, done: int = 0) -> None:
        """A new bar."""
        self._totals[task] = total
        self._tenths[task] = 10 * done // max(total, 1)
        self._tasks[task] = self._progress.add_task(task, total=total, completed=done, terms="")

    def advance(self, task: str, done: int, terms: Mapping[str, float]) -> None:
        """Move the bar."""
        if self._quiet:
            return
        shown = " ".join(
            f"{name.rpartition('/')[2]} {value:.3f}"
            for name, value in terms.items()
            if name.rpartition("/")[2] in _SHOWN
        )
        self._progress.update(self._tasks[task], completed=done)
        if shown:
            self._progress.update(self._tasks[task], terms=shown)
        tenth = 10 * done // max(self._totals[task], 1)
        if self._plain and tenth > self._tenths[task]:
            self._tenths[task] = tenth
            self.console.print(f"{task}: {done}/{self._totals[task]} steps {shown}", highlight=False, soft_wrap=True)

    def end(self, task: str) -> None:
        """Fill the bar up."""
        self._progress.update(self._tasks[task], completed=self._totals[task])

    def note(self, text: str) -> None:
        """A line above the bars."""
        if not self._quiet:
            self.console.print(text, style="dim", highlight=False, soft_wrap=True)
