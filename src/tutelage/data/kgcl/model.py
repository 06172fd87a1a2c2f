"""The data model: each kind of change of edges and of nodes, as a class."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from tutelage.data.kgcl.elements import (
    SUBCLASS,
    Annotation,
    Change,
    Edge,
    Representation,
    Scope,
    SimpleChange,
    TextualDiff,
    Typed,
)

Nodes = Annotated[list[str], AfterValidator(lambda names: sorted(set(names)))]
"""A set of nodes, in one order."""

# ---------------------------------------------------------------------- edges


class EdgeChange(SimpleChange):
    """A change of an edge."""

    about_edge: Edge | None = None
    object_type: Representation | None = None
    language: str | None = None
    datatype: str | None = None


class _WholeEdge(EdgeChange):
    subject: str
    predicate: str
    object: str
    subject_type: Representation | None = None
    predicate_type: Representation | None = None
    annotation_set: Annotation | None = None
    abstract = False


class EdgeCreation(_WholeEdge):
    """An edge appears."""


class PlaceUnder(EdgeCreation):
    """An edge of ``rdfs:subClassOf`` appears."""

    predicate: str = SUBCLASS[0]


class MappingCreation(EdgeCreation):
    """A mapping as an edge; `NewMapping` took its place."""


class EdgeDeletion(_WholeEdge):
    """An edge goes, and what was said of it."""


class RemoveUnder(EdgeDeletion):
    """An edge of ``rdfs:subClassOf`` goes."""

    predicate: str = SUBCLASS[0]


class EdgeObsoletion(EdgeChange):
    """An edge holds no longer, which an annotation remembers."""

    subject: str
    predicate: str
    object: str
    annotation_set: Annotation | None = None
    abstract = False


class EdgeRewiring(EdgeChange):
    """One end of an edge becomes another node."""

    about_edge: Edge
    abstract = False


class NodeMove(EdgeChange):
    """An edge's object changes, its predicate does not."""

    about_edge: Edge
    old_object_type: Representation | None = None
    new_object_type: Representation | None = None
    abstract = False


class NodeDeepening(NodeMove):
    """A move to a descendant of where the node was."""


class NodeShallowing(NodeMove):
    """A move to an ancestor of where the node was."""


class PredicateChange(EdgeChange):
    """An edge's predicate changes."""

    about_edge: Edge
    abstract = False


class EdgeLogicalInterpretationChange(EdgeChange):
    """An edge's reading changes, from ``some`` to ``only`` or back."""

    about_edge: Edge
    abstract = False


class LogicalAxiomChange(SimpleChange):
    """An axiom that is no edge changes; here the values are its triples before and after, in N-Triples."""

    abstract = False


# ---------------------------------------------------------------------- nodes


class NodeChange(SimpleChange):
    """A change of a node."""

    about_node: str | None = None
    about_node_representation: Representation | None = None
    language: str | None = None


class _OfNode(NodeChange):
    about_node: str
    abstract = False


class NodeRename(NodeChange):
    """The label changes."""

    has_textual_diff: TextualDiff | None = None
    abstract = False


class SetLanguageForName(_OfNode):
    """The label's language changes; the values are language tags."""


class NodeAnnotationChange(_OfNode):
    """The value of an annotation changes."""

    annotation_property: str | None = None
    annotation_property_type: Representation | None = None


class NodeAnnotationReplacement(NodeAnnotationChange):
    """The same, of one value in particular."""


class _Synonym(_OfNode):
    qualifier: Scope | None = None
    predicate: str | None = None


class NewSynonym(_Synonym):
    """A synonym appears."""


class NameBecomesSynonym(_Synonym):
    """A node gets a new label (``new_value``), and the old one (``old_value``) stays as a synonym."""

    change_1: Typed | None = None
    change_2: Typed | None = None


class RemoveSynonym(_Synonym):
    """A synonym goes."""


class SynonymReplacement(_Synonym):
    """A synonym's text changes."""

    has_textual_diff: TextualDiff | None = None


class SynonymPredicateChange(_Synonym):
    """The scope of a synonym (``target``) changes; the values are scopes or predicates."""

    target: str | None = None
    has_textual_diff: TextualDiff | None = None


class _Assertion(_OfNode):
    predicate: str | None = None
    object: str | None = None


class NewMapping(_Assertion):
    """A mapping appears."""


class RemoveMapping(_Assertion):
    """A mapping goes."""


class MappingReplacement(_Assertion):
    """A mapping's object changes."""


class MappingPredicateChange(_Assertion):
    """A mapping's predicate changes."""


class NewMetadataAssertion(_Assertion):
    """An annotation appears."""


class RemoveMetadataAssertion(_Assertion):
    """An annotation goes."""


class MetadataAssertionReplacement(_Assertion):
    """An annotation's value changes."""


class MetadataAssertionPredicateChange(_Assertion):
    """An annotation's predicate changes."""


class NodeTextDefinitionChange(_OfNode):
    """The definition changes; abstract in the schema, and what its grammar makes of ``change definition``."""


class NewTextDefinition(NodeTextDefinitionChange):
    """A definition appears."""


class RemoveTextDefinition(NodeTextDefinitionChange):
    """The definition goes."""


class TextDefinitionReplacement(NodeTextDefinitionChange):
    """The definition changes."""

    has_textual_diff: TextualDiff | None = None


class AddNodeToSubset(_OfNode):
    """A node joins a subset."""

    in_subset: str


class RemoveNodeFromSubset(_OfNode):
    """A node leaves a subset."""

    in_subset: str


class NodeObsoletion(_OfNode):
    """A node is not to be used any more, and stays."""

    has_direct_replacement: str | None = None
    has_nondirect_replacement: Nodes | None = None


class NodeObsoletionWithDirectReplacement(NodeObsoletion):
    """One other node takes its place."""

    has_direct_replacement: str


class NodeObsoletionWithNoDirectReplacement(NodeObsoletion):
    """Other nodes are to be considered."""

    has_nondirect_replacement: Nodes


class NodeDirectMerge(NodeObsoletion):
    """A node is merged into another: its metadata and edges move, and its identifier stays as an alternative."""

    has_direct_replacement: str


class NodeUnobsoletion(_OfNode):
    """A node is to be used again."""

    has_direct_replacement: str | None = None
    has_nondirect_replacement: Nodes | None = None


class NodeCreation(_OfNode):
    """A node appears."""

    node_id: str | None = None
    name: str | None = None
    owl_type: Literal["CLASS", "OBJECT_PROPERTY", "NAMED_INDIVIDUAL"] | None = None
    annotation_set: Annotation | None = None


class ClassCreation(NodeCreation):
    """A class appears, below another if one is given."""

    superclass: str | None = None


class ObjectPropertyCreation(NodeCreation):
    """An object property appears."""


class NodeDeletion(_OfNode):
    """A node goes, with all that is said of it."""


def _concrete(kind: type[Change]) -> dict[str, type[Change]]:
    out = {} if kind.abstract or kind.__name__.startswith("_") else {kind.__name__: kind}
    for below in kind.__subclasses__():
        out |= _concrete(below)
    return out


Change.model_rebuild()
for _kind in _concrete(Change).values():
    _kind.model_rebuild()
TYPES = _concrete(Change)
"""Classes of changes by name."""
