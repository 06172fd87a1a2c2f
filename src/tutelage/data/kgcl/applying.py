"""What changes do to a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pyoxigraph import Triple

from tutelage.data.kgcl import assertion_changes, edge_changes, node_changes
from tutelage.data.kgcl.doing import Doing
from tutelage.data.kgcl.language import render
from tutelage.data.kgcl.model import Change, ComplexChange, SearchAndReplace, Transaction
from tutelage.data.kgcl.view import Names, Rules, View
from tutelage.data.rdf.graph import Graph
from tutelage.recipe.errors import InputError

Effect = Callable[[Doing, Any], None]
_EFFECTS: dict[str, Effect] = {**node_changes.EFFECTS, **assertion_changes.EFFECTS, **edge_changes.EFFECTS}


@dataclass(frozen=True)
class Effects:
    """What changes would do.

    Args:
        removed: Triples that go.
        added: Triples that come.
        notes: What a user should know.
    """

    removed: tuple[Triple, ...] = ()
    added: tuple[Triple, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)


def effects(graph: Graph, changes: Iterable[Change], rules: Rules | None = None) -> Effects:
    """What changes would do, one after the other, all or nothing; the graph is only read.

    Args:
        graph: What they change.
        changes: In order.
        rules: How they act.

    Raises:
        InputError: One cannot be made; the text says which, and why.
    """
    view = View(graph)
    doing = Doing(view, Names(view), rules or Rules())
    for number, change in enumerate(changes, start=1):
        try:
            perform(doing, change)
        except InputError as error:
            raise InputError(f"change {number}, {_said(change)}: {error}. The graph is as it was") from error
    return Effects(tuple(view.removed), tuple(view.added), tuple(dict.fromkeys(doing.names.notes)))


def perform(doing: Doing, change: Change) -> None:
    """Make one change to a view.

    Raises:
        InputError: It cannot be made.
    """
    if isinstance(change, SearchAndReplace):
        node_changes.search_and_replace(doing, change)
        return
    if isinstance(change, Transaction | ComplexChange):
        for one in change.change_set:
            perform(doing, one)
        return
    effect = _EFFECTS.get(type(change).__name__)
    if effect is None:
        raise InputError(f"a {type(change).__name__} can be exchanged, but not applied")
    effect(doing, change)


def _said(change: Change) -> str:
    try:
        return f"`{render(change)}`"
    except InputError:
        return type(change).__name__


def kinds() -> list[str]:
    """Names of the changes that can be applied."""
    return sorted(_EFFECTS)
