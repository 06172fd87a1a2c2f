"""What changes about edges do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyoxigraph import BlankNode, NamedNode, Triple

from tutelage.data.kgcl import model as m
from tutelage.data.kgcl.axioms import (
    drop,
    edges,
    make,
    parents,
    path_up,
    refuse_cycle,
    replace,
    restrictions,
    restricts,
)
from tutelage.data.kgcl.doing import Doing
from tutelage.data.rdf import terms as t
from tutelage.data.rdf.terms import Subject, Term
from tutelage.recipe.errors import InputError

_INTERPRETED = {"some": t.SOME, "only": t.ONLY}


def _ends(doing: Doing, change: m.EdgeChange) -> tuple[Subject, NamedNode, Term]:
    """Subject, predicate and object of a change that has them as its own, or in its edge."""
    edge = change.about_edge
    if edge is not None and change.subject is None:
        subject, how = edge.subject, edge.subject_representation
        predicate, named = edge.predicate, edge.predicate_representation
        source: Any = edge
        kind = edge.object_representation
    else:
        subject, how, predicate, named = change.subject, change.subject_type, change.predicate, change.predicate_type
        source, kind = change, change.object_type
    if subject is None:
        raise InputError("it names no subject")
    object = doing.value(source, "object", kind, change.language, change.datatype)
    at = t.SUBCLASS if predicate is None else doing.names.predicate(predicate, named)
    return doing.names.node(subject, how, must=how != "blank"), at, object


def _there(doing: Doing, subject: Subject, predicate: NamedNode, object: Term) -> tuple[Triple, Triple | None]:
    """The form in which an edge is there.

    Raises:
        InputError: It is not; the text says which are.
    """
    view = doing.view
    found = edges(view, subject, predicate, object)
    if found:
        return found[0]
    short = view.short
    others = [short(x) for x in parents(view, subject, predicate)]
    between = [view.prefixes.short(x.predicate) for x in view.match(subject, None, object)]
    hint = f"; between the two there is {', '.join(between)}" if between else ""
    hint = hint or (f"; {short(subject)} has {', '.join(others[:5])} there" if others else "")
    raise InputError(f"there is no edge {short(subject)} {view.prefixes.short(predicate)} {short(object)}{hint}")


def create(doing: Doing, change: m.EdgeCreation) -> None:
    """An edge, as a triple or a restriction."""
    subject, predicate, object = _ends(doing, change)
    if edges(doing.view, subject, predicate, object):
        raise InputError("this edge is in the graph already")
    refuse_cycle(doing.view, doing.rules, subject, predicate, object)
    make(doing.view, doing.rules, subject, predicate, object)


def delete(doing: Doing, change: m.EdgeDeletion) -> None:
    """An edge, in whatever form."""
    top, _ = _there(doing, *_ends(doing, change))
    drop(doing.view, top)


def obsolete(doing: Doing, change: m.EdgeObsoletion) -> None:
    """Not asserted any more, but described, as deprecated."""
    subject, predicate, object = _ends(doing, change)
    top, _ = _there(doing, subject, predicate, object)
    drop(doing.view, top)
    node = BlankNode()
    for predicate_of, value in (
        (t.TYPE, t.AXIOM),
        (t.AXIOM_SOURCE, subject),
        (t.AXIOM_PREDICATE, predicate),
        (t.AXIOM_TARGET, object),
        (t.DEPRECATED, t.TRUE),
    ):
        doing.view.add(Triple(node, predicate_of, value))


def rewire(doing: Doing, change: m.EdgeRewiring) -> None:
    """One end becomes another node."""
    subject, predicate, object = _ends(doing, change)
    top, filler = _there(doing, subject, predicate, object)
    old, new = _old_new(doing, change, "old_value_type", "new_value_type")
    if old not in (subject, object):
        raise InputError(f"{doing.view.short(old)} is no end of the edge")
    if old == object:
        _repoint(doing, subject, predicate, (top, filler), new)
    elif isinstance(new, NamedNode | BlankNode):
        refuse_cycle(doing.view, doing.rules, new, predicate, object)
        replace(doing.view, top, Triple(new, top.predicate, top.object))


def _old_new(doing: Doing, change: Any, old: str, new: str) -> tuple[Term, Term]:
    if change.old_value is None or change.new_value is None:
        raise InputError("it says nothing of what was, or of what is to be")
    was = doing.names.node(change.old_value, getattr(change, old))
    return was, doing.names.node(change.new_value, getattr(change, new))


def _repoint(
    doing: Doing, subject: Subject, predicate: NamedNode, form: tuple[Triple, Triple | None], new: Term
) -> None:
    top, filler = form
    view = doing.view
    if edges(view, subject, predicate, new):
        raise InputError(f"{view.short(subject)} is under {view.short(new)} already")
    # A cycle is looked for without the edge that goes.
    view.drop(filler or top)
    refuse_cycle(view, doing.rules, subject, predicate, new)
    view.add(filler or top)
    if filler is None:
        replace(view, top, Triple(subject, predicate, new))
    else:
        replace(view, filler, Triple(filler.subject, filler.predicate, new))


def move(doing: Doing, change: m.NodeMove) -> None:
    """Another parent along the same predicate."""
    edge, view = change.about_edge, doing.view
    if edge is None or edge.subject is None or change.new_value is None:
        raise InputError("it names no node, or no new parent")
    subject = doing.names.node(edge.subject, edge.subject_representation, must=True)
    predicate = t.SUBCLASS
    if edge.predicate is not None:
        predicate = doing.names.predicate(edge.predicate, edge.predicate_representation)
    new = doing.names.node(change.new_value, change.new_object_type)
    if change.old_value is not None:
        old: Term = doing.names.node(change.old_value, change.old_object_type)
    else:
        found = parents(view, subject, predicate)
        if len(found) != 1:
            shown = ", ".join(view.short(x) for x in found) or "none"
            raise InputError(
                f"{view.short(subject)} has {len(found)} parents ({shown}); say which: `move S P O from O to N`"
            )
        old = found[0]
    form = _there(doing, subject, predicate, old)
    if isinstance(change, m.NodeDeepening) and path_up(view, new, old, predicate) is None:
        raise InputError(f"{view.short(new)} is not below {view.short(old)}, so this is no deepening; `move` it")
    if isinstance(change, m.NodeShallowing) and path_up(view, old, new, predicate) is None:
        raise InputError(f"{view.short(new)} is not above {view.short(old)}, so this is no shallowing; `move` it")
    _repoint(doing, subject, predicate, form, new)


def change_predicate(doing: Doing, change: m.PredicateChange) -> None:
    """Another predicate between the same nodes."""
    edge = change.about_edge
    if edge is None or edge.subject is None or change.old_value is None or change.new_value is None:
        raise InputError("it names no edge, or no predicate")
    view = doing.view
    subject = doing.names.node(edge.subject, edge.subject_representation, must=edge.subject_representation != "blank")
    object = doing.value(edge, "object", edge.object_representation, change.language, change.datatype)
    old = doing.names.predicate(change.old_value, change.old_value_type)
    new = doing.names.predicate(change.new_value, change.new_value_type)
    top, filler = _there(doing, subject, old, object)
    if edges(view, subject, new, object):
        raise InputError(f"there is an edge {view.prefixes.short(new)} already")
    if filler is None and not restricts(view, doing.rules, subject, new, object):
        view.drop(top)
        refuse_cycle(view, doing.rules, subject, new, object)
        view.add(top)
        replace(view, top, Triple(subject, new, object))
    else:
        drop(view, top)
        refuse_cycle(view, doing.rules, subject, new, object)
        make(view, doing.rules, subject, new, object, filler.predicate if filler else t.SOME)


def reinterpret(doing: Doing, change: m.EdgeLogicalInterpretationChange) -> None:
    """``some`` for ``only``, or the other way round."""
    subject, predicate, object = _ends(doing, change)
    old, new = (_INTERPRETED.get(x or "") for x in (change.old_value, change.new_value))
    if old is None or new is None:
        raise InputError("an edge is interpreted as `some` or `only`")
    for _, filler in restrictions(doing.view, subject, predicate):
        if filler.object == object and filler.predicate == old:
            replace(doing.view, filler, Triple(filler.subject, new, object))
            return
    raise InputError(f"there is no restriction of this edge to `{change.old_value}`")


EFFECTS: dict[str, Callable[[Doing, Any], None]] = {
    "EdgeCreation": create,
    "PlaceUnder": create,
    "MappingCreation": create,
    "EdgeDeletion": delete,
    "RemoveUnder": delete,
    "EdgeObsoletion": obsolete,
    "EdgeRewiring": rewire,
    "NodeMove": move,
    "NodeDeepening": move,
    "NodeShallowing": move,
    "PredicateChange": change_predicate,
    "EdgeLogicalInterpretationChange": reinterpret,
}
