"""A change while it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyoxigraph import Literal, NamedNode, Triple

from tutelage.data.kgcl.view import Names, Rules, View, literal
from tutelage.data.kgcl.wording import quote
from tutelage.data.rdf.terms import Subject, Term
from tutelage.recipe.errors import InputError

_SHOWN = 5


@dataclass
class Doing:
    """What an effect works with.

    Args:
        view: The graph, as the transaction has changed it so far.
        names: What nodes are called.
        rules: How changes act.
    """

    view: View
    names: Names
    rules: Rules

    def about(self, change: Any) -> Subject:
        """The node that a change is about, which must be known.

        Raises:
            InputError: It is not.
        """
        if change.about_node is None:
            raise InputError("it names no node")
        return self.names.node(change.about_node, change.about_node_representation, must=True)

    def value(self, change: Any, name: str, how: str | None, language: str | None, datatype: str | None) -> Term:
        """A node or a literal."""
        value = getattr(change, name)
        if value is None:
            raise InputError(f"it says nothing of its {name.replace('_', ' ')}")
        if how == "literal":
            kind = self.names.written(datatype) if datatype else None
            return literal(value, language, kind if isinstance(kind, NamedNode) else None)
        return self.names.node(value, how)

    def one(self, found: list[Triple], what: str, node: Subject, instead: list[Term]) -> Triple:
        """The one triple that is meant.

        Raises:
            InputError: There is none, or several.
        """
        if len(found) == 1:
            return found[0]
        short = self.view.short(node)
        if not found:
            shown = ", ".join(self._text(x) for x in instead[:_SHOWN])
            more = f" and {len(instead) - _SHOWN} more" if len(instead) > _SHOWN else ""
            raise InputError(f"{short} has no {what}" + (f"; it has {shown}{more}" if instead else ""))
        shown = ", ".join(f"{self.view.prefixes.short(x.predicate)} {self._text(x.object)}" for x in found[:_SHOWN])
        raise InputError(f"{short} has {len(found)} of {what}: {shown}; say which")

    def texts(self, node: Subject, predicates: list[NamedNode], text: str | None, language: str | None) -> list[Triple]:
        """Triples of a node with a text, in a language where one is given."""
        return [
            x
            for predicate in predicates
            for x in list(self.view.match(node, predicate))
            if isinstance(x.object, Literal)
            and (text is None or x.object.value == text)
            and (language is None or (x.object.language or "").lower() == language.lower())
        ]

    def all(self, node: Subject, predicates: list[NamedNode]) -> list[Term]:
        """All that predicates say of a node."""
        return [x for predicate in predicates for x in self.view.objects(node, predicate)]

    def _text(self, term: Term) -> str:
        if isinstance(term, Literal):
            return quote(term.value) + (f"@{term.language}" if term.language else "")
        return self.view.short(term)
