"""Logs of answers: layouts, what is left out and counted, windows that leak nothing, and simulated learners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tutelage.data import answer_tables
from tutelage.data.answer_files import read_answers
from tutelage.data.answer_sets import AnswerFiles
from tutelage.data.answers import AnswerLog, AnswerWindows, TraceInfo, one, windows
from tutelage.data.simulated_answers import HiddenMastery, LearningCurves, Prerequisites
from tutelage.recipe.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "tracing"
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(text: str, name: str = "answers.csv") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return make


def table(learners: int = 12, steps: int = 6, header: str = "learner,time,item,concept,correct") -> str:
    rows = [
        f"zoe{who},{100 * step},q{step % 4},c{step % 3},{(who + step) % 2}"
        for who in range(learners)
        for step in range(steps)
    ]
    return "\n".join([header, *rows]) + "\n"


def log(counts: list[int], seed: int = 0) -> AnswerLog:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    n = int(offsets[-1])
    return AnswerLog(
        offsets,
        rng.integers(0, 5, (n, 1)).astype(np.int32),
        rng.integers(0, 2, n).astype(np.uint8),
        np.full(n, -1, dtype=np.int32),
        np.arange(n, dtype=np.float64),
    )


# ---------------------------------------------------------------------- windows


@pytest.mark.parametrize(("steps", "overlap"), [(10, 0), (10, 5), (10, 9), (7, 3), (100, 50)])
def test_every_answer_is_scored_once_and_context_comes_before_it(steps: int, overlap: int) -> None:
    whole = log([1, 3, 10, 11, 25, 64])
    cut = windows(whole, steps=steps, overlap=overlap)
    scored = np.concatenate([np.arange(t, e) for t, e in zip(cut.targets, cut.stops, strict=True)])
    assert sorted(scored.tolist()) == list(range(len(whole)))
    assert (cut.stops - cut.starts).max() <= steps
    assert (cut.starts >= whole.offsets[cut.learners]).all()
    assert (cut.stops <= whole.offsets[cut.learners + 1]).all()
    # Behind a learner's first window there is as much context as was asked for.
    later = cut.targets > cut.starts
    assert ((cut.targets - cut.starts)[later] == overlap).all()


def test_windows_of_only_the_last_answers_have_the_earlier_ones_as_context() -> None:
    whole = log([20, 8])
    ends = whole.offsets[1:]
    cut = windows(whole, steps=10, overlap=4, score=ends - 3, end=ends)
    assert cut.answers == 6
    batch = cut.fetch(range(len(cut)))
    assert batch.scored.sum(1).tolist() == [3, 3]
    assert batch.real.sum(1).tolist() == [7, 7]
    assert batch.offsets.tolist() == [13, 1]


def test_batches_are_padded_joined_and_cut() -> None:
    whole = log([4, 9, 2])
    cut = windows(whole, steps=50)
    batch = cut.fetch([0, 1])
    assert batch.inputs.shape == (2, 9, 1)
    assert batch.inputs[0, 4:].eq(-1).all()
    assert not batch.real[0, 4:].any()
    joined = type(batch).join([batch, cut.fetch([2])])
    assert joined.labels.shape == (3, 9)
    assert joined.until(2).labels.shape == (3, 2)
    assert torch.equal(joined.rows(torch.tensor([1])).labels[0], batch.labels[1])
    assert batch.positions[1, 3] == 3


def test_one_learner_is_a_batch() -> None:
    batch = one([0, 1, 0], [1, 0, 1], times=[0, 86_400, 172_800])
    assert batch.times.tolist() == [[0.0, 1.0, 2.0]]
    assert batch.arguments[0].shape == (1, 3, 1)


# ---------------------------------------------------------------------- reading


def test_standard_columns(write: Write) -> None:
    splits = AnswerFiles(path=write(table())).load(0)
    info = splits.info
    assert isinstance(info, TraceInfo)
    assert info.concept_names == ("c0", "c1", "c2")
    assert info.items == 4
    assert info.timed
    assert splits.record["answers"] == 72
    assert splits.warnings == []
    assert "zoe" not in repr(info) + repr(splits.record)


def test_layouts_people_have(write: Write, tmp_path: Path) -> None:
    who = range(8)
    files = {
        "assistments": "order_id,user_id,problem_id,correct,skill_id\n"
        + "".join(f"{10 * w + s},{w},{s},{(w + s) % 2},{s % 3}\n" for w in who for s in range(5)),
        "junyi": "timestamp_TW,uuid,ucid,upid,is_correct\n"
        + "".join(
            f"2019-01-0{s + 1} 08:00:00 UTC,u{w},c{s % 3},p{s},{str((w + s) % 2 == 0).lower()}\n"
            for w in who
            for s in range(5)
        ),
        "duolingo": "p_recall,timestamp,user_id,lexeme_id,session_seen\n"
        + "".join(f"{[1.0, 0.5][(w + s) % 2]},{1362000000 + s},u{w},l{s % 3},2\n" for w in who for s in range(5)),
        "pykt": "fold,uid,questions,concepts,responses,timestamps\n"
        + "".join(
            f'0,{w},"1,2,3,1,2,-1","0,1_2,2,0,1_2,-1","{w % 2},1,0,1,0,-1","1000,2000,3000,4000,5000,-1"\n' for w in who
        ),
        "lines": "".join(f"5\n0,1,2,0,1\n{w % 2},1,0,1,0,\n" for w in who),
    }
    for layout, text in files.items():
        splits = AnswerFiles(path=write(text, f"{layout}.csv")).load(0)
        assert splits.record["answers"] == 40, layout
        assert splits.info.concepts == 3, layout  # type: ignore[attr-defined]
        assert splits.warnings == [], layout
    assert AnswerFiles(path=str(tmp_path / "pykt.csv")).load(0).info.width == 2  # type: ignore[attr-defined]
    # A running number orders answers, and is no time.
    assert not AnswerFiles(path=str(tmp_path / "assistments.csv")).load(0).info.timed  # type: ignore[attr-defined]
    assert AnswerFiles(path=str(tmp_path / "junyi.csv")).load(0).info.timed  # type: ignore[attr-defined]


def test_ednet_is_a_folder(write: Write, tmp_path: Path) -> None:
    questions = write("question_id,correct_answer,tags\nq1,a,1;2\nq2,b,2\n", "questions.csv")
    home = tmp_path / "kt1"
    home.mkdir()
    for who in range(6):
        (home / f"u{who}.csv").write_text(
            "timestamp,solving_id,question_id,user_answer,elapsed_time\n"
            f"1565096190868,1,q1,{'ab'[who % 2]},5\n1565096200000,2,q2,b,5\n1565096300000,3,q1,c,5\n"
        )
    splits = AnswerFiles(path=str(home), questions=questions).load(0)
    assert splits.record["answers"] == 18
    assert splits.info.width == 2  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"questions\.csv"):
        AnswerFiles(path=str(home)).load(0)


def test_parquet_and_named_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"who": np.repeat(np.arange(8), 5), "kc": np.tile(["a", "b"], 20), "ok": np.tile([1, 0, 1, 1, 0], 8)}
    )
    frame.to_parquet(tmp_path / "a.parquet")
    columns = {"learner": "who", "concept": "kc", "correct": "ok"}
    splits = AnswerFiles(path=str(tmp_path / "a.parquet"), columns=columns).load(0)
    assert splits.record["answers"] == 40
    assert not splits.info.timed  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"no column 'kx'.*Did you mean 'kc'"):
        AnswerFiles(path=str(tmp_path / "a.parquet"), columns={**columns, "concept": "kx"}).load(0)
    frame.rename(columns={"kc": "thing"}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(InputError, match="no column for the concept"):
        AnswerFiles(path=str(tmp_path / "b.parquet"), columns={"learner": "who", "correct": "ok"}).load(0)


def test_times_are_sorted_and_read_as_they_come(write: Write) -> None:
    text = "learner,time,concept,correct\n" + "".join(
        f"{w},{t},c{s},{s % 2}\n" for w in range(6) for s, t in [(2, 3000), (0, 1000), (1, 2000)]
    )
    into = AnswerFiles(path="").read(write(text))
    found = into.log()
    assert found.times[:3].tolist() == [1000.0, 2000.0, 3000.0]
    names = into.concept_names
    assert [names[c] for c in found.concepts[:3, 0]] == ["c0", "c1", "c2"]
    for stamp, seconds in (("1565096190868", 1565096190.868), ("2019-08-06T12:56:30Z", 1565096190.0)):
        log = AnswerFiles(path="").read(write(f"learner,time,concept,correct\na,{stamp},c,1\n")).log()
        assert log.times[0] == pytest.approx(seconds)


def test_what_is_left_out_is_counted_with_its_reason(write: Write) -> None:
    bad = "x,5,q,c1,2\nx,5,q,c1,maybe\n,5,q,c1,1\nx,5,q,,1\nx,never,q,c1,1\nzoe0,0,q0,c0,0\nzoe0,0,q0,c0,1\n"
    splits = AnswerFiles(path=write(table() + bad)).load(0)
    assert splits.record["left_out"] == {
        "learner": 1, "concept": 1, "correct": 2, "time": 1, "duplicate": 1, "contradiction": 1,
    }  # fmt: skip
    assert splits.record["answers"] == 72
    assert any("neither 0 nor 1 (the first in line 74)" in text for text in splits.warnings)
    assert not any("zoe" in text for text in splits.warnings)


def test_ten_broken_rows_among_many_lose_nothing_else(write: Write) -> None:
    lines = table(2_000, 50).splitlines()
    for place in range(1, 11):
        lines[place * 9_000] = ["broken", "a,b,c,d,e,f", '"', "zoe1,5,q,c1,7"][place % 4]
    splits = AnswerFiles(path=write("\n".join(lines) + "\n")).load(0)
    left = splits.record["left_out"]
    assert splits.record["answers"] + sum(left.values()) == splits.record["rows"]
    assert sum(left.values()) == 10
    assert splits.record["answers"] == 100_000 - 10


def test_rows_of_one_question_become_one_step(write: Write) -> None:
    text = "learner,time,item,concept,correct\n" + "".join(
        f"{w},1,q1,a,1\n{w},1,q1,b,1\n{w},2,q2,b,0\n{w},3,q3,c,1\n" for w in range(6)
    )
    into = AnswerFiles(path="").read(write(text))
    found = into.log()
    assert found.counts.tolist() == [3] * 6
    assert found.concepts[:3].tolist() == [[0, 1], [1, -1], [2, -1]]
    assert into.dropped.total == 0
    joint = AnswerFiles(path="", combined=True).read(write(text))
    whole = joint.log()
    assert whole.concepts.shape[1] == 1
    assert "a + b" in joint.concept_names


def test_large_files_are_sorted_on_disk(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frame = pd.read_csv(write(table(60, 9))).sample(frac=1.0, random_state=0)
    frame.to_parquet(tmp_path / "a.parquet")
    monkeypatch.setattr("tutelage.data.answer_files._CHUNK", 40)
    found = []
    for held in (10_000, 50):
        monkeypatch.setattr(answer_tables, "HELD", held)
        into = answer_tables.Collector(named=True)
        read_answers(tmp_path / "a.parquet", into)
        found.append((into.log(), into.concept_names))
    (plain, names), (spilt, same) = found
    assert isinstance(spilt.concepts, np.memmap)
    assert names == same
    one, two = (
        {
            n: (p.correct[a:b].tolist(), p.times[a:b].tolist())
            for n, a, b in zip(p.names, p.offsets, p.offsets[1:], strict=False)
        }
        for p in (plain, spilt)
    )
    assert one == two
    assert len(one) == 60
    assert len(windows(spilt, steps=4).fetch(range(10))) == 10


# ---------------------------------------------------------------------- dividing


def test_learners_or_times_are_kept_back(write: Write) -> None:
    path = write(table(30, 20))
    who = AnswerFiles(path=path).load(0)
    parts = [part for part in (who.train, who.validation, who.test) if isinstance(part, AnswerWindows)]
    assert len(parts) == 3
    groups = [set(part.learners.tolist()) for part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups))
    when = AnswerFiles(path=path, split="time", test_fraction=0.25).load(0)
    test, train = when.test, when.train
    assert isinstance(test, AnswerWindows)
    assert isinstance(train, AnswerWindows)
    assert test.answers == 30 * 5
    assert (test.targets - test.log.offsets[test.learners] == 15).all()
    assert (train.stops <= test.targets[train.learners]).all()


def test_single_answers_and_unseen_concepts_are_said(write: Write) -> None:
    extra = "solo,1,q,c1,1\n"
    splits = AnswerFiles(
        path=write(table() + extra),
        test_path=write("learner,time,item,concept,correct\nz,1,q,new,1\nz,2,q,c1,0\n", "t.csv"),
    ).load(0)
    said = " ".join(splits.warnings)
    assert "1 learner gave one answer only" in said
    assert "1 test answers are on 1 concept that training never saw" in said
    assert "solo" not in said


def test_bad_files_are_refused_in_words(write: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        AnswerFiles(path=str(tmp_path / "none.csv")).load(0)
    with pytest.raises(InputError, match=r"100 % of 20 rows|no usable row"):
        AnswerFiles(path=write("learner,time,concept,correct\n" + "a,1,c,5\n" * 20)).load(0)
    with pytest.raises(InputError, match="max_bad"):
        AnswerFiles(path=write(table(4, 4) + "a,1,q,c,5\n" * 20)).load(0)
    with pytest.raises(InputError, match="training answers are right"):
        AnswerFiles(path=write("learner,concept,correct\n" + "".join(f"{w},c,1\n" * 3 for w in range(9)))).load(0)
    with pytest.raises(InputError, match="overlap 200"):
        AnswerFiles(path=write(table()), overlap=200).load(0)
    with pytest.raises(InputError, match="expected how many"):
        AnswerFiles(path=write("2\n1,2\n0,1\nx\n1\n1\n"), layout="lines").load(0)


# ---------------------------------------------------------------------- simulation


@pytest.mark.parametrize("kind", [LearningCurves, HiddenMastery, Prerequisites])
def test_simulated_learners_are_the_same_for_the_same_seed(kind: type[LearningCurves]) -> None:
    first, truth = kind(learners=50, steps=20).drawn()
    again, _ = kind(learners=50, steps=20).drawn()
    assert np.array_equal(first.correct, again.correct)
    assert truth.chance.shape == (1000,)
    # Answers come true as often as they were likely.
    assert abs(first.correct.mean() - truth.chance.mean()) < 0.05
    assert (np.diff(first.times.reshape(50, 20)) >= 0).all()


def test_prerequisites_have_no_circle_and_as_many_edges_as_asked_for() -> None:
    _, truth = Prerequisites(concepts=8, edges=6).drawn()
    assert truth.edges.sum() == 6
    assert not np.tril(truth.edges).any()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "answers", "concepts"), [("assist2009_updated", 325_637, 110), ("STATICS", 189_297, 1_223)]
)
def test_real_logs(name: str, answers: int, concepts: int) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here")
    files = AnswerFiles(path=str(SHARED / f"{name}_train.csv"), test_path=str(SHARED / f"{name}_test.csv"))
    splits = files.load(0)
    assert splits.record["answers"] == answers
    assert splits.info.concepts == concepts  # type: ignore[attr-defined]
    assert splits.record["left_out"] == {}
