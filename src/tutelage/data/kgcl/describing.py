"""What happened between two graphs, in the change language."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyoxigraph import BlankNode, Literal, NamedNode, Triple

from tutelage.data.kgcl import model as m
from tutelage.data.kgcl.applying import perform
from tutelage.data.kgcl.blanks import blank_name, keyed, revised
from tutelage.data.kgcl.doing import Doing
from tutelage.data.kgcl.left import Left
from tutelage.data.kgcl.naming import Blanks, Naming
from tutelage.data.kgcl.view import Names, Over, Rules, View
from tutelage.data.rdf import terms as t
from tutelage.data.rdf.graph import Graph
from tutelage.data.rdf.terms import Subject, Term
from tutelage.recipe.errors import InputError

_SCOPES = {predicate: scope for scope, predicate in t.SYNONYMS.items()}


@dataclass(frozen=True)
class Difference:
    """A patch, and what of it could have been told otherwise.

    Args:
        changes: In the order in which they are to be made.
        ambiguous: Groups of triples that could be paired in several ways; one was chosen, always the same.
    """

    changes: tuple[m.Change, ...]
    ambiguous: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Changes by type."""
        return dict(Counter(type(c).__name__ for c in self.changes).most_common())


@dataclass
class _Patch:
    """A patch while it is found: changes are tried on a view, and kept where they do nothing but what is left to do."""

    doing: Doing
    gone: Left
    come: Left
    changes: list[m.Change] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)

    def take(self, change: m.Change) -> bool:
        """Keep a change if it does only what is left to do."""
        view = self.doing.view
        trial = View(Over(view))
        try:
            perform(Doing(trial, Names(trial, [], self.doing.names.blanks), self.doing.rules), change)
        except InputError:
            return False
        removed, added = set(trial.removed), set(trial.added)
        fresh = {x for x in added if x not in self.come}
        if not removed <= self.gone:
            return False
        if fresh:
            renamed = self._renamed(added)
            if renamed is None:
                return False
            added = renamed
        if not (removed or added):
            return False
        for x in removed:
            view.drop(x)
        for x in added:
            view.add(x)
        self.gone -= removed
        self.come -= added
        self.changes.append(change)
        return True

    def _renamed(self, added: set[Triple]) -> set[Triple] | None:
        """A restriction that is made has a new blank node; the one that it stands for, if there is such."""
        tops = [x for x in added if isinstance(x.object, BlankNode) and isinstance(x.subject, NamedNode)]
        if len(tops) != 1:
            return None
        made = {(x.predicate, x.object) for x in added if x.subject == tops[0].object}
        for one in self.come.of(tops[0].subject):
            if (one.subject, one.predicate) != (tops[0].subject, tops[0].predicate):
                continue
            if isinstance(one.object, BlankNode):
                inner = set(self.come.of(one.object))
                if {(x.predicate, x.object) for x in inner} == made and len(added) == 1 + len(inner):
                    return {one, *inner}
        return None


def describe(
    graph: Graph | Over,
    gone: Iterable[Triple],
    come: Iterable[Triple],
    rules: Rules | None = None,
    names: Mapping[BlankNode, str] | None = None,
) -> Difference:
    """The changes that take triples away from a graph, and bring others; applied to it, they do just that.

    Args:
        graph: As it is before.
        gone: Triples of it that go.
        come: Triples that come; blank nodes are the graph's own, or new.
        rules: How changes act.
        names: What blank nodes of the graph are called, where it is not their own name.
    """
    view = View(graph)
    blanks = Blanks(names or {})
    patch = _Patch(Doing(view, Names(view, [], blanks), rules or Rules()), Left(gone), Left(come))
    for step in (
        _obsoletions,
        _synonyms,
        _moves,
        _refilled,
        _predicates,
        _renames,
        _under,
        _creations,
        _annotations,
        _rest,
    ):
        for change in step(patch, Naming(graph.prefixes, names or {})):
            patch.take(change)
    if patch.gone or patch.come:
        left = sorted(map(str, patch.gone | patch.come))
        raise InputError(f"{len(left)} triples cannot be put into the change language, for example {left[0]}")
    return Difference(tuple(patch.changes), tuple(patch.ambiguous))


