"""Changes of a graph that nobody asked for: drawn at random, each valid where it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from pyoxigraph import Literal, NamedNode

from tutelage.data.kgcl.applying import effects
from tutelage.data.kgcl.language import parse_command
from tutelage.data.kgcl.view import Rules
from tutelage.data.kgcl.wording import quote
from tutelage.data.rdf.graph import Memory
from tutelage.data.rdf.journal import Stamp
from tutelage.data.rdf.terms import CLASS, DEFINITION, LABEL, SUBCLASS, TYPE
from tutelage.recipe.errors import InputError

_TRIES = 50
_STAMP = Stamp("drawn", "1970-01-01T00:00:00+00:00")


class Drawing:
    """Draws commands and makes them.

    Args:
        graph: What they change; changed as they are drawn.
        random: Where chance comes from.
        rules: How changes act.
    """

    def __init__(self, graph: Memory, random: Random, rules: Rules | None = None) -> None:
        self.graph, self.random, self.rules = graph, random, rules
        self._count = 0
        found = {t.subject for t in graph.match(None, LABEL)}
        self.nodes = sorted((n for n in found if isinstance(n, NamedNode)), key=str)
        triples = [t for t in graph.match() if isinstance(t.object, NamedNode) and t.object in found]
        self.relations = sorted({t.predicate for t in triples} - {TYPE, SUBCLASS}, key=str)
        self.kinds: Sequence[Callable[[], str]] = (
            self._rename,
            self._synonym,
            self._definition,
            self._class,
            self._move,
            self._under,
            self._not_under,
            self._edge,
            self._no_edge,
            self._relation,
        )

    def draw(self, count: int) -> list[str]:
        """Commands, each made before the next is drawn.

        Raises:
            InputError: The graph has nothing that could change.
        """
        if not self.nodes:
            raise InputError(f"{self.graph.name} has no labelled nodes, so no changes can be drawn for it")
        out: list[str] = []
        while len(out) < count:
            for _ in range(_TRIES):
                # What a kind needs may not be there: a relation, a parent, a second relation.
                try:
                    command = self.random.choice(self.kinds)()
                    done = effects(self.graph, [parse_command(command)], self.rules)
                except (InputError, IndexError, ValueError):
                    continue
                self.graph.commit(done.removed, done.added, commands=[command], stamp=_STAMP)
                out.append(command)
                break
            else:
                raise InputError(f"{self.graph.name}: only {len(out)} of {count} changes could be drawn for it")
        return out

    def _node(self) -> NamedNode:
        return self.random.choice(self.nodes)

    def _said(self, node: object) -> str:
        assert isinstance(node, NamedNode)
        return self.graph.prefixes.short(node)

    def _new(self) -> int:
        self._count += 1
        return self._count

    def _label(self, node: NamedNode) -> str:
        found = sorted(t.object.value for t in self.graph.match(node, LABEL) if isinstance(t.object, Literal))
        return self.random.choice(found)

    def _triple(self, predicate: NamedNode) -> tuple[str, str]:
        found = [t for t in self.graph.match(None, predicate) if isinstance(t.object, NamedNode)]
        one = self.random.choice(sorted((t for t in found if isinstance(t.subject, NamedNode)), key=str))
        return self._said(one.subject), self._said(one.object)

    def _rename(self) -> str:
        node = self._node()
        old = self._label(node)
        return f"rename {self._said(node)} from {quote(old)} to {quote(f'{old}, revised {self._new()}')}"

    def _synonym(self) -> str:
        node, scope = self._node(), self.random.choice(("exact", "narrow", "broad", "related"))
        return f"create {scope} synonym 'also called {self._new()}' for {self._said(node)}"

    def _definition(self) -> str:
        node = self._node()
        old = [t.object.value for t in self.graph.match(node, DEFINITION) if isinstance(t.object, Literal)]
        new = quote(f"What is meant by {self._label(node)}, version {self._new()}.")
        if old:
            return f"change definition of {self._said(node)} from {quote(old[0])} to {new}"
        return f"add definition {new} to {self._said(node)}"

    def _class(self) -> str:
        return f"create class name:drawn_{self._new()} 'drawn class {self._count}'"

    def _move(self) -> str:
        child, parent = self._triple(SUBCLASS)
        return f"move {child} rdfs:subClassOf {parent} from {parent} to {self._said(self._node())}"

    def _under(self) -> str:
        return f"create edge {self._said(self._node())} rdfs:subClassOf {self._said(self._node())}"

    def _not_under(self) -> str:
        child, parent = self._triple(SUBCLASS)
        return f"delete edge {child} rdfs:subClassOf {parent}"

    def _edge(self) -> str:
        relation = self._said(self.random.choice(self.relations))
        return f"create edge {self._said(self._node())} {relation} {self._said(self._node())}"

    def _no_edge(self) -> str:
        relation = self.random.choice(self.relations)
        one, other = self._triple(relation)
        return f"delete edge {one} {self._said(relation)} {other}"

    def _relation(self) -> str:
        old, new = self.random.sample(self.relations, 2)
        one, other = self._triple(old)
        return f"change relationship between {one} and {other} from {self._said(old)} to {self._said(new)}"


def classes(triples: Sequence[tuple[str, str, str]], isa: str) -> Memory:
    """A graph of plain triples as an ontology: names are classes with labels, one relation is ``rdfs:subClassOf``."""
    from pyoxigraph import Triple

    from tutelage.data.rdf.terms import named

    out: list[Triple] = []
    for name in dict.fromkeys(n for head, _, tail in triples for n in (head, tail)):
        node = NamedNode(named(name))
        out += [Triple(node, TYPE, CLASS), Triple(node, LABEL, Literal(name.replace("_", " ")))]
    for head, relation, tail in triples:
        predicate = SUBCLASS if relation == isa else NamedNode(named(relation))
        out.append(Triple(NamedNode(named(head)), predicate, NamedNode(named(tail))))
    return Memory(out)
