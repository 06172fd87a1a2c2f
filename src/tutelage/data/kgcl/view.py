"""A graph as a transaction sees it: what is there, with what it has changed so far; and what names mean in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from typing import Literal as Choice

from pyoxigraph import BlankNode, Literal, NamedNode, Quad, Store, Triple

from tutelage.data.kgcl.blanks import blank_name, keyed
from tutelage.data.kgcl.wording import entity, quote
from tutelage.data.rdf import terms as t
from tutelage.data.rdf.graph import DEFAULT, Graph
from tutelage.data.rdf.terms import Prefixes, Subject, Term
from tutelage.recipe.errors import InputError

# Labels in these languages are found by one look-up each; those in others by reading all labels.
_LANGUAGES = (
    "en",
    "en-us",
    "en-gb",
    "de",
    "fr",
    "es",
    "it",
    "pt",
    "nl",
    "pl",
    "ru",
    "zh",
    "ja",
    "ko",
    "ar",
    "cs",
    "sv",
)
_HASHED = re.compile("h[0-9a-f]{20}")
_READ = 200_000
_SHOWN = 5
_SUBSETS = NamedNode(f"{t.OIO}SubsetProperty")


@dataclass(frozen=True)
class Rules:
    """How changes act.

    Args:
        edges: ``owl``: an edge between classes is a restriction (``part of some nucleus``); ``plain``: it is the triple
            itself; ``auto``: a restriction where the subject is an owl:Class and the predicate an owl:ObjectProperty.
        cascade: Whether a node that others refer to may be deleted, with what they say of it.
        rewire: Whether what refers to a node that is replaced refers to its replacement from then on.
        cycles: Whether a hierarchy may get a cycle.
        obsolete: What labels of obsolete nodes begin with.
    """

    edges: Choice["auto", "owl", "plain"] = "auto"
    cascade: bool = False
    rewire: bool = False
    cycles: bool = False
    obsolete: str = "obsolete "


class View:
    """A graph under a transaction.

    Args:
        graph: What it begins with; it is only read.
    """

    def __init__(self, graph: Graph | Over) -> None:
        self.graph = graph
        self.removed: dict[Triple, None] = {}
        self._added = Store()

    @property
    def prefixes(self) -> Prefixes:
        """Of the graph."""
        return self.graph.prefixes

    @property
    def added(self) -> list[Triple]:
        """Triples that the graph lacks."""
        return [q.triple for q in self._added]

    def match(
        self, subject: Subject | None = None, predicate: NamedNode | None = None, object: Term | None = None
    ) -> Iterator[Triple]:
        """Triples that fit; ``None`` fits all."""
        if self.removed:
            yield from (x for x in self.graph.match(subject, predicate, object) if x not in self.removed)
        else:
            yield from self.graph.match(subject, predicate, object)
        yield from (q.triple for q in self._added.quads_for_pattern(subject, predicate, object, DEFAULT))

    def has(self, triple: Triple) -> bool:
        """Whether a triple is there."""
        if triple in self.removed:
            return False
        return _quad(triple) in self._added or self.graph.has(triple)

    def add(self, triple: Triple) -> None:
        """Bring a triple."""
        if triple in self.removed:
            del self.removed[triple]
        elif not self.graph.has(triple):
            self._added.add(_quad(triple))

    def drop(self, triple: Triple) -> None:
        """Take a triple away."""
        if _quad(triple) in self._added:
            self._added.remove(_quad(triple))
        elif triple not in self.removed and self.graph.has(triple):
            self.removed[triple] = None

    def objects(self, subject: Subject, predicate: NamedNode) -> list[Term]:
        """What a predicate says of a node."""
        return [x.object for x in self.match(subject, predicate)]

    def exists(self, node: Subject) -> bool:
        """Whether anything is said of a node, or refers to it."""
        return next(self.match(node), None) is not None or next(self.match(None, None, node), None) is not None

    def short(self, term: Term) -> str:
        """For people: a CURIE, with the label where there is one."""
        name = self.prefixes.short(term)
        if isinstance(term, NamedNode):
            label = next((x for x in self.objects(term, t.LABEL) if isinstance(x, Literal)), None)
            if label is not None:
                return f"{name} {quote(label.value)}"
        return name


class Over:
    """A view as a graph that another view lies over.

    Args:
        view: What changed a graph so far.
    """

    def __init__(self, view: View) -> None:
        self.match, self.has, self.prefixes = view.match, view.has, view.prefixes


def _quad(triple: Triple) -> Quad:
    return Quad(triple.subject, triple.predicate, triple.object)


@dataclass
class Names:
    """What the nodes of a command are.

    Args:
        view: The graph as it is.
        notes: Takes what a user should know.
        blanks: Blank nodes by the name that commands give them.
    """

    view: View
    notes: list[str] = field(default_factory=list)
    blanks: dict[str, BlankNode] = field(default_factory=dict)

    def iri(self, value: str, how: str | None) -> Subject | None:
        """A node that is named by an identifier; ``None`` where it is named by a label."""
        if how == "uri":
            return _named(value)
        if how == "blank":
            return self._blank(value)
        if how in ("label", "literal"):
            return None
        if how is None:
            if ":" not in value:
                return None
            prefix = value.partition(":")[0]
            if value.startswith(("http://", "https://", "urn:")) and prefix not in self.view.prefixes.spaces:
                return _named(value)
        return _named(self.view.prefixes.expand(value))

    def _blank(self, name: str) -> BlankNode:
        """One that the graph has, by its own name or by what it says; else a new one."""
        if name not in self.blanks:
            node: BlankNode | None = self.blanks[name] if hasattr(self.blanks, "__missing__") else None
            if node is None and self.view.exists(BlankNode(name)):
                node = BlankNode(name)
            if node is None and _HASHED.fullmatch(name):
                known = {blank_name(key): found for key, found in keyed(self.view.graph).items()}
                node = known.get(name)
            self.blanks[name] = node or BlankNode()
        return self.blanks[name]

    def written(self, text: str) -> Subject:
        """A node as a command writes it."""
        return self.node(*entity(text)) if text[:1] in "'\"<_" else self.node(text, None)

    def node(self, value: str, how: str | None, *, must: bool = False) -> Subject:
        """A node by identifier or label.

        Args:
            value: What it is called.
            how: ``curie``, ``uri``, ``label`` or ``blank``; ``None`` to find out.
            must: Whether something has to be known of it already.

        Raises:
            InputError: The label is unknown or several nodes have it, the prefix is unknown, or nothing is known of it.
        """
        found = self.iri(value, how)
        if found is None:
            return self._labelled(value)
        if isinstance(found, NamedNode) and not self.view.exists(found):
            if must:
                raise InputError(f"{self.view.prefixes.short(found)} is not in the graph.{self._near(value)}")
            self.notes.append(f"{self.view.prefixes.short(found)} is not in the graph (yet)")
        return found

    def fresh(self, value: str, how: str | None) -> Subject:
        """A node that is to be made.

        Raises:
            InputError: It is there already, or named by a label alone.
        """
        found = self.iri(value, how)
        if found is None:
            raise InputError(f"a new node needs an identifier such as GO:0005634, not the label {quote(value)}")
        if next(self.view.match(found), None) is not None:
            raise InputError(f"{self.view.short(found)} is already in the graph")
        return found

    def predicate(self, value: str, how: str | None) -> NamedNode:
        """A predicate that is known: declared, in use, or of a common vocabulary.

        Raises:
            InputError: It is not.
        """
        found = self.iri(value, how)
        if found is None:
            found = self._labelled(value)
        if not isinstance(found, NamedNode):
            raise InputError("a blank node is no predicate")
        if found.value.startswith(t.VOCABULARY) or next(self.view.match(None, found), None) is not None:
            return found
        if next(self.view.match(found), None) is None:
            from tutelage.recipe.errors import nearest

            short = self.view.prefixes.short
            used = {short(x.predicate) for x in islice(self.view.match(), _READ)}
            declared = {short(x.subject) for x in self.view.match(None, t.TYPE, t.PROPERTY)}
            raise InputError(
                f"unknown predicate {short(found)}. {nearest(short(found), used | declared)} `create object property "
                f"{short(found)}` makes it one"
            )
        return found

    def subset(self, text: str) -> Subject:
        """A subset by identifier, label, or the last part of its IRI."""
        if text[:1] not in "'\"<_" and ":" not in text:
            for one in self.view.match(None, t.SUBPROPERTY, _SUBSETS):
                if isinstance(one.subject, NamedNode) and one.subject.value.endswith(("#" + text, "/" + text)):
                    return one.subject
            for one in islice(self.view.match(None, t.SUBSET), _READ):
                if isinstance(one.object, NamedNode) and one.object.value.endswith(("#" + text, "/" + text)):
                    return one.object
        return self.written(text)

    def _labelled(self, label: str) -> Subject:
        found: dict[Subject, None] = {}
        for value in (Literal(label), *(Literal(label, language=tag) for tag in _LANGUAGES)):
            found |= {x.subject: None for x in self.view.match(None, t.LABEL, value)}
        labels: dict[str, Subject] = {}
        if not found:
            for x in islice(self.view.match(None, t.LABEL), _READ):
                labels[x.object.value] = x.subject  # type: ignore[union-attr]
                if x.object.value == label:  # type: ignore[union-attr]
                    found[x.subject] = None
        if len(found) == 1:
            return next(iter(found))
        if found:
            names = sorted(self.view.prefixes.short(x) for x in found)
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise InputError(
                f"the label {quote(label)} is ambiguous: it belongs to {', '.join(names[:_SHOWN])}{more}; write the "
                "identifier instead"
            )
        near = get_close_matches(label, labels, n=_SHOWN, cutoff=0.6)
        inside = (x for x in labels if label.lower() in x.lower() and x not in near)
        near += list(islice(inside, _SHOWN - len(near)))
        hint = ", ".join(f"{quote(x)} ({self.view.prefixes.short(labels[x])})" for x in near)
        raise InputError(f"no node has the label {quote(label)}{f'; there are {hint}' if hint else ''}")

    def _near(self, value: str) -> str:
        space = value.rpartition(":")[0]
        if not space or space not in self.view.prefixes.spaces:
            return ""
        known = (x.subject for x in islice(self.view.match(None, t.LABEL), _READ))
        names = [n for n in (self.view.prefixes.short(x) for x in known) if n.startswith(f"{space}:")]
        near = get_close_matches(value, names, n=3, cutoff=0.7)
        return f" Did you mean {' or '.join(near)}?" if near else ""


def _named(iri: str) -> NamedNode:
    try:
        return NamedNode(iri)
    except ValueError as error:
        raise InputError(f"<{iri}> is no IRI: {error}") from error


def literal(value: str, language: str | None = None, datatype: NamedNode | None = None) -> Literal:
    """A literal; a language wins over a datatype.

    Raises:
        InputError: The language tag is none.
    """
    try:
        if language:
            return Literal(value, language=language)
        return Literal(value, datatype=datatype) if datatype else Literal(value)
    except ValueError as error:
        raise InputError(f"{language!r} is no language tag: {error}") from error


def alike(old: Literal, value: str, language: str | None = None) -> Literal:
    """Another text of the same language and datatype, unless a language is given."""
    if language or old.language:
        return literal(value, language or old.language)
    return literal(value, None, old.datatype)
