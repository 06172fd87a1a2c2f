# ruff: noqa: E501
"""KGCL's controlled language as one table of sentences, from which both reading and writing are made.

A sentence is words, alternatives ``a|b`` (the first is written), optional parts in ``[...]``, and ``{field:kind}``. Kinds:
``e`` a node (CURIE, ``<IRI>``, ``'label'``, ``_:blank``), ``v`` a node or a literal in double quotes, ``w`` a node kept as
written, ``s`` text in quotes, ``l`` a language tag, ``q`` a scope of synonyms, ``m`` several nodes after commas.
"""

from __future__ import annotations

from typing import NamedTuple

SUBCLASS_OF = ("rdfs:subClassOf", "http://www.w3.org/2000/01/rdf-schema#subClassOf")


class Row(NamedTuple):
    """A sentence and the change that it stands for.

    Args:
        kind: Name of the change's class.
        sentence: See above.
        written: Whether it is how such a change is written; all are read.
    """

    kind: str
    sentence: str
    written: bool = True


_E = "{about_node:e}"
_S = "{subject:e} {predicate:e} {object:v}"
_EDGE = "{about_edge.subject:e} {about_edge.predicate:e} {about_edge.object:e}"
_OLD_NEW = "from {old_value:v} to|as|-> {new_value:v}"

