"""Graphs in folders, in memory and behind an endpoint: loaded, asked, written, shared between processes, killed."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyoxigraph as ox
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.api import graphs
from tutelage.data.rdf.folder import Folder
from tutelage.data.rdf.graph import Memory
from tutelage.data.rdf.journal import Entry, JournalFile, Stamp
from tutelage.data.rdf.opening import open_graph
from tutelage.data.rdf.sources import Source
from tutelage.data.rdf.terms import PREFIXES, Prefixes, from_lines, named, plain, to_lines
from tutelage.recipe.errors import InputError, RunError

STAMP = Stamp("ann", "2026-01-01T00:00:00+00:00")
SMALL = """\
@prefix ex: <http://example.org/> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
ex:a rdfs:label "a 'quoted' \\"name\\"\\twith a tab"@en ; ex:knows ex:b , _:x .
_:x ex:knows ex:a ; rdfs:label "é — 漢字 \\U0001F600" .
ex:b ex:age 7 .
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.ttl"
    path.write_text(SMALL, encoding="utf-8")
    return path


def canonical(triples: object) -> set[str]:
    data = ox.Dataset(ox.Quad(t.subject, t.predicate, t.object) for t in triples)  # type: ignore[attr-defined]
    data.canonicalize(ox.CanonicalizationAlgorithm.RDFC_1_0)
    return {str(q) for q in data}


# ---------------------------------------------------------------------- names


