"""The grammar: one row a command, from which both the parser and the renderer are made, so that they cannot disagree.

In a template, ``{field:kind}`` is a token; ``/other`` names the field that says what it is, ``@other`` and ``^other``
those of a text's language and datatype; brackets are optional; of ``to|as|->`` the first is written and all are read.
``edge.`` is the edge that the change is about.
"""

from __future__ import annotations

from typing import NamedTuple

_SUBJECT, _ABOUT = "{edge.subject:entity/edge.subject_representation}", "{about_node:entity/about_node_representation}"
_ID = "{about_node:identifier/about_node_representation}"
_PREDICATE = "{edge.predicate:entity/edge.predicate_representation}"
_OBJECT = "{edge.object:entity/edge.object_representation}"
_WHOLE = "{subject:entity/subject_type} {predicate:entity/predicate_type} {object:entity/object_type}"
_PLAIN = "{subject:reference} {predicate:reference} {object:reference}"
_MOVE = "from {old_value:entity/old_object_type} to|as|-> {new_value:entity/new_object_type}"
_VALUES = (
    "from {old_value:value/old_value_type@old_language^old_datatype} "
    "to {new_value:value/new_value_type@new_language^new_datatype}"
)
_TERMS = "from {old_value:entity/old_value_type} to {new_value:entity/new_value_type}"
_OLD, _NEW = "{old_value:text@old_language}", "{new_value:text@new_language}"
_OLD_LABEL, _NEW_LABEL = "{old_value:text@language}", "{new_value:text@language}"


class Row(NamedTuple):
    """One way to say a change.

    Args:
        kind: Name of its class.
        template: Its words and fields.
        only_read: Whether it is another way to say what an earlier row says.
        defaults: Fields that the words imply.
    """

    kind: str
    template: str
    only_read: bool = False
    defaults: tuple[tuple[str, str], ...] = ()


_UNDER = (("edge.predicate", "rdfs:subClassOf"), ("edge.predicate_representation", "curie"))

