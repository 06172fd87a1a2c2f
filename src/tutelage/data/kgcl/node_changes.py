"""What changes of nodes do: labels, synonyms, definitions, subsets, creation, deletion, obsoletion, merging."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyoxigraph import BlankNode, Literal, NamedNode, Triple

from tutelage.data.kgcl import model as m
from tutelage.data.kgcl.axioms import closure, drop, refuse_cycle, replace, tops
from tutelage.data.kgcl.doing import Doing
from tutelage.data.kgcl.view import alike, literal
from tutelage.data.kgcl.wording import entity, quote
from tutelage.data.rdf import terms as t
from tutelage.data.rdf.terms import Subject
from tutelage.recipe.errors import InputError

_SCOPES = list(t.SYNONYMS.values())
_SHOWN = 5
_REINSTATED = "This term was obsolete and has been reinstated."
_OLD_DEFINITION = "OBSOLETE. "


# ---------------------------------------------------------------------- labels


def rename(doing: Doing, change: m.NodeRename) -> None:
    """The label that equals the old one becomes the new one."""
    old, new = text_of(change.old_value), text_of(change.new_value)
    node = doing.about(change) if change.about_node else doing.names.node(old, "label")
    _rename(doing, node, old, new, change.old_language, change.new_language)


def _rename(doing: Doing, node: Subject, old: str, new: str, was: str | None, now: str | None) -> None:
    found = doing.texts(node, [t.LABEL], old, was)
    triple = doing.one(found, f"label {quote(old)}", node, doing.all(node, [t.LABEL]))
    assert isinstance(triple.object, Literal)
    replace(doing.view, triple, Triple(node, t.LABEL, alike(triple.object, new, now)))


def set_language(doing: Doing, change: m.SetLanguageForName) -> None:
    """The label gets a language tag."""
    node = doing.about(change)
    triple = doing.one(doing.texts(node, [t.LABEL], None, change.old_value), "label", node, doing.all(node, [t.LABEL]))
    assert isinstance(triple.object, Literal)
    replace(doing.view, triple, Triple(node, t.LABEL, literal(triple.object.value, change.new_value)))


def search_and_replace(doing: Doing, change: m.SearchAndReplace) -> None:
    """Labels of a node and of all below it."""
    root, old, new = doing.about(change), text_of(change.old_value), text_of(change.new_value)
    below: dict[Subject, None] = {root: None}
    for node in below.copy():
        frontier = [node]
        while frontier:
            children = (x.subject for at in frontier for x in list(doing.view.match(None, t.SUBCLASS, at)))
            frontier = [x for x in children if x not in below and not isinstance(x, BlankNode)]
            below |= dict.fromkeys(frontier)
    count = 0
    for node in below:
        for triple in doing.texts(node, [t.LABEL], None, None):
            label = triple.object
            assert isinstance(label, Literal)
            if old in label.value:
                count += 1
                replace(doing.view, triple, Triple(node, t.LABEL, alike(label, label.value.replace(old, new))))
                if change.qualifier:
                    doing.view.add(Triple(node, t.SYNONYMS[change.qualifier], label))
    if not count:
        raise InputError(f"no label under {doing.view.short(root)} holds {quote(old)}")


# ---------------------------------------------------------------------- synonyms


def new_synonym(doing: Doing, change: m.NewSynonym) -> None:
    """A synonym of a scope."""
    node = doing.about(change)
    predicate = t.SYNONYMS[change.qualifier]
    if change.predicate:
        predicate = doing.names.predicate(change.predicate, None)
    triple = Triple(node, predicate, literal(text_of(change.new_value), change.language))
    if doing.view.has(triple):
        raise InputError(f"{doing.view.short(node)} has the synonym {quote(text_of(change.new_value))} already")
    doing.view.add(triple)


def _synonym(doing: Doing, node: Subject, text: str | None, language: str | None, scope: str | None) -> Triple:
    predicates = [t.SYNONYMS[scope]] if scope else _SCOPES
    found = doing.texts(node, predicates, text_of(text), language)
    return doing.one(found, f"synonym {quote(text_of(text))}", node, doing.all(node, _SCOPES))


def remove_synonym(doing: Doing, change: m.RemoveSynonym) -> None:
    """A synonym of whatever scope."""
    node = doing.about(change)
    drop(doing.view, _synonym(doing, node, change.old_value, change.language, None))


def replace_synonym(doing: Doing, change: m.SynonymReplacement) -> None:
    """Another text in the same scope."""
    node = doing.about(change)
    old = _synonym(doing, node, change.old_value, change.language, change.qualifier)
    assert isinstance(old.object, Literal)
    replace(
        doing.view, old, Triple(node, old.predicate, alike(old.object, text_of(change.new_value), change.new_language))
    )


def rescope_synonym(doing: Doing, change: m.SynonymPredicateChange) -> None:
    """Another scope of the same text."""
    node = doing.about(change)
    old = _synonym(doing, node, change.target, change.language, change.old_value)
    replace(doing.view, old, Triple(node, t.SYNONYMS[change.new_value], old.object))


def name_becomes_synonym(doing: Doing, change: m.NameBecomesSynonym) -> None:
    """The label and a synonym change places."""
    node = doing.about(change)
    synonym = _synonym(doing, node, change.new_value, change.new_language, None)
    found = doing.texts(node, [t.LABEL], change.old_value, change.old_language)
    label = doing.one(found, f"label {quote(text_of(change.old_value))}", node, doing.all(node, [t.LABEL]))
    drop(doing.view, synonym)
    replace(doing.view, label, Triple(node, t.LABEL, synonym.object))
    doing.view.add(Triple(node, synonym.predicate, label.object))


# ---------------------------------------------------------------------- definitions and subsets


def new_definition(doing: Doing, change: m.NewTextDefinition) -> None:
    """A definition, where there is none in that language."""
    node = doing.about(change)
    if [x for x in doing.texts(node, [t.DEFINITION], None, None) if language_of(x) == (change.language or "")]:
        short = doing.view.short(node)
        raise InputError(f"{short} has a definition already; `change definition of ... to ...` replaces it")
    doing.view.add(Triple(node, t.DEFINITION, literal(text_of(change.new_value), change.language)))


def language_of(triple: Triple) -> str:
    """Of a triple's text."""
    return (triple.object.language or "") if isinstance(triple.object, Literal) else ""


