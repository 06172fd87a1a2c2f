"""Which runs a comparison consists of, and every mistake in what was asked, before anything is started."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.recipe.errors import InputError, Problem, RecipeError, nearest
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.registry import registry
from tutelage.recipe.runfolder import RunFolder
from tutelage.recipe.spec import Recipe


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
class Wanted:
    """What is compared.

    Args:
        methods: What a recipe's ``method`` is replaced by, as YAML, by name; empty where recipes are the variants.
        seeds: Each variant runs once with each.
        reference: The variant that others are compared with.
    """

    methods: Mapping[str, str]
    seeds: Sequence[int]
    reference: str | None


def wanted(
    recipes: Sequence[str | Path],
    overrides: Sequence[str] = (),
    *,
    methods: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    reference: str | None = None,
) -> Wanted:
    """What was asked for, and for the rest what a single recipe's ``compare`` section says.

    Raises:
        RecipeError: With all the mistakes found.
    """
    problems = _asked(recipes, overrides, methods, seeds)
    if problems:
        raise RecipeError(problems=tuple(problems))
    own = load_recipe(recipes[0], overrides).compare if len(recipes) == 1 else None
    changes = {method: method for method in methods}
    if own is not None:
        changes = changes or {spec.name: json.dumps(spec.to_dict()) for spec in own.methods}
        seeds = seeds or own.seeds
        reference = reference or own.reference
    return Wanted(changes, seeds or (0, 1, 2), reference)


def plan(recipes: Sequence[str | Path], overrides: Sequence[str], asked: Wanted, *, folder: Path) -> list[Job]:
    """The runs of a comparison, by variant and then by seed: those that share a source's training come apart.

    Raises:
        RecipeError: With all the mistakes found.
    """
    problems: list[Problem] = []
    loaded: list[tuple[str, int, Recipe, Path, tuple[str, ...]]] = []
    for source in map(Path, recipes):
        for method, change in asked.methods.items() or ((None, None),):
            # The first change empties the key, so that arguments of the recipe's own method do not stay.
            swap = () if change is None else ("method=null", f"method={change}")
            for seed in asked.seeds:
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
    if asked.reference is not None and asked.reference not in variants and not problems:
        hint = nearest(asked.reference, variants)
        problems.append(Problem(f"'{asked.reference}' is none of the variants.", file="--reference", hint=hint))
    if not problems:
        problems.extend(_foreign(jobs))
    if problems:
        raise RecipeError(problems=tuple(dict.fromkeys(problems)))
    return jobs


def _asked(
    recipes: Sequence[str | Path], overrides: Sequence[str], methods: Sequence[str], seeds: Sequence[int] | None
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
    if seeds is None:
        seeds = ()
    elif not seeds:
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


def default_folder(recipes: Sequence[str | Path], overrides: Sequence[str]) -> Path:
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
