"""Measures of language models, against what a hand computes and models whose answers are known."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from tutelage.data.markov import Markov, MarkovTexts
from tutelage.data.tokens import Texts
from tutelage.losses.positions import scored
from tutelage.measure.texts import (
    OnPolicyDivergence,
    Perplexity,
    RougeL,
    TokenCalibration,
    TrueDivergence,
    WritingSpeed,
    read,
    scores,
)
from tutelage.models.causal_lm import CausalLM, SmallLM

SPLITS = Markov(train=5, validation=0, test=40).load(0)
CPU = torch.device("cpu")


def model(seed: int = 0) -> CausalLM:
    torch.manual_seed(seed)
    return SmallLM(SPLITS.info, width=16, layers=1, heads=2).eval()


def test_every_token_that_counts_is_read_once_in_the_order_of_the_texts() -> None:
    own = model()
    found = read(own, None, SPLITS.test, CPU)
    batch = SPLITS.test.fetch(range(40))
    places, tokens = scored(batch.inputs, batch.mask)
    logs = own(batch.inputs).at(places).log_softmax(-1).detach()
    assert torch.allclose(found.losses, -logs.gather(1, tokens[:, None])[:, 0], atol=1e-5)
    assert found.texts.tolist() == sorted(found.texts.tolist())
    assert found.by_text(found.losses).shape == (40,)
    assert float(found.by_text(found.losses).mean()) == pytest.approx(float(found.losses.mean()), rel=1e-5)
    value = Perplexity().of(found)["perplexity"]
    assert value.value == pytest.approx(float(found.losses.mean().exp()), rel=1e-6)
    assert value.low is not None
    assert value.low < value.value < value.high  # type: ignore[operator]


def test_a_model_agrees_with_itself() -> None:
    own = model()
    found = read(own, copy.deepcopy(own), SPLITS.test, CPU)
    report = scores(found, {}).measures()["fidelity"]
    assert report["agreement"].value == 1.0
    assert abs(report["kl"].value) < 1e-6
    assert RougeL(prompts=4, tokens=6).of(found)["rouge_l"].value == 1.0
    assert OnPolicyDivergence(prompts=4, tokens=6).of(found)["own_kl"].value == pytest.approx(0.0, abs=1e-6)
    other = read(own, model(1), SPLITS.test, CPU)
    assert scores(other, {}).measures()["fidelity"]["kl"].value > 1e-3
    assert OnPolicyDivergence(prompts=4, tokens=6).of(other)["own_reverse_kl"].value > 1e-3
    assert RougeL(prompts=4, tokens=6).of(read(own, None, SPLITS.test, CPU)) == {}


def test_calibration_is_the_gap_of_confidence_in_bins() -> None:
    found = read(model(), None, SPLITS.test, CPU)
    confidence, right = found.confidence.double().numpy(), found.right.double().numpy()
    expected = 0.0
    for low in np.arange(0, 1, 0.1):
        inside = (confidence >= low) & (confidence < low + 0.1)
        expected += abs(right[inside].sum() - confidence[inside].sum()) / len(right)
    assert TokenCalibration(bins=10).of(found)["ece"].value == pytest.approx(expected, abs=1e-6)


def test_the_distance_from_the_truth_is_zero_for_who_knows_it() -> None:
    assert isinstance(SPLITS.test, MarkovTexts)
    own = model()
    found = read(own, None, SPLITS.test, CPU)
    value = TrueDivergence().of(found)["true_kl"].value
    # Cross-entropy is entropy and divergence, up to which tokens were drawn.
    batch = SPLITS.test.fetch(range(40))
    sample, place = batch.mask[:, 1:].nonzero(as_tuple=True)
    truth = SPLITS.test.truth(torch.stack([batch.inputs[sample, place - 1], batch.inputs[sample, place]], 1))
    logs = own(batch.inputs).logits.detach()[sample, place].double().log_softmax(-1)
    by_hand = torch.nn.functional.kl_div(logs, truth, reduction="none").sum(-1).mean()
    assert value == pytest.approx(float(by_hand), rel=1e-6)
    plain = Texts(SPLITS.test.tokens, SPLITS.test.ends, SPLITS.test.starts, SPLITS.test.ids, 0)
    assert TrueDivergence().of(read(own, None, plain, CPU)) == {}


def test_writing_takes_time_and_changes_nothing() -> None:
    own = model()
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    assert WritingSpeed(tokens=5).of(read(own, None, SPLITS.test, CPU))["tokens_per_second"].value > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in own.state_dict().items())