def change_definition(doing: Doing, change: m.NodeTextDefinitionChange) -> None:
    """Another definition."""
    node = doing.about(change)
    old = _definition(doing, node, change.old_value, change.old_language)
    assert isinstance(old.object, Literal)
    replace(
        doing.view, old, Triple(node, t.DEFINITION, alike(old.object, text_of(change.new_value), change.new_language))
    )


def remove_definition(doing: Doing, change: m.RemoveTextDefinition) -> None:
    """None."""
    node = doing.about(change)
    drop(doing.view, _definition(doing, node, change.old_value, change.language))


def _definition(doing: Doing, node: Subject, text: str | None, language: str | None) -> Triple:
    found = doing.texts(node, [t.DEFINITION], text, language)
    what = "definition" if text is None else f"definition {quote(text)}"
    return doing.one(found, what, node, doing.all(node, [t.DEFINITION]))


def add_to_subset(doing: Doing, change: m.AddNodeToSubset) -> None:
    """Membership comes."""
    node, subset = doing.about(change), doing.names.subset(text_of(change.in_subset))
    triple = Triple(node, t.SUBSET, subset)
    if doing.view.has(triple):
        raise InputError(f"{doing.view.short(node)} is in the subset already")
    doing.view.add(triple)


def remove_from_subset(doing: Doing, change: m.RemoveNodeFromSubset) -> None:
    """Membership goes."""
    node, subset = doing.about(change), doing.names.subset(text_of(change.in_subset))
    there = [x for x in doing.view.match(node, t.SUBSET) if x.object == subset]
    drop(doing.view, doing.one(there, f"subset {doing.view.short(subset)}", node, doing.all(node, [t.SUBSET])))