Step = Iterator[m.Change]


def _sorted(triples: Iterable[Triple]) -> list[Triple]:
    return sorted(triples, key=str)


def _pairs(
    patch: _Patch, key: Callable[[Triple], object], fits: Callable[[Triple], bool], what: str
) -> Iterator[tuple[Triple, Triple]]:
    """Triples that went and came with the same key, in order; groups of several are ambiguous."""
    groups: dict[object, tuple[list[Triple], list[Triple]]] = {}
    for place, triples in enumerate((patch.gone, patch.come)):
        for x in _sorted(y for y in triples if fits(y)):
            groups.setdefault(key(x), ([], []))[place].append(x)
    for old, new in list(groups.values()):
        pairs = list(zip(old, new, strict=False))
        if pairs and (len(old) > 1 or len(new) > 1):
            short = patch.doing.view.prefixes.short
            patch.ambiguous.append(
                f"{what} of {short(old[0].subject)} ({short(old[0].predicate)}): {len(old)} went and {len(new)} came; "
                "they were paired in order of their names"
            )
        yield from pairs


def _named(x: Triple) -> bool:
    return isinstance(x.subject, NamedNode) and isinstance(x.object, NamedNode)


def _obsoletions(patch: _Patch, say: Naming) -> Step:
    for x in _sorted(y for y in patch.come if y.predicate == t.DEPRECATED and y.object == t.TRUE):
        about = say.about(x.subject)
        others = [y.object for y in patch.come.of(x.subject) if y.predicate == t.CONSIDER]
        new = [y.object for y in patch.come.of(x.subject) if y.predicate == t.REPLACED_BY]
        if new and not isinstance(new[0], Literal):
            yield m.NodeDirectMerge(**about, has_direct_replacement=say.written(new[0]))
            yield m.NodeObsoletionWithDirectReplacement(**about, has_direct_replacement=say.written(new[0]))
        if others and not any(isinstance(y, Literal) for y in others):
            names = [say.written(y) for y in others]
            yield m.NodeObsoletionWithNoDirectReplacement(**about, has_nondirect_replacement=names)
        if x in patch.come:
            yield m.NodeObsoletion(**about)
    for x in _sorted(y for y in patch.gone if y.predicate == t.DEPRECATED and y.object == t.TRUE):
        yield m.NodeUnobsoletion(**say.about(x.subject))


def _synonyms(patch: _Patch, say: Naming) -> Step:
    def synonym(x: Triple) -> bool:
        return x.predicate in _SCOPES and isinstance(x.object, Literal)

    for old, new in _pairs(patch, lambda x: (x.subject, x.predicate), synonym, "synonyms"):
        a, b = old.object, new.object
        assert isinstance(a, Literal)
        assert isinstance(b, Literal)
        yield m.SynonymReplacement(
            **say.about(old.subject),
            old_value=a.value,
            new_value=b.value,
            language=a.language,
            qualifier=_SCOPES[old.predicate],
        )
    for x in _sorted(filter(synonym, patch.come)):
        assert isinstance(x.object, Literal)
        yield m.NewSynonym(
            **say.about(x.subject), new_value=x.object.value, language=x.object.language, qualifier=_SCOPES[x.predicate]
        )
    for x in _sorted(filter(synonym, patch.gone)):
        assert isinstance(x.object, Literal)
        yield m.RemoveSynonym(**say.about(x.subject), old_value=x.object.value, language=x.object.language)


def _moves(patch: _Patch, say: Naming) -> Step:
    for old, new in _pairs(patch, lambda x: (x.subject, x.predicate), _named, "moves"):
        where = {"old_value": say.node(old.object)[0], "old_object_type": say.node(old.object)[1]}
        to = {"new_value": say.node(new.object)[0], "new_object_type": say.node(new.object)[1]}
        edge = say.edge(old)
        for kind in (m.NodeDeepening, m.NodeShallowing) if old.predicate == t.SUBCLASS else ():
            before = len(patch.changes)
            yield kind(about_edge=edge, **where, **to)
            if len(patch.changes) > before:
                break
        else:
            yield m.NodeMove(about_edge=edge, **where, **to)


