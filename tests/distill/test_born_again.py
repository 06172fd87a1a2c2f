"""Born-again networks: the card's numbers, what a generation is, ensembles, shared layers, other objectives."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from tutelage.api import resume
from tutelage.data.batch import Batch
from tutelage.distill.base import Stacked
from tutelage.distill.born_again import BornAgain, Inheritance, share
from tutelage.distill.kd import KD
from tutelage.distill.wttm import WTTM
from tutelage.engine import checkpoint
from tutelage.engine.listening import Silence
from tutelage.engine.method import Step
from tutelage.engine.run import Run
from tutelage.engine.stopping import Interruption
from tutelage.losses import confidence_weights
from tutelage.models.outputs import Outputs
from tutelage.models.weights import load_model
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.runfolder import RunFolder

SAME = {"model": "mlp", "hidden": [16]}
SOURCE = {**SAME, "weights": {"train": {"epochs": 5, "batch_size": 32, "optimizer": {"name": "adam", "lr": 5e-3}}}}


def batch_of(labels, *, seed=0):
    ids = torch.arange(len(labels))
    return Batch(torch.zeros(len(labels), 1), torch.tensor(labels), ids, ids + 1000 * seed)


@pytest.fixture
def born(recipe):
    """A recipe in which teacher and student are alike."""

    def make(**method):
        changes = {
            key: method.pop(key)
            for key in ("epochs", "also", "stages", "student", "teacher", "accumulate")
            if key in method
        }
        return recipe({"name": "born-again", **method}, **{"teacher": SOURCE, "student": SAME, **changes})

    return make


@pytest.fixture
def live(tmp_path):
    """A run that nothing has been trained in but the teacher, and its method."""

    def make(mapping):
        loaded = load_recipe(mapping)
        run = Run(loaded, RunFolder.create(loaded, tmp_path / "live"), Silence(), Interruption())
        return run, run.method(loaded.method, loaded.also)

    return make


# ---------------------------------------------------------------------- the loss


def test_the_gradient_is_the_difference_of_unsoftened_probabilities():
    student = torch.tensor([[1.0, 0.0, -1.0]], requires_grad=True)
    teacher = Outputs(torch.tensor([[2.0, 1.0, -1.0]]))
    Inheritance("kd", "per_step", None).loss(Outputs(student), teacher, batch_of([0])).total().backward()
    assert student.grad[0].tolist() == pytest.approx([-0.040144, -0.014768, 0.054912], abs=1e-6)


def test_the_loss_is_the_cross_entropy_with_the_teacher_and_labels_come_beside_it():
    teacher, student = torch.tensor([[0.7, 0.2, 0.06, 0.04]]).log(), torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    alone = Inheritance("kd", "per_step", None).loss(Outputs(student), Outputs(teacher), batch_of([1]))
    assert list(alone) == ["transfer"]
    assert alone.total().item() == pytest.approx(1.070868, abs=1e-6)
    both = Inheritance("kd", "per_step", 0.5).loss(Outputs(student), Outputs(teacher), batch_of([1]))
    assert both.total().item() == pytest.approx(1.070868 - 0.5 * np.log(0.3), abs=1e-6)


def test_permuted_dark_knowledge_costs_what_one_of_the_permutations_costs():
    p, q = [0.7, 0.2, 0.06, 0.04], [0.4, 0.3, 0.2, 0.1]
    teacher, student = torch.tensor([p]).log(), torch.tensor([q]).log()
    loss = Inheritance("dkpp", "per_step", None)
    seen = set()
    for seed in range(60):
        batch = batch_of([0]).with_(seeds=torch.tensor([seed]))
        seen.add(round(loss.loss(Outputs(student), Outputs(teacher), batch).total().item(), 5))
    orders = [(a, b, c) for a in p[1:] for b in p[1:] for c in p[1:] if len({a, b, c}) == 3]
    every = {round(float(-(0.7 * np.log(0.4) + np.dot(o, np.log(q[1:])))), 5) for o in orders}
    assert seen == every
    # The card's permutation is (.7, .04, .2, .06).
    assert min(abs(loss - 1.149605) for loss in seen) < 1e-5


def test_a_permutation_is_drawn_anew_or_kept():
    teacher, student = Outputs(torch.randn(40, 6)), Outputs(torch.randn(40, 6))
    batches = [batch_of([0] * 40, seed=seed) for seed in (1, 2)]
    fresh = [Inheritance("dkpp", "per_step", None).loss(student, teacher, b)["transfer"] for b in batches]
    fixed = [Inheritance("dkpp", "fixed", None).loss(student, teacher, b)["transfer"] for b in batches]
    assert torch.equal(*fixed)
    assert not torch.equal(*fresh)


def test_two_classes_have_no_dark_knowledge():
    teacher, student, batch = Outputs(torch.randn(9, 2)), Outputs(torch.randn(9, 2)), batch_of([0] * 9)
    kd, dkpp = (Inheritance(t, "per_step", None).loss(student, teacher, batch)["transfer"] for t in ("kd", "dkpp"))
    assert torch.allclose(kd, dkpp)


def test_confidence_weighs_the_labels_and_sums_to_one_over_the_batch():
    # The largest probabilities are .9, .6 and .5, and the cross-entropies .1, .7 and 2.
    teacher = torch.tensor([[0.9, 0.05, 0.05], [0.3, 0.6, 0.1], [0.25, 0.25, 0.5]]).log()
    right = torch.tensor([0.1, 0.7, 2.0]).neg().exp()
    student = torch.stack([right, (1 - right) / 2, (1 - right) / 2], -1).log()
    loss = Inheritance("cwtm", "per_step", None).loss(Outputs(student), Outputs(teacher), batch_of([0, 0, 0]))
    assert loss.total().item() == pytest.approx(0.755, abs=1e-5)
    even = Inheritance("cwtm", "per_step", None).loss(
        Outputs(student), Outputs(teacher[[1, 1, 1]]), batch_of([0, 0, 0])
    )
    assert even.total().item() == pytest.approx(0.933333, abs=1e-5)


class Frozen:
    """A teacher that answers by the samples' ids."""

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, batch):
        return Outputs(self.logits[batch.ids])