# ---------------------------------------------------------------------- nodes


def create(doing: Doing, change: m.NodeCreation) -> None:
    """A class, or a relation, with its label and parent."""
    node = doing.names.fresh(text_of(change.about_node or change.node_id), change.about_node_representation)
    relation = isinstance(change, m.ObjectPropertyCreation) or change.owl_type in (
        "OBJECT_PROPERTY",
        "owl:ObjectProperty",
    )
    kinds = {"NAMED_INDIVIDUAL": NamedNode(f"{t.OWL}NamedIndividual")}
    doing.view.add(Triple(node, t.TYPE, t.PROPERTY if relation else kinds.get(change.owl_type or "", t.CLASS)))
    if change.name is not None:
        doing.view.add(Triple(node, t.LABEL, literal(change.name, change.language)))
    if above := getattr(change, "superclass", None):
        parent = doing.names.written(above)
        refuse_cycle(doing.view, doing.rules, node, t.SUBCLASS, parent)
        doing.view.add(Triple(node, t.SUBCLASS, parent))


def delete(doing: Doing, change: m.NodeDeletion) -> None:
    """Every triple with the node, unless others need it."""
    node, view = doing.about(change), doing.view
    found = list(view.match(None, None, node))
    found += list(view.match(None, node)) if isinstance(node, NamedNode) else []
    users = [top for x in found if x.predicate != t.AXIOM_SOURCE for top in tops(view, x) if top.subject != node]
    if users and not doing.rules.cascade:
        shown = "; ".join(f"{view.short(x.subject)} {view.prefixes.short(x.predicate)}" for x in users[:_SHOWN])
        more = f"; and {len(users) - _SHOWN} more" if len(users) > _SHOWN else ""
        raise InputError(
            f"{view.short(node)} is in use: {shown}{more}. Obsolete or merge it, or delete that too with `--cascade`"
        )
    for triple in users:
        drop(view, triple)
        if isinstance(triple.subject, BlankNode):
            for x in closure(view, triple.subject):
                view.drop(x)
    for triple in list(view.match(node)):
        drop(view, triple)
    for triple in list(view.match(None, None, node)):
        view.drop(triple)


def obsolete(doing: Doing, change: m.NodeObsoletion) -> None:
    """Kept, marked, out of the hierarchy, and with what to use instead."""
    node, view = doing.about(change), doing.view
    if view.has(Triple(node, t.DEPRECATED, t.TRUE)):
        raise InputError(f"{view.short(node)} is obsolete already")
    _retire(doing, node)
    if change.has_direct_replacement:
        new = doing.names.written(change.has_direct_replacement)
        view.add(Triple(node, t.REPLACED_BY, new))
        if doing.rules.rewire:
            _rewire(doing, node, new)
    others = change.has_nondirect_replacement or []
    for text in [others] if isinstance(others, str) else others:
        view.add(Triple(node, t.CONSIDER, doing.names.written(text)))


def _retire(doing: Doing, node: Subject) -> None:
    view, prefix = doing.view, doing.rules.obsolete
    for triple in doing.texts(node, [t.LABEL], None, None):
        label = triple.object
        assert isinstance(label, Literal)
        if not label.value.startswith(prefix):
            replace(view, triple, Triple(node, t.LABEL, alike(label, prefix + label.value)))
    for predicate in (t.SUBCLASS, t.EQUIVALENT):
        for triple in list(view.match(node, predicate)):
            drop(view, triple)
    view.add(Triple(node, t.DEPRECATED, t.TRUE))


def _rewire(doing: Doing, old: Subject, new: Subject) -> None:
    kept = (t.AXIOM_SOURCE, t.AXIOM_TARGET, t.REPLACED_BY, t.CONSIDER)
    for triple in list(doing.view.match(None, None, old)):
        if triple.predicate in kept:
            continue
        if triple.subject == new:
            drop(doing.view, triple)
        else:
            refuse_cycle(doing.view, doing.rules, triple.subject, triple.predicate, new)
            replace(doing.view, triple, Triple(triple.subject, triple.predicate, new))


