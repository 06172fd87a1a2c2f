"""Running a recipe: from nothing to the report, or from wherever it was left."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.engine.permission import trusts_pickle
from tutelage.recipe.errors import InputError, Problem, RecipeError, TutelageError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.registry import registry
from tutelage.recipe.runfolder import BASELINE, RunFolder
from tutelage.recipe.spec import Recipe, Spec

if TYPE_CHECKING:
    from torch import nn

    from tutelage.data.splits import Examples
    from tutelage.engine.listening import Listener
    from tutelage.engine.method import Method, Result
    from tutelage.engine.run import Run
    from tutelage.measure import Predicted, Scored
    from tutelage.report.evidence import Row


@dataclass(frozen=True)
class Finished:
    """A run that is done.

    Args:
        folder: Its folder.
        report: Its report, as in ``report.json``.
    """

    folder: Path
    report: Mapping[str, Any]


def run(
    recipe: Recipe | str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    root: str | Path = "runs",
    run_dir: str | Path | None = None,
    listener: Listener | None = None,
) -> Finished:
    """Do what a recipe says, from nothing to the report.

    Args:
        recipe: A recipe, a file that holds one, or its content.
        overrides: ``key.key=value`` changes to it.
        root: Folder that the run's folder is made in.
        run_dir: Exactly this folder instead.
        listener: Hears of progress.

    Raises:
        InputError: The recipe or what it names is wrong; no folder is left behind.
        RunError: The run failed; the folder holds what there is.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    look_over(loaded)
    folder = _folder(loaded, root, run_dir)
    return _go(loaded, folder, listener, first=True)


def resume(run_dir: str | Path, *, listener: Listener | None = None) -> Finished:
    """Go on with a run that was interrupted, killed or failed; a finished one is only reported again.

    Raises:
        InputError: The folder holds no run of this version, or another process works in it.
        RunError: The run failed.
    """
    folder = RunFolder.open(run_dir)
    return _go(folder.recipe(), folder, listener, first=False)


def look_over(recipe: Recipe) -> None:
    """Find the mistakes that need the method's own eyes, before a folder is made.

    Raises:
        RecipeError: All of them.
    """
    from tutelage.engine import storing

    problems: list[Problem] = []
    for spec in (recipe.method, *recipe.also, *(stage.method for stage in recipe.stages)):
        if not spec.foreign:
            problems.extend(registry().load("method", spec.name).check(recipe))
    problems.extend(_unmeasurable(recipe))
    problems.extend(_misfits(recipe))
    problems.extend(storing.problems(recipe))
    taken = {BASELINE, *recipe.models, *recipe.slots}
    for place, stage in enumerate(recipe.stages):
        if stage.name in taken:
            problems.append(
                Problem(
                    f"'{stage.name}' names another part of the run already; give the stage a name of its own.",
                    ("stages", place, "name"),
                    str(recipe.source) if recipe.source else None,
                )
            )
        taken.add(stage.name)
    for slot, spec in recipe.models.items():
        weights = spec.extras.get("weights")
        if isinstance(weights, str | Path):
            from tutelage.models.weight_files import read_tensors

            try:
                read_tensors(Path(weights), trust_pickle=trusts_pickle())
            except InputError as error:
                where = spec.place
                problems.append(Problem(str(error), (slot, "weights"), where.file, where.line, where.column))
    if problems:
        raise RecipeError(problems=tuple(dict.fromkeys(problems)))


def _unmeasurable(recipe: Recipe) -> list[Problem]:
    """Measures of something else than the method's models give."""
    known = registry()
    if recipe.method.foreign:
        return []
    wanted, problems = known.load("method", recipe.method.name).measured, []
    for place, spec in enumerate(recipe.measure):
        subject = "any" if spec.foreign else known.load("measure", spec.name).subject
        if subject not in ("any", wanted):
            fitting = [n for n in known.names("measure") if known.load("measure", n).subject in ("any", wanted)]
            problems.append(
                Problem(
                    f"'{spec.name}' measures {subject}, and '{recipe.method.name}' gives {wanted}.",
                    ("measure", place),
                    spec.place.file,
                    spec.place.line,
                    spec.place.column,
                    f"Choose among {', '.join(fitting)}.",
                )
            )
    return problems


