"""Graphs changed in the change language: change, difference, apply, undo, log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.recipe.errors import InputError

if TYPE_CHECKING:
    from pyoxigraph import Triple

    from tutelage.data.kgcl.describing import Difference
    from tutelage.data.kgcl.model import Change
    from tutelage.data.kgcl.view import Rules
    from tutelage.data.rdf.graph import Graph
    from tutelage.data.rdf.journal import Entry

# Triples of a change whose way back is told in words, too.
_TOLD = 1000


@dataclass(frozen=True)
class Changed:
    """What a transaction did, or would do.

    Args:
        entry: Its number in the journal; ``None`` where it was only tried, or did nothing.
        commands: What was asked for.
        removed: Triples that went, as people read them.
        added: Triples that came.
        notes: What a user should know.
        undo: Commands that lead back, where there are such and the change is no large one.
    """

    entry: int | None
    commands: tuple[str, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]
    notes: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()


def read_changes(path: Path) -> list[Change]:
    """The changes of a file: commands, or JSON or RDF by its ending (``.json``, ``.ttl``).

    Raises:
        InputError: It cannot be read, or is wrong; the text names the lines.
    """
    from tutelage.data.kgcl.language import parse
    from tutelage.data.kgcl.wire import from_json, from_rdf

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if path.suffix == ".json":
        return from_json(text, path.name).change_set
    if path.suffix in (".ttl", ".rdf"):
        return from_rdf(text, path.name).change_set
    return parse(text, path.name)


def change(
    place: str | Path,
    changes: str | Sequence[Change],
    *,
    rules: Rules | None = None,
    dry_run: bool = False,
    prefixes: Mapping[str, str] | None = None,
    author: str | None = None,
) -> Changed:
    """Change a graph, all or nothing.

    Args:
        place: A folder or an endpoint.
        changes: Commands, one a line, or changes.
        rules: How they act.
        dry_run: Only say what would happen.
        prefixes: Prefixes to add.
        author: For the journal.

    Raises:
        InputError: A command is wrong or cannot be made; the graph is as it was.
    """
    from tutelage.data.kgcl.applying import effects
    from tutelage.data.kgcl.describing import describe
    from tutelage.data.kgcl.language import parse, render
    from tutelage.data.kgcl.view import Over, View
    from tutelage.data.kgcl.wire import to_dict
    from tutelage.data.rdf.journal import Stamp
    from tutelage.data.rdf.opening import open_graph

    wanted = parse(changes) if isinstance(changes, str) else list(changes)
    if not wanted:
        raise InputError("there is no command in it")
    with open_graph(place, "read" if dry_run else "write", prefixes) as graph:
        done = effects(graph, wanted, rules)
        view = View(graph)
        for x in done.removed:
            view.drop(x)
        for x in done.added:
            view.add(x)
        commands = []
        for one in wanted:
            try:
                commands.append(render(one))
            except InputError:
                commands.append(str(to_dict(one)))
        undo: tuple[str, ...] = ()
        if graph.blank_nodes and len(done.added) + len(done.removed) <= _TOLD:
            # What no sentence says can still be undone: the journal keeps the triples themselves.
            with suppress(InputError):
                back = describe(Over(view), done.added, done.removed, rules)
                undo = tuple(render(c) for c in back.changes)
        removed, added = (tuple(_lines(view, graph, x)) for x in (done.removed, done.added))
        entry = None
        if (removed or added) and not dry_run:
            stamp = Stamp(author) if author else Stamp()
            entry = graph.commit(done.removed, done.added, commands=commands, stamp=stamp).id
        return Changed(entry, tuple(commands), removed, added, done.notes, undo)


def _lines(view: Any, graph: Graph, triples: Sequence[Triple]) -> Iterator[str]:
    """Triples for people: CURIEs, and labels where there are some."""
    for x in sorted(triples, key=str):
        yield f"{view.short(x.subject)} {graph.prefixes.short(x.predicate)} {view.short(x.object)}"


def difference(old: str | Path, new: str | Path, *, prefixes: Mapping[str, str] | None = None) -> Difference:
    """The patch between two graphs, which may be folders, endpoints or files."""
    from tutelage.data.kgcl.describing import difference as between

    with _opened(old, prefixes) as one, _opened(new, prefixes) as other:
        return between(one, other)


def _opened(place: str | Path, prefixes: Mapping[str, str] | None) -> Graph:
    from tutelage.data.rdf.graph import Memory
    from tutelage.data.rdf.journal import Stamp
    from tutelage.data.rdf.opening import open_graph
    from tutelage.data.rdf.sources import Source
    from tutelage.data.rdf.terms import Prefixes

    if not str(place).startswith(("http://", "https://")) and Path(place).is_file():
        source = Source(Path(place))
        memory = Memory(prefixes=prefixes, name=str(place))
        memory.load([source], Stamp())
        memory.prefixes = Prefixes({**source.prefixes, **(prefixes or {})})
        return memory
    return open_graph(place, "read", prefixes)


def undo(place: str | Path, count: int = 1, *, dry_run: bool = False, author: str | None = None) -> list[Changed]:
    """Take back the last changes that were not taken back yet, exactly; each is an entry of its own.

    Args:
        place: A folder or an endpoint.
        count: How many.
        dry_run: Only say what would happen.
        author: For the journal.

    Raises:
        InputError: There are not as many, or one cannot be taken back; the graph is as it was.
    """
    from tutelage.data.kgcl.view import View
    from tutelage.data.rdf.journal import Stamp
    from tutelage.data.rdf.opening import open_graph
    from tutelage.data.rdf.terms import from_lines

    with open_graph(place, "read" if dry_run else "write") as graph:
        chosen = _undoable(graph, count)
        view = View(graph)
        plan = []
        for entry in chosen:
            gone, come = from_lines(entry.added), from_lines(entry.removed)
            missing = [x for x in gone if not view.has(x)] + [x for x in come if view.has(x)]
            if missing:
                raise InputError(
                    f"entry {entry.id} cannot be taken back: the graph has been changed since in another way, for "
                    f"example at {view.short(missing[0].subject)}. Nothing was taken back"
                )
            for x in gone:
                view.drop(x)
            for x in come:
                view.add(x)
            plan.append((entry, gone, come))
        out = []
        stamp = Stamp(author) if author else Stamp()
        for entry, gone, come in plan:
            number = None
            commands = tuple(f"undo {c}" for c in entry.commands)
            removed, added = (tuple(_lines(view, graph, x)) for x in (gone, come))
            if not dry_run:
                number = graph.commit(gone, come, commands=commands, stamp=stamp, kind="undo", undoes=entry.id).id
            out.append(Changed(number, entry.commands, removed, added))
        return out


def _undoable(graph: Graph, count: int) -> list[Entry]:
    entries = list(graph.entries())
    undone = {e.undoes for e in entries}
    chosen: list[Entry] = []
    for entry in reversed(entries):
        if len(chosen) == count:
            break
        if entry.kind == "undo" or entry.id in undone:
            continue
        if entry.kind != "change":
            what = "files were loaded" if entry.kind == "load" else "SPARQL changed the graph"
            done = f" only {len(chosen)} changes came after it" if chosen else " no change came after it"
            raise InputError(
                f"entry {entry.id}, in which {what}, cannot be taken back, and{done}. Nothing was taken back"
            )
        chosen.append(entry)
    if len(chosen) < count:
        raise InputError(f"there are {len(chosen)} changes to take back, and not {count}. Nothing was taken back")
    return chosen


def log(place: str | Path, count: int | None = None) -> list[dict[str, Any]]:
    """The journal, newest first.

    Args:
        place: A folder or an endpoint.
        count: How many entries; all where it is not given.
    """
    from tutelage.data.rdf.opening import open_graph

    with open_graph(place) as graph:
        entries = list(graph.entries())
    undone = {e.undoes: e.id for e in entries if e.undoes}
    return [
        {
            "id": e.id,
            "kind": e.kind,
            "author": e.author,
            "time": e.time,
            "commands": list(e.commands),
            "removed": len(e.removed),
            "added": len(e.added),
            "undoes": e.undoes,
            "undone by": undone.get(e.id),
            "note": e.note,
        }
        for e in reversed(entries)
    ][:count]
