"""KGCL's data model: what can be changed, as objects (arXiv:2409.13906; its published schema, version 0.7).

Names of classes and fields are the schema's. A field that ends in ``_type`` or ``_representation`` says how the value
beside it is written: ``curie``, ``uri``, ``label``, ``literal`` or ``blank``. Fields that refer to nodes and have no
such companion hold the value as the language writes it. Fields that the schema lacks are marked as such.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class ChangeLanguageElement(BaseModel):
    """Anything of the language."""

    model_config = ConfigDict(extra="forbid")


class Edge(ChangeLanguageElement):
    """Subject, predicate and object."""

    subject: str | None = None
    predicate: str | None = None
    object: str | None = None
    subject_representation: str | None = None
    predicate_representation: str | None = None
    object_representation: str | None = None
    annotation_set: Any = None


class Activity(ChangeLanguageElement):
    """What led to changes, in terms of PROV."""

    id: str
    started_at_time: str | None = None
    ended_at_time: str | None = None
    was_informed_by: str | None = None
    was_associated_with: str | None = None
    used: str | None = None
    description: str | None = None


class Change(ChangeLanguageElement):
    """Any change."""

    id: str | None = None
    was_generated_by: str | None = None
    see_also: str | None = None
    pull_request: str | None = None
    term_tracker_issue: str | None = None
    creator: str | None = None
    contributor: str | None = None
    change_date: str | None = None
    has_undo: Any = None
    change_description: str | None = None
    associated_change_set: Any = None


class ComplexChange(Change):
    """A change that is made of others."""

    change_set: list[Any] = []


class Transaction(Change):
    """Changes that are one unit: all are made or none."""

    change_set: list[Any] = []


class MultiNodeObsoletion(ComplexChange):
    """Several nodes become obsolete at once."""


class SearchAndReplace(ComplexChange):
    """Labels below a node have a text replaced (a form of the schema's comments; as a class it is our addition).

    ``about_node`` is the root, ``qualifier`` the scope in which former labels stay as synonyms.
    """

    about_node: str | None = None
    about_node_representation: str | None = None
    old_value: str | None = None
    new_value: str | None = None
    qualifier: str | None = None


class SimpleChange(Change):
    """A change of one element."""

    old_value: str | None = None
    new_value: str | None = None
    old_value_type: str | None = None
    new_value_type: str | None = None
    new_language: str | None = None
    old_language: str | None = None
    new_datatype: str | None = None
    old_datatype: str | None = None


class LogicalAxiomChange(SimpleChange):
    """An axiom that is no edge changes: it can be exchanged, but neither said in words nor applied."""


class EdgeChange(SimpleChange):
    """A change about an edge."""

    about_edge: Edge | None = None
    object_type: str | None = None
    language: str | None = None
    datatype: str | None = None
    subject: str | None = None
    predicate: str | None = None
    object: str | None = None
    subject_type: str | None = None
    predicate_type: str | None = None
    annotation_set: Any = None


class EdgeCreation(EdgeChange):
    """An edge is made."""


class PlaceUnder(EdgeCreation):
    """A class becomes a subclass."""


class MappingCreation(EdgeCreation):
    """A mapping is made; the schema wants `NewMapping` instead."""


class EdgeDeletion(EdgeChange):
    """An edge, and what is said about it, goes."""


class RemoveUnder(EdgeDeletion):
    """A class stops being a subclass."""


class EdgeObsoletion(EdgeChange):
    """An edge is no longer asserted, but remembered as an annotation."""


class EdgeRewiring(EdgeChange):
    """One end of an edge is replaced."""


class NodeMove(EdgeChange):
    """The object of an edge is replaced: the subject gets another parent."""

    old_object_type: str | None = None
    new_object_type: str | None = None


class NodeDeepening(NodeMove):
    """A move to a descendant of the former parent."""


class NodeShallowing(NodeMove):
    """A move to an ancestor of the former parent."""


class PredicateChange(EdgeChange):
    """An edge gets another predicate."""


class EdgeLogicalInterpretationChange(EdgeChange):
    """An edge means another restriction: ``some`` or ``only``."""


class NodeChange(SimpleChange):
    """A change about a node."""

    about_node: str | None = None
    about_node_representation: str | None = None
    language: str | None = None


class NodeRename(NodeChange):
    """The label changes."""

    has_textual_diff: Any = None


class SetLanguageForName(NodeChange):
    """The label's language changes."""


class NodeAnnotationChange(NodeChange):
    """The value of an annotation changes."""

    annotation_property: str | None = None
    annotation_property_type: str | None = None


class NodeAnnotationReplacement(NodeAnnotationChange):
    """The same, under the name of a replacement."""


class NodeSynonymChange(NodeChange):
    """A change of synonyms."""


class NewSynonym(NodeSynonymChange):
    """A synonym comes."""

    qualifier: str | None = None
    predicate: str | None = None


class NameBecomesSynonym(NodeSynonymChange):
    """A synonym (``new_value``) becomes the label, and the label (``old_value``) a synonym."""

    change_1: Any = None
    change_2: Any = None


class RemoveSynonym(NodeSynonymChange):
    """A synonym goes."""


class SynonymReplacement(NodeSynonymChange):
    """A synonym's text changes."""

    qualifier: str | None = None
    has_textual_diff: Any = None


class SynonymPredicateChange(NodeSynonymChange):
    """A synonym's (``target``) scope changes from ``old_value`` to ``new_value``."""

    target: str | None = None
    has_textual_diff: Any = None


class _Asserted(NodeChange):
    object: str | None = None
    predicate: str | None = None
    object_type: str | None = None
    """Not in the schema."""
    predicate_type: str | None = None
    """Not in the schema."""
    datatype: str | None = None
    """Not in the schema."""


class NodeMappingChange(_Asserted):
    """A change of mappings."""


class NewMapping(NodeMappingChange):
    """A mapping comes."""


class RemoveMapping(NodeMappingChange):
    """A mapping goes."""


class MappingReplacement(NodeMappingChange):
    """A mapping points elsewhere."""


class MappingPredicateChange(NodeMappingChange):
    """A mapping means something else."""


class NodeMetadataAssertionChange(_Asserted):
    """A change of one plain triple about a node."""


class NewMetadataAssertion(NodeMetadataAssertionChange):
    """A triple comes."""


class RemoveMetadataAssertion(NodeMetadataAssertionChange):
    """A triple goes."""


class MetadataAssertionReplacement(NodeMetadataAssertionChange):
    """A triple gets another object."""


class MetadataAssertionPredicateChange(NodeMetadataAssertionChange):
    """A triple gets another predicate."""


class NodeTextDefinitionChange(NodeChange):
    """A change of the definition."""


class NewTextDefinition(NodeTextDefinitionChange):
    """A definition comes."""


class RemoveTextDefinition(NodeTextDefinitionChange):
    """A definition goes."""


class TextDefinitionReplacement(NodeTextDefinitionChange):
    """A definition changes."""

    has_textual_diff: Any = None


class _Subset(NodeChange):
    in_subset: str | None = None


class AddNodeToSubset(_Subset):
    """A node joins a subset."""


class RemoveNodeFromSubset(_Subset):
    """A node leaves a subset."""


class _Replaced(NodeChange):
    has_direct_replacement: str | None = None
    has_nondirect_replacement: list[str] | str | None = None


class NodeObsoletion(_Replaced):
    """A node is kept, and nobody should use it."""


class NodeObsoletionWithDirectReplacement(NodeObsoletion):
    """Obsolete, and another takes its place."""


class NodeObsoletionWithNoDirectReplacement(NodeObsoletion):
    """Obsolete, and others are to be considered."""


class NodeDirectMerge(NodeObsoletion):
    """What is known of a node moves to another, and its identifier lives on there."""


class NodeUnobsoletion(_Replaced):
    """An obsolete node is reinstated."""


class NodeCreation(NodeChange):
    """A node is made."""

    node_id: str | None = None
    name: str | None = None
    owl_type: str | None = None
    annotation_set: Any = None


class ClassCreation(NodeCreation):
    """A class is made."""

    superclass: str | None = None


class ObjectPropertyCreation(NodeCreation):
    """A relation is made."""


class NodeDeletion(NodeChange):
    """A node goes, with all that is said of it."""


class ChangeSetSummaryStatistic(ChangeLanguageElement):
    """How many changes of a type there are."""

    change_type: str | None = None
    count: int | None = None
    property_value_set: Any = None


class Session(ChangeLanguageElement):
    """Changes, and the activities that led to them."""

    change_set: list[Any] = []
    activity_set: list[Activity] = []


def _below(kind: type[Change]) -> dict[str, type[Change]]:
    out: dict[str, type[Change]] = {}
    for one in kind.__subclasses__():
        if not one.__name__.startswith("_"):
            out[one.__name__] = one
        out |= _below(one)
    return out


TYPES: dict[str, type[Change]] = _below(Change)
"""Classes of changes by name."""
