"""ActiveKD: two heads that do not disturb each other, rounds that buy labels, and what they come to."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from tutelage.data.batch import Batch
from tutelage.data.digits import Digits
from tutelage.data.shaping import hide
from tutelage.data.splits import Joined, ids_of, labels_of
from tutelage.distill.activekd import ActiveKD
from tutelage.distill.parts.few_shot_teacher import few_shot
from tutelage.engine.method import Step
from tutelage.losses import kl_divergence
from tutelage.models.mlp import MLP
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, RecipeError


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    # Pictures of what happened take longer than what happened.
    monkeypatch.setattr("tutelage.report.html.save_html", lambda folder: folder)


def active(recipe: Any, method: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Four rounds of ten labels with 40 steps each, beside a hasty linear teacher."""
    train = {"epochs": 2, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.02}, "schedule": "constant"}
    content = recipe(
        {"name": "activekd", "rounds": 4, "replacement": False, **method},
        teacher={"model": "mlp", "hidden": [], "weights": {"train": train}},
        student={"model": "mlp", "hidden": [64]},
        **{"data": {"name": "digits"}, "epochs": 40, "batch_size": 64, **changes},
    )
    content["train"]["optimizer"] = {"name": "adamw", "lr": 1e-2}
    return content


def fixed(method: ActiveKD, student: dict[str, torch.Tensor], teacher: torch.Tensor, pool: bool) -> Any:
    """The method's loss on outputs that are given."""
    method._head = "head"
    batch = Batch(torch.zeros(2, 1), torch.tensor([0, 2]), torch.arange(2), torch.arange(2))
    say = {
        "student": Outputs(torch.zeros(2, 3), {f"head.{name}": value for name, value in student.items()}),
        "teacher": Outputs(teacher),
    }
    people = {name: (lambda batch, name=name: say[name]) for name in say}
    pools = {"unlabelled": batch.with_(labels=torch.full((2,), -1))} if pool else {}
    return method.compare(Step(batch, people, 0, 0, 0.0, pools=pools))  # type: ignore[arg-type]


def test_labels_never_reach_the_teachers_head_nor_the_teacher_the_labels_head() -> None:
    generator = torch.Generator().manual_seed(0)
    heads = {name: torch.randn(2, 3, generator=generator).requires_grad_() for name in ("task", "transfer")}
    teacher = torch.randn(2, 3, generator=generator)
    losses = fixed(ActiveKD(), heads, teacher, pool=True)
    ce = torch.nn.functional.cross_entropy(heads["task"], torch.tensor([0, 2]))
    soft = kl_divergence(heads["transfer"], teacher, temperature=2.0).mean()
    assert losses.total().item() == pytest.approx((0.5 * ce + soft).item(), rel=1e-6)
    for term, untouched in (("task", "transfer"), ("transfer", "task"), ("unlabelled", "task")):
        found = torch.autograd.grad(losses[term].sum(), heads[untouched], allow_unused=True, retain_graph=True)[0]
        assert found is None
    alone = fixed(ActiveKD(label_weight=0.2), heads, teacher, pool=False)
    assert set(alone) == {"task", "transfer"}
    assert alone.total().item() == pytest.approx((0.2 * ce + 0.8 * soft).item(), rel=1e-6)


def test_joined_examples_are_both() -> None:
    labelled, pool = hide(Digits().load(0).train, 20, 10, 0)
    assert pool is not None
    both = Joined(labelled, pool.answer(torch.tensor([5, 7, 3])))
    assert len(both) == 23
    assert torch.equal(ids_of(both)[20:], pool.ids[[5, 7, 3]])
    batch = both.fetch([22, 0, 21, 19])
    assert torch.equal(batch.ids, ids_of(both)[[22, 0, 21, 19]])
    assert torch.equal(batch.labels, labels_of(both)[[22, 0, 21, 19]])
    assert bool((batch.labels >= 0).all())


