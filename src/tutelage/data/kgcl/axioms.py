"""Edges as graphs hold them: a triple, or an OWL restriction; with what is said about them."""

from __future__ import annotations

from collections.abc import Iterator

from pyoxigraph import BlankNode, NamedNode, Triple

from tutelage.data.kgcl.view import Rules, View
from tutelage.data.rdf import terms as t
from tutelage.data.rdf.terms import Subject, Term
from tutelage.recipe.errors import InputError

HIERARCHIES = (t.SUBCLASS, t.SUBPROPERTY, t.PART_OF, NamedNode(f"{t.SKOS}broader"))
"""Predicates that must not make a cycle."""
_FILLERS = (t.SOME, t.ONLY)


def reified(view: View, triple: Triple) -> list[BlankNode]:
    """Nodes of axioms that say something about a triple."""
    return [
        x.subject
        for x in list(view.match(None, t.AXIOM_SOURCE, triple.subject))
        if isinstance(x.subject, BlankNode)
        and view.has(Triple(x.subject, t.AXIOM_PREDICATE, triple.predicate))
        and view.has(Triple(x.subject, t.AXIOM_TARGET, triple.object))
    ]


def closure(view: View, node: BlankNode, seen: set[BlankNode] | None = None) -> list[Triple]:
    """All that a blank node says, with the blank nodes that it says it of."""
    seen = set() if seen is None else seen
    if node in seen:
        return []
    seen.add(node)
    out = []
    for x in list(view.match(node)):
        out.append(x)
        if isinstance(x.object, BlankNode):
            out.extend(closure(view, x.object, seen))
    return out


def drop(view: View, triple: Triple) -> None:
    """Take an edge away, with what is said of it, and the restriction that nothing else refers to then."""
    for axiom in reified(view, triple):
        for x in closure(view, axiom):
            if x != triple:
                view.drop(x)
    view.drop(triple)
    if isinstance(triple.object, BlankNode) and next(view.match(None, None, triple.object), None) is None:
        for x in closure(view, triple.object):
            view.drop(x)


def replace(view: View, old: Triple, new: Triple) -> None:
    """Put a triple in another's place; what is said of the one is said of the other."""
    for axiom in reified(view, old):
        for predicate, was, now in (
            (t.AXIOM_SOURCE, old.subject, new.subject),
            (t.AXIOM_PREDICATE, old.predicate, new.predicate),
            (t.AXIOM_TARGET, old.object, new.object),
        ):
            if was != now:
                view.drop(Triple(axiom, predicate, was))
                view.add(Triple(axiom, predicate, now))
    view.drop(old)
    view.add(new)


def tops(view: View, triple: Triple, seen: frozenset[Subject] = frozenset()) -> list[Triple]:
    """The triples of named nodes that a triple inside a restriction or list belongs to; itself where it is none."""
    if not isinstance(triple.subject, BlankNode) or triple.subject in seen:
        return [triple]
    above = list(view.match(None, None, triple.subject))
    if not above:
        return [triple]
    return [x for one in above for x in tops(view, one, seen | {triple.subject})]


def edges(view: View, subject: Subject, predicate: NamedNode, object: Term) -> list[tuple[Triple, Triple | None]]:
    """The forms in which an edge is there: its triple, and the triple with the filler of a restriction."""
    out: list[tuple[Triple, Triple | None]] = []
    direct = Triple(subject, predicate, object)
    if view.has(direct):
        out.append((direct, None))
    out.extend(
        (top, filler)
        for top, filler in restrictions(view, subject, predicate)
        if filler is not None and filler.object == object
    )
    return out


def restrictions(view: View, subject: Subject, predicate: NamedNode) -> Iterator[tuple[Triple, Triple]]:
    """Restrictions on a predicate that a class is below: the triple above, and the one with the filler."""
    if predicate.value.startswith(t.VOCABULARY):
        return
    for top in list(view.match(subject, t.SUBCLASS)):
        node = top.object
        if isinstance(node, BlankNode) and view.has(Triple(node, t.ON_PROPERTY, predicate)):
            for how in _FILLERS:
                yield from ((top, filler) for filler in list(view.match(node, how)))


def make(
    view: View, rules: Rules, subject: Subject, predicate: NamedNode, object: Term, how: NamedNode = t.SOME
) -> None:
    """Bring an edge, in the form that the rules and the graph ask for."""
    if not restricts(view, rules, subject, predicate, object):
        view.add(Triple(subject, predicate, object))
        return
    node = BlankNode()
    for x in (
        Triple(subject, t.SUBCLASS, node),
        Triple(node, t.TYPE, t.RESTRICTION),
        Triple(node, t.ON_PROPERTY, predicate),
        Triple(node, how, object),
    ):
        view.add(x)


def restricts(view: View, rules: Rules, subject: Subject, predicate: NamedNode, object: Term) -> bool:
    """Whether an edge is to be a restriction."""
    if rules.edges == "plain" or not isinstance(object, NamedNode) or predicate.value.startswith(t.VOCABULARY):
        return False
    if rules.edges == "owl":
        return True
    return view.has(Triple(subject, t.TYPE, t.CLASS)) and view.has(Triple(predicate, t.TYPE, t.PROPERTY))


def parents(view: View, node: Subject, predicate: NamedNode) -> list[Term]:
    """Named nodes that an edge leads to."""
    out = [x for x in view.objects(node, predicate) if isinstance(x, NamedNode)]
    return [*out, *(filler.object for _, filler in restrictions(view, node, predicate))]


def path_up(view: View, start: Term, goal: Term, predicate: NamedNode) -> list[Term] | None:
    """A way from a node to another along a predicate; ``None`` where there is none."""
    came: dict[Term, Term | None] = {start: None}
    frontier = [start]
    while frontier:
        found: list[Term] = []
        for node in frontier:
            if node == goal:
                way: list[Term] = []
                at: Term | None = node
                while at is not None:
                    way.append(at)
                    at = came[at]
                return way[::-1]
            if isinstance(node, NamedNode | BlankNode):
                for one in parents(view, node, predicate):
                    if one not in came:
                        came[one] = node
                        found.append(one)
        frontier = found
    return None


def refuse_cycle(view: View, rules: Rules, subject: Subject, predicate: NamedNode, object: Term) -> None:
    """Refuse an edge of a hierarchy that would lead back to where it begins.

    Raises:
        InputError: It would; the text shows the way.
    """
    if rules.cycles or predicate not in HIERARCHIES:
        return
    way = path_up(view, object, subject, predicate)
    if way is not None:
        shown = " > ".join(view.short(x) for x in (subject, *way))
        raise InputError(f"this would make a cycle of {view.prefixes.short(predicate)}: {shown}")
