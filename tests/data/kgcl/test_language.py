"""The change language: every sentence read and written, any text, JSON and RDF, what other programs write."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data.kgcl.applying import kinds
from tutelage.data.kgcl.grammar import ROWS, Row
from tutelage.data.kgcl.language import forms, parse, parse_command, render, render_all
from tutelage.data.kgcl.model import TYPES, ClassCreation, LogicalAxiomChange, NodeObsoletion, Transaction
from tutelage.data.kgcl.wire import from_json, from_rdf, to_dict, to_json, to_rdf
from tutelage.data.kgcl.wording import quote, unquote
from tutelage.recipe.errors import InputError

REFERENCE = json.loads((Path(__file__).parent / "kgcl_schema.json").read_text(encoding="utf-8"))
"""What the package kgcl-schema 0.7.0 made of commands, and how it wrote them again."""

CARD = """\
rename GO:0005635 from 'nuclear envelope' to 'foo bar'
create exact synonym 'foo' for GO:0005634
obsolete GO:0005634 with replacement GO:999
create edge GO:0005634 BFO:0000050 GO:0009411
change relationship between GO:0005634 and GO:0043231 from rdfs:subClassOf to BFO:0000050
deepen GO:0005739 from GO:0043231 to GO:0005634
add definition 'this is dummy description' to GO:0005635
"""

texts = st.text(max_size=25).filter(lambda s: not any(0xD800 <= ord(c) <= 0xDFFF for c in s))
curies = st.from_regex(r"[A-Z]{2,5}:[A-Za-z0-9_]{1,8}", fullmatch=True)
iris = st.from_regex(r"https?://[a-z]{1,8}\.org/[A-Za-z0-9_/#?=,()-]{0,12}", fullmatch=True).map(lambda s: f"<{s}>")
tags = st.sampled_from(["en", "de-AT", "zh-Hans"])
nodes = curies | iris | texts.map(quote) | st.from_regex(r"_:[a-z][a-z0-9]{0,6}", fullmatch=True)


@st.composite
def literals(draw: st.DrawFn) -> str:
    text = '"' + quote(draw(texts))[1:-1].replace('"', '\\"') + '"'
    return text + draw(st.sampled_from(["", "@en", "^^xsd:string", "^^<http://www.w3.org/2001/XMLSchema#date>"]))


KINDS: dict[str, st.SearchStrategy[str]] = {
    "e": nodes,
    "w": nodes,
    "v": nodes | literals(),
    "s": texts.map(quote),
    "l": tags,
    "q": st.sampled_from(["exact", "narrow", "broad", "related"]),
    "i": st.sampled_from(["some", "only"]),
    "m": st.lists(curies | texts.map(quote), min_size=1, max_size=3).map(", ".join),
}


@st.composite
def commands(draw: st.DrawFn, row: Row) -> str:
    """A command of a row, with any choice of words, options and fields."""

    def optional(found: re.Match[str]) -> str:
        return found[1] if draw(st.booleans()) else ""

    text = row.sentence
    while re.search(r"\[[^\[\]]*\]", text):
        text = re.sub(r"\[([^\[\]]*)\]", optional, text)
    text = re.sub(r"(?<![\w{])((?:[\w>-]+\|)+[\w>-]+)(?![\w}])", lambda f: draw(st.sampled_from(f[1].split("|"))), text)
    values: dict[str, str] = {}

    def value(found: re.Match[str]) -> str:
        name, kind = found[1], found[2]
        # A move names its old parent twice.
        if name == "old_value" and "about_edge.object" in values and row.kind.startswith("Node"):
            return values["about_edge.object"]
        values[name] = draw(KINDS[kind])
        if name == "about_edge.object" and row.kind.startswith("Node"):
            values[name] = draw(KINDS["e"])
        return values[name]

    text = re.sub(r"\{([\w.]+):(\w)\}", value, text)
    return re.sub(r" {2,}(?=[a-z@-])", " ", text).strip() if "''" not in text else text.strip()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}-{row.sentence[:30]}")
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_reading_and_writing_are_inverse_on_every_row(row: Row, data: st.DataObject) -> None:
    command = data.draw(commands(row))
    change = parse_command(command)
    written = render(change)
    assert parse_command(written) == change
    assert render(parse_command(written)) == written
    assert "\n" not in written


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}-{row.sentence[:30]}")
@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_json_and_rdf_are_inverse_on_every_row(row: Row, data: st.DataObject) -> None:
    change = parse_command(data.draw(commands(row)))
    again = [from_json(to_json([change])).change_set[0], from_rdf(to_rdf([change])).change_set[0]]
    for found in again:
        assert render(found) == render(change)
        # Changes without an identifier get one where they are written.
        assert to_dict(found) == to_dict(change)


@given(texts)
def test_any_text_can_be_quoted(text: str) -> None:
    assert unquote(quote(text)) == text
    assert parse_command(f"rename {quote(text)} to 'x'").old_value == text  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", CARD.splitlines())
def test_the_card_s_examples_are_written_as_they_are_read(command: str) -> None:
    assert render(parse_command(command)) == command


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("add synonym 'arm' to 'forelimb'", "NewSynonym"),
        ("move 'Parkinson disease' under 'neurodegenerative disease'", "NodeMove"),
        ("merge 'cellular metabolic process' into 'metabolic process'", "NodeDirectMerge"),
        ("lift A:1 from B:2 to C:3", "NodeShallowing"),
        ("obsolete edge A:1 P:1 B:1", "EdgeObsoletion"),
        ("create mapping A:1 skos:exactMatch B:1", "NewMapping"),
        ("change edge type between A:1 and B:1 from P:1 to P:2", "PredicateChange"),
        ("obsolete A:1 with alternative B:1", "NodeObsoletionWithNoDirectReplacement"),
        ("search and replace 'a' with 'b' in all labels under 'x'", "SearchAndReplace"),
        ("create edge A:1 <http://www.w3.org/2000/01/rdf-schema#subClassOf> B:1", "PlaceUnder"),
        ("delete edge A:1 rdfs:subClassOf B:1", "RemoveUnder"),
        ("rename 'old'@en -> 'new'@de", "NodeRename"),
    ],
)
def test_friendly_forms_are_understood(command: str, kind: str) -> None:
    assert type(parse_command(command)).__name__ == kind


def test_apostrophes_comments_and_blank_lines() -> None:
    found = parse(
        "# a file of changes\r\n\r\n"
        "rename GO:1 from 'Parkinson's disease' to 'it\\'s \"this\"' # why not\n"
        "   create edge GO:1 RO:1 <http://example.org/unknown#x>   # an IRI keeps its hash\n"
    )
    assert [type(c).__name__ for c in found] == ["NodeRename", "EdgeCreation"]
    assert (found[0].old_value, found[0].new_value) == ("Parkinson's disease", 'it\'s "this"')
    assert found[1].object == "http://example.org/unknown#x"
    assert parse(render_all(found)) == found


def test_a_line_that_is_no_command_is_named_with_what_was_expected() -> None:
    with pytest.raises(InputError) as error:
        parse(
            "creat GO:1\n\nrename GO:1\nmove A:1 P:1 B:1 from C:1 to D:1\nrename GO:1 from 'dogs' bone' to 'x'\n",
            "p.txt",
        )
    lines = str(error.value).splitlines()
    assert lines[0] == "p.txt, line 1: 'creat GO:1' is no command. Did you mean 'create'?"
    assert "expected rename [NODE from] 'TEXT'" in lines[1]
    assert "line 4: the edge ends at B:1, but is moved from C:1" in lines[2]
    assert "write it as \\'" in lines[3]


def test_every_type_of_the_schema_is_there_and_each_that_can_be_said_can_be_applied() -> None:
    said = {row.kind for row in ROWS} | {"PlaceUnder", "RemoveUnder"}
    grouping = {"ComplexChange", "SimpleChange", "EdgeChange", "NodeChange", "NodeSynonymChange", "NodeMappingChange"}
    grouping |= {"NodeMetadataAssertionChange"}
    assert set(TYPES) - said == grouping | {"Transaction", "LogicalAxiomChange"}
    assert said - set(kinds()) == {"MultiNodeObsoletion", "SearchAndReplace"}


def test_what_no_sentence_says_is_refused_in_words() -> None:
    with pytest.raises(InputError, match="JSON or RDF only"):
        render(LogicalAxiomChange(old_value="a", new_value="b"))
    with pytest.raises(InputError, match="lacks something to be said: expected obsolete NODE"):
        render(NodeObsoletion())
    assert forms("NodeDeletion") == ["delete|remove node NODE", "delete NODE"]


# ---------------------------------------------------------------------- other programs

# What the other program gets wrong: the representation of the node is that of the new text, the qualifier is dropped.
THEIRS = {
    "change exact synonym 'foo' for GO:0005634 to 'bar'": {"about_node_representation": "label", "qualifier": None}
}


@pytest.mark.parametrize("reference", REFERENCE, ids=lambda r: r["command"][:40])
def test_json_is_that_of_kgcl_schema(reference: dict[str, Any]) -> None:
    ours, theirs = to_dict(parse_command(reference["command"])), dict(reference["json"])
    ours.pop("id")
    theirs.pop("id")
    if reference["command"].startswith("change definition"):
        # The other program makes an instance of what its schema calls abstract.
        assert (ours.pop("type"), theirs.pop("type")) == ("TextDefinitionReplacement", "NodeTextDefinitionChange")
    for name, value in THEIRS.get(reference["command"], {}).items():
        assert theirs.get(name) == value
        theirs[name] = ours[name]
    assert ours == theirs


@pytest.mark.parametrize("reference", REFERENCE, ids=lambda r: r["command"][:40])
def test_what_kgcl_schema_writes_is_read(reference: dict[str, Any]) -> None:
    (change,) = from_json(json.dumps({"change_set": [reference["json"]], "@type": "Session"})).change_set
    assert type(change).__name__ == reference["json"]["type"]
    if reference["rendered"] and "None" not in reference["rendered"]:
        assert type(parse_command(reference["rendered"])).__name__ in (
            type(change).__name__,
            "TextDefinitionReplacement",
        )


def test_json_that_is_none_is_explained() -> None:
    for text, said in (
        ("{", "no JSON"),
        ("[{}]", "expected an object with a `type`"),
        ('[{"type": "NodeRenam"}]', "Did you mean 'NodeRename'"),
        ('[{"type": "NodeRename", "colour": 1}]', "a NodeRename is wrong: colour"),
        ('{"change_set": 3}', "are lists"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            from_json(text, "p.json")


def test_nested_changes_and_provenance_survive() -> None:
    change = Transaction(
        creator="orcid:1", change_date="2026-01-01", change_set=[ClassCreation(about_node="A:1", superclass="'x y'")]
    )
    for found in (from_json(to_json([change])), from_rdf(to_rdf([change]))):
        (one,) = found.change_set
        assert (one.creator, one.change_date) == ("orcid:1", "2026-01-01")
        assert render(one.change_set[0]) == "create class A:1 under 'x y'"
