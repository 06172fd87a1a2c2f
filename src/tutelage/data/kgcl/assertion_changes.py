"""What changes of annotations, mappings and metadata do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyoxigraph import Literal, NamedNode, Triple

from tutelage.data.kgcl import model as m
from tutelage.data.kgcl.axioms import drop, replace
from tutelage.data.kgcl.doing import Doing
from tutelage.data.kgcl.node_changes import text_of
from tutelage.data.rdf.terms import Subject, Term
from tutelage.recipe.errors import InputError


def change_annotation(doing: Doing, change: m.NodeAnnotationChange) -> None:
    """Another value of the same annotation."""
    node = doing.about(change)
    predicate = doing.names.predicate(text_of(change.annotation_property), change.annotation_property_type)
    _revalue(doing, node, [predicate], change)


def change_assertion(doing: Doing, change: m.MappingReplacement | m.MetadataAssertionReplacement) -> None:
    """Another value; the predicate, where it is not given, is found by the old one."""
    node = doing.about(change)
    if change.predicate:
        predicates = [doing.names.predicate(change.predicate, change.predicate_type)]
    else:
        predicates = list(dict.fromkeys(x.predicate for x in doing.view.match(node)))
    _revalue(doing, node, predicates, change)


def _revalue(doing: Doing, node: Subject, predicates: list[NamedNode], change: Any) -> None:
    old = doing.value(change, "old_value", change.old_value_type, change.old_language, change.old_datatype)
    new = doing.value(change, "new_value", change.new_value_type, change.new_language, change.new_datatype)
    there = [x for p in predicates for x in list(doing.view.match(node, p, old))]
    if not there and isinstance(old, Literal) and not change.old_language and not change.old_datatype:
        there = doing.texts(node, predicates, old.value, None)
    triple = doing.one(there, f"value {doing.view.short(old)}", node, doing.all(node, predicates))
    replace(doing.view, triple, Triple(node, triple.predicate, new))


def change_assertion_predicate(doing: Doing, change: m.MappingPredicateChange) -> None:
    """The same value under another predicate."""
    node = doing.about(change)
    old, new = (doing.names.predicate(text_of(v), how) for v, how in _predicates(change))
    there = [x for x in list(doing.view.match(node, old)) if _same(doing, x.object, change)]
    replace(
        doing.view,
        (found := doing.one(there, "such value", node, doing.all(node, [old]))),
        Triple(node, new, found.object),
    )


def _predicates(change: Any) -> tuple[tuple[str | None, str | None], ...]:
    return (change.old_value, change.old_value_type), (change.new_value, change.new_value_type)


def _same(doing: Doing, term: Term, change: Any) -> bool:
    asked: Term = doing.value(change, "object", change.object_type, change.language, change.datatype)
    return term == asked


def assertion(doing: Doing, change: m.NodeMappingChange | m.NodeMetadataAssertionChange) -> Triple:
    """The one plain triple that a change speaks of."""
    if change.about_node is None:
        raise InputError("it names no node")
    node = doing.names.node(change.about_node, change.about_node_representation)
    predicate = doing.names.iri(text_of(change.predicate), change.predicate_type)
    if isinstance(change, m.NodeMappingChange) or not isinstance(predicate, NamedNode):
        predicate = doing.names.predicate(text_of(change.predicate), change.predicate_type)
    object = doing.value(change, "object", change.object_type, change.language, change.datatype)
    return Triple(node, predicate, object)


def new_assertion(doing: Doing, change: m.NodeMetadataAssertionChange) -> None:
    """It comes."""
    triple = assertion(doing, change)
    if doing.view.has(triple):
        raise InputError("this is in the graph already")
    doing.view.add(triple)


def remove_assertion(doing: Doing, change: m.NodeMetadataAssertionChange) -> None:
    """It goes, and nothing else."""
    triple = assertion(doing, change)
    if not doing.view.has(triple):
        raise InputError("this is not in the graph")
    doing.view.drop(triple)


def remove_mapping(doing: Doing, change: m.RemoveMapping) -> None:
    """It goes, with what is said of it."""
    triple = assertion(doing, change)
    there = [triple] if doing.view.has(triple) else []
    drop(doing.view, doing.one(there, "such mapping", triple.subject, doing.all(triple.subject, [triple.predicate])))


EFFECTS: dict[str, Callable[[Doing, Any], None]] = {
    "NodeAnnotationChange": change_annotation,
    "NodeAnnotationReplacement": change_annotation,
    "NewMetadataAssertion": new_assertion,
    "RemoveMetadataAssertion": remove_assertion,
    "MetadataAssertionReplacement": change_assertion,
    "MetadataAssertionPredicateChange": change_assertion_predicate,
    "NewMapping": new_assertion,
    "RemoveMapping": remove_mapping,
    "MappingReplacement": change_assertion,
    "MappingPredicateChange": change_assertion_predicate,
}
