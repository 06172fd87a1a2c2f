"""GKD: the numbers of its card, what is learnt on whose texts, and one small run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.distill.placing import participants

from tutelage import api
from tutelage.data.markov import Markov
from tutelage.data.tokens import TokenBatch
from tutelage.distill.gkd import GKD
from tutelage.engine.method import Room, Step
from tutelage.losses.positions import scored
from tutelage.losses.tokens import Divergence
from tutelage.models.causal_lm import SmallLM
from tutelage.recipe.errors import InputError, RecipeError

SPLITS = Markov(train=40, validation=0, test=20).load(0)
TEACHER, STUDENT = torch.tensor([[0.7, 0.2, 0.1]]).log(), torch.tensor([[0.2, 0.5, 0.3]]).log()


@pytest.mark.parametrize(
    ("beta", "value"), [(0.0, 0.583815), (0.1, 0.050995), (0.5, 0.132918), (0.9, 0.047864), (1.0, 0.537176)]
)
def test_the_divergences_of_the_card(beta: float, value: float) -> None:
    assert float(Divergence("jsd", beta=beta)(STUDENT, TEACHER)) == pytest.approx(value, abs=2e-6)


def test_small_shares_tend_to_the_plain_divergences() -> None:
    one, two = STUDENT.double(), TEACHER.double()
    assert float(Divergence("jsd", beta=1e-6)(one, two)) / 1e-6 == pytest.approx(0.583814, abs=2e-6)
    assert float(Divergence("jsd", beta=1 - 1e-6)(one, two)) / 1e-6 == pytest.approx(0.537176, abs=2e-6)
    assert float(Divergence("jsd")(torch.tensor([[90.0, 0.0]]), torch.tensor([[0.0, 90.0]]))) <= math.log(2) + 1e-6


def placed(method: GKD, count: int = 6) -> Step:
    torch.manual_seed(0)
    models = {
        "teacher": SmallLM(SPLITS.info, width=24, layers=2, heads=2),
        "student": SmallLM(SPLITS.info, width=16, layers=1, heads=2),
    }
    room = Room(models, SPLITS.info, SPLITS.train.fetch(range(2)), ["student"])
    method.prepare(room)
    return Step(SPLITS.train.fetch(range(count)), participants(room), 0, 0, 0.0)


def test_without_writing_and_at_the_forward_end_it_is_supervised_token_kd() -> None:
    step = placed(method := GKD(lmbda=0.0, beta=0.0))
    losses = method.compare(step)
    batch = step.batch
    assert isinstance(batch, TokenBatch)
    places, _ = scored(batch.inputs, batch.mask)
    logs = {n: step.forward(n).at(places).log_softmax(-1) for n in ("teacher", "student")}  # type: ignore[attr-defined]
    expected = (logs["teacher"].exp() * (logs["teacher"] - logs["student"])).sum(-1).mean()
    assert float(losses.total()) == pytest.approx(float(expected), rel=1e-5)
    assert losses.count == len(places)


def test_the_student_writes_the_answers_and_no_gradient_reaches_its_writing() -> None:
    step = placed(method := GKD(lmbda=1.0, max_new_tokens=5))
    written = method.sampler.sample(step)  # type: ignore[union-attr]
    assert isinstance(written, TokenBatch)
    assert written.inputs.shape == (6, 12)
    assert torch.equal(written.inputs[:, :7], step.batch.inputs[:, :7])
    assert not torch.equal(written.inputs[:, 7:], step.batch.inputs[:, 7:12])
    assert torch.equal(written.mask, (torch.arange(12) >= 7).expand(6, -1))
    assert torch.equal(written.ids, step.batch.ids)
    assert step.participants["student"].module.training
    method.compare(step).total().backward()
    assert all(p.grad is not None for p in step.participants["student"].module.parameters())
    assert all(p.grad is None for p in step.participants["teacher"].module.parameters())


def test_what_the_student_wrote_is_no_answer_to_learn() -> None:
    assert "task" in method_losses(0.0)
    assert "task" not in method_losses(1.0)


def method_losses(lmbda: float) -> Any:
    step = placed(method := GKD(lmbda=lmbda, task_weight=0.5, max_new_tokens=4))
    return method.compare(step)


def test_one_draw_decides_for_a_step_whoever_asks() -> None:
    step = placed(method := GKD(lmbda=0.5))
    from dataclasses import replace

    who = [method.sampler.writer(replace(step, index=at)) for at in range(400)]  # type: ignore[union-attr]
    assert who == [method.sampler.writer(replace(step, index=at)) for at in range(400)]  # type: ignore[union-attr]
    assert 0.4 < who.count("student") / 400 < 0.6
    assert None in who
    other = GKD(lmbda=0.5, seq_kd=True).sampler
    assert {other.writer(replace(step, index=at)) for at in range(30)} == {"student", "teacher"}  # type: ignore[union-attr]


RECIPE: dict[str, Any] = {
    "method": {"name": "gkd", "max_new_tokens": 6, "lmbda": 0.5},
    "teacher": {"model": "small-lm", "width": 32, "layers": 2, "weights": {"train": {"epochs": 6, "batch_size": 16}}},
    "student": {"model": "small-lm", "width": 16, "layers": 1, "heads": 2},
    "data": {"name": "markov", "train": 120, "validation": 20, "test": 20, "length": 12},
    "train": {"epochs": 2, "batch_size": 16, "optimizer": {"name": "adamw", "lr": 3e-3}},
    "measure": ["perplexity", "true-divergence", {"name": "on-policy-divergence", "prompts": 8, "tokens": 5}],
}


def test_a_run_reports_and_leaves_a_folder_that_transformers_reads(tmp_path: Path) -> None:
    run = api.run(RECIPE, run_dir=tmp_path / "run")
    report = json.loads((run.folder / "report.json").read_text())
    rows = {row["role"]: row["measures"] for row in report["rows"]}
    assert report["arrived"]["metric"] == "nll"
    assert set(rows["recipient"]["fidelity"]) == {"agreement", "kl", "reverse_kl", "own_kl", "own_reverse_kl"}
    assert rows["recipient"]["quality"]["true_kl"]["value"] > 0
    assert rows["recipient"]["quality"]["perplexity"]["value"] == pytest.approx(
        math.exp(rows["recipient"]["quality"]["nll"]["value"]), rel=1e-3
    )
    transformers = pytest.importorskip("transformers")
    transformers.AutoModelForCausalLM.from_pretrained(run.folder / "model")


def test_parts_of_a_step_do_not_change_it(tmp_path: Path) -> None:
    """Texts of different lengths: the mean is over the tokens of the whole step."""
    base = {**RECIPE, "method": {"name": "gkd", "lmbda": 0.0}, "baseline": False, "measure": []}
    base["data"] = {"name": "country-facts", "vocabulary": 300, "facts": ["capital"], "limit": 40}
    base["train"] = {**RECIPE["train"], "epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}}
    from tutelage.models.weight_files import read_tensors

    ends = []
    for parts in (1, 3):
        run = api.run({**base, "train": {**base["train"], "accumulate": parts}}, run_dir=tmp_path / str(parts))
        ends.append(read_tensors(run.folder / "model" / "model.safetensors")[1])
    assert all(torch.allclose(ends[0][name], ends[1][name], atol=1e-6) for name in ends[0])


def test_a_cached_teacher_teaches_the_same(tmp_path: Path) -> None:
    base = {**RECIPE, "method": {"name": "gkd", "lmbda": 0.0}, "baseline": False, "measure": []}
    one = api.run(base, run_dir=tmp_path / "live")
    two = api.run({**base, "teacher": {**base["teacher"], "cache": True}}, run_dir=tmp_path / "kept")
    assert one.report["arrived"]["after"]["value"] == pytest.approx(two.report["arrived"]["after"]["value"], rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"teacher": {**RECIPE["teacher"], "cache": True}}, "written anew"),
        ({"teacher": {"model": "small-lm"}}, "has no weights"),
        ({"student": {"model": "mlp"}}, "no language model"),
        ({"measure": ["accuracy"]}, "'accuracy' measures classes, and 'gkd' gives tokens"),
        ({"sampler": "cutmix-pick"}, "'cutmix-pick' samples classes"),
        ({"data": "digits"}, "reads text"),
        ({"data": {**RECIPE["data"], "labelled": 5}}, "no class to count"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises((InputError, RecipeError), match=says):
        api.run({**RECIPE, **changes}, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_texts_without_prompts_cannot_be_answered(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": f"text {i}"}) for i in range(30)))
    data = {"name": "text", "path": str(tmp_path / "texts.jsonl"), "vocabulary": 300}
    with pytest.raises(InputError, match="answers need prompts"):
        api.run({**RECIPE, "data": data}, run_dir=tmp_path / "run")


def test_a_recipes_sampler_takes_the_place_of_the_methods_own(tmp_path: Path) -> None:
    sampler = {"name": "on-policy", "share": 0.0}
    base = {**RECIPE, "baseline": False, "measure": []}
    one = api.run({**base, "method": {"name": "gkd", "lmbda": 0.0}}, run_dir=tmp_path / "own")
    two = api.run({**base, "method": {"name": "gkd", "lmbda": 1.0}, "sampler": sampler}, run_dir=tmp_path / "recipe")
    assert one.report["arrived"]["after"] == two.report["arrived"]["after"]