@given(st.text(min_size=1))
def test_a_plain_name_is_read_back_from_its_iri(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    ox.NamedNode(named(text))
    assert plain(named(text)) == text


@given(st.sampled_from(sorted(PREFIXES.values())), st.text(min_size=0, max_size=8))
def test_a_curie_stands_for_the_iri_that_it_was_made_of(space: str, local: str) -> None:
    prefixes = Prefixes({"own": "http://example.org/own#"})
    curie = prefixes.contract(space + local)
    assert curie is None or prefixes.expand(curie) == space + local


def test_an_unknown_prefix_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown prefix 'RDSF'.*'rdfs'"):
        Prefixes().expand("RDSF:label")


# ---------------------------------------------------------------------- formats


@pytest.mark.parametrize("format", ["ttl", "nt", "rdf", "jsonld", "tsv", "graphml"])
def test_what_is_written_is_read_back(small: Path, tmp_path: Path, format: str) -> None:
    graphs.load(tmp_path / "g", [small])
    with (tmp_path / f"out.{format}").open("wb") as out:
        assert graphs.export(tmp_path / "g", format, out) == []
    graphs.load(tmp_path / "h", [tmp_path / f"out.{format}"])
    with open_graph(tmp_path / "g") as one, open_graph(tmp_path / "h") as two:
        assert canonical(one.match()) == canonical(two.match())


def test_an_ontology_survives_every_format(ontology: Path, tmp_path: Path) -> None:
    graphs.load(tmp_path / "g", [ontology])
    with open_graph(tmp_path / "g") as graph:
        assert len(graph) == 4262
        before = canonical(graph.match())
    for format in ("nt", "rdf", "jsonld", "tsv", "graphml"):
        with (tmp_path / f"out.{format}").open("wb") as out:
            graphs.export(tmp_path / "g", format, out)
        memory = Memory()
        memory.load([Source(tmp_path / f"out.{format}")], STAMP)
        assert canonical(memory.match()) == before, format


def test_obo_says_what_it_cannot_hold_and_keeps_the_rest(ontology: Path, tmp_path: Path) -> None:
    fastobo = pytest.importorskip("fastobo")
    graphs.load(tmp_path / "g", [ontology])
    with (tmp_path / "out.obo").open("wb") as out:
        (note,) = graphs.export(tmp_path / "g", "obo", out)
    assert "have no form in OBO" in note
    terms = {str(f.id): f for f in fastobo.load(str(tmp_path / "out.obo"))}
    clauses = {(c.raw_tag(), c.raw_value()) for c in terms["GO:0005634"]}
    assert ("name", "nucleus") in clauses
    assert any(tag == "is_a" and value == "GO:0043231" for tag, value in clauses)
    once, twice = Memory(), Memory()
    once.load([Source(tmp_path / "out.obo")], STAMP)
    (tmp_path / "again.obo").write_bytes(_obo(once))
    twice.load([Source(tmp_path / "again.obo")], STAMP)
    assert canonical(once.match()) == canonical(twice.match())


def _obo(graph: Memory) -> bytes:
    from tutelage.data.rdf.obo import write_obo

    out = io.BytesIO()
    write_obo(graph, out)
    return out.getvalue()


def test_graphml_of_others_becomes_triples(tmp_path: Path) -> None:
    networkx = pytest.importorskip("networkx")
    graph = networkx.DiGraph()
    graph.add_node("ann", label="Ann B.")
    graph.add_edge("ann", "bob", relation="likes")
    networkx.write_graphml(graph, tmp_path / "g.graphml")
    memory = Memory()
    memory.load([Source(tmp_path / "g.graphml")], STAMP)
    assert to_lines(memory.match()) == [
        '<urn:tutelage:ann> <http://www.w3.org/2000/01/rdf-schema#label> "Ann B." .',
        "<urn:tutelage:ann> <urn:tutelage:likes> <urn:tutelage:bob> .",
    ]


def test_packed_files_are_unpacked(small: Path, tmp_path: Path) -> None:
    (tmp_path / "s.ttl.gz").write_bytes(gzip.compress(small.read_bytes()))
    assert graphs.load(tmp_path / "g", [tmp_path / "s.ttl.gz"])["added"] == 6


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        graphs.load(tmp_path / "g", [tmp_path / "missing.ttl"])
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(InputError, match=r"'docx' is unknown.*jsonld"):
        graphs.load(tmp_path / "g", [tmp_path / "a.docx"])
    (tmp_path / "a.graphml").write_text("<graphml>\n<node>")
    with pytest.raises(InputError, match="line 2: no GraphML"):
        graphs.load(tmp_path / "g", [tmp_path / "a.graphml"])
    (tmp_path / "a.obo").write_text("format-version: 1.4\n\n[Term]\nid: X:1\nnonsense\n")
    with pytest.raises(InputError, match="line 5: no OBO"):
        graphs.load(tmp_path / "g", [tmp_path / "a.obo"])


@pytest.mark.parametrize("ending", ["nt", "tsv"])
def test_a_malformed_line_is_refused_by_number_or_left_out(tmp_path: Path, ending: str) -> None:
    lines = [f"<http://x/{i}>\t<http://x/p>\t<http://x/o>" for i in range(5000)]
    lines[3210] = "<http://x/1> <http://x/p"
    lines[4000] = '<http://x/1>\t\t"x"'
    end = " .\n" if ending == "nt" else "\n"
    path = tmp_path / f"a.{ending}"
    path.write_text("".join(line + end for line in lines))
    with pytest.raises(InputError, match=r"line 3211: .*--bad skip.*Nothing was loaded"):
        graphs.load(tmp_path / "g", [path])
    assert not (tmp_path / "g").exists()
    found = graphs.load(tmp_path / "g", [path], on_bad="skip")
    assert found["added"] == 4998
    assert "2 lines were left out (line 3211: " in found["warnings"][0]
    assert "line 4001: " in found["warnings"][0]


def test_of_several_files_all_are_loaded_or_none(small: Path, tmp_path: Path) -> None:
    graphs.load(tmp_path / "g", [small])
    (tmp_path / "bad.nt").write_text("<http://x/1> .\n")
    (tmp_path / "good.nt").write_text("<http://x/1> <http://x/1> <http://x/1> .\n")
    with pytest.raises(InputError, match="Nothing was loaded"):
        graphs.load(tmp_path / "g", [tmp_path / "good.nt", tmp_path / "bad.nt"])
    with open_graph(tmp_path / "g") as graph:
        assert len(graph) == 6
    assert [p.name for p in (tmp_path / "g").glob("store-*")] == ["store-2"]


# ---------------------------------------------------------------------- asking


def test_a_query_is_answered_as_table_json_and_csv(small: Path, tmp_path: Path) -> None:
    graphs.load(tmp_path / "g", [small])
    answer, prefixes = graphs.query(tmp_path / "g", "SELECT ?s ?age { ?s ex:age ?age }")
    assert list(graphs.readable(answer, prefixes)) == [("ex:b", "7")]
    assert graphs.as_csv(answer) == "s,age\nhttp://example.org/b,7\n"
    (row,) = graphs.as_sparql_json(answer)["results"]["bindings"]
    assert row["age"] == {"type": "literal", "value": "7", "datatype": "http://www.w3.org/2001/XMLSchema#integer"}
    cut, _ = graphs.query(tmp_path / "g", "SELECT * { ?s ?p ?o }", rows=2)
    assert (len(cut.rows), cut.cut) == (2, True)


def test_a_query_that_never_ends_is_stopped(small: Path, tmp_path: Path) -> None:
    graphs.load(tmp_path / "g", [small])
    text = "SELECT (COUNT(*) AS ?n) {" + " ".join(f"?a{i} ?b{i} ?c{i} ." for i in range(30)) + "}"
    began = time.monotonic()
    with pytest.raises(InputError, match=r"stopped after 1\.5 s"):
        graphs.query(tmp_path / "g", text, seconds=1.5)
    assert time.monotonic() - began < 60


def test_an_update_is_refused_where_only_reading_is_allowed(small: Path, tmp_path: Path) -> None:
    graphs.load(tmp_path / "g", [small])
    for text in ("DELETE WHERE { ?s ?p ?o }", "PREFIX a: <b:c>\n# why\n  insert data { a:b a:b a:b }"):
        with pytest.raises(InputError, match="--write"):
            graphs.query(tmp_path / "g", text)
    with open_graph(tmp_path / "g") as graph:
        assert len(graph) == 6
    with pytest.raises(InputError, match="changes nothing"):
        graphs.update(tmp_path / "g", "SELECT * { ?s ?p ?o }")
    graphs.update(tmp_path / "g", "DELETE WHERE { ?s ex:age ?o }", author="ann")
    with open_graph(tmp_path / "g") as graph:
        assert len(graph) == 5
        assert [e.kind for e in graph.entries()] == ["load", "update"]


def test_a_query_that_is_none_is_explained(small: Path, tmp_path: Path) -> None:
    graphs.load(tmp_path / "g", [small])
    with pytest.raises(InputError, match="no SPARQL query"):
        graphs.query(tmp_path / "g", "SELEKT * {}")


# ---------------------------------------------------------------------- processes


def _process(code: str, *arguments: object) -> subprocess.Popen[str]:
    text = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(text, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=dict(os.environ))


HOLD = """
    import sys
    from pathlib import Path
    from tutelage.data.rdf.folder import Folder
    graph = Folder(Path(sys.argv[1]), sys.argv[2])
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_has_the_graph(small: Path, tmp_path: Path) -> None:
    graphs.load(tmp_path / "g", [small])
    for theirs, ours, fits in (("write", "read", False), ("read", "write", False), ("read", "read", True)):
        other = _process(HOLD, tmp_path / "g", theirs)
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == "held\n"
            if fits:
                Folder(tmp_path / "g").close()
            else:
                with pytest.raises(InputError, match=rf"open in another process \({other.pid}\)"):
                    Folder(tmp_path / "g", ours)  # type: ignore[arg-type]
        finally:
            other.communicate("")


LOAD = """
    import os, sys
    from pathlib import Path
    from tutelage.data.rdf import folder, sources
    from tutelage.data.rdf.journal import Stamp
    graph = folder.Folder(Path(sys.argv[1]), "write")
    def progress(done):
        if done > 200_000:
            print("half", flush=True)
            sys.stdin.read()
    graph.load([sources.Source(Path(sys.argv[2]), progress=progress)], Stamp())
"""


def test_a_load_that_is_killed_leaves_the_graph_as_it_was(small: Path, tmp_path: Path) -> None:
    graphs.load(tmp_path / "g", [small])
    (tmp_path / "big.nt").write_text("".join(f"<http://x/{i}> <http://x/p> <http://x/o> .\n" for i in range(40_000)))
    other = _process(LOAD, tmp_path / "g", tmp_path / "big.nt")
    assert other.stdout is not None
    assert other.stdout.readline() == "half\n"
    os.kill(other.pid, signal.SIGKILL)
    other.communicate()
    with open_graph(tmp_path / "g", "write") as graph:
        assert len(graph) == 6
        assert graph.last() == 1
    assert len(list((tmp_path / "g").glob("store-*"))) == 1
    assert graphs.load(tmp_path / "g", [tmp_path / "big.nt"])["triples"] == 40_006


KILL = """
    import os, signal, sys
    from pathlib import Path
    from tutelage.data.rdf import folder, journal
    from tutelage.data.rdf.terms import from_lines
    place = sys.argv[2]
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)
    if place == "noted":
        folder.Folder._replace = staticmethod(die)
    elif place == "changed":
        journal.JournalFile.append = die
    elif place == "journaled":
        append = journal.JournalFile.append
        def then(self, entry):
            append(self, entry)
            die()
        journal.JournalFile.append = then
    graph = folder.Folder(Path(sys.argv[1]), "write")
    old = list(graph.match())[:2]
    graph.commit(old, from_lines(["<http://x/1> <http://x/2> <http://x/3> ."]), commands=["c"], stamp=journal.Stamp())
