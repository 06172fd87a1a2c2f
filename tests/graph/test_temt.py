"""TEMT: the card's numbers, what is drawn as right and wrong, dated files, and whether words tell the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.api import Finished
from tutelage.data.dated_files import OPEN, Fact, in_words, point, read_facts, told
from tutelage.data.eras import Eras
from tutelage.data.temporal import DatedFacts, TemporalBatch, TemporalExamples, TemporalInfo
from tutelage.data.text_vectors import HASHED_WIDTH, vectors_of, width_of
from tutelage.graph.temt import TEMT
from tutelage.measure.intervals import affinity_iou, closeness, coalesce, gap_iou, generalized_iou, iou
from tutelage.models.temporal_scorer import TemporalScorer, waves
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, RecipeError

Go = Callable[[Mapping[str, Any]], Finished]


def test_waves_of_the_card() -> None:
    assert waves(torch.tensor(3), 4).tolist() == pytest.approx([0.14112, -0.98999, 0.03000, 0.99955], abs=1e-5)


def test_coalescing_of_the_card() -> None:
    p = torch.tensor([[0.05, 0.1, 0.4, 0.25, 0.15, 0.05]], dtype=torch.float64)
    assert coalesce(p, 0.65, 2).tolist() == [[[2, 3], [2, 3]]]
    assert coalesce(p, 1e-9, 3).tolist() == [[[2, 2], [3, 3], [4, 4]]]
    assert coalesce(p, 1.0, 1).tolist() == [[[0, 5]]]
    # Equal neighbours: the right one first.
    assert coalesce(torch.tensor([[0.2, 0.6, 0.2]]), 0.7, 1).tolist() == [[[1, 2]]]
    both = coalesce(torch.cat([p, p.flip(1)]), torch.tensor([0.65, 0.01], dtype=torch.float64), 1)
    assert both.tolist() == [[[2, 3]], [[3, 3]]]


@pytest.mark.parametrize(
    ("guess", "gold", "wanted"),
    [
        ((2003, 2006), (2000, 2004), (0.28571, 0.28571, 0.28571, 0.64286)),
        ((2010, 2011), (2000, 2004), (0.0, 0.08333, 0.01190, 0.29167)),
        ((2005, 2006), (2000, 2004), (0.0, 0.14286, 0.07143, 0.5)),
        ((2000, 2004), (2000, 2004), (1.0, 1.0, 1.0, 1.0)),
    ],
)
def test_intervals_of_the_card(guess: tuple[int, int], gold: tuple[int, int], wanted: tuple[float, ...]) -> None:
    a, b = torch.tensor(guess), torch.tensor(gold)
    found = [float(f(a, b)) for f in (iou, affinity_iou, gap_iou, generalized_iou)]
    assert found == pytest.approx(wanted, abs=1e-5)
    assert [float(f(b, a)) for f in (iou, affinity_iou, gap_iou, generalized_iou)] == pytest.approx(found)
    apart = [abs(x - y) for x, y in zip(guess, gold, strict=True)]
    assert float(closeness(a, b)) == pytest.approx(sum(1 / (1 + d) for d in apart) / 2)


def test_a_scorer_asks_for_some_times_what_it_asks_for_all() -> None:
    torch.manual_seed(0)
    model = TemporalScorer(TemporalInfo((6,), 0, (), "", (), 1900, 1920), hidden=5, time_width=4)
    text = torch.randn(3, 6)
    whole = model(text)
    assert whole.shape == (3, 21)
    for count in (2, 30):
        times = torch.randint(0, 21, (3, count))
        torch.testing.assert_close(model(text, times), whole.gather(1, times))
    by_hand = model.out(torch.relu(model.text(text[0]) + model.time(waves(torch.tensor(7), 4))))
    assert whole[0, 7].item() == pytest.approx(by_hand.item(), abs=1e-6)


def batch(spans: list[list[int]], others: list[list[list[int]]]) -> TemporalBatch:
    count = len(spans)
    zeros = torch.zeros(count, dtype=torch.long)
    seeds = torch.arange(count) * 31 + 5
    parts = (torch.tensor(spans), zeros, torch.tensor(others))
    return TemporalBatch(torch.zeros(count, 2), zeros, zeros, seeds, *parts)


def test_wrong_times_lie_outside_of_all_that_is_known() -> None:
    asked = batch(
        [[3, 5], [OPEN, 4], [6, OPEN], [0, 9]], [[[3, 5], [8, 8]], [[0, 4], [1, 0]], [[6, 9], [1, 0]], [[0, 9], [1, 0]]]
    )
    drawn, usable = TEMT(negatives=500).wrong(asked, 10)
    assert usable.tolist() == [True, True, True, False]
    free = [{0, 1, 2, 6, 7, 9}, {5, 6, 7, 8, 9}, {0, 1, 2, 3, 4, 5}]
    assert [set(row.unique().tolist()) for row in drawn[:3]] == free
    counts = torch.bincount(drawn[0], minlength=10)[torch.tensor(sorted(free[0]))]
    assert counts.min() > 40


def test_right_times_are_ends_that_are_known_or_all_between() -> None:
    many = 400
    spans = [[3, 5]] * many + [[OPEN, 4]] * 3 + [[6, OPEN]] * 3
    asked = batch(spans, [[[0, 0]]] * len(spans))
    ends = TEMT().right(asked)
    assert set(ends[:many].tolist()) == {3, 5}
    assert ends[many:].tolist() == [4, 4, 4, 6, 6, 6]
    assert set(TEMT(sampling="all").right(asked)[:many].tolist()) == {3, 4, 5}


def test_losses_written_out() -> None:
    class Fixed(torch.nn.Module):
        info = TemporalInfo((2,), 0, (), "", (), 0, 9)

    class Said:
        module = Fixed()

        def forward(self, text: torch.Tensor, times: torch.Tensor) -> Any:
            return type("O", (), {"logits": torch.tensor([[1.0, 0.5, -2.0]])})

    step = type("S", (), {"batch": batch([[3, 5]], [[[3, 5]]]), "participants": {"model": Said()}})
    wanted = {"margin": (1.5 + 0.0) / 2, "softmax": float(torch.logsumexp(torch.tensor([1.0, 0.5, -2.0]), 0)) - 1}
    for loss, value in wanted.items():
        found = TEMT(negatives=2, loss=loss).fit(step)["task"]  # type: ignore[arg-type]
        assert float(found) == pytest.approx(value, abs=1e-6)


def test_dates_of_every_kind() -> None:
    assert point("-453-##-##") == -453
    assert point('"2012-##-##"') == 2012
    assert point("19##") == 1900
    assert point("####") == OPEN
    assert point("2014-03-06", "month") == 12 * 2014 + 2
    assert point("2014-03-07", "day") - point("2014-03-06", "day") == 1
    with pytest.raises(ValueError, match="has no day"):
        point("2014", "day")
    with pytest.raises(ValueError, match="is no date"):
        point("yesterday")
    assert in_words("<playsFor>") == "plays for"
    assert in_words("<Eric_Davis_(footballer)>") == "Eric Davis (footballer)"


def test_files_of_dated_facts(tmp_path: Path) -> None:
    since, until = "<occursSince>", "<occursUntil>"
    plays = [(since, 2001), (until, 2004), (since, 2010)]
    lines = [f'<A_B>\t<playsFor>\t<C>\t{word}\t"{year}-##-##"' for word, year in plays]
    lines += [f'<X>\t<playsFor>\t<C>\t{until}\t"1999-##-##"']
    lines += ["J\tvisits\tK\t2014-03-06", "J\tserves\tK\t1990\t1987", "J\tserves\tK\t1990\t1995", "no\tdate\there"]
    path = tmp_path / "facts.tsv"
    path.write_text("\n".join(lines) + "\n")
    facts, said = read_facts(path)
    assert Fact("A B", "plays for", "C", 2001, 2004) in facts
    assert Fact("A B", "plays for", "C", 2010, OPEN) in facts
    assert Fact("X", "plays for", "C", OPEN, 1999) in facts
    assert Fact("J", "visits", "K", 2014, 2014) in facts
    assert Fact("J", "serves", "K", 1990, 1995) in facts
    assert len(facts) == 5
    assert len(said) == 2
    path.write_text("a\tb\n")
    with pytest.raises(InputError, match="line 1: 2 columns"):
        read_facts(path)
    path.write_text("a\tb\tc\tlast week\n")
    with pytest.raises(InputError, match="line 1: 'last week' is no date"):
        read_facts(path)
    assert told(facts[0], {"K": "A king. Of much."}).startswith("J visits K. (A king")


def test_an_inductive_division_has_unseen_entities_in_every_test() -> None:
    splits = Eras(facts=300).load(0)
    assert isinstance(splits.test, TemporalExamples)
    assert splits.test.unseen.all()
    assert isinstance(splits.train, TemporalExamples)
    assert not splits.train.unseen.any()
    known = Eras(facts=300, split="temporal").load(0)
    assert int(known.train.spans[:, 0].max()) <= int(known.test.spans[:, 0].min())  # type: ignore[attr-defined]


def test_texts_as_vectors(tmp_path: Path) -> None:
    rows = vectors_of(["a viking court", "the Viking court", "a baroque guild", "a viking court"])
    assert rows.shape == (4, HASHED_WIDTH)
    assert torch.equal(rows[0], rows[3])
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4))
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.15
    assert width_of("hashed") == HASHED_WIDTH
    with pytest.raises(InputError, match="expected 'hashed', 'minilm', or a folder"):
        vectors_of(["a"], str(tmp_path))


def test_words_tell_when_a_fact_held(go: Go) -> None:
    recipe = {
        "method": {"name": "temt", "negatives": 32, "threshold": "relation"},
        "model": {"model": "temporal-scorer", "hidden": 32},
        "data": {"name": "eras", "facts": 300},
        "train": {"epochs": 40, "batch_size": 32, "optimizer": {"name": "adam", "lr": 2e-2}, "schedule": "constant"},
        "baseline": True,
    }
    finished = go(recipe)
    found = {row["name"]: row["measures"]["quality"] for row in finished.report["rows"]}
    words, shuffled = found["temt"]["gaeiou"], found["texts shuffled"]["gaeiou"]
    usual = finished.report["findings"]["gaeiou_of_the_most_usual_interval"]
    assert words["value"] > 3 * max(usual["value"], shuffled["value"])
    assert words["low"] > shuffled["high"]
    assert found["temt"]["gaeiou@10"]["value"] >= words["value"]
    again = load_model(finished.folder / "model")
    assert isinstance(again, TemporalScorer)
    assert again.info.times > 1000


def test_what_does_not_fit_is_refused(go: Go, tmp_path: Path) -> None:
    base = {"method": "temt", "model": "temporal-scorer", "train": {"epochs": 1}}
    with pytest.raises(InputError, match="scores facts at times"):
        go({**base, "data": "umls"})
    with pytest.raises(InputError, match="must be even"):
        go({**base, "data": "eras", "model": {"model": "temporal-scorer", "time_width": 5}})
    with pytest.raises(RecipeError, match="threshold"):
        go({**base, "data": "eras", "method": {"name": "temt", "threshold": 2.0}})
    with pytest.raises(InputError, match="cannot be read"):
        DatedFacts(path=[str(tmp_path / "none")]).load(0)
