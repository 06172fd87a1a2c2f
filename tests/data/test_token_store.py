"""The store of next tokens: what is written is found again by sample, and nothing else passes for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from tutelage.data.seeds import mix
from tutelage.data.token_layouts import Drawn, Kept, Likely, background_of, divergence_of, position_seeds
from tutelage.data.token_projection import Hidden
from tutelage.data.token_store import Layout, TokenStore
from tutelage.losses import Divergence, Head, sparse_divergence
from tutelage.recipe.errors import InputError, RunError

V, WIDTH = 200, 12
IDS = torch.tensor([30, 8, 11, 4, 70])
LENGTHS = [7, 3, 0, 12, 5]
IDENTITY = {"teacher": "a" * 64, "tokenizer": "b" * 64, "template": "c" * 64, "data": "d" * 64}


def model(positions: int, seed: int = 0) -> Head:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(V, WIDTH, generator=torch.Generator().manual_seed(99))
    return Head(torch.randn(positions, WIDTH, generator=generator), matrix)


WHOLE = model(sum(LENGTHS))
LOGITS = WHOLE.logits()
LAYOUTS: dict[str, Layout] = {
    "likely": Likely(V, top_k=20, least=1e-3),
    "likely, with a background": Likely(V, top_k=None, least=1e-2, background=background_of(LOGITS)),
    "drawn": Drawn(V, draws=40),
    "hidden": Hidden(WIDTH, kl=1e-4).fitted(model(200, 1)),
}
every = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def kept_of(layout: Layout, rows: slice, samples: slice) -> Any:
    if isinstance(layout, Hidden):
        return layout.keep(Head(WHOLE.hidden[rows], WHOLE.weight))
    return layout.keep(LOGITS[rows], position_seeds(3, IDS[samples], numpy.array(LENGTHS[samples])))


def fill(store: TokenStore, shards: Any = None) -> TokenStore:
    for shard in store.missing() if shards is None else shards:
        begin, lengths = sum(LENGTHS[: shard.start]), LENGTHS[shard.start : shard.stop]
        rows = slice(begin, begin + sum(lengths))
        kept = kept_of(store.layout, rows, slice(shard.start, shard.stop))
        store.write(shard, [kept], lengths, kl=torch.full((sum(lengths),), 0.25))
    return store


def opened(folder: Path, **changes: Any) -> TokenStore:
    asked = {"identity": IDENTITY, "ids": IDS, "layout": LAYOUTS["likely"], "samples_per_shard": 2}
    return TokenStore(folder, **{**asked, **changes})


def logits_of(store: TokenStore, ids: torch.Tensor) -> torch.Tensor:
    kept, _ = store.read(ids)
    layout = store.layout
    if isinstance(layout, Hidden):
        return layout.head(kept, WHOLE).logits()  # type: ignore[arg-type]
    return layout.logits(kept)  # type: ignore[arg-type]


@every
def test_every_sample_is_found_whatever_the_batch(tmp_path, layout):
    fill(opened(tmp_path / "s", layout=layout))
    found = opened(tmp_path / "s", layout=None)
    assert found.layout == layout
    places = dict(zip(IDS.tolist(), numpy.split(numpy.arange(sum(LENGTHS)), numpy.cumsum(LENGTHS)[:-1]), strict=True))
    for batch in ([70, 30, 30], [11], [4, 11, 8]):
        _, lengths = found.read(torch.tensor(batch))
        assert lengths.tolist() == [len(places[one]) for one in batch]
        rows = numpy.concatenate([places[one] for one in batch])
        exact = exactly(layout)[rows].softmax(-1).sqrt()
        torch.testing.assert_close(logits_of(found, torch.tensor(batch)).softmax(-1).sqrt(), exact, rtol=0, atol=5e-3)
    with pytest.raises(KeyError, match="no sample 12"):
        found.read(torch.tensor([12]))


def exactly(layout: Any) -> torch.Tensor:
    """What a layout makes of all positions, nothing coded."""
    kept = kept_of(layout, slice(None), slice(None))
    return layout.head(kept, WHOLE).logits() if isinstance(layout, Hidden) else layout.logits(kept)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_likely_tokens_keep_their_probability_and_the_tail_its_mass(temperature):
    layout = Likely(V, temperature=temperature, top_k=16, least=1e-3, step=1 / 512)
    kept = layout.keep(LOGITS)
    p = (LOGITS / temperature).softmax(-1)
    assert kept.counts.max() <= 16
    for row, (tokens, some) in enumerate(
        zip(kept.tokens.split(kept.counts.tolist()), kept.probabilities.split(kept.counts.tolist()), strict=True)
    ):
        top = [t for t in p[row].topk(16).indices.tolist() if p[row, t] >= 1e-3]
        assert tokens.tolist() == sorted(top)
        torch.testing.assert_close(some, p[row, tokens])
        assert kept.tail[row].item() == pytest.approx(1 - some.sum().item(), abs=1e-5)
    again = layout.unpack(layout.pack(kept, numpy.array(LENGTHS)), numpy.array(LENGTHS))
    assert torch.equal(again.tokens, kept.tokens)
    torch.testing.assert_close(again.tail, kept.tail, rtol=2e-3, atol=1e-6)
    torch.testing.assert_close(again.probabilities.sqrt(), kept.probabilities.sqrt(), rtol=5e-3, atol=2 / 512)
    torch.testing.assert_close(layout.logits(again).exp().sum(-1), torch.ones(len(LOGITS)))


def test_top_p_keeps_the_smallest_set_of_that_mass():
    p = torch.tensor([[0.5, 0.25, 0.15, 0.1], [0.1, 0.6, 0.1, 0.2]])
    layout = Likely(4, top_k=None, top_p=0.7, least=0.0)
    assert layout.keep(p.log()).tokens.tolist() == [0, 1, 1, 3]
    assert Likely(4, top_k=None, top_p=1.0, least=0.0).keep(p.log()).counts.tolist() == [4, 4]
    assert Likely(4, top_k=1, top_p=0.7).keep(p.log()).tokens.tolist() == [0, 1]
    # The likeliest is kept even where nothing is likely enough, and of equal ones the first.
    assert Likely(4, top_k=None, least=0.9).keep(torch.zeros(1, 4)).tokens.tolist() == [0]
    assert Likely(4, top_k=2, least=0.0).keep(torch.zeros(1, 4)).tokens.tolist() == [0, 1]


def test_all_tokens_kept_are_the_distribution_itself():
    layout = Likely(V, top_k=None, least=0.0, step=1 / 4096)
    kept = layout.keep(LOGITS)
    again = layout.unpack(layout.pack(kept, numpy.array(LENGTHS)), numpy.array(LENGTHS))
    assert divergence_of(LOGITS, layout.logits(kept)).abs().max() < 1e-6
    assert divergence_of(LOGITS, layout.logits(again)).mean() < 1e-4


def test_a_background_brings_the_tail_closer_than_even_shares():
    common = torch.linspace(-4, 4, V)
    text, other = (Head(one.hidden, one.weight, common).logits() for one in (WHOLE, model(300, 5)))
    even, informed = (Likely(V, top_k=8, background=b) for b in (None, background_of(other)))
    assert informed.logits(informed.keep(text))[0].exp().sum() == pytest.approx(1.0, abs=1e-5)
    apart = [divergence_of(text, one.logits(one.keep(text))).mean().item() for one in (even, informed)]
    assert 0 < apart[1] < apart[0]


def test_impossible_tokens_stay_impossible():
    logits = LOGITS[:4].clone()
    logits[:, 50:] = -torch.inf
    layout = Likely(V, top_k=None, least=0.0)
    again = layout.unpack(layout.pack(layout.keep(logits), numpy.array([4])), numpy.array([4]))
    assert (again.tokens < 50).all()
    assert divergence_of(logits, layout.logits(again)).isfinite().all()


def test_draws_are_unbiased_and_belong_to_sample_and_position():
    layout, many = Drawn(V, draws=50), 3000
    kept = layout.keep(LOGITS[:1].expand(many, V), position_seeds(0, torch.arange(many), numpy.ones(many, int)))
    mean = layout.logits(kept).exp().mean(0)
    p = LOGITS[0].softmax(-1)
    # Five standard errors of a share of 150,000 draws.
    assert ((mean - p).abs() <= 5 * (p * (1 - p) / (50 * many)).sqrt() + 1e-6).all()
    torch.testing.assert_close(layout.logits(kept).exp().sum(-1), torch.ones(many))
    again = layout.unpack(layout.pack(kept, numpy.array([many])), numpy.array([many]))
    assert torch.equal(again.probabilities, kept.probabilities)
    assert torch.equal(again.tokens, kept.tokens)
    seeds = position_seeds(3, IDS, numpy.array(LENGTHS))
    assert len(seeds.unique()) == sum(LENGTHS)
    assert torch.equal(position_seeds(3, IDS[3:4], numpy.array([12])), seeds[10:22])
    assert not torch.equal(position_seeds(4, IDS, numpy.array(LENGTHS)), seeds)
    assert mix(0, 0, seeds).unique().numel() == sum(LENGTHS)


def test_hidden_states_reach_the_divergence_or_the_size_that_was_asked_for():
    text = model(300, 2)
    for kl in (1e-2, 1e-4):
        layout = Hidden(WIDTH, kl=kl).fitted(model(300, 1))
        coded = layout.keep(text)
        found = divergence_of(text.logits(), layout.head(coded, text).logits()).mean().item()
        assert kl / 3 < found < 2 * kl
    sizes = []
    for size in (6.0, 12.0):
        layout = Hidden(WIDTH, bytes_per_token=size).fitted(model(300, 1))
        records = layout.pack(layout.keep(text), numpy.array([300]))
        sizes.append(sum(len(part) for part in records[0]) / 300)
        assert sizes[-1] == pytest.approx(size, rel=0.1)
    coded = layout.keep(text)
    again = layout.unpack(layout.pack(coded, numpy.array([100, 200])), numpy.array([100, 200]))
    assert torch.equal(again.numbers, coded.numbers)
    assert torch.equal(again.scales, coded.scales)


@pytest.mark.parametrize("part", IDENTITY)
def test_a_store_of_another_teacher_tokenizer_template_or_data_is_refused(tmp_path, part):
    fill(opened(tmp_path))
    with pytest.raises(InputError, match=f"another {part}"):
        opened(tmp_path, identity={**IDENTITY, part: "e" * 64})


def test_other_samples_and_settings_are_refused_and_named(tmp_path):
    fill(opened(tmp_path))
    with pytest.raises(InputError, match="other samples"):
        opened(tmp_path, ids=IDS.flip(0))
    with pytest.raises(InputError, match="top_k is 20 there and 21 here"):
        opened(tmp_path, layout=Likely(V, top_k=21, least=1e-3))
    with pytest.raises(InputError, match='kind is "likely" there and "drawn" here'):
        opened(tmp_path, layout=Drawn(V))
    with pytest.raises(InputError, match="holds no store"):
        opened(tmp_path / "none", layout=None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="no store of tokens"):
        opened(tmp_path / "other")


@every
def test_writing_goes_on_where_it_was_and_ends_with_the_same_bytes(tmp_path, layout):
    whole = fill(opened(tmp_path / "whole", layout=layout))
    begun = opened(tmp_path / "part", layout=layout)
    fill(begun, begun.missing()[:1])
    again = opened(tmp_path / "part", layout=layout)
    assert [shard.number for shard in again.missing()] == [1, 2]
    fill(again)
    for shard in whole.shards():
        assert whole.path(shard).read_bytes() == again.path(shard).read_bytes()


def test_a_damaged_shard_is_written_anew_and_never_read(tmp_path):
    store = fill(opened(tmp_path))
    path = store.path(next(store.shards()))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    damaged = opened(tmp_path)
    assert [shard.number for shard in damaged.missing()] == [0]
    with pytest.raises(RunError, match="checksum"):
        damaged.read(IDS[:1])
    fill(damaged).read(IDS[:1])


def test_checksums_are_those_of_sha256sum(tmp_path):
    store = fill(opened(tmp_path))
    done = subprocess.run(["sha256sum", "-c", "000000.npy.sha256"], cwd=tmp_path / "shards", check=False)
    assert done.returncode == 0
    assert store.summary()["tokens"] == sum(LENGTHS)
    assert store.summary()["kl"] == pytest.approx(0.25)


def test_a_killed_writer_loses_no_finished_shard(tmp_path):
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_token_store as t
store = t.opened(Path({str(tmp_path / "s")!r}))
t.fill(store, store.missing()[:2])
print("two", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [shard.number for shard in opened(tmp_path / "s").missing()] == [2]


def test_what_is_read_is_what_a_sparse_loss_takes(tmp_path):
    student = model(sum(LENGTHS), 8).logits()
    layout = Likely(V, top_k=None, least=0.0, step=1 / 8192)
    store = fill(opened(tmp_path / "likely", layout=layout))
    kept, _ = store.read(IDS)
    found = sparse_divergence(student, layout.targets(kept))
    torch.testing.assert_close(found, Divergence()(student, LOGITS), rtol=1e-2, atol=1e-3)
    few = Likely(V, top_k=5)
    parts = few.keep(LOGITS)
    assert (sparse_divergence(student, few.targets(parts)) <= Divergence()(student, LOGITS) + 1e-5).all()
    drawn = Drawn(V, draws=20_000)
    seeds = position_seeds(0, IDS, numpy.array(LENGTHS))
    cross = sparse_divergence(student, drawn.targets(drawn.keep(LOGITS, seeds)))
    exact = -(LOGITS.softmax(-1) * student.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(cross, exact, rtol=0.03, atol=0.03)


def test_numbers_that_are_none_and_bad_settings_are_refused(tmp_path):
    broken = LOGITS.clone()
    broken[1, 2] = torch.nan
    for call in (lambda: Likely(V).keep(broken), lambda: Drawn(V).keep(broken, torch.arange(len(broken)))):
        with pytest.raises(RunError, match="NaN"):
            call()
    with pytest.raises(RunError, match="no numbers"):
        LAYOUTS["hidden"].keep(Head(torch.full((1, WIDTH), torch.nan), WHOLE.weight))  # type: ignore[arg-type]
    for bad in (
        lambda: Likely(V, top_k=0),
        lambda: Likely(V, top_k=V + 1),
        lambda: Likely(V, top_p=1.5),
        lambda: Likely(V, step=0.0),
        lambda: Likely(V, temperature=0.0),
        lambda: Drawn(V, draws=0),
        lambda: Hidden(WIDTH),
        lambda: Hidden(WIDTH, kl=1e-3, bytes_per_token=50),
        lambda: Hidden(WIDTH, kl=1e-3).fitted(model(3)),
        lambda: opened(tmp_path, ids=torch.tensor([1, 1])),
    ):
        with pytest.raises(InputError):
            bad()
    store = opened(tmp_path / "s")
    with pytest.raises(ValueError, match="whole samples"):
        store.write(next(store.shards()), [kept_of(store.layout, slice(0, 9), slice(0, 2))], LENGTHS[:2])
    with pytest.raises(ValueError, match="samples"):
        store.write(next(store.shards()), [kept_of(store.layout, slice(0, 7), slice(0, 1))], LENGTHS[:1])
    with pytest.raises(ValueError, match="seed"):
        Drawn(V).keep(LOGITS)


def test_a_served_teachers_likely_tokens_are_stored_as_they_came(tmp_path):
    """A server answers with some tokens and no logits; the same bytes hold them."""
    p, tail = torch.tensor([0.5, 0.25, 0.9]), torch.tensor([0.25, 1.0, 0.1])
    # Of the second position nothing is known.
    kept = Kept(torch.tensor([2, 0, 1]), torch.tensor([3, 9, 5]), p, tail)
    layout = Likely(V, top_k=None, least=0.0)
    again = layout.unpack(layout.pack(kept, numpy.array([2, 1])), numpy.array([2, 1]))
    assert again.tokens.tolist() == [3, 9, 5]
    assert again.counts.tolist() == [2, 0, 1]
    torch.testing.assert_close(again.probabilities, kept.probabilities, rtol=0, atol=4e-3)