def merge(doing: Doing, change: m.NodeDirectMerge) -> None:
    """All that is known of a node goes to another; the identifier stays as an alternative one."""
    view, node = doing.view, doing.about(change)
    new = doing.names.node(*_entity(text_of(change.has_direct_replacement)), must=True)
    if node == new:
        raise InputError(f"{view.short(node)} cannot be merged into itself")
    for triple in doing.texts(node, [t.LABEL], None, None):
        view.add(Triple(new, t.SYNONYMS["exact"], triple.object))
    for predicate in (*_SCOPES, t.XREF, t.ALTERNATIVE_ID, t.SUBSET):
        for triple in list(view.match(node, predicate)):
            moved = Triple(new, predicate, triple.object)
            if view.has(moved):
                drop(view, triple)
            else:
                replace(view, triple, moved)
    for triple in list(view.match(node, t.SUBCLASS)):
        moved = Triple(new, t.SUBCLASS, triple.object)
        if triple.object == new or view.has(moved):
            continue
        refuse_cycle(view, doing.rules, new, t.SUBCLASS, triple.object)
        replace(view, triple, moved)
    _rewire(doing, node, new)
    _retire(doing, node)
    name = view.prefixes.contract(node.value) if isinstance(node, NamedNode) else None
    view.add(Triple(new, t.ALTERNATIVE_ID, Literal(name or str(node))))
    view.add(Triple(node, t.REPLACED_BY, new))
    view.add(Triple(node, t.OBSOLESCENCE_REASON, t.MERGED))


def _entity(text: str) -> tuple[str, str | None]:
    return entity(text) if text[:1] in "'\"<_" else (text, None)


def unobsolete(doing: Doing, change: m.NodeUnobsoletion) -> None:
    """In use again; parents that it had before have to be given anew, or the obsoletion be undone."""
    node, view = doing.about(change), doing.view
    flags = [
        x for x in view.match(node, t.DEPRECATED) if isinstance(x.object, Literal) and x.object.value in ("true", "1")
    ]
    if not flags:
        raise InputError(f"{view.short(node)} is not obsolete")
    for predicate, prefix in ((t.LABEL, doing.rules.obsolete), (t.DEFINITION, _OLD_DEFINITION)):
        for triple in doing.texts(node, [predicate], None, None):
            text = triple.object
            assert isinstance(text, Literal)
            if text.value.startswith(prefix):
                replace(view, triple, Triple(node, predicate, alike(text, text.value.removeprefix(prefix))))
    for predicate in (t.DEPRECATED, t.REPLACED_BY, t.CONSIDER, t.OBSOLESCENCE_REASON):
        for triple in list(view.match(node, predicate)):
            drop(view, triple)
    view.add(Triple(node, t.COMMENT, Literal(_REINSTATED)))


def text_of(value: str | None) -> str:
    """A value that must be there.

    Raises:
        InputError: It is not.
    """
    if value is None:
        raise InputError("a value is missing")
    return value


EFFECTS: dict[str, Callable[[Doing, Any], None]] = {
    "NodeRename": rename,
    "SetLanguageForName": set_language,
    "NewSynonym": new_synonym,
    "RemoveSynonym": remove_synonym,
    "SynonymReplacement": replace_synonym,
    "SynonymPredicateChange": rescope_synonym,
    "NameBecomesSynonym": name_becomes_synonym,
    "NewTextDefinition": new_definition,
    "TextDefinitionReplacement": change_definition,
    "NodeTextDefinitionChange": change_definition,
    "RemoveTextDefinition": remove_definition,
    "AddNodeToSubset": add_to_subset,
    "RemoveNodeFromSubset": remove_from_subset,
    "NodeCreation": create,
    "ClassCreation": create,
    "ObjectPropertyCreation": create,
    "NodeDeletion": delete,
    "NodeObsoletion": obsolete,
    "NodeObsoletionWithDirectReplacement": obsolete,
    "NodeObsoletionWithNoDirectReplacement": obsolete,
    "NodeDirectMerge": merge,
    "NodeUnobsoletion": unobsolete,
}
