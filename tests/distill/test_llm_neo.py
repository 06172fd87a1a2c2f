"""LLM-Neo: what is trained, what it starts from, and that merging changes nothing."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.distill.placing import participants

from tutelage import api
from tutelage.data.markov import Markov
from tutelage.distill.llm_neo import LLMNeo
from tutelage.engine.method import Room, Step
from tutelage.models.adapters.base import merge
from tutelage.models.adapters.lora import LoRA
from tutelage.models.causal_lm import SmallLM
from tutelage.recipe.errors import RecipeError

SPLITS = Markov(train=20, validation=5, test=5).load(0)


def placed(method: LLMNeo, rank: int = 4) -> tuple[Step, SmallLM]:
    torch.manual_seed(0)
    student = SmallLM(SPLITS.info, width=16, layers=1, heads=2, tied=False)
    plain = copy.deepcopy(student)
    LoRA(rank=rank, alpha=2.0 * rank).inject(student)
    models = {"teacher": copy.deepcopy(plain), "student": student}
    room = Room(models, SPLITS.info, SPLITS.train.fetch(range(2)), ["student"])
    method.prepare(room)
    return Step(SPLITS.train.fetch(range(4)), participants(room), 0, 0, 0.0), plain  # type: ignore[return-value]


def test_at_first_the_student_is_what_it_was_and_at_one_with_an_equal_teacher() -> None:
    step, plain = placed(method := LLMNeo())
    assert torch.equal(step.forward("student").logits, plain(step.batch.inputs).logits)
    losses = method.compare(step)
    assert losses["transfer"].item() == pytest.approx(0.0, abs=1e-6)
    assert losses.total().item() == pytest.approx(0.5 * losses["task"].item(), rel=1e-5)


def test_the_weights_of_both_terms_add_up() -> None:
    step, _ = placed(LLMNeo())
    terms = {k: LLMNeo(kd_ratio=k) for k in (0.0, 1.0)}
    for one in terms.values():
        one.vocabulary = SPLITS.info.classes
    assert terms[0.0].compare(step).weight("transfer") == 0.0
    assert "task" not in terms[1.0].compare(step)
    losses = LLMNeo(kd_ratio=0.5)
    assert losses.task_weight == 0.5


def test_only_the_adapters_are_trained_and_merging_changes_nothing() -> None:
    step, plain = placed(method := LLMNeo(), rank=3)
    student = step.participants["student"].module
    trained = {n: p for n, p in student.named_parameters() if p.requires_grad}
    linear = [m for m in plain.modules() if isinstance(m, torch.nn.Linear)]
    assert sum(p.numel() for p in trained.values()) == sum(3 * (m.in_features + m.out_features) for m in linear)
    frozen = {n: p.detach().clone() for n, p in student.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.SGD(trained.values(), 0.5)
    for _ in range(3):
        optimizer.zero_grad()
        method.compare(step).total().backward()
        optimizer.step()
    own = dict(student.named_parameters())
    assert all(torch.equal(own[name], before) for name, before in frozen.items())
    logits = step.forward("student").logits.detach()
    assert not torch.allclose(logits, plain(step.batch.inputs).logits, atol=1e-3)
    merged = merge(copy.deepcopy(student))
    assert torch.allclose(merged(step.batch.inputs).logits, logits, atol=1e-5)


RECIPE: dict[str, Any] = {
    "method": "llm-neo",
    "teacher": {"model": "small-lm", "width": 24, "layers": 1, "weights": {"train": {"epochs": 2, "batch_size": 16}}},
    "student": {"model": "small-lm", "width": 16, "layers": 1, "heads": 2, "adapter": {"name": "lora", "rank": 2}},
    "data": {"name": "markov", "train": 64, "validation": 10, "test": 10, "length": 10},
    "train": {"epochs": 2, "batch_size": 16},
    "measure": [],
}


def test_what_a_run_leaves_is_a_plain_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    run = api.run(RECIPE, run_dir=tmp_path / "run")
    saved = transformers.AutoModelForCausalLM.from_pretrained(run.folder / "model")
    assert not any("parametrizations" in name for name in saved.state_dict())


def test_a_student_without_an_adapter_is_refused(tmp_path: Path) -> None:
    student = {key: value for key, value in RECIPE["student"].items() if key != "adapter"}
    with pytest.raises(RecipeError, match="llm-neo trains an adapter, and the student has none"):
        api.run({**RECIPE, "student": student}, run_dir=tmp_path / "run")
