"""What changes are made of: nodes, edges, agents, and the change itself.

A node is named by a CURIE, an IRI or its label; the field ``..._representation`` or ``..._type`` beside it says which
(``curie`` or ``label``; ``literal`` where a value is meant). An IRI counts as ``curie``, as it does in the published
schema, and is told apart by its form; ``uri`` is one whose form does not tell. Fields without such a neighbour hold
labels in 'quotes' and values in "quotes".
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator

Representation = Literal["curie", "label", "literal", "uri"]
Policy = Literal["NoLogicalAxiomsOnObsoletes", "ObsoleteLabelsArePrefixed"]
Scope = Literal["exact", "narrow", "broad", "related"]
SUBCLASS = ("rdfs:subClassOf", "http://www.w3.org/2000/01/rdf-schema#subClassOf")


class Element(BaseModel):
    """Anything in the language."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class Annotation(Element):
    """A property and its value, said of an edge or a node."""

    property: str
    filler: str
    property_type: Representation | None = None
    filler_type: Representation | None = None
    annotation_set: Annotation | None = None


class Edge(Element):
    """Subject, predicate, object. In a move or a predicate change it is the edge before the change."""

    subject: str
    predicate: str | None = None
    object: str | None = None
    subject_representation: Representation | None = None
    predicate_representation: Representation | None = None
    object_representation: Representation | None = None
    annotation_set: Annotation | None = None


class Agent(Element):
    """Who acts, in the terms of PROV."""

    id: str
    acted_on_behalf_of: str | None = None
    was_informed_by: str | None = None


class Activity(Element):
    """What generated changes, in the terms of PROV."""

    id: str
    started_at_time: str | None = None
    ended_at_time: str | None = None
    was_informed_by: str | None = None
    was_associated_with: str | None = None
    used: str | None = None
    description: str | None = None


class TextualDiff(Element):
    """How a text changed, character by character; schema and paper leave its form open."""

    text: str | None = None


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        from tutelage.data.kgcl.forms import from_dict

        return from_dict(value)
    return value


class Change(Element):
    """Any change, and what is known of how it came about.

    Args:
        id: Of the change itself.
        type: Name of its class; filled in.
        was_generated_by: An activity.
        see_also: A page.
        pull_request: Where it was proposed.
        term_tracker_issue: Where it was asked for.
        creator: Who made it.
        contributor: Who helped.
        change_date: When.
        has_undo: The change that reverses it.
        change_description: In controlled English.
        associated_change_set: Changes that it brings about elsewhere.
    """

    id: str | None = None
    type: str = ""
    was_generated_by: str | None = None
    see_also: str | None = None
    pull_request: str | None = None
    term_tracker_issue: str | None = None
    creator: str | None = None
    contributor: str | None = None
    change_date: str | None = None
    has_undo: Typed | None = None
    change_description: str | None = None
    associated_change_set: list[Typed] | None = None

    abstract: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        if isinstance(data, dict):
            said = str(data.get("type") or cls.__name__).rpartition(":")[2].rpartition("/")[2]
            if said != cls.__name__:
                raise ValueError(f"type {data['type']!r} where {cls.__name__} was expected")
            return {**data, "type": cls.__name__}
        return data


Typed = Annotated[SerializeAsAny[Change], BeforeValidator(_typed)]
METADATA = frozenset(Change.model_fields) - {"type"}
"""Fields that controlled English does not say."""


class SimpleChange(Change):
    """A change of one element."""

    old_value: str | None = None
    new_value: str | None = None
    old_value_type: Representation | None = None
    new_value_type: Representation | None = None
    new_language: str | None = None
    old_language: str | None = None
    new_datatype: str | None = None
    old_datatype: str | None = None


# ---------------------------------------------------------------------- several changes


class ComplexChange(Change):
    """Changes that make up one."""

    change_set: list[Typed] = Field(default_factory=list)
    abstract = False


class MultiNodeObsoletion(ComplexChange):
    """Several obsoletions."""


class Transaction(Change):
    """Changes that are made all or none."""

    change_set: list[Typed] = Field(default_factory=list)
    abstract = False


class SearchAndReplace(ComplexChange):
    """A part of labels, of a node and what is below it, replaced; the schema has its words and no class for it.

    Args:
        about_node: Whose descendants, itself included, are meant.
        old_value: What to find.
        new_value: What to put there.
        qualifier: Keep the old labels as synonyms of this scope.
    """

    about_node: str
    about_node_representation: Representation | None = None
    old_value: str
    new_value: str
    qualifier: Scope | None = None


class Session(Element):
    """Changes, and the activities that they came from."""

    change_set: list[Typed] = Field(default_factory=list)
    activity_set: list[Activity] = Field(default_factory=list)


class ChangeSetSummaryStatistic(Element):
    """How many changes of a type there are."""

    change_type: str
    count: int = Field(ge=0)


class Configuration(Element):
    """What operations mean in a graph: predicates, and how nodes are made obsolete."""

    name_predicate: str = "rdfs:label"
    definition_predicate: str = "IAO:0000115"
    main_synonym_predicate: str = "oio:hasSynonym"
    synonym_predicates: dict[str, str] = Field(
        default_factory=lambda: {s: f"oio:has{s.title()}Synonym" for s in ("exact", "narrow", "broad", "related")}
    )
    creator_predicate: str = "dcterms:creator"
    contributor_predicate: str = "dcterms:contributor"
    obsolete_node_label_prefix: str = "obsolete "
    obsoletion_workflow: str | None = None
    obsoletion_policies: tuple[Policy, ...] = ("NoLogicalAxiomsOnObsoletes", "ObsoleteLabelsArePrefixed")
    obsolete_subclass_of_shadow_property: str | None = None
