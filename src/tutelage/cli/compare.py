"""The compare command."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.app import app
from tutelage.cli.output import as_json, show
from tutelage.cli.runs import Json, TrustCode, TrustPickle, _trust

if TYPE_CHECKING:
    from tutelage.comparing import Compared, Job, Outcome

_OVERRIDE = re.compile(r"[A-Za-z0-9_.-]+=")


@app.command()
def compare(
    recipes: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE... [KEY=VALUE...]",
            help="Recipe files, each a variant; and changes to all of them: `train.epochs=5`.",
            show_default=False,
        ),
    ],
    methods: Annotated[
        str | None,
        typer.Option(
            help="Variants of one recipe: its method replaced by each of these, with their defaults, e.g. kd,wttm,rkd; "
            "those of its compare section unless given.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Each variant runs once with each seed; 0,1,2 unless the recipe says otherwise.", show_default=False
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time; 1 unless given, or what a Ray cluster holds.", show_default=False),
    ] = None,
    on: Annotated[str, typer.Option(help="local, or ray for a cluster that shares the file system.")] = "local",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the comparison; runs/compare-<recipes> unless given.", show_default=False),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Variant that the others are compared with; as the recipe says, or the first.", show_default=False
        ),
    ] = None,
    trust_remote_code: TrustCode = False,
    trust_pickle: TrustPickle = False,
    json: Json = False,
) -> None:
    """Run variants by seeds and compare them, with intervals: which of these should I use on my data?

    What is finished is not run again: after Ctrl-C, or a kill, the same command goes on.
    """
    from tutelage.comparing import compare as work
    from tutelage.recipe.errors import RunError
    from tutelage.report.comparison import table

    _trust(trust_remote_code, trust_pickle)
    # A file whose name looks like a change is still a file.
    changes = [text for text in recipes if _OVERRIDE.match(text) and not Path(text).is_file()]
    files = [text for text in recipes if text not in changes]
    with Board() as board:
        compared = work(
            files,
            changes,
            methods=_listed(methods or ""),
            seeds=None if seeds is None else _numbers(seeds),
            jobs=jobs,
            on=on,
            out=out,
            reference=reference,
            watcher=board,
        )
    if json:
        as_json({"folder": str(compared.folder), **compared.comparison, "failures": _failures(compared)})
    else:
        show(table(compared.comparison))
        typer.echo(f"\nruns    {compared.folder}")
        if compared.page is not None:
            typer.echo(f"page    {compared.page}")
    if compared.failures:
        total = sum(len(variant["runs"]) for variant in compared.comparison["variants"])
        told = "\n".join(f"{f.job}: {f.error} ({f.job.log})" for f in compared.failures)
        raise RunError(f"{len(compared.failures)} of {total} runs failed; the same command tries them again\n{told}")


class Board:
    """A bar for all runs and one for each at work; lines of text where stderr is no terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

        self.console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            expand=True,
        )
        self._all: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Board:
        self._progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._progress.stop()

    def began(self, total: int, done: int) -> None:
        """The bar for all runs."""
        self._all = self._progress.add_task("all runs", total=total, completed=done)
        if done:
            self.note(f"{done} of {total} runs are done already")

    def started(self, job: Job, how: str) -> None:
        """A bar for a run."""
        self._tasks[str(job)] = self._progress.add_task(str(job), total=None)
        self.note(f"{job}: {how}")

    def moved(self, job: Job, stage: str, done: int, total: int) -> None:
        """Move its bar."""
        self._progress.update(self._tasks[str(job)], description=f"{job}: {stage}", completed=done, total=total)

    def ended(self, job: Job, outcome: Outcome, error: str) -> None:
        """Take its bar away and say what became of it."""
        if (task := self._tasks.pop(str(job), None)) is not None:
            self._progress.remove_task(task)
        if self._all is not None and outcome != "interrupted":
            self._progress.advance(self._all)
        self.note(f"{job}: {outcome}{f': {error}' if error else ''}")

    def note(self, text: str) -> None:
        """A line above the bars."""
        self.console.print(text, style="dim", highlight=False, soft_wrap=True, markup=False)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> list[int]:
    from tutelage.recipe.errors import InputError

    parts = _listed(text)
    wrong = [part for part in parts if not re.fullmatch(r"-?\d+", part)]
    if wrong:
        raise InputError(f"--seeds: '{wrong[0]}' is no whole number; expected numbers with commas, e.g. 0,1,2")
    return [int(part) for part in parts]


def _failures(compared: Compared) -> list[dict[str, Any]]:
    return [
        {"variant": f.job.variant, "seed": f.job.seed, "error": f.error, "log": str(f.job.log)}
        for f in compared.failures
    ]
