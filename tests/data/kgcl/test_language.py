"""Controlled English, JSON, YAML and RDF: what is written is read back as it was, for every row of the grammar."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data.kgcl import forms, words
from tutelage.data.kgcl.elements import Change, Edge, Transaction
from tutelage.data.kgcl.grammar import ROWS, Row
from tutelage.data.kgcl.language import parse, parse_command, render, same
from tutelage.data.kgcl.model import TYPES, EdgeCreation, NodeMove, NodeObsoletion, NodeRename, NodeTextDefinitionChange
from tutelage.recipe.errors import InputError

TEXTS = st.text(max_size=24) | st.sampled_from(
    ["it's", "O'", "'", '"', "\\", "\\'", "\\n", "a\nb", "''", " x ", "é#", "to 'b'", "a' to 'b"]
)
LOCAL = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.\-]{0,8}\Z").filter(lambda s: s[-1] != ",")
CURIES = st.builds("{}:{}".format, st.sampled_from(["GO", "ex", "rdfs", "Orphanet", "X_1"]), LOCAL)
IRIS = st.builds("http://example.org/{}".format, LOCAL | st.sampled_from(["a#b", "a,b", "%C3%A9", "é"]))
LANGUAGES = st.sampled_from(["en", "de-AT", "zh-Hant"])
NODES = CURIES | IRIS.map("<{}>".format) | TEXTS.map(words.quote) | st.just("<ex:a>")
LITERALS = st.builds(lambda t: words.quote(t, '"'), TEXTS)
TAGGED = (
    LITERALS
    | st.builds("{}@{}".format, LITERALS, LANGUAGES)
    | st.builds("{}^^{}".format, LITERALS, st.just("xsd:date"))
)
KINDS = {
    "entity": NODES,
    "identifier": CURIES | IRIS.map("<{}>".format),
    "text": TEXTS.map(words.quote),
    "value": NODES | TAGGED,
    "reference": NODES | TAGGED,
    "scope": st.sampled_from(["exact", "narrow", "broad", "related"]),
    "reading": st.sampled_from(["some", "only"]),
    "language": LANGUAGES,
    "references": st.lists(NODES, min_size=1, max_size=3).map(", ".join),
    "obsoletions": st.lists(NODES, min_size=1, max_size=3).map(", ".join),
}
FIELD = re.compile(r"\{([\w.]+):(\w+)[^}]*\}")


@st.composite
def commands(draw: Any, row: Row) -> str:
    """A command of a row, by its own reading of the template."""
    text = re.sub(r"\[([^\]]*)\]", lambda m: m[1] if draw(st.booleans()) else "", row.template)
    text = re.sub(r"(?<=\s)(\S+\|\S+)(?=\s|$)", lambda m: draw(st.sampled_from(m[1].split("|"))), text)
    first: dict[str, str] = {}

    def token(found: re.Match[str]) -> str:
        value = str(draw(KINDS[found[2]]))
        first.setdefault(found[1], value)
        # The predicate that a move names twice is one.
        return first["edge.predicate"] if found[1] == "same" else value

    out = FIELD.sub(token, text)
    return re.sub(r" +,", ",", re.sub(r"(?<!\\) {2,}(?=[a-z{])", " ", out)) if row.kind == "NameBecomesSynonym" else out


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.template.split("{")[0].strip() + f" ({row.kind})")
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_every_row_is_read_back_as_it_was_written(row: Row, data: st.DataObject) -> None:
    command = data.draw(commands(row))
    change = parse_command(command)
    assert type(change).__name__ in (
        row.kind,
        {"EdgeCreation": "PlaceUnder", "EdgeDeletion": "RemoveUnder"}.get(row.kind),
    )
    text = render(change)
    again = parse_command(text)
    assert same(again, change), (command, text)
    assert render(again) == text
    for form in ("json", "yaml", "rdf"):
        (read,) = forms.read(forms.write([change], form), form)
        assert same(read, change), form


def test_every_class_but_the_containers_has_words() -> None:
    said = {row.kind for row in ROWS} | {"PlaceUnder", "RemoveUnder"}
    assert set(TYPES) - said == {"ComplexChange", "Transaction", "NodeTextDefinitionChange"}
    change = NodeTextDefinitionChange(about_node="GO:1", new_value="x")
    assert render(change) == "change definition of GO:1 to 'x'"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("rename GO:1 from 'a' to 'b'", {"about_node": "GO:1", "old_value": "a", "new_value": "b"}),
        ("rename 'a'@en -> 'b'@de", {"old_language": "en", "new_language": "de"}),
        ("rename GO:1 from 'Parkinson's disease' to 'it\\'s \"x\" \\u00e9'",
         {"old_value": "Parkinson's disease", "new_value": "it's \"x\" é"}),
        ("add synonym 'arm' to 'forelimb'  # as on the page",
         {"about_node": "forelimb", "about_node_representation": "label"}),
        ("delete <http://x.org/a#b>", {"about_node": "http://x.org/a#b"}),
        ("merge 'a' into GO:2", {"has_direct_replacement": "GO:2"}),
        ("change annotation of GO:1 with rdfs:comment from \"x\"^^<http://d> to '''it's'''@en",
         {"old_datatype": "http://d", "new_language": "en", "new_value": "it's", "new_value_type": "literal"}),
        ("create axiom '<http://a> <http://b> \"c\" .'", {"new_value": '<http://a> <http://b> "c" .'}),
    ],
)  # fmt: skip
def test_fields_are_what_the_words_say(text: str, wanted: dict[str, str]) -> None:
    change = parse_command(text)
    assert {name: getattr(change, name) for name in wanted} == wanted


def test_moves_can_be_said_in_several_ways() -> None:
    whole = parse_command("move GO:1 BFO:0000050 GO:2 from GO:2 to GO:3")
    assert same(whole, parse_command("move GO:1 from BFO:0000050 GO:2 to BFO:0000050 GO:3"))
    assert isinstance(whole, NodeMove)
    assert whole.about_edge.object == "GO:2"
    under = parse_command("move 'Parkinson disease' under 'neurodegenerative disease'")
    assert isinstance(under, NodeMove)
    assert under.about_edge.predicate == "rdfs:subClassOf"
    assert under.old_value is None
    assert type(parse_command("lift A:1 from A:2 to A:3")).__name__ == "NodeShallowing"
    with pytest.raises(InputError, match="keeps its predicate"):
        parse_command("move GO:1 from BFO:0000050 GO:2 to RO:1 GO:3")


def test_lines_comments_and_blank_lines() -> None:
    text = "# curation of the week\n\n  delete GO:1\r\ndelete GO:2 # gone\n\t\n#delete GO:3\ndelete <http://x.org/#y>\n"
    assert [c.about_node for c in parse(text)] == ["GO:1", "GO:2", "http://x.org/#y"]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"line 3: 'renme.*Did you mean 'rename'"):
        parse("delete GO:1\n\nrenme GO:2\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no command"),
        ("delete GO:1 GO:2", "delete NODE"),
        ("create fo ba", "create node ID"),
        ("rename GO:1 from 'it's' x' to 'b'", r"written \\'"),
        ("delete GO:1#x y", "no command"),
        ("create synonym 'a'^^xsd:string for GO:1", "says nothing here"),
        ("create node 'label' 'label'", "no command"),
    ],
)
def test_what_is_no_command_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_command(text)


def test_a_long_text_takes_no_more_than_one_pass() -> None:
    text = "'" + "it's " * 20_000
    with pytest.raises(InputError):
        parse_command(f"rename GO:1 from {text} to 'b'")
    assert len(parse_command(f"rename GO:1 from {text}' to 'b'").old_value or "") == 100_000  # type: ignore[attr-defined]


def test_containers_are_said_line_by_line_and_kept_in_json() -> None:
    both = Transaction(change_set=[parse_command("delete GO:1"), parse_command("create GO:2 'x'")])
    assert render(both) == "delete GO:1\ncreate GO:2 'x'"
    assert [same(a, b) for a, b in zip(forms.flat([both]), parse(render(both)), strict=True)] == [True, True]
    for form in ("json", "yaml", "rdf"):
        (read,) = forms.read(forms.write([both], form), form)
        assert isinstance(read, Transaction)
        assert [render(c) for c in read.change_set] == ["delete GO:1", "create GO:2 'x'"]
    undone = NodeRename(
        id="uuid:1",
        about_node="GO:1",
        old_value="a",
        new_value="b",
        creator="orcid:1",
        has_undo=parse_command("delete GO:1"),
    )
    (read,) = forms.read(forms.to_json([undone]), "json")
    assert read == undone


def test_what_has_no_words_is_not_lost_silently() -> None:
    change = EdgeCreation(
        subject="GO:1", predicate="RO:1", object="GO:2", annotation_set={"property": "a:b", "filler": "c"}
    )
    with pytest.raises(InputError, match="no words for its annotation_set"):
        render(change)
    with pytest.raises(InputError, match="is no CURIE"):
        render(NodeObsoletion(about_node="two words"))
    with pytest.raises(InputError, match="no words"):
        render(
            NodeMove(
                about_edge=Edge(subject="a:1", predicate="b:1", object="c:1"),
                old_value="d:1",
                new_value="e:1",
                object_type="curie",
            )
        )


@pytest.mark.parametrize(
    ("text", "form", "said"),
    [
        ('{"change_set": [{"type": "NodeRenam"}]}', "json", "Did you mean 'NodeRename'"),
        ('{"change_set": [{"type": "NodeDeletion", "about_node": "GO:1", "old_valu": "x"}]}', "json", "old_valu"),
        ('{"change_set": [{"about_node": "GO:1"}]}', "json", "without a type"),
        ('{"changeset": []}', "json", "no 'changeset'"),
        ("{", "json", "no JSON"),
        ("change_set: [", "yaml", "no YAML"),
        ("<a> <b", "rdf", "no Turtle"),
    ],
)
def test_what_is_no_change_in_other_forms_is_refused(text: str, form: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        forms.read(text, form)


def test_changes_of_the_base_class_are_not_made() -> None:
    assert "Change" not in TYPES
    assert all(issubclass(kind, Change) for kind in TYPES.values())