def test_confidence_is_normalised_over_the_whole_step_however_it_is_cut():
    teacher, student = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)) * 3, torch.randn(8, 5)
    batch = batch_of([0, 1, 2, 3, 4, 0, 1, 2])
    step = Step(batch, {"teacher": Frozen(teacher), "student": Frozen(student)}, 0, 0, 0.0)
    loss = Inheritance("cwtm", "per_step", None)
    loss.before_step(step)
    parts = [
        batch.with_(**{f: getattr(batch, f)[at] for f in ("inputs", "labels", "ids", "seeds")})
        for at in (slice(0, 3), slice(3, 8))
    ]
    cut = sum(len(part) / 8 * loss.compare(step.on(part)).total() for part in parts)
    loss.after_step(step)
    plain = torch.nn.functional.cross_entropy(student, batch.labels, reduction="none")
    assert cut.item() == pytest.approx((confidence_weights(teacher) * plain).sum().item(), rel=1e-5)
    # Without the step's own normaliser the parts would be weighted on their own.
    alone = sum(len(part) / 8 * loss.compare(step.on(part)).total() for part in parts)
    assert alone.item() != pytest.approx(cut.item(), rel=1e-4)


def test_accumulation_changes_nothing_of_confidence_weights(born, go, weights):
    whole = weights(go(born(generations=1, treatment="cwtm")))
    cut = weights(go(born(generations=1, treatment="cwtm", accumulate=3)))
    assert all(torch.allclose(whole[key], cut[key], rtol=1e-3, atol=1e-5) for key in whole)


# ---------------------------------------------------------------------- generations


def test_each_generation_is_newborn_and_learns_from_the_one_before(born, live):
    run, method = live(born(generations=3))
    stages, starts = [], []
    for stage in method.stages(run):
        stages.append(stage)
        starts.append({k: v.clone() for k, v in stage.models["student"].state_dict().items()})
    assert [stage.name for stage in stages] == ["generation-1", "generation-2", "generation-3"]
    assert stages[0].models["teacher"] is run.models["teacher"]
    assert stages[1].models["teacher"] is stages[0].models["student"]
    assert stages[2].models["teacher"] is stages[1].models["student"]
    assert run.models["student"] is stages[2].models["student"]
    twin = run.fresh("student").state_dict()
    taught = run.models["teacher"].state_dict()
    for one in range(3):
        assert not torch.equal(starts[one]["head.weight"], taught["head.weight"])
        assert not torch.equal(starts[one]["head.weight"], twin["head.weight"])
        for other in range(one):
            assert not torch.equal(starts[one]["head.weight"], starts[other]["head.weight"])
    # What a method owns is born anew too.
    assert len({id(stage.method) for stage in stages}) == 3


