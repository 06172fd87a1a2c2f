"""Terms as commands name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyoxigraph import BlankNode, Literal, NamedNode, Triple

from tutelage.data.kgcl import model as m
from tutelage.data.rdf import terms as t
from tutelage.data.rdf.terms import Prefixes, Term


class Naming:
    """Terms as commands name them.

    Args:
        prefixes: For CURIEs.
        blanks: What blank nodes are called, where it is not their own name.
    """

    def __init__(self, prefixes: Prefixes, blanks: Mapping[BlankNode, str]) -> None:
        self.prefixes, self.blanks = prefixes, blanks

    def node(self, term: Term) -> tuple[str, str]:
        """A node, and how it is written."""
        if isinstance(term, NamedNode):
            curie = self.prefixes.contract(term.value)
            return (curie, "curie") if curie and not curie.startswith(("http", "_")) else (term.value, "uri")
        assert isinstance(term, BlankNode)
        return self.blanks.get(term, term.value), "blank"

    def written(self, term: Term) -> str:
        """A node in one text."""
        value, how = self.node(term)
        return {"uri": f"<{value}>", "blank": f"_:{value}"}.get(how, value)

    def about(self, term: Term) -> dict[str, str]:
        """The fields of the node that a change is about."""
        value, how = self.node(term)
        return {"about_node": value, "about_node_representation": how}

    def object(self, term: Term, name: str = "object", kind: str = "object_type") -> dict[str, str]:
        """The fields of an object."""
        if not isinstance(term, Literal):
            value, how = self.node(term)
            return {name: value, kind: how}
        out = {name: term.value, kind: "literal"}
        tags = ("language", "datatype") if name == "object" else (f"{name[:3]}_language", f"{name[:3]}_datatype")
        if term.language:
            out[tags[0]] = term.language
        elif term.datatype.value != f"{t.XSD}string":
            out[tags[1]] = f"<{term.datatype.value}>"
        return out

    def triple(self, x: Triple) -> dict[str, Any]:
        """The fields of a triple."""
        subject, how = self.node(x.subject)
        predicate, named = self.node(x.predicate)
        out = {"subject": subject, "subject_type": how, "predicate": predicate, "predicate_type": named}
        return {**out, **self.object(x.object)}

    def edge(self, x: Triple) -> m.Edge:
        """A triple as an edge."""
        (subject, a), (predicate, b), (object, c) = (self.node(y) for y in (x.subject, x.predicate, x.object))
        return m.Edge(
            subject=subject,
            predicate=predicate,
            object=object,
            subject_representation=a,
            predicate_representation=b,
            object_representation=c,
        )


class Blanks(dict[str, BlankNode]):
    """Blank nodes by the names that commands give them.

    Args:
        names: Of those that do not go by their own.
    """

    def __init__(self, names: Mapping[BlankNode, str]) -> None:
        super().__init__({name: node for node, name in names.items()})

    def __missing__(self, key: str) -> BlankNode:
        return BlankNode(key)