def test_a_teacher_is_fitted_to_few_labels_and_held_where_it_was_right() -> None:
    torch.manual_seed(0)
    splits = Digits().load(0)
    teacher = MLP(splits.info, hidden=(12,)).eval()
    batch = splits.train.fetch(range(40))
    own, prototypes = few_shot(teacher, batch.inputs, batch.labels, 10, 0.01)
    assert [name for name, p in own.named_parameters() if p.requires_grad] == ["head.weight"]
    right = teacher(batch.inputs).softmax(-1).detach()
    for label in range(10):
        mine = batch.labels == label
        expected = float(right[mine][:, label].mean()) if bool(mine.any()) else 0.0
        assert float(prototypes.strength[label]) == pytest.approx(expected, abs=1e-6)
    people = {"teacher": lambda batch: Outputs(own(batch.inputs))}
    step = Step(batch, people, 0, 0, 0.0)  # type: ignore[arg-type]
    assert prototypes.fit(step)["anchor"].item() == 0.0
    with torch.no_grad():
        own.head.weight[3] += 2.0
    assert prototypes.fit(step)["anchor"].item() == pytest.approx(float(prototypes.strength[3]) * 12 * 4.0, rel=1e-5)
    assert not torch.equal(own.head.weight, teacher.head.weight)


@pytest.mark.slow
def test_covering_probabilities_beats_chance(recipe, go) -> None:
    """A better curve than at random, and classes spread as evenly as by entropy or more so."""
    found: dict[str, list[dict[str, float]]] = {"pcoreset": [], "random": [], "uncertainty": []}
    for strategy, curves in found.items():
        for seed in (0, 1):
            findings = go(active(recipe, {"strategy": strategy}, seed=seed)).report["findings"]
            assert [row["labels"] for row in findings["rounds"]] == [10, 20, 30, 40, 50]
            curves.append({"mean": findings["mean_accuracy"], "entropy": findings["rounds"][-1]["class_entropy"]})
    mean = {name: sum(c["mean"] for c in curves) / 2 for name, curves in found.items()}
    entropy = {name: sum(c["entropy"] for c in curves) / 2 for name, curves in found.items()}
    assert mean["pcoreset"] > mean["random"]
    assert entropy["pcoreset"] >= entropy["uncertainty"]


def test_rounds_are_stages_and_a_resumed_run_buys_the_same(recipe, tmp_path, go) -> None:
    from tutelage.api import resume

    content = active(recipe, {"rounds": 2, "queries_per_round": 4, "replacement": True}, epochs=5)
    first = go(content)
    record = [json.loads((first.folder / f"stages/round-{k}/record.json").read_text()) for k in range(3)]
    # Batches are full: 5 passes over 10, 14 and 18 labels are drawn as 50, 70 and 90 samples in batches of 64.
    assert [one["steps"] for one in record] == [1, 2, 2]
    (first.folder / "stages/round-2/record.json").unlink()
    before = first.report["findings"]
    assert resume(first.folder).report["findings"] == before


def test_what_else_can_be_asked_for(recipe, go) -> None:
    data = {"name": "digits", "limit": 200, "labelled": 15}
    method = {"rounds": 1, "queries_per_round": 5, "teacher": "clap", "clap_epochs": 3, "centres": "labels"}
    found = go(active(recipe, {**method, "reinit": False}, data=data, epochs=2)).report["findings"]["rounds"]
    assert [row["labels"] for row in found] == [15, 20]
    assert found[0]["teacher"] != found[1]["teacher"]
    whole = active(recipe, {"rounds": 1, "queries_per_round": 190, "space": "teacher"}, epochs=1)
    found = go({**whole, "data": {"name": "digits", "limit": 200}}).report["findings"]["rounds"]
    assert found[-1]["labels"] == 200
    assert found[-1]["radius"] is None


def test_mistakes_are_named(recipe, go) -> None:
    few = {"name": "digits", "limit": 30}
    with pytest.raises(InputError, match=r"buys 4 \* 10 labels, but the pool has 20 .* at most 2"):
        go(active(recipe, {}, data=few))
    with pytest.raises(RecipeError, match=r"'init_shots' and data\.labelled both say"):
        go(active(recipe, {"init_shots": 2}, data={"name": "digits", "labelled": 20}))
    with pytest.raises(RecipeError, match="'centres' does nothing without"):
        go(active(recipe, {"strategy": "random", "centres": "labels"}))
    with pytest.raises(RecipeError, match="takes no further terms"):
        go(active(recipe, {}, also=["rkd"]))
    with pytest.raises(RecipeError, match="'mixup' mixes labels"):
        go(active(recipe, {}, data={"name": "digits", "augment": ["mixup"]}))