def test_prefix_ensembles_average_probabilities(born, live):
    run, method = live(born(generations=3, ensemble="prefix"))
    for _ in method.stages(run):
        pass
    results = method.results(run)
    assert [r.name for r in results] == [
        "generation-1",
        "generation-2",
        "generations 1-2",
        "generations 1-3",
        "student",
    ]
    assert [r.role for r in results] == ["other"] * 4 + ["recipient"]
    x = run.splits.test.fetch(range(9)).inputs
    with torch.no_grad():
        each = [
            module(x).softmax(-1) for module in (results[0].modules[0], results[1].modules[0], results[4].modules[0])
        ]
        assert torch.allclose(results[2].predict(x).softmax(-1), (each[0] + each[1]) / 2, atol=1e-6)
        assert torch.allclose(results[3].predict(x).exp(), sum(each) / 3, atol=1e-6)
        assert torch.equal(results[4].predict(x), run.models["student"](x))


@pytest.mark.parametrize(("ensemble", "members"), [("all", 2), ("all+teacher", 3)])
def test_an_ensemble_can_be_the_result(ensemble, members, born, go, weights):
    finished = go(born(generations=2, ensemble=ensemble))
    rows = finished.report["rows"]
    assert [row["name"] for row in rows] == ["teacher", "generation-1", "generation-2", "student"]
    assert rows[-1]["role"] == "recipient"
    assert any("model/members" in warning for warning in finished.report["warnings"])
    assert len(list((finished.folder / "model" / "members").iterdir())) == members - 1
    # What is saved of it is the newest.
    _, state = checkpoint.load(next((finished.folder / "stages" / "generation-2" / "end").glob("step-*")))
    saved = weights(finished)
    assert all(torch.equal(saved[key], tensor) for key, tensor in state["models"]["student"].items())
    costs = go({**born(generations=2, ensemble=ensemble), "measure": ["cost"]}).report["rows"]
    parameters = [row["measures"]["cost"]["parameters"]["value"] for row in costs]
    assert parameters[-1] == members * parameters[0]


def test_no_ensembles_unless_asked(born, go):
    rows = go(born(generations=2, ensemble="none")).report["rows"]
    assert [row["name"] for row in rows] == ["teacher", "generation-1", "student"]


def test_a_finished_run_is_reported_again_as_it_was(born, go):
    finished = go(born(generations=2))
    assert resume(finished.folder).report["rows"] == finished.report["rows"]


def test_a_run_that_lost_its_last_generation_ends_as_it_would_have(born, go, weights):
    finished = go(born(generations=2))
    before = weights(finished)
    shutil.rmtree(finished.folder / "stages" / "generation-2")
    after = weights(resume(finished.folder))
    assert all(torch.equal(before[key], after[key]) for key in before)


# ---------------------------------------------------------------------- any objective


def test_another_objective_takes_the_place_of_the_loss(born, go, weights):
    own = weights(go(born(generations=2)))
    # At temperature 1 the divergence differs from the cross-entropy by a constant only.
    kd = weights(go(born(generations=2, objective={"name": "kd", "temperature": 1.0, "alpha": 0.0})))
    wttm = weights(go(born(generations=2, objective="wttm")))
    assert all(torch.allclose(own[key], kd[key], rtol=1e-3, atol=1e-4) for key in own)
    assert not any(torch.allclose(own[key], wttm[key], atol=1e-3) for key in own)


def test_terms_can_be_stacked_on_every_generation(born, go, live):
    _, method = live(born(generations=2, also=[{"name": "wttm", "beta": 3.0}]))
    assert isinstance(method, BornAgain)
    assert isinstance(method.objective, Stacked)
    finished = go(born(generations=2, also=[{"name": "wttm", "beta": 3.0}]))
    for k in (1, 2):
        record = json.loads((finished.folder / "stages" / f"generation-{k}" / "record.json").read_text())
        assert any(term.endswith("also1.transfer") for term in record["history"][0]["losses"])


def test_an_objective_is_copied_for_each_generation():
    method = BornAgain(objective=WTTM(beta=3.0))
    assert isinstance(method.objective, WTTM)
    assert method.stacked_with([KD()]).objective.first.beta == 3.0


# ---------------------------------------------------------------------- shared layers


def test_shared_layers_are_the_teachers_in_every_generation(born, go):
    finished = go(born(generations=2, share_layers=["head"], ensemble="none"))
    ends = [
        checkpoint.load(next((finished.folder / "stages" / name / "end").glob("step-*")))[1]["models"]
        for name in ("teacher", "generation-1", "generation-2")
    ]
    first, second, third = (next(iter(models.values())) for models in ends)
    assert torch.equal(first["head.weight"], second["head.weight"])
    assert torch.equal(first["head.bias"], third["head.bias"])
    assert not torch.equal(first["blocks.0.0.weight"], second["blocks.0.0.weight"])