# fmt: off
# One line a sentence, however long: the table is read down its columns.
ROWS = tuple(
    Row(*row)
    for row in (
        ("NodeRename", "rename [{about_node:e} from] {old_value:s}[@{old_language:l}] to|as|-> {new_value:s}[@{new_language:l}]"),
        ("SetLanguageForName", f"set language for name of {_E} [from {{old_value:l}}] to {{new_value:l}}"),
        ("NodeCreation", "create|add node {about_node:e} [{name:s}[@{language:l}]]"),
        ("ObjectPropertyCreation", "create|add object property {about_node:e} [{name:s}[@{language:l}]]"),
        ("ClassCreation", "create {about_node:e}"),
        ("ClassCreation", "create|add class {about_node:e} [{name:s}[@{language:l}]] [under {superclass:w}]"),
        ("NewSynonym", f"create|add [{{qualifier:q}}] synonym {{new_value:s}}[@{{language:l}}] for|to {_E}"),
        ("RemoveSynonym", f"remove|delete synonym {{old_value:s}}[@{{language:l}}] for|from {_E}"),
        ("SynonymReplacement", f"change [{{qualifier:q}}] synonym {{old_value:s}}[@{{language:l}}] for|of {_E} to|-> {{new_value:s}}"),
        ("SynonymPredicateChange", f"change scope of synonym {{target:s}}[@{{language:l}}] for|of {_E} [from {{old_value:q}}] to|-> {{new_value:q}}"),
        ("NameBecomesSynonym", f"synonym {{new_value:s}}[@{{new_language:l}}] becomes new name of {_E}, and name {{old_value:s}}[@{{old_language:l}}] becomes a synonym"),
        ("MultiNodeObsoletion", "obsolete multiple {change_set:m}"),
        ("EdgeObsoletion", f"obsolete edge {_S}"),
        ("NodeObsoletionWithDirectReplacement", f"obsolete {_E} with replacement {{has_direct_replacement:w}}"),
        ("NodeObsoletionWithNoDirectReplacement", f"obsolete {_E} with alternative {{has_nondirect_replacement:m}}"),
        ("NodeObsoletion", f"obsolete {_E}"),
        ("NodeUnobsoletion", f"unobsolete {_E}"),
        ("NodeDirectMerge", f"merge {_E} into {{has_direct_replacement:w}}"),
        ("EdgeCreation", f"create|add edge {_S}"),
        ("EdgeDeletion", f"delete|remove edge {_S}"),
        ("NewMapping", f"create|add mapping {_E} {{predicate:e}} {{object:v}}"),
        ("MappingCreation", "create mapping edge {subject:e} {predicate:e} {object:v}"),
        ("RemoveMapping", f"remove|delete mapping {_E} {{predicate:e}} {{object:v}}"),
        ("MappingReplacement", f"change mapping of {_E} [with {{predicate:e}}] {_OLD_NEW}"),
        ("MappingPredicateChange", f"change mapping between {_E} and {{object:v}} from {{old_value:e}} to|-> {{new_value:e}}"),
        ("EdgeRewiring", f"rewire edge {_EDGE} from {{old_value:e}} to|-> {{new_value:e}}"),
        ("NodeMove", "move {about_edge.subject:e} under {new_value:e}"),
        ("NodeMove", f"move {_EDGE} from {{old_value:e}} to|as|-> {{new_value:e}}"),
        ("NodeDeepening", "deepen {about_edge.subject:e} from {old_value:e} to|-> {new_value:e}"),
        ("NodeDeepening", f"deepen {_EDGE} from {{old_value:e}} to|-> {{new_value:e}}"),
        ("NodeShallowing", "shallow|lift {about_edge.subject:e} from {old_value:e} to|-> {new_value:e}"),
        ("NodeShallowing", f"shallow|lift {_EDGE} from {{old_value:e}} to|-> {{new_value:e}}"),
        ("PredicateChange", "change relationship between {about_edge.subject:e} and {about_edge.object:v} from {old_value:e} to|-> {new_value:e}"),
        ("PredicateChange", "change edge type between {about_edge.subject:e} and {about_edge.object:v} from {old_value:e} to|-> {new_value:e}", False),
        ("EdgeLogicalInterpretationChange", f"change interpretation of edge {_EDGE} from {{old_value:i}} to|-> {{new_value:i}}"),
        ("NodeAnnotationReplacement", f"replace annotation of {_E} with {{annotation_property:e}} {_OLD_NEW}"),
        ("NodeAnnotationChange", f"change annotation of {_E} with {{annotation_property:e}} {_OLD_NEW}"),
        ("NewMetadataAssertion", f"add|create annotation {{predicate:e}} {{object:v}} to|for {_E}"),
        ("RemoveMetadataAssertion", f"remove|delete annotation {{predicate:e}} {{object:v}} from|for {_E}"),
        ("MetadataAssertionReplacement", f"change metadata of {_E} [with {{predicate:e}}] {_OLD_NEW}"),
        ("MetadataAssertionPredicateChange", f"change metadata between {_E} and {{object:v}} from {{old_value:e}} to|-> {{new_value:e}}"),
        ("NewTextDefinition", f"add|create definition {{new_value:s}}[@{{language:l}}] to|for {_E}"),
        ("TextDefinitionReplacement", f"change definition of|for {_E} [from {{old_value:s}}[@{{old_language:l}}]] to|-> {{new_value:s}}[@{{new_language:l}}]"),
        ("NodeTextDefinitionChange", f"change text definition of {_E} [from {{old_value:s}}[@{{old_language:l}}]] to|-> {{new_value:s}}[@{{new_language:l}}]"),
        ("RemoveTextDefinition", f"remove|delete definition [{{old_value:s}}[@{{language:l}}]] for|of|from {_E}"),
        ("AddNodeToSubset", f"add {_E} to subset {{in_subset:w}}"),
        ("RemoveNodeFromSubset", f"remove {_E} from subset {{in_subset:w}}"),
        ("SearchAndReplace", "search and replace {old_value:s} with {new_value:s} in all labels under {about_node:e} [retaining as '{qualifier:q} synonym']"),
        ("NodeDeletion", f"delete|remove node {_E}", False),
        ("NodeDeletion", f"delete {_E}"),
    )
)
# fmt: on

COMPANIONS = {
    "about_node": "about_node_representation",
    "subject": "subject_type",
    "predicate": "predicate_type",
    "object": "object_type",
    "annotation_property": "annotation_property_type",
    "about_edge.subject": "about_edge.subject_representation",
    "about_edge.predicate": "about_edge.predicate_representation",
    "about_edge.object": "about_edge.object_representation",
    "old_value": "old_value_type",
    "new_value": "new_value_type",
}
"""The field that says how a field's value is written."""

MOVES = {"old_value": "old_object_type", "new_value": "new_object_type"}
"""The same of moves, whose values are objects of edges."""

LITERALS = {
    "object": ("language", "datatype"),
    "about_edge.object": ("language", "datatype"),
    "old_value": ("old_language", "old_datatype"),
    "new_value": ("new_language", "new_datatype"),
}
"""The fields of a literal's language and datatype."""