def _misfits(recipe: Recipe) -> list[Problem]:
    """A sampler or mixed labels where the method cannot take them."""
    known, problems = registry(), []
    methods = [known.load("method", spec.name) for spec in (recipe.method, *recipe.also)]
    methods += [known.load("method", spec.name) for stage in recipe.stages for spec in (stage.method, *stage.also)]

    def note(message: str, spec: Spec, hint: str, *keys: str | int) -> None:
        where = spec.place
        problems.append(Problem(message, keys, where.file, where.line, where.column, hint))

    if recipe.sampler is not None and not all(kind.sampled for kind in methods):
        name = recipe.method.name
        note(f"the method '{name}' takes no sampler.", recipe.sampler, "Leave it out, or take 'kd'.", "sampler")
    if recipe.sampler is not None and not recipe.sampler.foreign:
        subject = getattr(known.load("sampler", recipe.sampler.name), "subject", "classes")
        if subject != methods[0].measured:
            text = f"'{recipe.sampler.name}' samples {subject}, and the method is of {methods[0].measured}."
            note(text, recipe.sampler, "Leave it out, or take another.", "sampler")
    if recipe.sampler is not None or any(kind.makes_inputs for kind in methods):
        for slot, spec in recipe.models.items():
            for key in (key for key in ("cache", "store") if spec.extras.get(key)):
                text = f"what the {slot} made of each sample is kept, but it is asked about inputs that are made anew."
                note(text, spec, f"Leave out `{key}`.", slot, key)
    mixing: list[tuple[Spec, tuple[str | int, ...]]] = [
        (spec, ("data", "augment", place)) for place, spec in enumerate(recipe.data.extras.get("augment", ()))
    ]
    if recipe.sampler is not None:
        mixing.append((recipe.sampler, ("sampler",)))
    hard = [kind.__name__ for kind in methods if kind.hard_labels]
    for spec, keys in mixing if hard else ():
        if not spec.foreign and getattr(known.load(spec.kind, spec.name), "mixes", False):
            hint = f"Leave it out: {', '.join(dict.fromkeys(hard))} needs each sample's own class."
            note(f"'{spec.name}' mixes labels, which the method cannot take.", spec, hint, *keys)
    return problems


def _folder(recipe: Recipe, root: str | Path, run_dir: str | Path | None) -> RunFolder:
    """The run's folder: made by the first process, opened by the others."""
    rank = int(os.environ.get("RANK", "0"))
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or rank == 0:
        if run_dir is not None:
            return RunFolder.create(recipe, run_dir, exact=True)
        return RunFolder.create(recipe, root)
    if run_dir is None:
        raise InputError("with several processes, name the run's folder: --run-dir DIR")
    return RunFolder(Path(run_dir))


def _go(recipe: Recipe, folder: RunFolder, listener: Listener | None, *, first: bool) -> Finished:
    from tutelage.engine.listening import Silence
    from tutelage.engine.run import Run
    from tutelage.engine.stopping import Interrupted, Interruption

    interruption = Interruption()
    main = int(os.environ.get("RANK", "0")) == 0
    with folder.lock() if main else nullcontext(), interruption.listening():
        if main:
            folder.event("started" if first else "resumed")
        try:
            run = Run(recipe, folder, listener or Silence(), interruption)
            if main:
                folder.update_manifest(
                    data={"fingerprint": run.splits.info.fingerprint, **dict(run.splits.record)},
                    processes=run.accelerator.num_processes,
                )
            report = _carry(run)
            run.accelerator.end_training()
        except Interrupted:
            raise
        except TutelageError as error:
            if main:
                folder.event("failed", error=str(error))
                if first and isinstance(error, InputError):
                    folder.discard()
            raise
        if main:
            folder.event("done")
    return Finished(folder.path, report)


def _carry(run: Run) -> Mapping[str, Any]:
    """Sources, transfer, control; then what they can do, written down."""
    from tutelage.report.answers import build
    from tutelage.report.drawings import save_pictures
    from tutelage.report.evidence import Evidence
    from tutelage.report.html import save_html
    from tutelage.report.store import save_report

    recipe = run.recipe
    run.preflight()
    before = _before(run)
    run.sources()
    method = run.transfer()
    twin = run.baseline()
    if before is None and (was := method.before(run)) is not None:
        before = _answers(run, method, was)
    rows = [_source_row(run, method, name) for name in _source_names(recipe)]
    for result in method.results(run):
        rows.append(_row(run, method, result, before if result.role == "recipient" else None))
    if twin is not None:
        from tutelage.engine.method import Result

        name = f"{run.recipient} without transfer"
        rows.append(_row(run, method, Result(name, twin, "baseline", (twin,), (BASELINE,)), None))
    measures = [spec.build() for spec in recipe.measure]
    if run.splits.triggered is None and any(spec.name == "backdoor" for spec in recipe.measure):
        run.warnings.append("No sample of this data bears a trigger, so no backdoor was looked for.")
    entry = registry().get("method", recipe.method.name)
    drawn = method.pictures(run)
    stopped = [r["stopped"] for r in run.records.values() if r.get("stopped")]
    evidence = Evidence(
        method=recipe.method.name,
        route=entry.route,
        status="done",
        rows=rows,
        measures=measures,
        artifacts={"model": "model", "report": "report.html", "recipe": "recipe.yaml", **_picture_files(drawn)},
        warnings=[*run.warnings, *(f"ended early: {reason}" for reason in stopped)],
        metric=run.kind.quality,
        curves=[epoch for record in run.records.values() for epoch in record["history"]],
        class_names=run.splits.info.class_names,
        findings=method.findings(run),
        drawn=drawn,
    )
    report = build(evidence)
    if run.accelerator.is_main_process:
        student = next(r for r in reversed(method.results(run)) if r.role == "recipient")
        for first in student.modules[:1]:
            _save(run, first, run.recipient, run.folder.path / "model", student.spec)
        method.keep(run, run.folder.path / "model")
        for place, member in enumerate(student.modules[1:], 1):
            taught = next((name for name in _source_names(recipe) if run.models.get(name) is member), run.recipient)
            _save(run, member, taught, run.folder.path / "model" / "members" / str(place))
        save_report(report, run.folder.path)
        try:
            save_pictures(drawn, run.folder.path)
            save_html(run.folder.path)
        except InputError as error:
            run.listener.note(str(error))
    return report