def _refilled(patch: _Patch, say: Naming) -> Step:
    """Restrictions that got another class."""

    def filler(x: Triple) -> bool:
        return x.predicate in (t.SOME, t.ONLY) and isinstance(x.subject, BlankNode) and isinstance(x.object, NamedNode)

    for old, new in _pairs(patch, lambda x: (x.subject, x.predicate), filler, "restrictions"):
        view = patch.doing.view
        tops = [x for x in view.match(None, t.SUBCLASS, old.subject) if isinstance(x.subject, NamedNode)]
        on = [x for x in view.objects(old.subject, t.ON_PROPERTY) if isinstance(x, NamedNode)]
        if len(tops) == len(on) == 1:
            was, now = say.node(old.object), say.node(new.object)
            yield m.NodeMove(
                about_edge=say.edge(Triple(tops[0].subject, on[0], old.object)),
                old_value=was[0],
                old_object_type=was[1],
                new_value=now[0],
                new_object_type=now[1],
            )


def _predicates(patch: _Patch, say: Naming) -> Step:
    for old, new in _pairs(patch, lambda x: (x.subject, x.object), _named, "predicates"):
        was, now = say.node(old.predicate), say.node(new.predicate)
        yield m.PredicateChange(
            about_edge=say.edge(old), old_value=was[0], old_value_type=was[1], new_value=now[0], new_value_type=now[1]
        )


def _renames(patch: _Patch, say: Naming) -> Step:
    def texts(x: Triple) -> bool:
        return x.predicate in (t.LABEL, t.DEFINITION) and isinstance(x.object, Literal)

    for old, new in _pairs(patch, lambda x: (x.subject, x.predicate), texts, "texts"):
        a, b = old.object, new.object
        assert isinstance(a, Literal)
        assert isinstance(b, Literal)
        if a.value == b.value and b.language and old.predicate == t.LABEL:
            yield m.SetLanguageForName(**say.about(old.subject), old_value=a.language, new_value=b.language)
        kind = m.NodeRename if old.predicate == t.LABEL else m.TextDefinitionReplacement
        tags = {"old_language": a.language, "new_language": b.language} if a.language or b.language else {}
        yield kind(**say.about(old.subject), old_value=a.value, new_value=b.value, **tags)
    for x in _sorted(y for y in patch.come if texts(y) and y.predicate == t.DEFINITION):
        assert isinstance(x.object, Literal)
        yield m.NewTextDefinition(**say.about(x.subject), new_value=x.object.value, language=x.object.language)
    for x in _sorted(y for y in patch.gone if texts(y) and y.predicate == t.DEFINITION):
        assert isinstance(x.object, Literal)
        text, tag = x.object.value, x.object.language
        yield m.RemoveTextDefinition(**say.about(x.subject), old_value=text, language=tag)


def _under(patch: _Patch, say: Naming) -> Step:
    for x in _sorted(y for y in patch.gone if y.predicate == t.SUBCLASS):
        if isinstance(x.object, NamedNode):
            yield m.RemoveUnder(**say.triple(x))
        elif (some := _restriction(patch.gone, x)) is not None:
            yield m.EdgeDeletion(**say.triple(some))
    for node in _sorted(y for y in patch.come if y.predicate == t.TYPE and y.object == t.CLASS):
        yield from _creation(patch, say, node)
    for x in _sorted(y for y in patch.come if y.predicate == t.SUBCLASS):
        if isinstance(x.object, NamedNode):
            yield m.PlaceUnder(**say.triple(x))
        elif (some := _restriction(patch.come, x)) is not None:
            yield m.EdgeCreation(**say.triple(some))


def _restriction(among: Left, top: Triple) -> Triple | None:
    inner = {x.predicate: x.object for x in among.of(top.object)}
    on, some = inner.get(t.ON_PROPERTY), inner.get(t.SOME)
    return Triple(top.subject, on, some) if isinstance(on, NamedNode) and isinstance(some, NamedNode) else None