"""


@pytest.mark.parametrize(("place", "done"), [("noted", False), ("changed", False), ("journaled", True)])
def test_a_change_that_is_killed_is_made_or_not(small: Path, tmp_path: Path, place: str, done: bool) -> None:
    graphs.load(tmp_path / "g", [small])
    with open_graph(tmp_path / "g") as graph:
        before = set(graph.match())
    other = _process(KILL, tmp_path / "g", place)
    other.communicate()
    assert other.returncode == -signal.SIGKILL
    assert (tmp_path / "g" / "pending.json").exists()
    with open_graph(tmp_path / "g") as graph:
        assert (set(graph.match()) != before) is done
        assert [e.kind for e in graph.entries()] == ["load", "change"][: 1 + done]
    assert not (tmp_path / "g" / "pending.json").exists()


FULL = """
    import resource, signal, sys
    from pathlib import Path
    from tutelage.api import graphs
    from tutelage.recipe.errors import RunError
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        graphs.load(sys.argv[1], [Path(sys.argv[2])])
    except RunError as error:
        print(error)
"""


def test_a_disk_that_takes_no_more_leaves_the_graph_as_it_was(small: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk, which a test cannot make."""
    graphs.load(tmp_path / "g", [small])
    (tmp_path / "big.nt").write_text("".join(f'<http://x/{i}> <http://x/p> "{i:040}" .\n' for i in range(60_000)))
    other = _process(FULL, tmp_path / "g", tmp_path / "big.nt")
    out, _ = other.communicate()
    assert "the graph is as it was" in out
    with open_graph(tmp_path / "g") as graph:
        assert len(graph) == 6


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="exists and is no graph"):
        open_graph(tmp_path / "other", "write")
    with pytest.raises(InputError, match=r"there is no graph .*tutelage graph load"):
        open_graph(tmp_path / "none")
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["mine.txt"]


