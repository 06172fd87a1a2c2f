"""BD-KD: the card's numbers at method level, networks that move as with optimisers of their own, and digits."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.bd_kd import BDKD
from tutelage.engine import checkpoint
from tutelage.engine.listening import Silence
from tutelage.engine.method import Room
from tutelage.engine.run import Run
from tutelage.engine.stopping import Interruption
from tutelage.losses import balanced_divergence, cross_entropy, kl_divergence
from tutelage.models.outputs import Outputs
from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe
from tutelage.recipe.runfolder import RunFolder

TEACHER = torch.tensor([[2.0, 0.0, 0.0]])
STUDENT = torch.tensor([[0.5, 0.0, 0.0]])
BATCH = Batch(torch.zeros(1, 1), torch.tensor([0]), torch.arange(1), torch.arange(1))
UNTAUGHT = {"model": "mlp", "hidden": [32]}


@pytest.mark.parametrize(("delta", "expected"), [(1.0, 0.502685), (2.0, 0.770059), (3.0, 1.037433)])
def test_the_worked_example(delta, expected):
    losses = BDKD(delta=delta, alpha=2.0, ce_weight=0.5).loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    assert losses["transfer"].item() == pytest.approx(expected, abs=1e-5)
    task = cross_entropy(STUDENT, BATCH.labels).item()
    assert losses.total().item() == pytest.approx(0.5 * task + 2 * expected, abs=1e-5)
    assert losses.means()["surer"].item() == 0.0


def test_the_student_learns_from_the_mean_over_all():
    third = torch.tensor([[0.0, 1.0, -1.0]])
    terms = BDKD().terms(Outputs(STUDENT), [Outputs(TEACHER), Outputs(third)], BATCH)
    expected = [balanced_divergence(STUDENT, other) for other in (TEACHER, third)]
    torch.testing.assert_close(terms["transfer"], sum(expected) / 2)


@pytest.mark.parametrize(("term", "expected"), [("kl_s_t", 0.267374), ("kl_t_s", 0.235311), ("none", None)])
def test_the_teachers_own_term_takes_the_student_as_it_is(term, expected):
    teacher, student = TEACHER.clone().requires_grad_(), STUDENT.clone().requires_grad_()
    losses = BDKD(teacher_term=term, beta=2.0).other_terms("teacher", Outputs(teacher), Outputs(student), BATCH)
    assert losses["teacher.task"].item() == pytest.approx(cross_entropy(TEACHER, BATCH.labels).item(), abs=1e-6)
    if expected is None:
        assert "teacher.transfer" not in losses
    else:
        assert losses["teacher.transfer"].item() == pytest.approx(expected, abs=1e-5)
        assert losses.weight("teacher.transfer") == 2.0
    losses.total().backward()
    assert student.grad is None
    assert teacher.grad.abs().sum() > 0


def test_plain_mutual_learning_is_one_divergence():
    losses = BDKD(student_term="kl_t_s").loss(Outputs(STUDENT), Outputs(TEACHER), BATCH)
    assert losses["transfer"].item() == pytest.approx(0.235311, abs=1e-5)


# ---------------------------------------------------------------------- runs


def stage_of(finished):
    folder = finished.folder / "stages" / "transfer"
    _, state = checkpoint.load(next((folder / "end").glob("step-*")))
    return state["models"], json.loads((folder / "record.json").read_text())


def test_one_move_is_that_of_two_optimisers_on_the_logits_of_one_pass(recipe, go, tmp_path):
    mapping = recipe({"name": "bd-kd", "beta": 0.5}, teacher=UNTAUGHT, epochs=1, data={"name": "digits", "limit": 64})
    models, _ = stage_of(go(mapping))

    loaded = load_recipe(mapping)
    run = Run(loaded, RunFolder.create(loaded, tmp_path / "by-hand"), Silence(), Interruption())
    nets = {name: copy.deepcopy(run.source(name)) for name in ("teacher", "student")}
    optimizers = {name: torch.optim.Adam(net.parameters(), lr=5e-3) for name, net in nets.items()}
    stage = next(iter(run.method(loaded.method).stages(run)))
    for batch in trainer_batches(run, stage):
        said = {name: net(batch.inputs) for name, net in nets.items()}
        student = cross_entropy(said["student"], batch.labels).mean()
        student = student + balanced_divergence(said["student"], said["teacher"]).mean()
        teacher = cross_entropy(said["teacher"], batch.labels).mean()
        teacher = teacher + 0.5 * kl_divergence(said["teacher"], said["student"].detach()).mean()
        for name, loss in (("student", student), ("teacher", teacher)):
            optimizers[name].zero_grad()
            loss.backward(inputs=list(nets[name].parameters()))
            optimizers[name].step()
    for name, net in nets.items():
        for key, value in net.state_dict().items():
            torch.testing.assert_close(models[name][key], value, atol=1e-5, rtol=1e-4)


def trainer_batches(run, stage):
    from tutelage.engine.trainer import Trainer

    trainer = Trainer(
        stage,
        splits=run.splits,
        augment=run.augment,
        accelerator=run.accelerator,
        seed=run.recipe.seed,
        folder=run.folder.path / "stages" / "by-hand",
        listener=Silence(),
        interruption=Interruption(),
    )
    return list(trainer.batches(0))


def test_a_teacher_from_scratch_learns_too_and_the_two_come_close(recipe, go):
    """Against the same two, trained side by side without a look at each other."""
    changes = {"epochs": 15, "data": {"name": "digits", "limit": 300}, "measure": ["accuracy", "kl"]}
    apart = {}
    for weight in (0.0, 4.0):
        method = {"name": "bd-kd", "alpha": weight, "beta": weight}
        report = go(recipe(method, teacher={"model": "mlp", "hidden": [64]}, **changes)).report
        rows = {row["role"]: row["measures"] for row in report["rows"]}
        assert rows["source"]["quality"]["accuracy"]["value"] > 0.8
        apart[weight] = rows["recipient"]["fidelity"]
    for direction in ("kl", "reverse_kl"):
        assert apart[4.0][direction]["value"] < 0.5 * apart[0.0][direction]["value"]
    table = report["findings"]["calibration"]
    assert [row["model"] for row in table] == ["student", "student", "teacher", "teacher"]
    assert all(0 <= row["ece"] <= 1 for row in table)


def test_offline_the_teacher_stays_and_online_its_rate_is_its_own(recipe, go):
    moved = {}
    for name, method in {
        "offline": {"name": "bd-kd", "online": False},
        "slow": {"name": "bd-kd", "teacher_rate": 1e-6},
        "online": {"name": "bd-kd"},
    }.items():
        finished = go(recipe(method, epochs=1))
        models, _ = stage_of(finished)
        folder = finished.folder / "stages" / "teacher"
        _, before = checkpoint.load(next((folder / "end").glob("step-*")))
        start = before["models"]["teacher"]
        after = models.get("teacher", start)
        moved[name] = max((after[key] - start[key]).abs().max().item() for key in start)
    assert moved["offline"] == 0.0
    assert moved["online"] > 1e-3 > 1e-6 >= moved["slow"] * 1e-2 > 0.0


def test_peers_are_trained_as_the_teacher_is(recipe, go):
    mapping = recipe("bd-kd", teacher=UNTAUGHT, epochs=2)
    finished = go({**mapping, "peers": [{"model": "mlp", "hidden": [8]}, {"model": "mlp", "hidden": [24]}]})
    models, record = stage_of(finished)
    assert set(models) == {"teacher", "student", "peers-1", "peers-2"}
    terms = record["history"][-1]["losses"]
    assert {"transfer/teacher.task", "transfer/peers-1.task", "transfer/peers-2.transfer"} <= set(terms)
    assert terms["transfer/peers-2.task"] < record["history"][0]["losses"]["transfer/peers-2.task"]


# ---------------------------------------------------------------------- mistakes


def test_who_is_not_trained_must_have_been(recipe, go):
    with pytest.raises(RecipeError, match="the teacher 'mlp' has no weights"):
        go(recipe({"name": "bd-kd", "online": False}, teacher=UNTAUGHT))


def test_a_teacher_that_learns_cannot_stand_beside_another_method(recipe, go):
    for method, also in (("bd-kd", "wttm"), ("kd", "bd-kd")):
        with pytest.raises(RecipeError, match="trains its teacher too"):
            go(recipe(method, also=[also]))
    offline = {"name": "bd-kd", "online": False}
    assert go(recipe(offline, also=["wttm"], epochs=1)).report["status"] == "done"


def test_a_boost_below_one_is_refused(recipe, go):
    with pytest.raises(RecipeError, match=r"method\.delta: found 0\.5"):
        go(recipe({"name": "bd-kd", "delta": 0.5}))


def test_a_peer_of_other_classes_is_refused():
    sizes = {"teacher": 4, "student": 4, "peers-1": 5}
    modules = {name: torch.nn.Linear(3, classes) for name, classes in sizes.items()}
    example = Batch(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), torch.arange(2), torch.arange(2))
    room = Room(modules, DataInfo((3,), 4, tuple("abcd"), ""), example, ["student"])
    with pytest.raises(InputError, match="the peers-1 names 5 classes and the student 4"):
        BDKD().setup(room)