def _creations(patch: _Patch, say: Naming) -> Step:
    for x in _sorted(y for y in patch.come if y.predicate == t.TYPE and y.object in (t.CLASS, t.PROPERTY)):
        yield from _creation(patch, say, x)
    for x in _sorted(y for y in patch.come if y.predicate == t.SUBSET and _named(y)):
        yield m.AddNodeToSubset(**say.about(x.subject), in_subset=say.written(x.object))
    for x in _sorted(y for y in patch.gone if y.predicate == t.SUBSET and _named(y)):
        yield m.RemoveNodeFromSubset(**say.about(x.subject), in_subset=say.written(x.object))


def _creation(patch: _Patch, say: Naming, x: Triple) -> Step:
    if not isinstance(x.subject, NamedNode):
        return
    about = say.about(x.subject)
    labels = [y.object for y in patch.come.of(x.subject) if y.predicate == t.LABEL]
    named = [y for y in labels if isinstance(y, Literal)]
    if x.object == t.PROPERTY:
        for y in named[:1]:
            yield m.ObjectPropertyCreation(**about, name=y.value, language=y.language)
        yield m.ObjectPropertyCreation(**about)
        return
    for y in named[:1]:
        yield m.NodeCreation(**about, name=y.value, language=y.language)
    yield m.ClassCreation(**about)


def _annotations(patch: _Patch, say: Naming) -> Step:
    def literal(x: Triple) -> bool:
        return isinstance(x.subject, NamedNode) and isinstance(x.object, Literal)

    for old, new in _pairs(patch, lambda x: (x.subject, x.predicate), literal, "annotations"):
        predicate, how = say.node(old.predicate)
        yield m.NodeAnnotationChange(
            **say.about(old.subject),
            annotation_property=predicate,
            annotation_property_type=how,
            **say.object(old.object, "old_value", "old_value_type"),
            **say.object(new.object, "new_value", "new_value_type"),
        )


def _rest(patch: _Patch, say: Naming) -> Step:
    """Whatever is left, a triple at a time, so that the patch is complete."""
    for x in _sorted(patch.gone):
        if x in patch.gone:
            yield m.EdgeDeletion(**say.triple(x))
        if x in patch.gone:
            yield m.RemoveMetadataAssertion(**_asserted(say, x))
    for x in _sorted(patch.come):
        if x in patch.come:
            yield m.EdgeCreation(**say.triple(x))
        if x in patch.come:
            yield m.NewMetadataAssertion(**_asserted(say, x))


def _asserted(say: Naming, x: Triple) -> dict[str, Any]:
    found = say.triple(x)
    return {
        "about_node": found.pop("subject"),
        "about_node_representation": found.pop("subject_type"),
        **found,
    }


# fmt: off
_STEPS = (
    _obsoletions, _synonyms, _moves, _refilled, _predicates, _renames, _under, _creations, _annotations, _rest,
)
# fmt: on


# ---------------------------------------------------------------------- two graphs


def difference(old: Graph, new: Graph, rules: Rules | None = None) -> Difference:
    """The patch that makes one graph of another; blank nodes are told apart by what they say.

    Args:
        old: Before.
        new: After.
        rules: How changes act.
    """
    here, there = keyed(old), keyed(new)
    # A blank node of the new graph that the old one has too goes by its name there.
    same = {node: here[key] for key, node in there.items() if key in here}
    same |= revised(old, new, set(here.values()) - set(same.values()), set(there.values()) - same.keys())
    moved = {_moved(x, same) for x in new.match()}
    before = set(old.match())
    names = {node: blank_name(key) for key, node in here.items()}
    return describe(old, before - moved, moved - before, rules, names)


def _moved(x: Triple, same: dict[BlankNode, BlankNode]) -> Triple:
    subject: Subject = same.get(x.subject, _new(x.subject)) if isinstance(x.subject, BlankNode) else x.subject
    object: Term = same.get(x.object, _new(x.object)) if isinstance(x.object, BlankNode) else x.object
    return Triple(subject, x.predicate, object)


def _new(node: BlankNode) -> BlankNode:
    return BlankNode(f"n{hashlib.sha256(node.value.encode()).hexdigest()[:16]}")