def test_statistics_are_shared_with_their_layer():
    def net():
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))

    teacher, student = net(), net()
    teacher[1].running_mean.fill_(7.0)
    names = share(student, teacher, ["1"])
    assert "1.running_mean" in names
    assert student[1].running_mean.tolist() == [7.0] * 4
    assert not student[1].weight.requires_grad
    assert student.train()[1].training is False
    assert student[0].weight.requires_grad


# ---------------------------------------------------------------------- the outcome


def test_generations_hold_and_confidence_finds_wrong_labels(recipe, go, tmp_path):
    """The card's experiment, shortened: 600 digits, a fifth of them with a wrong label."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x, y = (digits.images / 16).astype("float32")[:, None], digits.target
    draw = np.random.default_rng(0)
    order = draw.permutation(len(y))
    train, test = order[:600], order[600:]
    noisy = y[train].copy()
    flipped = draw.random(600) < 0.2
    noisy[flipped] = (noisy[flipped] + draw.integers(1, 10, flipped.sum())) % 10
    np.savez(tmp_path / "noisy.npz", x_train=x[train], y_train=noisy, x_test=x[test], y_test=y[test])
    data = {"name": "npz", "path": str(tmp_path / "noisy.npz"), "validation_fraction": 0}
    net = {"model": "mlp", "hidden": [128]}
    common = {"student": net, "data": data, "epochs": 40, "batch_size": 100}
    source = go(recipe("supervised", teacher=None, **common))
    method = {"name": "born-again", "generations": 2, "ensemble": "prefix"}
    rows = go(recipe(method, teacher={**net, "weights": str(source.folder)}, **common)).report["rows"]
    accuracy = {row["name"]: row["measures"]["quality"]["accuracy"]["value"] for row in rows}
    assert min(accuracy.values()) >= accuracy["teacher"] - 0.02
    members = (accuracy["generation-1"] + accuracy["student"]) / 2
    assert accuracy["generations 1-2"] >= members - 0.005
    with torch.no_grad():
        weight = confidence_weights(load_model(source.folder).eval()(torch.tensor(x[train])))
    assert weight[torch.tensor(flipped)].mean() < 0.9 * weight[torch.tensor(~flipped)].mean()


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"student": {**SAME, "weights": {"train": {"epochs": 1}}}},
            "student.weights: every generation starts from a new",
        ),
        ({"stages": [{"train": {"epochs": 1}}]}, "makes its own stages"),
        ({"also": ["born-again"]}, "cannot be added to a loss"),
        ({"label_weight": 2.0}, "'label_weight' does nothing without `use_labels: true`"),
        ({"permutation": "fixed"}, "'permutation' does nothing without `treatment: dkpp`"),
        ({"objective": "wttm", "treatment": "cwtm"}, "'treatment' does nothing beside an `objective`"),
        ({"objective": "born-again"}, "'born-again' compares no teacher with a student"),
        ({"objective": "supervised"}, "'supervised' compares no teacher with a student"),
        ({"objective": {"name": "kd", "temprature": 1.0}}, "'temperature'"),
        ({"teacher": SAME}, "has no weights, so it would teach noise"),
        ({"generations": 0}, "method.generations"),
        ({"treatment": "cwmt"}, "Did you mean 'cwtm'"),
        ({"share_layers": ["haed"]}, "'haed' matches no module.*'head'"),
        ({"share_layers": ["**"]}, "nothing to learn"),
        (
            {"share_layers": ["head"], "student": {"model": "mlp", "hidden": [8]}},
            r"'head.weight' is \[10, 16\] in the teacher",
        ),
        (
            {"share_layers": ["blocks.1"], "student": {"model": "mlp", "hidden": [16, 16]}},
            "the teacher has no 'blocks.1.0.weight'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_mistakes_are_found_before_anything_is_trained(changes, text, born, go, tmp_path):
    with pytest.raises((RecipeError, InputError), match=text):
        go(born(**changes))
    assert not list((tmp_path / "runs").glob("*"))


def test_born_again_is_no_stage_of_another_method(recipe, go):
    with pytest.raises(RecipeError, match="makes its own stages"):
        go(recipe("kd", stages=[{"method": "born-again"}]))
