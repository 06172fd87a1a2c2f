"""Changes that travel between versions of a graph: all arrives, or what was held back is seen to be missing.

The language itself is tested where it is, in tests/data/kgcl.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from tutelage.api import Finished
from tutelage.data.drawn_changes import Drawing
from tutelage.data.graph_versions import GraphVersions, facts
from tutelage.data.kgcl.applying import effects
from tutelage.data.kgcl.language import parse
from tutelage.data.rdf.graph import Memory
from tutelage.data.rdf.journal import Stamp
from tutelage.data.rdf.terms import from_lines
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.starter import starter

Go = Callable[[Mapping[str, Any]], Finished]
EX = "http://example.org/"
OLD = f"""\
<{EX}a> <http://www.w3.org/2000/01/rdf-schema#subClassOf> <{EX}b> .
<{EX}a> <http://www.w3.org/2000/01/rdf-schema#label> "x" .
"""
NEW = OLD.replace(f"<{EX}b>", f"<{EX}c>").replace('"x"', '"y"')


@pytest.mark.parametrize("form", ["text", "json", "rdf"])
def test_two_changes_arrive_whole(form: str, go: Go, tmp_path: Path) -> None:
    """The card's worked example: a move and a renaming, told as just that."""
    (tmp_path / "old.nt").write_text(OLD)
    (tmp_path / "new.nt").write_text(NEW)
    data = {"name": "graph-versions", "before": str(tmp_path / "old.nt"), "after": str(tmp_path / "new.nt")}
    finished = go({"method": {"name": "kgcl", "form": form}, "data": data})
    report = finished.report
    assert {row["type"]: row["told"] for row in report["findings"]["changes"]} == {"NodeMove": 1, "NodeRename": 1}
    assert report["findings"]["groups_that_could_be_told_otherwise"] == 0
    assert [(row["name"], row["role"]) for row in report["rows"]] == [
        ("newer version", "source"),
        ("older version", "baseline"),
        ("graph", "recipient"),
    ]
    # Four facts, of which the older version is wrong about each.
    assert report["arrived"]["baseline"]["value"] == 0.0
    assert report["arrived"]["after"]["value"] == report["arrived"]["gap_recovered"]["value"] == 1.0
    assert sorted((finished.folder / "model" / "graph.nt").read_text().splitlines()) == sorted(NEW.splitlines())
    letter = next((finished.folder / "model").glob("changes.*"))
    assert letter.suffix == {"text": ".kgcl", "json": ".json", "rdf": ".ttl"}[form]


def test_drawn_changes_of_a_real_network_all_arrive(go: Go) -> None:
    report = go({"method": "kgcl", "data": {"name": "graph-versions", "changes": 60}}).report
    assert report["arrived"]["after"]["value"] == 1.0
    assert report["arrived"]["baseline"]["value"] < 1.0
    assert report["kept"]["of_before"]["value"] == 1.0
    assert report["lost"]["of_source"]["value"] == 0.0
    assert 0.5 < report["findings"]["share_of_drawn_changes_told_by_the_same_type"] <= 1.0
    assert report["rows"][2]["measures"]["facts"]["of neither version"]["value"] == 0.0


def test_what_is_held_back_is_missing_and_nothing_else(go: Go) -> None:
    """Only renamings travel: of what both versions say nothing is lost, of what the newer says, the rest."""
    data = {"name": "graph-versions", "changes": 60}
    report = go({"method": {"name": "kgcl", "types": ["NodeRename"]}, "data": data}).report
    table = {row["type"]: row for row in report["findings"]["changes"]}
    assert table["NodeRename"]["held back"] == 0
    assert all(row["held back"] == row["told"] for name, row in table.items() if name != "NodeRename")
    assert report["kept"]["of_before"]["value"] == 1.0
    assert 0.0 < report["lost"]["of_source"]["value"] < 0.05
    assert 0.0 < report["arrived"]["gap_recovered"]["value"] < 1.0


def test_drawn_changes_are_valid_and_the_same_for_a_seed() -> None:
    first, again, other = (GraphVersions(changes=40).load(seed).info for seed in (3, 3, 4))
    assert first.drawn == again.drawn  # type: ignore[attr-defined]
    assert first.fingerprint == again.fingerprint != other.fingerprint
    # Made anew, one after the other, they lead from the older version to the newer.
    graph = Memory(from_lines(first.before))  # type: ignore[attr-defined]
    for change in parse("\n".join(first.drawn)):  # type: ignore[attr-defined]
        done = effects(graph, [change])
        graph.commit(done.removed, done.added, commands=(), stamp=Stamp("ann", "2026-01-01"))
    assert sorted(facts(graph.match())) == sorted(facts(from_lines(first.after)))  # type: ignore[attr-defined]


def test_facts_do_not_depend_on_names_of_blank_nodes() -> None:
    lines = [
        f"<{EX}a> <{EX}p> _:one .",
        f'_:one <{EX}q> "v" .',
        f"_:two <{EX}q> <{EX}a> .",
        f"<{EX}a> <{EX}p> <{EX}b> .",
    ]
    renamed = [line.replace("one", "x9").replace("two", "one") for line in lines]
    assert sorted(facts(from_lines(lines))) == sorted(facts(from_lines(renamed)))
    assert len(facts(from_lines(lines))) == 3
    twice = [f'_:a <{EX}q> "v" .', f'_:b <{EX}q> "v" .']
    assert len(set(facts(from_lines(twice)))) == 2


def test_samples_say_which_version_states_them(tmp_path: Path) -> None:
    (tmp_path / "old.nt").write_text(OLD)
    (tmp_path / "new.nt").write_text(OLD + NEW)
    splits = GraphVersions(before=str(tmp_path / "old.nt"), after=str(tmp_path / "new.nt")).load(0)
    batch = splits.test.fetch(range(4))
    assert batch.inputs.sum(0).tolist() == [2.0, 4.0]
    assert torch.equal(batch.labels, torch.ones(4, dtype=torch.long))
    assert len(splits.train) == 2


def test_the_starter_recipe_runs(go: Go, tmp_path: Path) -> None:
    (tmp_path / "kgcl.yaml").write_text(starter("kgcl"))
    report = go(load_recipe(tmp_path / "kgcl.yaml", ["data.changes=10", "measure=[]"])).report  # type: ignore[arg-type]
    assert report["arrived"]["after"]["value"] == 1.0


def test_bad_input(go: Go, tmp_path: Path) -> None:
    (tmp_path / "old.nt").write_text(OLD)
    (tmp_path / "bad.nt").write_text("no triple\n")
    old = str(tmp_path / "old.nt")
    with pytest.raises(RecipeError, match=r"'NodeRenam' is no type of change.*NodeRename"):
        go({"method": {"name": "kgcl", "types": ["NodeRenam"]}, "data": "graph-versions"})
    with pytest.raises(InputError, match="use 'graph-versions'"):
        go({"method": "kgcl", "data": "nations"})
    with pytest.raises(InputError, match="both versions say the same"):
        go({"method": "kgcl", "data": {"name": "graph-versions", "before": old, "after": old}})
    with pytest.raises(InputError, match="needs the older one"):
        go({"method": "kgcl", "data": {"name": "graph-versions", "after": old}})
    with pytest.raises(InputError, match=r"bad\.nt, line 1"):
        go({"method": "kgcl", "data": {"name": "graph-versions", "before": old, "after": str(tmp_path / "bad.nt")}})
    empty = Drawing(Memory(), Random(0))
    with pytest.raises(InputError, match="no labelled nodes"):
        empty.draw(3)
