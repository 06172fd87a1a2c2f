"""Commands on kept graphs: what is printed, for people and for programs; the server; wrong use."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tutelage.recipe.errors import InputError

Call = Callable[..., tuple[int, str, str]]
LIMBS = Path(__file__).resolve().parents[2] / "docs" / "assets" / "limbs.ttl"


@pytest.fixture
def limbs(tmp_path: Path, call: Call) -> Path:
    assert call(["graph", "load", tmp_path / "g", LIMBS])[0] == 0
    return tmp_path / "g"


def test_answers_for_programs(limbs: Path, call: Call) -> None:
    query = "SELECT ?l { ex:hand rdfs:label ?l }"
    assert call(["graph", "query", limbs, query, "--as", "csv"])[:2] == (0, "l\nmanus\n")
    found = json.loads(call(["graph", "query", limbs, query, "--json"])[1])
    assert found["results"]["bindings"] == [{"l": {"type": "literal", "value": "manus"}}]
    assert call(["graph", "query", limbs, "ASK { ex:hand a owl:Class }"])[1] == "yes\n"
    code, out, err = call(["graph", "query", limbs, "SELECT * { ?s ?p ?o }", "--rows", 2])
    assert (code, len(out.splitlines())) == (0, 3)
    assert "more than 2 rows" in err
    stats = json.loads(call(["graph", "stats", limbs, "--json"])[1])
    assert (stats["triples"], stats["labels"], stats["obsolete"]) == (21, 6, 0)
    assert stats["by type"]["owl:Class"] == 5
    assert "by predicate" not in call(["graph", "stats", limbs])[1]


def test_a_change_and_its_patch(limbs: Path, tmp_path: Path, call: Call) -> None:
    code, out, _ = call(["graph", "change", limbs, "add synonym 'arm' to 'forelimb'", "--json", "--author", "ann"])
    found = json.loads(out)
    assert (code, found["entry"]) == (0, 2)
    assert found["added"] == ["ex:forelimb 'forelimb' oio:hasSynonym \"arm\""]
    assert found["undo"] == ["remove synonym 'arm' for ex:forelimb"]
    for form, ending in (("text", "kgcl"), ("json", "json"), ("rdf", "ttl")):
        patch = tmp_path / f"patch.{ending}"
        patch.write_text(call(["graph", "diff", LIMBS, limbs, "--as", form])[1])
        copy = tmp_path / f"copy-{form}"
        call(["graph", "load", copy, LIMBS])
        assert call(["graph", "apply", copy, patch])[0] == 0
        assert call(["graph", "diff", copy, limbs])[1] == ""
    assert call(["graph", "diff", LIMBS, limbs, "--summary"])[1].split() == ["1", "NewSynonym"]
    log = json.loads(call(["graph", "log", limbs, "--json"])[1])
    assert (log[0]["kind"], log[0]["author"]) == ("change", "ann")
    assert call(["graph", "undo", limbs, "--dry-run"])[1].endswith("0 triples come, 1 go\n")
    assert json.loads(call(["graph", "undo", limbs, "--json"])[1])[0]["entry"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["change", "G", "creat x"], "Did you mean 'create'"),
        (["change", "G"], "give a command or `--file`"),
        (["change", "G", "rename 'manus' to 'x'", "--prefix", "ex"], "expected NAME=IRI"),
        (["change", "G", "--file", "missing.kgcl"], "missing.kgcl cannot be read"),
        (["query", "G", "INSERT DATA { ex:a ex:b ex:c }"], "--write"),
        (["query", "G", "SELECT"], "no SPARQL query"),
        (["load", "G", "missing.ttl"], "there is no file missing.ttl"),
        (["stats", "nowhere"], "there is no graph nowhere"),
        (["undo", "G", "3"], "cannot be taken back"),
        (["serve", "nowhere"], "there is no graph nowhere"),
    ],
)
def test_wrong_use_is_explained_and_changes_nothing(limbs: Path, call: Call, arguments: list[str], said: str) -> None:
    before = call(["graph", "export", limbs, "--to", "obo"])
    code, _, err = call(["graph", *(str(limbs) if a == "G" else a for a in arguments)])
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert call(["graph", "export", limbs, "--to", "obo"]) == before


def test_a_graph_is_served_for_reading(limbs: Path) -> None:
    if not (shutil.which("oxigraph", path=sysconfig.get_path("scripts")) or shutil.which("oxigraph")):
        pytest.skip("no Oxigraph server is installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "tutelage", "graph", "serve", str(limbs), "--bind", bind]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        query = urllib.parse.urlencode({"query": "SELECT (COUNT(*) AS ?n) { ?s ?p ?o }"})
        for _ in range(300):
            try:
                request = urllib.request.Request(f"http://{bind}/query?{query}", headers={"Accept": "text/csv"})
                with urllib.request.urlopen(request, timeout=5) as answer:
                    assert answer.read().decode().split() == ["n", "21"]
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.1)
        else:
            pytest.fail("the server did not answer")
        update = urllib.request.Request(
            f"http://{bind}/update", b"CLEAR ALL", {"Content-Type": "application/sparql-update"}
        )
        with pytest.raises(OSError, match="HTTP Error"):
            urllib.request.urlopen(update, timeout=5)
        from tutelage.data.rdf.folder import Folder

        Folder(limbs).close()
        with pytest.raises(InputError, match="open in another process"):
            Folder(limbs, "write")
    finally:
        server.terminate()
        server.wait()
