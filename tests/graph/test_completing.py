"""An embedded graph that is asked, drawn, and kept up to date."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.api import Finished
from tutelage.api.completing import Embedded, embed
from tutelage.cli.guard import guarded
from tutelage.data.graphs import UMLS, told, triples_of
from tutelage.data.stored_graph import StoredGraph
from tutelage.data.triples import Known, graph_info
from tutelage.graph.parts.completing import Answer, Calibration, Paths, best_answers, described, nearest, shared_facts
from tutelage.graph.parts.growing import Earlier, compare, take_over
from tutelage.models.transe import TransE
from tutelage.recipe.errors import InputError

Go = Callable[[Mapping[str, Any]], Finished]
NAMES = ["ann", "bob", "cat", "dan", "eve"]
FACTS = torch.tensor([[0, 0, 1], [1, 0, 2], [2, 0, 3], [0, 1, 2], [1, 1, 3], [4, 0, 0]])
FAMILY = graph_info(NAMES, ["parent", "grandparent"], "f")


@pytest.fixture(scope="module")
def umls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return embed("umls", tmp_path_factory.mktemp("runs") / "umls", epochs=15).folder


def test_answers_leave_out_what_is_known() -> None:
    model = TransE(FAMILY, width=4)
    known = Known(FACTS, 5, 2)
    every = best_answers(model, "tail", 0, 0, None, count=9)
    assert len(every) == 5
    assert [a.score for a in every] == sorted((a.score for a in every), reverse=True)
    assert sum(a.share for a in every) == pytest.approx(1.0)
    few = best_answers(model, "tail", 0, 0, known, count=9)
    assert {a.entity for a in every} - {a.entity for a in few} == {1}
    heads = best_answers(model, "head", 1, 0, known)
    assert 0 not in {a.entity for a in heads}


def test_ways_are_weighed_by_how_often_they_lead_where_the_relation_does() -> None:
    paths = Paths(FACTS, FAMILY).between(4, 1, 1)
    assert described(paths[0], 4, FAMILY) == "eve -[parent]-> ann -[parent]-> bob"
    # Of three other pairs that parents of parents join, two are grandparents: not eve and bob, who are asked about.
    assert (paths[0].support, paths[0].pairs) == (1.0, 2)
    assert Paths(FACTS, FAMILY).between(0, 0, 1)[0].steps != ((0, True, 1),)
    assert Paths(FACTS, FAMILY).between(3, 1, 3) == []


def test_probabilities_follow_their_weights() -> None:
    calibration = Calibration((1.0, 0.0, 0.5), -1.0, None, 10)
    assert calibration.probability(Answer(0, 1.0, 0.1), "head") == pytest.approx(0.5)
    assert calibration.probability(Answer(0, 1.0, 0.1), "tail") > 0.5


def test_who_is_like_whom() -> None:
    model = TransE(FAMILY, width=2)
    with torch.no_grad():
        model.entities.copy_(torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [-1.0, 0.0], [1.0, 1.0]]))
    assert [entity for entity, _ in nearest(model, 0, 2)] == [1, 4]
    assert shared_facts(torch.tensor([[0, 0, 2], [1, 0, 2], [0, 1, 3], [1, 1, 4]]), 0, 1, FAMILY) == {"parent →": 1}


def test_a_graph_is_completed_with_probabilities_that_hold(umls: Path) -> None:
    asked = Embedded(umls)
    found = asked.complete(head="bacterium", relation="causes", count=3)
    assert len(found["answers"]) == 3
    chances = [a["probability"] for a in found["answers"]]
    assert chances == sorted(chances, reverse=True)
    assert all(0 <= p <= 1 for p in chances)
    assert any(a["because"] for a in found["answers"])
    assert found["calibration"]["error"] < 0.1
    assert (umls / "model" / "calibration.json").is_file()
    # Held-out facts are said to be likelier than what nobody says.
    held: dict[str, list[float]] = {"held out": [], "new": []}
    for head, relation, _ in asked.held_out[:40].tolist():
        names = asked.model.graph.entity_names[head], asked.model.graph.relation_names[relation]
        for answer in asked.complete(head=names[0], relation=names[1], count=5)["answers"]:
            held[answer["status"]].append(answer["probability"])
    assert sum(held["held out"]) / len(held["held out"]) > 2 * sum(held["new"]) / len(held["new"])
    known = asked.complete(head="virus", relation="isa", known=True, count=135)
    assert {"learnt"} <= {a["status"] for a in known["answers"]}


def test_the_commands(umls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["graph", "complete", str(umls), "--relation", "causes"]
    assert guarded([*where, "--head", "bacterium", "-k", "2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["answers"]) == 2
    assert guarded([*where, "--head", "bacterium", "-k", "2"]) == 0
    assert "-[" in capsys.readouterr().out
    assert guarded(["graph", "neighbours", str(umls), "bacterium", "-k", "3", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["neighbours"]) == 3
    assert guarded(["graph", "neighbours", str(umls), "bacteria"]) == 2
    assert "Did you mean 'bacterium'?" in capsys.readouterr().err
    assert guarded(where) == 2
    assert "give one of the two" in capsys.readouterr().err
    assert guarded(["graph", "embed", "umlz", "--to", str(umls.parent / "no")]) == 2
    assert "Did you mean 'umls'?" in capsys.readouterr().err


def test_pictures_lie_beside_the_model(umls: Path) -> None:
    report = json.loads((umls / "report.json").read_text())
    assert [one["kind"] for one in report["figures"]["drawn"]] == ["points", "graph"]
    for name in ("embedding", "neighbourhood"):
        text = (umls / report["artifacts"][name]).read_text()
        assert text.startswith("<svg xmlns")
    assert (umls / "report.html").read_text().count("<figure") >= 3


def test_what_has_changed_is_told_by_name() -> None:
    earlier = Earlier(TransE(FAMILY, width=4), FACTS)
    grown = graph_info(["eve", "dan", "cat", "bob", "fay"], ["grandparent", "parent"], "g")
    # Ann is gone, fay is new, and dan is cat's child no more.
    learnt = torch.tensor([[3, 1, 2], [3, 0, 1], [4, 1, 2]])
    change = compare(earlier, grown, learnt)
    assert learnt[change.added].tolist() == [[4, 1, 2]]
    assert change.deleted.tolist() == [[2, 1, 1]]
    assert sorted(change.touched.tolist()) == [0, 1]
    assert (change.entities, change.relations) == (1, 0)
    model = TransE(grown, width=4)
    take_over(earlier, model, learnt)
    old = earlier.model
    assert torch.equal(model.entities[0], old.entities[4])
    assert torch.equal(model.relations[1], old.relations[0])
    # Fay stands where bob does: parent of cat.
    assert torch.allclose(model.entities[4], old.entities[1], atol=1e-6)
    with pytest.raises(InputError, match="of width 4, and the recipe's a TransE of width 8"):
        take_over(earlier, TransE(grown, width=8), learnt)


def test_a_graph_that_is_kept_in_a_folder_is_embedded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = UMLS().load(0)
    names, links = splits.info.entity_names, splits.info.relation_names  # type: ignore[attr-defined]
    rows = [(names[h], links[r], names[t]) for h, r, t in triples_of(splits.train).tolist()]
    (tmp_path / "facts.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n")
    kept = tmp_path / "kept"
    assert guarded(["graph", "load", str(kept), str(tmp_path / "facts.tsv")]) == 0
    whole = StoredGraph(path=str(kept)).load(0)
    assert (whole.info.entities, whole.info.relations) == (135, 46)  # type: ignore[attr-defined]
    assert len(told(whole)) == len(set(rows))
    few = StoredGraph(path=str(kept), predicates=["isa", "causes"], split="inductive").load(0)
    assert set(few.info.relation_names) == {"causes", "isa"}  # type: ignore[attr-defined]
    folder = tmp_path / "embedded"
    assert guarded(["graph", "embed", str(kept), "--to", str(folder), "--epochs", "2", "--model", "distmult"]) == 0
    assert "mrr" in capsys.readouterr().out
    assert Embedded(folder).neighbours("bacterium", 2)["entity"] == "bacterium"
    with pytest.raises(InputError, match="join entities"):
        StoredGraph(path=str(kept), predicates=["nothing"]).load(0)


def test_an_update_learns_what_is_new_and_forgets_what_is_gone(tmp_path: Path, go: Go) -> None:
    splits = UMLS().load(0)
    names, links = splits.info.entity_names, splits.info.relation_names  # type: ignore[attr-defined]
    rows = [(names[h], links[r], names[t]) for h, r, t in triples_of(splits.train).tolist()]
    fresh = {"virus", "fungus", "tissue"}
    gone = [row for row in rows if not fresh & set(row)][::40]

    def write(name: str, kept: list[tuple[str, str, str]]) -> str:
        (tmp_path / name).write_text("\n".join("\t".join(row) for row in kept) + "\n")
        return str(tmp_path / name)

    before = write("before.tsv", [row for row in rows if not fresh & set(row)])
    after = write("after.tsv", [row for row in rows if row not in set(gone)])
    first = embed(before, tmp_path / "first", epochs=30)
    update = embed(after, tmp_path / "second", epochs=10, earlier=first.folder)
    by_name = {row["name"]: row["measures"]["quality"]["mrr"]["value"] for row in update.report["rows"]}
    assert by_name["updated"] > by_name["trained anew"] - 0.05
    looks = {row["model"]: row for row in update.report["findings"]["triples_that_changed"]}
    assert looks["updated"]["mrr of added"]["value"] > looks["before"]["mrr of added"]["value"] + 0.1
    assert looks["updated"]["mrr of deleted"]["value"] < looks["before"]["mrr of deleted"]["value"] - 0.1
    with pytest.raises(InputError, match="nothing has changed since"):
        embed(before, tmp_path / "third", epochs=1, earlier=first.folder)
    Path(before).write_text(Path(after).read_text())
    with pytest.raises(InputError, match="has changed since it was embedded"):
        Embedded(first.folder).neighbours("bacterium")
