"""Pages made from the code: the catalogue of methods, of all other components, and the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mkdocs_gen_files
from typer.main import get_command

from tutelage.cli.app import app
from tutelage.recipe.registry import Entry, Param, registry
from tutelage.recipe.schema import expected, form
from tutelage.recipe.starter import starter

ROOT = Path(__file__).resolve().parents[1]

KINDS = {
    "model": ("Models", "What a slot like `teacher` or `student` can hold, besides your own `package.module:Class`."),
    "data": ("Data sets", "What the slot `data` can hold. All of them take `augment`, `workers` and `limit` as well."),
    "augment": ("Augmentations", "Random changes of training inputs, replayed exactly from each sample's seed."),
    "sampler": ("Samplers", "Where inputs come from that teacher and student are compared on: `sampler`."),
    "augmentor": ("Augmentors", "Augmentations that learn, for the sampler `hard`."),
    "part": ("Parts", "What a method puts in place of a model's own part; a saved model says where it has which."),
    "explainer": ("Explainers", "Which parts of an input speak for a class: what `e2kd` compares."),
    "optimizer": ("Optimizers", "What moves the parameters: `train.optimizer`."),
    "schedule": ("Schedules", "How the learning rate moves: `train.schedule`."),
    "callback": ("Callbacks", "What else happens during training: `callbacks`."),
    "measure": ("Measures", "What is reported: `measure`."),
    "ramp": ("Ramps", "What may stand for a number that changes during training."),
    "tracker": ("Trackers", "Where numbers are sent besides the run's folder: `trackers`."),
}


def type_text(param: Param) -> str:
    """A key's type in the words that errors use, with a link where it names a component."""
    words, of = expected(param.annotation), form(param.annotation).of
    return words.replace(of, f"[{of}](../components/{of}.md)", 1) if of in KINDS else words


def _default(param: Param) -> str:
    if param.required:
        return "required"
    shown = param.default if isinstance(param.default, str) else json.dumps(param.default, default=str)
    return f"`{shown}`"


def arguments(entry: Entry) -> Iterator[str]:
    """The table of a component's recipe keys."""
    if not entry.params:
        yield "It takes no arguments.\n"
        return
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for param in entry.params:
        cells = [f"`{param.name}`", type_text(param), _default(param), param.doc or ""]
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    yield ""


def paper(entry: Entry) -> str:
    """The citation, linked where its scheme says where to."""
    scheme, _, number = entry.paper.partition(":")
    links = {"arxiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}
    return f"[{entry.paper}]({links[scheme.lower()]}{number})" if scheme.lower() in links else entry.paper


def method_page(entry: Entry) -> Iterator[str]:
    """One method: what it is, its inputs and arguments, and a recipe."""
    yield f"# `{entry.name}`: {entry.title}\n"
    yield f"{entry.summary}\n"
    yield f"Paper: {paper(entry)}. Route: {entry.route}. Source: `{entry.module}`.\n"
    yield "## Slots\n"
    for slot, kind in entry.slots.items():
        many = (", a list" if "*" in kind else "") + (", optional" if "?" in kind else "")
        yield f"- `{slot}`: {kind.rstrip('?*')}{many}"
    yield "\n## Arguments\n"
    yield from arguments(entry)
    recipe = ROOT / entry.recipe
    if recipe.is_file():
        yield f"## Recipe\n\n`{entry.recipe}`, which runs as it is:\n"
        yield f"```yaml\n{recipe.read_text().rstrip()}\n```\n"
    yield f"## Every key\n\nWhat `tutelage new {entry.name}` writes:\n"
    yield f"```yaml\n{starter(entry.name).rstrip()}\n```\n"


def methods() -> list[Any]:
    """Write the catalogue of methods; what it adds to the navigation."""
    entries = registry().entries("method")
    lines = ["# Methods\n", "| method | title | paper | route |", "|---|---|---|---|"]
    for entry in entries:
        lines.append(f"| [`{entry.name}`]({entry.name}.md) | {entry.title} | {paper(entry)} | {entry.route} |")
        write(f"methods/{entry.name}.md", method_page(entry))
    write("methods/index.md", [*lines, ""])
    return ["methods/index.md", *({entry.name: f"methods/{entry.name}.md"} for entry in entries)]


def components() -> list[Any]:
    """Write a page for each other kind; what they add to the navigation."""
    nav: list[Any] = ["components/index.md"]
    overview = ["# Components\n", "| kind | names |", "|---|---|"]
    for kind, (title, about) in KINDS.items():
        entries = registry().entries(kind)
        lines = [f"# {title}\n", f"{about}\n"]
        for entry in entries:
            lines += [f"## {entry.name}\n", f"{entry.summary}\n", *arguments(entry)]
        write(f"components/{kind}.md", lines)
        links = ", ".join(f"[`{entry.name}`]({kind}.md#{entry.name})" for entry in entries)
        overview.append(f"| [{title}]({kind}.md) | {links} |")
        nav.append({title: f"components/{kind}.md"})
    write("components/index.md", [*overview, ""])
    return nav


def commands(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    """One command and those below it."""
    if len(path) > 1:
        yield f"## {' '.join(path)}\n"
    yield f"{(command.help or '').strip()}\n"
    inner = getattr(command, "commands", {})
    if not inner:
        yield f"```\n{' '.join(path)} {' '.join(usage(command))}\n```\n"
    shown = [p for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
    if shown:
        yield "| argument | meaning |"
        yield "|---|---|"
        for param in shown:
            names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
            names = names if param.param_type_name == "option" else f"`{(param.metavar or param.name).upper()}`"
            help_text = " ".join((getattr(param, "help", "") or "").split()).replace("|", "\\|")
            yield f"| {names} | {help_text} |"
        yield ""
    for name, below in inner.items():
        if not getattr(below, "hidden", False):
            yield from commands(below, (*path, name))


def usage(command: Any) -> Iterator[str]:
    """The words after the command's name."""
    yield "[OPTIONS]"
    for param in command.params:
        if param.param_type_name == "argument":
            name = (param.metavar or param.name).upper().strip("[]")
            name = f"{name}..." if param.nargs != 1 and not name.endswith("...") else name
            yield name if param.required else f"[{name}]"


def write(path: str, lines: Any) -> None:
    """Write a page of the site."""
    with mkdocs_gen_files.open(path, "w") as file:
        file.write("\n".join(lines))


catalogue, parts = methods(), components()
write("reference/cli.md", ["# Command line\n", *commands(get_command(app), ("tutelage",))])
navigation = mkdocs_gen_files.FilesEditor.current().config["nav"]
places = [next(iter(item)) for item in navigation]
navigation[places.index("Reference") : places.index("Reference")] = [{"Methods": catalogue}, {"Components": parts}]
next(item["Reference"] for item in navigation if "Reference" in item).insert(1, {"command line": "reference/cli.md"})