def _picture_files(drawn: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {str(one["name"]): f"pictures/{one['name']}.svg" for one in drawn}


def _save(run: Run, module: nn.Module, name: str, folder: Path, spec: Spec | None = None) -> None:
    """Write a model as what its slot, or its maker, says it is, adapters merged."""
    from tutelage.models.adapters.base import adapted, merge
    from tutelage.models.channels import seen
    from tutelage.models.weights import describe, save_weights

    spec = spec or run.recipe.models[name]
    whole = merge(copy.deepcopy(module)) if adapted(module) else module
    if callable(own := getattr(whole, "save_folder", None)):
        own(folder)
        return
    info = seen(run.splits.info, spec.extras.get("channels"))
    save_weights(whole, folder, describe(spec.name, spec.args, info))


def _before(run: Run) -> Predicted | Scored | None:
    """What the recipient predicted before, where it began with knowledge of its own."""
    from tutelage.engine.method import Result

    mine = run.recipient
    spec = run.recipe.slots.get(mine)
    if not isinstance(spec, Spec) or spec.extras.get("weights") is None:
        return None
    module = run.fresh(mine) if isinstance(spec.extras["weights"], str | Path) else run.source(mine)
    method = run.method(run.recipe.method, run.recipe.also)
    return _answers(run, method, Result(f"{mine} before", module, "other", (module,)))


def _source_names(recipe: Recipe) -> list[str]:
    """The models that teach, in the order of the method's slots."""
    entry = registry().get("method", recipe.method.name)
    kind = registry().load("method", entry.name)
    wanted, mine = kind.sources, kind.learner
    own = [slot for slot in entry.slots if slot != mine and (wanted is None or slot in wanted)]
    return [name for slot in own for name in recipe.models if name == slot or name.rpartition("-")[0] == slot]


def _source_row(run: Run, method: Method, slot: str) -> Row:
    from tutelage.engine.method import Result

    module = run.source(slot)
    return _row(run, method, Result(slot, module, "source", (module,), (slot,)), None)


def _answers(run: Run, method: Method, result: Result) -> Predicted | Scored:
    """What a model says on the reported split, or what the method measured of it there."""
    for module in result.modules:
        module.to(run.accelerator.device)
    scored = method.scored(run, result)
    return _predicted(run, result.name, result.predict, result.modules) if scored is None else scored


def _predicted(
    run: Run, name: str, call: Any, modules: tuple[nn.Module, ...], examples: Examples | None = None
) -> Predicted:
    from tutelage.engine.predicting import predict
    from tutelage.measure import Predicted

    examples = run.splits.test if examples is None else examples
    for module in modules:
        module.to(run.accelerator.device)
    logits, labels, ids = predict(call, modules, examples, run.accelerator.device)
    return Predicted(name, logits, labels, ids)


def _row(run: Run, method: Method, result: Result, before: Predicted | Scored | None) -> Row:
    from tutelage.models.cost import cost as cost_of
    from tutelage.report.evidence import Row

    asked = {spec.name for spec in run.recipe.measure}
    cost: dict[str, float | None] = {}
    if "cost" in asked:
        example = run.splits.test.fetch(range(min(128, len(run.splits.test)))).inputs.to(run.accelerator.device)
        each = [cost_of(module, example, seconds=0.2) for module in result.modules]
        cost = {key: sum(c[key] for c in each) for key in ("parameters", "flops", "latency")}
        cost |= _training_cost(run, result)

    def on(examples: Examples) -> Predicted:
        return _predicted(run, result.name, result.predict, result.modules, examples)

    return Row(
        name=result.name,
        role=result.role,
        predicted=_answers(run, method, result),
        train_predicted=on(run.splits.train) if "membership" in asked else None,
        triggered=on(run.splits.triggered) if "backdoor" in asked and run.splits.triggered is not None else None,
        before=before,
        cost=cost,
    )


def _training_cost(run: Run, result: Result) -> dict[str, float | None]:
    """Time and memory of the stages that made a row: those that trained its model."""
    apart = (BASELINE, *_source_names(run.recipe))
    names = result.stages if result.stages is not None else tuple(n for n in run.records if n not in apart)
    mine = [run.records[name] for name in names if name in run.records]
    if not mine:
        return {}
    return {
        "wall_time": sum(r["seconds"] for r in mine),
        "cpu_time": sum(r["cpu_seconds"] for r in mine),
        "peak_memory": max(r["peak_memory"] for r in mine),
    }
