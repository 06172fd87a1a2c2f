"""What changes do to graphs: the card's rules, undo, differences, crashes, bad commands."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyoxigraph as ox
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.api import changing, graphs
from tutelage.data.kgcl.applying import effects
from tutelage.data.kgcl.blanks import keyed
from tutelage.data.kgcl.describing import describe, difference
from tutelage.data.kgcl.language import parse, render_all
from tutelage.data.kgcl.model import LogicalAxiomChange, Transaction
from tutelage.data.kgcl.view import Rules
from tutelage.data.rdf.graph import Memory
from tutelage.data.rdf.journal import Stamp
from tutelage.data.rdf.sources import Source
from tutelage.data.rdf.terms import CLASS, DEPRECATED, TRUE, TYPE, to_lines
from tutelage.recipe.errors import InputError

STAMP = Stamp("ann", "2026-01-01T00:00:00+00:00")
ONTOLOGY = Path(__file__).resolve().parents[3].parent / "shared/data/ontology/go-nucleus.owl.ttl"
ANATOMY = """\
@prefix : <http://example.org/> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix oio: <http://www.geneontology.org/formats/oboInOwl#> .
@prefix ex: <http://example.org/> .
:part a owl:ObjectProperty ; rdfs:label "part of" .
:limb a owl:Class ; rdfs:label "limb" .
:fore a owl:Class ; rdfs:label "forelimb" ; rdfs:subClassOf :limb ; oio:hasExactSynonym "front leg" ;
  <http://purl.obolibrary.org/obo/IAO_0000115> "A limb in front." .
:hand a owl:Class ; rdfs:label "hand" ; rdfs:subClassOf [ a owl:Restriction ; owl:onProperty :part ;
  owl:someValuesFrom :fore ] , :thing .
:thing a owl:Class ; rdfs:label "thing" .
:one a owl:Class ; rdfs:label "twin" .
:two a owl:Class ; rdfs:label "twin" .
[] a owl:Axiom ; owl:annotatedSource :fore ; owl:annotatedProperty oio:hasExactSynonym ;
  owl:annotatedTarget "front leg" ; oio:hasDbXref "PMID:1" .