# ---------------------------------------------------------------------- the journal


@given(st.lists(st.text(max_size=20), max_size=4), st.integers(0, 200))
@settings(max_examples=40, deadline=None)
def test_a_journal_forgets_a_torn_line_only(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], cut: int
) -> None:
    texts = [t.encode("utf-8", "ignore").decode() for t in texts]
    path = tmp_path_factory.mktemp("j") / "journal.jsonl"
    journal = JournalFile(path)
    written = [Entry(i + 1, "change", "ann", "now", (text,), added=("x",)) for i, text in enumerate(texts)]
    for entry in written:
        journal.append(entry)
    torn = Entry(len(texts) + 1, "change", "ann", "now", ("x" * 100,)).to_json().encode()
    with path.open("ab") as stream:
        stream.write(torn[: min(cut, len(torn))])
    assert list(journal) == written
    assert journal.last() == len(texts)
    journal.append(Entry(journal.last() + 1, "change", "ann", "later"))
    assert [e.id for e in journal] == list(range(1, len(texts) + 2))


# ---------------------------------------------------------------------- endpoints


def test_an_endpoint_does_what_a_folder_does(small: Path, tmp_path: Path, endpoint: str) -> None:
    ex = {"ex": "http://example.org/"}
    assert graphs.load(endpoint, [small], author="ann")["added"] == 6
    graphs.load(tmp_path / "g", [small])
    with open_graph(endpoint, prefixes=ex) as far, open_graph(tmp_path / "g") as near:
        assert canonical(far.match()) == canonical(near.match())
        assert len(far) == 6
        (age,) = far.match(None, ox.NamedNode("http://example.org/age"))
        assert far.has(age)
        entry = far.commit([age], from_lines(['<http://x/1> <http://x/2> "it\'s" .']), commands=["c"], stamp=STAMP)
        assert not far.has(age)
        assert [e.kind for e in far.entries()] == ["load", "change"]
        assert list(far.entries())[-1] == entry
        assert far.query("ASK { <http://x/1> ?p ?o }", seconds=5, rows=1).boolean is True
        assert len(far.query("CONSTRUCT { ?s ?p ?o } { ?s ?p ?o }", seconds=5, rows=100).rows) == 6
        with pytest.raises(InputError, match="blank node"):
            list(far.match(ox.BlankNode("x")))
        with pytest.raises(InputError, match=r"refused.*400"):
            far.query("SELEKT", seconds=5, rows=1)
    out = io.BytesIO()
    graphs.export(endpoint, "ttl", out)
    assert b"http://x/1" in out.getvalue()
    graphs.update(endpoint, "DELETE WHERE { <http://x/1> ?p ?o }", author="bob")
    assert graphs.stats(endpoint)["triples"] == 5


def test_an_endpoint_that_is_none_is_named() -> None:
    with pytest.raises(InputError, match=r"no SPARQL endpoint answers at http://127\.0\.0\.1:9"):
        open_graph("http://127.0.0.1:9")


def test_a_query_of_an_endpoint_is_not_waited_for_forever(small: Path, endpoint: str) -> None:
    graphs.load(endpoint, [small])
    text = "SELECT (COUNT(*) AS ?n) {" + " ".join(f"?a{i} ?b{i} ?c{i} ." for i in range(30)) + "}"
    with pytest.raises((InputError, RunError), match="not waited for longer than 1 s"):
        graphs.query(endpoint, text, seconds=1)
