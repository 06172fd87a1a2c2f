"""Text becomes tokens: what is learnt of it, what is too long, what cannot be used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.data.loader import Loader, bucketed
from tutelage.data.markov import Markov, MarkovTexts
from tutelage.data.seeds import shuffle
from tutelage.data.text import Text
from tutelage.data.text_rows import tokenized
from tutelage.data.tokenizing import learnt, load_tokenizer, model_folder
from tutelage.data.tokens import IGNORED, TokenBatch, Tokenizer, prompted
from tutelage.losses.positions import scored
from tutelage.recipe.errors import InputError

TEXTS = ["the cat sat on the mat", "a dog 🐕 barks at the cat", "naïve café", "the mat is on the floor"] * 5
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return learnt(lambda: TEXTS, 300)


def written(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def test_any_text_can_be_written_and_read_back(tokenizer: Tokenizer) -> None:
    for text in [*TEXTS, "unseen: 漢字 and 🤖", "\n\t tabs"]:
        assert tokenizer.own.decode(tokenizer.own(text)["input_ids"]) == text


def test_of_a_prompt_only_the_completion_is_learnt_and_its_end_too(tokenizer: Tokenizer) -> None:
    rows = [{"prompt": "the cat", "completion": " sat on"}, {"text": "a dog"}]
    made = tokenized(rows, tokenizer, length=50)
    prompt = tokenizer.own("the cat")["input_ids"]
    answer = [*tokenizer.own(" sat on")["input_ids"], *tokenizer.stop]
    assert made.tokens[0] == prompt + answer
    assert made.starts == [len(prompt), 0]
    from tutelage.data.text_rows import texts

    batch = texts(made, [0, 1], tokenizer.pad).fetch([0, 1])
    places, tokens = scored(batch.inputs, batch.mask)
    first = [int(t) for p, t in zip(places, tokens, strict=True) if p < batch.inputs.shape[1]]
    # The first token of the answer is scored by the last of the prompt.
    assert first == answer
    assert int(places[0]) == len(prompt) - 1
    # Of a text without a prompt all but its first token is, for nothing foretells that.
    assert int(batch.mask[1].sum()) == int(batch.lengths[1]) - 1


def test_of_messages_the_last_answer_is_learnt(tokenizer: Tokenizer) -> None:
    talk = [
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": "sat"},
        {"role": "user", "content": "on"},
        {"role": "assistant", "content": "the mat"},
    ]
    tokenizer.own.chat_template = TEMPLATE
    try:
        made = tokenized([{"messages": talk}], tokenizer, length=100, system="be brief")
        shown = tokenizer.own.decode(made.tokens[0][: made.starts[0]])
        assert shown == "<system>be brief<user>the cat<assistant>sat<user>on<assistant>"
        assert tokenizer.own.decode(made.tokens[0][made.starts[0] : -1]) == "the mat"
    finally:
        tokenizer.own.chat_template = None
    plain = tokenized([{"messages": talk}], tokenizer, length=100)
    assert tokenizer.own.decode(plain.tokens[0][: plain.starts[0]]) == "the cat\nsat\non\n"
    with pytest.raises(InputError, match="no chat template"):
        tokenized([{"messages": talk}], tokenizer, length=100, template="chat")
    asked = tokenized([{"messages": talk[:3]}], tokenizer, length=100)
    assert "the last message is not the assistant's" in asked.problems[0]


@pytest.mark.parametrize(("on_long", "kept"), [("truncate", 2), ("skip", 1)])
def test_what_is_too_long_is_cut_or_left_out(tokenizer: Tokenizer, on_long: Any, kept: int) -> None:
    rows = [{"text": "the cat"}, {"text": "the cat sat on the mat " * 20}]
    made = tokenized(rows, tokenizer, length=12, on_long=on_long)
    assert len(made.tokens) == kept
    assert max(map(len, made.tokens)) <= 12
    assert made.truncated == (on_long == "truncate")
    assert bool(made.problems) == (on_long == "skip")
    with pytest.raises(InputError, match=r"row 2 has .* tokens, more than 12"):
        tokenized(rows, tokenizer, length=12, on_long="refuse")


def test_a_file_is_read_divided_and_recorded(tmp_path: Path) -> None:
    rows = [{"prompt": f"number {i}:", "completion": f" {i * 7}"} for i in range(40)]
    data = Text(path=written(tmp_path / "rows.jsonl", rows), vocabulary=300, test_fraction=0.2, validation_fraction=0.1)
    splits = data.load(0)
    assert (len(splits.train), len(splits.validation or ()), len(splits.test)) == (29, 3, 8)
    every = [set(part.ids.tolist()) for part in (splits.train, splits.validation, splits.test)]  # type: ignore[union-attr]
    assert set.union(*every) == set(range(40))
    assert sum(map(len, every)) == 40
    assert splits.info.fingerprint == data.load(0).info.fingerprint
    other = Text(path=written(tmp_path / "other.jsonl", rows[1:]), vocabulary=300)
    assert other.load(0).info.fingerprint != splits.info.fingerprint


def test_parquet_is_read_as_well(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": TEXTS}), tmp_path / "texts.parquet")
    assert len(Text(path=str(tmp_path / "texts.parquet"), vocabulary=300).load(0).train) > 10


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (['{"text": "a"}', "{no json"], "line 2 is no JSON"),
        (['["a list"]'], "line 1: expected an object"),
        ([{"sentence": "a"}], "has the columns sentence; expected `messages`"),
        ([{"prompt": "a", "answer": "b"}], "expected `messages`"),
        (
            [{"prompt": "a", "completion": ""}, {"prompt": "a", "completion": "b"}],
            "row 1: .* learnt is empty",
        ),
        ([{"text": 7}, {"text": "a"}], "row 1: expected text in `text`, found int"),
        ([""], "holds no rows"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, rows: Sequence[Any], problem: str) -> None:
    path = written(tmp_path / "rows.jsonl", rows)
    with pytest.raises(InputError, match=problem):
        Text(path=path, vocabulary=300).load(0)


def test_bad_rows_are_left_out_where_allowed_and_said(tmp_path: Path) -> None:
    rows = [{"text": t} for t in TEXTS] + [{"text": ""}, {"text": None}]
    splits = Text(path=written(tmp_path / "rows.jsonl", rows), vocabulary=300, on_bad="skip").load(0)
    assert splits.record["left_out"] == 2
    assert any("2 rows were left out: row 21" in warning for warning in splits.warnings)


def test_models_and_tokenizers_that_are_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no language model 'smollm3'.*smollm2-135m-instruct"):
        model_folder("smollm3")
    with pytest.raises(InputError, match="holds no language model"):
        load_tokenizer(str(tmp_path))


def test_batches_fill_up_on_the_right_and_join() -> None:
    like = TokenBatch(*(torch.arange(2) for _ in range(6)))
    one = prompted([torch.tensor([5]), torch.tensor([6, 7])], [torch.tensor([8, 9]), torch.tensor([9])], like, 0)
    assert one.inputs.tolist() == [[5, 8, 9], [6, 7, 9]]
    assert one.labels.tolist() == [[IGNORED, 8, 9], [IGNORED, IGNORED, 9]]
    longer = prompted([torch.tensor([5])] * 2, [torch.arange(4)] * 2, like, 0)
    both = TokenBatch.join([one, longer])
    assert both.inputs.shape == (4, 5)
    assert both.labels[:2, 3:].eq(IGNORED).all()
    assert torch.equal(both.rows(torch.tensor([2])).inputs[0], longer.inputs[0])


def test_an_order_by_length_is_a_shuffle_that_wastes_little() -> None:
    lengths = torch.randint(1, 100, (1003,), generator=torch.Generator().manual_seed(0))
    plain = shuffle(1003, 0, 0)
    order = bucketed(plain, lengths, 16, 0, 0)
    assert sorted(order.tolist()) == list(range(1003))

    def filled(places: torch.Tensor) -> float:
        return sum(float(lengths[b].max()) * len(b) for b in places.split(16)) / float(lengths.sum())

    assert filled(order) < 1.1 < 1.5 < filled(plain)
    assert not torch.equal(order, bucketed(shuffle(1003, 0, 1), lengths, 16, 0, 1))
    assert len(order.split(16)[-1]) == 1003 % 16


def test_ranks_share_batches_of_texts(tmp_path: Path) -> None:
    splits = Markov(train=50).load(0)
    whole = list(Loader(splits.train, batch_size=8, seed=0, shuffle=True).epoch(1))
    parts = [list(Loader(splits.train, batch_size=8, seed=0, shuffle=True, rank=r, world=2).epoch(1)) for r in (0, 1)]
    for one, left, right in zip(whole, *parts, strict=True):
        assert torch.equal(one.ids, torch.cat([left.ids, right.ids]))


def test_the_chain_is_what_its_sequences_follow() -> None:
    splits = Markov(train=4000, tokens=5, concentration=0.5).load(0)
    assert isinstance(splits.train, MarkovTexts)
    chain, rows = splits.train.chain, splits.train.rows
    assert torch.allclose(chain.sum(-1), torch.ones(5, 5, dtype=torch.float64))
    assert not chain[:, :, 0].any()
    counts = torch.zeros(5, 5, 5, dtype=torch.float64)
    for a, b, c in zip(rows[:, 5:-2].flatten(), rows[:, 6:-1].flatten(), rows[:, 7:].flatten(), strict=True):
        counts[a, b, c] += 1
    seen = counts.sum(-1)
    often = seen > 2000
    assert int(often.sum()) > 4
    assert (counts / seen[..., None] - chain)[often].abs().max() < 0.04
    assert torch.equal(splits.train.fetch([3]).inputs[0], rows[3])
    assert torch.equal(splits.train.truth(torch.tensor([[1, 2]]))[0], chain[1, 2])