ROWS = (
    # Names.
    Row("NodeRename", f"rename [{_ABOUT} from] {_OLD} to|as|-> {_NEW}"),
    Row("SetLanguageForName", f"change {_ABOUT} name language [from {{old_value:language}}] to {{new_value:language}}"),
    Row(
        "NameBecomesSynonym",
        f"synonym {_NEW} becomes new name of {_ABOUT} , and name {_OLD} becomes a [{{qualifier:scope}}] synonym",
    ),
    Row(
        "SearchAndReplace",
        "search and replace {old_value:text} with {new_value:text} in all labels under "
        f"{_ABOUT} [retaining as '{{qualifier:scope}} synonym']",
    ),
    # Nodes.
    Row("ObjectPropertyCreation", f"create object property {_ID} [{{name:text@language}}]"),
    Row(
        "ClassCreation", f"create class {_ID} [{{name:text@language}}] [under {{superclass:reference}}]", only_read=True
    ),
    Row("NodeCreation", f"create node {_ID} [{{name:text@language}}]"),
    Row(
        "NodeObsoletionWithDirectReplacement",
        f"obsolete {_ABOUT} with replacement {{has_direct_replacement:reference}}",
    ),
    Row(
        "NodeObsoletionWithNoDirectReplacement",
        f"obsolete {_ABOUT} with alternative {{has_nondirect_replacement:references}}",
    ),
    Row("MultiNodeObsoletion", "obsolete multiple {change_set:obsoletions}"),
    Row("EdgeObsoletion", f"obsolete edge {_PLAIN}"),
    Row("NodeObsoletion", f"obsolete {_ABOUT}"),
    Row("NodeUnobsoletion", f"unobsolete {_ABOUT}"),
    Row("NodeDirectMerge", f"merge {_ABOUT} into {{has_direct_replacement:reference}}"),
    # Edges.
    Row("EdgeCreation", f"create edge {_WHOLE}"),
    Row("EdgeCreation", f"add edge {_WHOLE}", only_read=True),
    Row("EdgeDeletion", f"delete edge {_WHOLE}"),
    Row("EdgeDeletion", f"remove edge {_WHOLE}", only_read=True),
    Row("MappingCreation", f"create mapping edge {_WHOLE}"),
    Row("EdgeRewiring", f"rewire edge {_SUBJECT} {_PREDICATE} {_OBJECT} {_TERMS}"),
    Row("NodeMove", f"move {_SUBJECT} {_PREDICATE} {_OBJECT} {_MOVE}"),
    Row(
        "NodeMove",
        f"move {_SUBJECT} from {_PREDICATE} {{old_value:entity/old_object_type}} to|as|-> {{same:entity}} "
        "{new_value:entity/new_object_type}",
        only_read=True,
    ),
    Row("NodeMove", f"move {_SUBJECT} under {{new_value:entity/new_object_type}}", defaults=_UNDER),
    Row("NodeMove", f"move {_SUBJECT} {_MOVE}", only_read=True, defaults=_UNDER),
    Row("NodeDeepening", f"deepen {_SUBJECT} {_MOVE}"),
    Row("NodeDeepening", f"deepen {_SUBJECT} {_PREDICATE} {_OBJECT} {_MOVE}"),
    Row("NodeShallowing", f"shallow {_SUBJECT} {_MOVE}"),
    Row("NodeShallowing", f"shallow {_SUBJECT} {_PREDICATE} {_OBJECT} {_MOVE}"),
    Row("NodeShallowing", f"lift {_SUBJECT} {_MOVE}", only_read=True),
    Row("PredicateChange", f"change relationship between {_SUBJECT} and {_OBJECT} {_TERMS}"),
    Row("PredicateChange", f"change edge type between {_SUBJECT} and {_OBJECT} {_TERMS}", only_read=True),
    Row(
        "EdgeLogicalInterpretationChange",
        f"change interpretation of edge {_SUBJECT} {_PREDICATE} {_OBJECT} "
        "from {old_value:reading} to {new_value:reading}",
    ),
    Row("LogicalAxiomChange", "change axiom {old_value:text} to {new_value:text}"),
    Row("LogicalAxiomChange", "create axiom {new_value:text}"),
    Row("LogicalAxiomChange", "delete axiom {old_value:text}"),
    Row("NodeDeletion", f"delete {_ABOUT}"),
    # Synonyms.
    Row("NewSynonym", f"create [{{qualifier:scope}}] synonym {_NEW_LABEL} for {_ABOUT}"),
    Row("NewSynonym", f"add [{{qualifier:scope}}] synonym {_NEW_LABEL} to|for {_ABOUT}", only_read=True),
    Row("RemoveSynonym", f"remove [{{qualifier:scope}}] synonym {_OLD_LABEL} for|from {_ABOUT}"),
    Row("SynonymReplacement", f"change [{{qualifier:scope}}] synonym {_OLD} for {_ABOUT} to|-> {_NEW}"),
    Row(
        "SynonymPredicateChange",
        f"change scope of synonym {{target:text@language}} for {_ABOUT} "
        "[from {old_value:scope}] to {new_value:scope}",
    ),
    # Definitions.
    Row("NewTextDefinition", f"add definition {_NEW_LABEL} to {_ABOUT}"),
    Row("TextDefinitionReplacement", f"change definition of {_ABOUT} [from {_OLD}] to {_NEW}"),
    Row("RemoveTextDefinition", f"remove definition for {_ABOUT}"),
    # Subsets.
    Row("AddNodeToSubset", f"add {_ABOUT} to subset {{in_subset:reference}}"),
    Row("RemoveNodeFromSubset", f"remove {_ABOUT} from subset {{in_subset:reference}}"),
    # Mappings and annotations.
    Row("NewMapping", f"create mapping {_ABOUT} {{predicate:reference}} {{object:reference}}"),
    Row("NewMapping", f"add mapping {_ABOUT} {{predicate:reference}} {{object:reference}}", only_read=True),
    Row("RemoveMapping", f"remove mapping {_ABOUT} {{predicate:reference}} {{object:reference}}"),
    Row("MappingReplacement", f"change mapping of {_ABOUT} with {{predicate:reference}} {_VALUES}"),
    Row("MappingPredicateChange", f"change mapping predicate between {_ABOUT} and {{object:reference}} {_TERMS}"),
    Row("NewMetadataAssertion", f"add annotation {{predicate:reference}} {{object:reference}} to {_ABOUT}"),
    Row("RemoveMetadataAssertion", f"remove annotation {{predicate:reference}} {{object:reference}} from {_ABOUT}"),
    Row("MetadataAssertionReplacement", f"change metadata of {_ABOUT} with {{predicate:reference}} {_VALUES}"),
    Row(
        "MetadataAssertionPredicateChange", f"change metadata predicate of {_ABOUT} with {{object:reference}} {_TERMS}"
    ),
    Row(
        "NodeAnnotationChange",
        f"change annotation of {_ABOUT} with {{annotation_property:entity/annotation_property_type}} {_VALUES}",
    ),
    Row(
        "NodeAnnotationReplacement",
        f"replace annotation of {_ABOUT} with {{annotation_property:entity/annotation_property_type}} {_VALUES}",
    ),
    # Last, for it begins like others.
    Row("ClassCreation", f"create {_ID} [{{name:text@language}}] [under {{superclass:reference}}]"),
)
ALIASES = {"NodeTextDefinitionChange": "TextDefinitionReplacement"}
"""Classes that are said with the words of another; `read` gives the other."""