"""


@pytest.fixture
def anatomy(tmp_path: Path) -> Path:
    (tmp_path / "anatomy.ttl").write_text(ANATOMY)
    graphs.load(tmp_path / "g", [tmp_path / "anatomy.ttl"])
    return tmp_path / "g"


def lines(place: Path) -> list[str]:
    from tutelage.data.rdf.opening import open_graph

    with open_graph(place) as graph:
        return to_lines(graph.match())


def canonical(triples: object) -> set[str]:
    data = ox.Dataset(ox.Quad(t.subject, t.predicate, t.object) for t in triples)  # type: ignore[attr-defined]
    data.canonicalize(ox.CanonicalizationAlgorithm.RDFC_1_0)
    return {str(q) for q in data}


def apply(graph: Memory, text: str, rules: Rules | None = None) -> None:
    done = effects(graph, parse(text), rules)
    graph.commit(done.removed, done.added, commands=[], stamp=STAMP)


# ---------------------------------------------------------------------- worked by hand


def test_the_card_s_example() -> None:
    old = _small()
    new = _small()
    apply(new, "move a isa b from b to c\nrename a from 'x' to 'y'")
    assert to_lines(new.match()) == [
        '<urn:tutelage:a> <http://www.w3.org/2000/01/rdf-schema#label> "y" .',
        "<urn:tutelage:a> <urn:tutelage:isa> <urn:tutelage:c> .",
    ]
    found = difference(old, new)
    assert found.counts() == {"NodeMove": 1, "NodeRename": 1}
    assert not found.ambiguous
    assert not difference(new, new).changes


def _small() -> Memory:
    graph = Memory()
    graph.store.load(
        b"<urn:tutelage:a> <urn:tutelage:isa> <urn:tutelage:b> .\n"
        b'<urn:tutelage:a> <http://www.w3.org/2000/01/rdf-schema#label> "x" .\n',
        ox.RdfFormat.N_TRIPLES,
    )
    return graph


EFFECTS = [
    ("add synonym 'arm' to 'forelimb'", [], ["ex:fore oio:hasSynonym 'arm'"]),
    ("rename 'hand' to 'manus'", ["ex:hand rdfs:label 'hand'"], ["ex:hand rdfs:label 'manus'"]),
    ("move 'forelimb' under 'thing'", ["ex:fore rdfs:subClassOf ex:limb"], ["ex:fore rdfs:subClassOf ex:thing"]),
    ("create edge ex:fore rdfs:subClassOf ex:thing", [], ["ex:fore rdfs:subClassOf ex:thing"]),
    ("delete edge ex:fore rdfs:subClassOf ex:limb", ["ex:fore rdfs:subClassOf ex:limb"], []),
    ("create ex:new", [], ["ex:new rdf:type owl:Class"]),
    ("remove definition for 'forelimb'", ["ex:fore IAO:0000115 'A limb in front.'"], []),
    ("add 'forelimb' to subset ex:slim", [], ["ex:fore oio:inSubset ex:slim"]),
    ("create mapping ex:fore skos:exactMatch ex:front", [], ["ex:fore skos:exactMatch ex:front"]),
    ("set language for name of ex:fore to en", ["ex:fore rdfs:label 'forelimb'"], ["ex:fore rdfs:label 'forelimb'@en"]),
    (
        "synonym 'front leg' becomes new name of ex:two, and name 'twin' becomes a synonym",
        None,
        "has no synonym 'front leg'",
    ),
]


@pytest.mark.parametrize(("command", "gone", "come"), EFFECTS, ids=lambda x: str(x)[:40])
def test_what_a_command_does(anatomy: Path, command: str, gone: list[str] | None, come: list[str] | str) -> None:
    if gone is None:
        with pytest.raises(InputError, match=str(come)):
            changing.change(anatomy, command)
        return
    found = changing.change(anatomy, command)

    def plain(x: str) -> str:
        """Without the labels of nodes."""
        return re.sub(r"(ex:\w+) '(?:[^'\\]|\\.)*'", r"\1", x).replace('"', "'")

    assert sorted(map(plain, found.removed)) == gone
    assert sorted(map(plain, found.added)) == come


def test_edges_between_classes_are_restrictions_where_the_graph_has_such(anatomy: Path) -> None:
    assert len(changing.change(anatomy, "create edge ex:fore ex:part ex:thing", dry_run=True).added) == 4
    plain = changing.change(anatomy, "create edge ex:fore ex:part ex:thing", rules=Rules(edges="plain"), dry_run=True)
    assert plain.added == ("ex:fore 'forelimb' ex:part 'part of' ex:thing 'thing'",) or len(plain.added) == 1
    before = lines(anatomy)
    changing.change(anatomy, "delete edge 'hand' 'part of' 'forelimb'")
    assert len(lines(anatomy)) == len(before) - 4
    changing.undo(anatomy)
    assert lines(anatomy) == before
    changing.change(anatomy, "change interpretation of edge ex:hand ex:part ex:fore from some to only")
    assert any("allValuesFrom" in x for x in lines(anatomy))
    changing.change(anatomy, "move ex:hand ex:part ex:fore from ex:fore to ex:limb")
    assert any("allValuesFrom> <http://example.org/limb>" in x for x in lines(anatomy))


def test_what_is_said_of_a_synonym_goes_with_it(anatomy: Path) -> None:
    changing.change(anatomy, "change synonym 'front leg' for 'forelimb' to 'foreleg'")
    target = [x for x in lines(anatomy) if "annotatedTarget" in x]
    assert len(target) == 1
    assert '"foreleg"' in target[0]
    changing.change(anatomy, "remove synonym 'foreleg' for 'forelimb'")
    assert not [x for x in lines(anatomy) if "Axiom" in x or "PMID" in x]


def test_obsolete_reinstate_and_merge(anatomy: Path) -> None:
    before = lines(anatomy)
    changing.change(anatomy, "obsolete 'hand' with replacement 'forelimb'")
    now = "\n".join(lines(anatomy))
    assert '"obsolete hand"' in now
    assert "IAO_0100001> <http://example.org/fore>" in now
    assert "Restriction" not in now
    assert '"forelimb"' in now, "only the node itself is re-labelled"
    with pytest.raises(InputError, match="obsolete already"):
        changing.change(anatomy, "obsolete ex:hand")
    changing.change(anatomy, "unobsolete ex:hand")
    assert not [x for x in lines(anatomy) if "deprecated" in x or "obsolete hand" in x]
    changing.undo(anatomy, 2)
    assert lines(anatomy) == before
    changing.change(anatomy, "merge 'forelimb' into 'limb'")
    now = "\n".join(lines(anatomy))
    assert 'limb> <http://www.geneontology.org/formats/oboInOwl#hasExactSynonym> "forelimb"' in now
    assert "someValuesFrom> <http://example.org/limb>" in now
    assert 'hasAlternativeId> "ex:fore"' in now
    changing.undo(anatomy)
    assert lines(anatomy) == before


def test_labels_below_a_node_are_replaced(anatomy: Path) -> None:
    command = "search and replace 'limb' with 'leg' in all labels under 'limb' retaining as 'exact synonym'"
    changing.change(anatomy, command)
    assert sum('"leg"' in x or '"foreleg"' in x for x in lines(anatomy)) == 2
    assert sum('Synonym> "limb"' in x or 'Synonym> "forelimb"' in x for x in lines(anatomy)) == 2


# ---------------------------------------------------------------------- bad commands leave the graph as it was

BAD = [
    ("rename 'forlimb' to 'x'", "no node has the label 'forlimb'; there are 'forelimb' (ex:fore)"),
    ("obsolete 'twin'", "the label 'twin' is ambiguous: it belongs to ex:one, ex:two"),
    ("rename ex:fore from 'arm' to 'x'", "ex:fore 'forelimb' has no label 'arm'; it has 'forelimb'"),
    ("move 'limb' under 'forelimb'", "limb' has 0 parents"),
    ("create edge ex:limb rdfs:subClassOf ex:fore", "would make a cycle of rdfs:subClassOf: ex:limb 'limb' > ex:fore"),
    ("move ex:fore rdfs:subClassOf ex:limb from ex:limb to ex:fore", "cycle"),
    ("delete 'forelimb'", "is in use: ex:hand 'hand' rdfs:subClassOf"),
    ("create edge ex:fore ex:partt ex:limb", "unknown predicate ex:partt. Did you mean 'ex:part'"),
    ("create edge zz:1 rdfs:subClassOf ex:limb", "unknown prefix 'zz'"),
    ("create 'new thing'", "a new node needs an identifier"),
    ("create ex:fore", "is already in the graph"),
    ("create edge ex:fore rdfs:subClassOf ex:limb", "this edge is in the graph already"),
    ("delete edge ex:fore rdfs:subClassOf ex:thing", "there is no edge"),
    ("add definition 'x' to ex:fore", "has a definition already"),
    ("remove synonym 'x' for ex:fore", "has no synonym 'x'; it has 'front leg'"),
    ("deepen ex:fore from ex:limb to ex:thing", "is not below"),
    ("unobsolete ex:fore", "is not obsolete"),
    ("obsolete ex:nothing", "ex:nothing is not in the graph"),
    ("merge ex:fore into ex:fore", "cannot be merged into itself"),
]


@pytest.mark.parametrize(("command", "said"), BAD, ids=lambda x: x[:40])
def test_a_change_that_cannot_be_made_changes_nothing(anatomy: Path, command: str, said: str) -> None:
    before = lines(anatomy)
    with pytest.raises(InputError) as error:
        changing.change(anatomy, f"add synonym 'first' to 'hand'\n{command}")
    assert said in str(error.value)
    assert "change 2" in str(error.value)
    assert "The graph is as it was" in str(error.value)
    assert lines(anatomy) == before
    assert len(changing.log(anatomy)) == 1


def test_a_used_node_is_deleted_with_its_users_on_request(anatomy: Path) -> None:
    before = lines(anatomy)
    changing.change(anatomy, "delete 'forelimb'", rules=Rules(cascade=True))
    assert not [x for x in lines(anatomy) if "example.org/fore>" in x or "Restriction" in x]
    changing.undo(anatomy)
    assert lines(anatomy) == before


def test_what_can_only_be_exchanged_is_not_applied(anatomy: Path) -> None:
    with pytest.raises(InputError, match="LogicalAxiomChange can be exchanged, but not applied"):
        changing.change(anatomy, [LogicalAxiomChange(old_value="a", new_value="b")])


# ---------------------------------------------------------------------- the journal


def test_changes_are_logged_and_taken_back_in_order(anatomy: Path) -> None:
    states = [lines(anatomy)]
    for command in ("rename 'hand' to 'manus'", "add synonym 'arm' to 'forelimb'\ncreate ex:new", "obsolete 'thing'"):
        changing.change(anatomy, command, author="ann")
        states.append(lines(anatomy))
    entries = changing.log(anatomy)
    assert [e["id"] for e in entries] == [4, 3, 2, 1]
    assert entries[1]["commands"] == ["create synonym 'arm' for 'forelimb'", "create ex:new"]
    assert entries[0]["author"] == "ann"
    assert changing.undo(anatomy, dry_run=True)[0].entry is None
    assert lines(anatomy) == states[3]
    changing.undo(anatomy, 2)
    assert lines(anatomy) == states[1]
    changing.undo(anatomy)
    assert lines(anatomy) == states[0]
    assert changing.log(anatomy)[0]["undoes"] == 2
    with pytest.raises(InputError, match="files were loaded"):
        changing.undo(anatomy)


def test_what_was_changed_otherwise_since_is_not_taken_back(anatomy: Path) -> None:
    changing.change(anatomy, "rename 'hand' to 'manus'")
    from tutelage.data.rdf.folder import Folder

    with Folder(anatomy, "write") as graph:
        (label,) = (x for x in graph.match() if "manus" in str(x))
        graph.store.remove(ox.Quad(label.subject, label.predicate, label.object))
    before = lines(anatomy)
    with pytest.raises(InputError, match="changed since in another way"):
        changing.undo(anatomy)
    assert lines(anatomy) == before


def test_commands_that_lead_back_do(anatomy: Path) -> None:
    before = lines(anatomy)
    found = changing.change(anatomy, "obsolete 'forelimb' with replacement 'limb'\nrename 'hand' to 'manus'")
    changing.change(anatomy, "\n".join(found.undo))
    assert lines(anatomy) == before


KILL = """
    import os, signal, sys
    from tutelage.api import changing
    from tutelage.data.rdf.folder import Folder
    Folder._replace = staticmethod(lambda store, removed, added: (
        [store.remove(q) for q in __import__("tutelage.data.rdf.graph", fromlist=["quads"]).quads(removed)],
        os.kill(os.getpid(), signal.SIGKILL)))
    changing.change(sys.argv[1], "obsolete 'forelimb'")
"""


def test_a_change_that_is_killed_half_way_is_not_made(anatomy: Path) -> None:
    before = lines(anatomy)
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILL), str(anatomy)], env=dict(os.environ), check=False
    )
    assert process.returncode == -signal.SIGKILL
    assert lines(anatomy) == before
    changing.change(anatomy, "obsolete 'forelimb'")


# ---------------------------------------------------------------------- differences


@st.composite
def plain_graphs(draw: st.DrawFn) -> list[str]:
    names = st.sampled_from("abcdefg")
    edge = st.tuples(names, st.sampled_from(["isa", "part"]), names).map(
        lambda x: f"<urn:tutelage:{x[0]}> <urn:tutelage:{x[1]}> <urn:tutelage:{x[2]}> ."
    )
    label = st.tuples(names, st.sampled_from(["x", "y", "z'"])).map(
        lambda x: f'<urn:tutelage:{x[0]}> <http://www.w3.org/2000/01/rdf-schema#label> "{x[1]}" .'
    )
    synonym = st.tuples(names, st.sampled_from(["Exact", "Broad"]), st.sampled_from(["s", "t"])).map(
        lambda x: f'<urn:tutelage:{x[0]}> <http://www.geneontology.org/formats/oboInOwl#has{x[1]}Synonym> "{x[2]}"@en .'
    )
    typed = names.map(lambda x: f"<urn:tutelage:{x}> {TYPE} {CLASS} .")
    under = st.tuples(names, names).map(
        lambda x: f"<urn:tutelage:{x[0]}> <http://www.w3.org/2000/01/rdf-schema#subClassOf> <urn:tutelage:{x[1]}> ."
    )
    blank = st.tuples(names, names).map(
        lambda x: (
            f"<urn:tutelage:{x[0]}> <http://www.w3.org/2000/01/rdf-schema#subClassOf> _:r{x[1]} .\n"
            f"_:r{x[1]} <http://www.w3.org/2002/07/owl#someValuesFrom> <urn:tutelage:{x[1]}> ."
        )
    )
    retired = names.map(lambda x: f"<urn:tutelage:{x}> {DEPRECATED} {TRUE} .")
    return draw(st.lists(edge | label | synonym | typed | under | blank | retired, max_size=14))


def _memory(found: list[str]) -> Memory:
    graph = Memory()
    graph.store.load("\n".join(found).encode(), ox.RdfFormat.N_TRIPLES)
    return graph


@given(plain_graphs(), plain_graphs())
@settings(max_examples=60, deadline=None)
def test_applying_a_difference_gives_the_other_graph(one: list[str], other: list[str]) -> None:
    old, new = _memory(one), _memory(other)
    before = set(old.match())
    found = difference(old, new)
    text = render_all(found.changes)
    done = effects(old, parse(text))
    entry = old.commit(done.removed, done.added, commands=[], stamp=STAMP)
    assert canonical(old.match()) == canonical(new.match())
    assert not difference(old, new).changes
    back = describe(old, done.added, done.removed)
    undone = effects(old, back.changes)
    old.commit(undone.removed, undone.added, commands=[], stamp=STAMP)
    assert canonical(old.match()) == canonical(before)
    assert entry.id == 1


def test_a_group_that_can_be_paired_in_several_ways_is_reported() -> None:
    edge = "<urn:tutelage:a> <urn:tutelage:isa> <urn:tutelage:{}> ."
    old, new = _memory([edge.format(x) for x in "bc"]), _memory([edge.format(x) for x in "de"])
    found = difference(old, new)
    assert found.counts() == {"NodeMove": 2}
    assert "2 went and 2 came" in found.ambiguous[0]
    assert render_all(found.changes) == render_all(difference(old, new).changes)


@pytest.mark.parametrize("seed", range(3))
def test_independent_commands_commute(anatomy: Path, seed: int) -> None:
    commands = ["rename 'hand' to 'manus'", "add synonym 'arm' to ex:fore", "create ex:new", "obsolete ex:one"]
    memories = []
    for order in (commands, random.Random(seed).sample(commands, 4)):
        graph = Memory(prefixes={"ex": "http://example.org/"})
        graph.load([Source(anatomy.parent / "anatomy.ttl")], STAMP)
        apply(graph, "\n".join(order))
        memories.append(canonical(graph.match()))
    assert memories[0] == memories[1]


def test_a_real_ontology_is_changed_compared_and_brought_back() -> None:
    if not ONTOLOGY.is_file():
        pytest.skip("the slice of the Gene Ontology is not at ../shared/data/ontology")
    old, new = Memory(), Memory()
    for graph in (old, new):
        graph.load([Source(ONTOLOGY)], STAMP)
    assert not difference(old, new).changes
    before = set(new.match())
    apply(
        new,
        "add exact synonym 'core' to 'nucleus'\n"
        "obsolete GO:0031965 with replacement GO:0005635\n"
        "rename GO:0005635 from 'nuclear envelope' to 'envelope of the nucleus'\n"
        "change definition of GO:0005737 to 'All of it but the plasma membrane and the nucleus.'\n"
        "create edge GO:0005634 BFO:0000050 GO:0005737\n"
        "create class GO:7777777 'thing' under GO:0043226\n"
        "move GO:0005634 rdfs:subClassOf GO:0043231 from GO:0043231 to GO:0043227\n"
        "merge GO:0031967 into GO:0031090",
    )
    found = difference(old, new)
    counts = found.counts()
    for kind in ("NodeObsoletionWithDirectReplacement", "NodeRename", "NewSynonym", "NodeCreation"):
        assert counts[kind] >= 1, counts
    done = effects(old, parse(render_all(found.changes)))
    old.commit(done.removed, done.added, commands=[], stamp=STAMP)
    assert canonical(old.match()) == canonical(new.match())
    delta = set(new.match()) ^ before
    entry = list(new.entries())[-1]
    assert len(delta) == len(entry.removed) + len(entry.added)


def test_a_patch_of_one_copy_fits_another(anatomy: Path, tmp_path: Path) -> None:
    """Blank nodes have other names in each copy; a patch speaks of them by what they say."""
    for name in ("h", "i"):
        graphs.load(tmp_path / name, [tmp_path / "anatomy.ttl"])
    changing.change(
        tmp_path / "h",
        "remove synonym 'front leg' for 'forelimb'\n"
        "change interpretation of edge ex:hand ex:part ex:fore from some to only",
    )
    found = changing.difference(anatomy, tmp_path / "h")
    changing.change(tmp_path / "i", render_all(found.changes))
    assert not changing.difference(tmp_path / "i", tmp_path / "h").changes


def test_equal_blank_nodes_are_told_apart_by_number() -> None:
    graph = _memory(["<a:a> <a:p> _:x .", "<a:a> <a:p> _:y .", '_:x <a:q> "1" .', '_:y <a:q> "1" .', "_:z <a:q> _:z ."])
    assert len(keyed(graph)) == 3
    assert {key.split(" ")[1] for key in keyed(graph)} == {"1", "2"}


def test_a_transaction_is_one_change(anatomy: Path) -> None:
    change = Transaction(change_set=parse("rename 'hand' to 'manus'\nobsolete 'thing'"))
    changing.change(anatomy, [change])
    assert len(changing.log(anatomy)) == 2


def test_an_endpoint_is_changed_and_brought_back(endpoint: str, anatomy: Path) -> None:
    graphs.load(endpoint, [anatomy.parent / "anatomy.ttl"])
    ex = {"ex": "http://example.org/"}
    before = len(graphs.query(endpoint, "SELECT * { ?s ?p ?o }")[0].rows)
    found = changing.change(
        endpoint, "add synonym 'arm' to 'forelimb'\ncreate class ex:new 'new' under 'limb'", prefixes=ex
    )
    assert len(found.added) == 4
    assert changing.log(endpoint)[0]["commands"][0] == "create synonym 'arm' for 'forelimb'"
    changing.undo(endpoint)
    assert len(graphs.query(endpoint, "SELECT * { ?s ?p ?o }")[0].rows) == before
    with pytest.raises(InputError, match="blank node"):
        changing.change(endpoint, "obsolete 'hand'", prefixes=ex)
    assert len(graphs.query(endpoint, "SELECT * { ?s ?p ?o }")[0].rows) == before
