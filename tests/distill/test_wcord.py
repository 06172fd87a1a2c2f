"""WCoRD: the critics' constraint, what is contrasted with what, transport's blindness, state, and an outcome."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from torch import nn

from tutelage.data.batch import DataInfo
from tutelage.data.splits import TensorExamples
from tutelage.distill.wcord import Critic, WCoRD
from tutelage.engine.method import Room, Step
from tutelage.losses import cosine_cost, noise_contrast, transport_cost
from tutelage.models.convnet import ConvNet
from tutelage.models.mlp import MLP
from tutelage.models.participant import Participant
from tutelage.recipe.errors import InputError

INFO = DataInfo((6,), 3, ("a", "b", "c"), "")
POOL = TensorExamples(torch.randn(20, 6), torch.arange(20) % 3, 100 + 3 * torch.arange(20))


def batch_of(*positions):
    return POOL.fetch(list(positions))


def ready(batch=None, **arguments):
    """The method set up, and both models' outputs."""
    torch.manual_seed(0)
    batch = batch_of(0, 5, 7, 12) if batch is None else batch
    method = WCoRD(**{"proj_dim": 8, "negatives": 5, **arguments})
    models = {"teacher": MLP(INFO, hidden=(12,)), "student": MLP(INFO, hidden=(5,))}
    room = Room(models, INFO, batch, ["student"], examples=POOL)
    method.setup(room)
    outputs = {}
    for name, module in models.items():
        outputs[name] = Participant(name, module, trainable=name == "student", taps=room.taps(name))(batch)
    return method, outputs["student"], outputs["teacher"], batch


def test_the_spectral_norm_of_the_card():
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2, bias=False))
    layer.parametrizations.weight.original = nn.Parameter(torch.tensor([[3.0, 0.0], [4.0, 5.0]]))
    for _ in range(50):
        weight = layer.weight
    torch.testing.assert_close(6.7082039 * weight, torch.tensor([[3.0, 0.0], [4.0, 5.0]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["dot", "bilinear", "mlp"])
def test_critics_are_lipschitz_and_scores_are_of_the_pairs_that_were_drawn(kind):
    torch.manual_seed(1)
    critic = Critic(kind, 4)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter *= 30.0
        for _ in range(60):
            critic(
                *(torch.rand(2, 4), torch.rand(2, 4)), (torch.rand(2, 4), torch.rand(2, 4)), torch.tensor([[0], [1]])
            )
    critic.eval()
    ours, theirs = (nn.functional.normalize(torch.randn(6, 4), dim=1) for _ in range(2))
    tables = tuple(nn.functional.normalize(torch.randn(9, 4), dim=1) for _ in range(2))
    rows = torch.randint(9, (6, 5))
    own, by_teacher, by_student = critic(ours, theirs, tables, rows)

    def pair(student, teacher):
        one = critic(student[None], teacher[None], tables, torch.zeros(1, 1).long())
        return one[0].item()

    for i in range(6):
        assert own[i].item() == pytest.approx(pair(ours[i], theirs[i]), abs=1e-5)
        for j in range(5):
            assert by_teacher[i, j].item() == pytest.approx(pair(tables[0][rows[i, j]], theirs[i]), abs=1e-5)
            assert by_student[i, j].item() == pytest.approx(pair(ours[i], tables[1][rows[i, j]]), abs=1e-5)
    steps = (own[:, None] - by_student).abs() / (theirs[:, None] - tables[1][rows]).norm(dim=2)
    assert steps.max() < 1.01


def test_terms_by_hand():
    method, ours, theirs, batch = ready(global_weight=2.0, local_weight=3.0, task_weight=0.5, negatives=100)
    losses = method.loss(ours, theirs, batch)
    student, teacher = method.projected(ours, theirs)
    rows = method.bank.rows(batch.ids)
    ways = []
    for anchor, partner, table in ((teacher, student, method.bank.student), (student, teacher, method.bank.teacher)):
        own = (anchor * partner).sum(1) / 0.07
        others = torch.stack([torch.stack([anchor[i] @ table[r] for r in range(20) if r != rows[i]]) for i in range(4)])
        others = others / 0.07
        shift = torch.cat([own, others.flatten()]).logsumexp(0) - math.log(4 * 20) + math.log(20)
        ways.append(noise_contrast(own - shift, others - shift, total=20))
    torch.testing.assert_close(losses["contrast"], ways[0] + ways[1], rtol=1e-4, atol=1e-4)
    moved = transport_cost(cosine_cost(student, teacher))
    torch.testing.assert_close(losses["transport"], moved)
    task = nn.functional.cross_entropy(ours.logits, batch.labels)
    total = 0.5 * task + 2 * (ways[0] + ways[1]).mean() + 3 * moved
    assert losses.total().item() == pytest.approx(total.item(), rel=1e-4)


def test_transport_does_not_know_who_belongs_to_whom():
    method, ours, theirs, batch = ready(global_weight=0.0, task_weight=0.0)
    order = torch.tensor([2, 0, 3, 1])
    shuffled = type(theirs)(theirs.logits[order], {"embedding": theirs.embedding[order]})
    values, gradients = [], []
    for teacher in (theirs, shuffled):
        loss = method.loss(ours, teacher, batch).total()
        values.append(loss.item())
        gradients.append(torch.autograd.grad(loss, method.project["student"].weight, retain_graph=True)[0])
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)
    contrast = ready(local_weight=0.0, task_weight=0.0)[0]
    assert contrast.loss(ours, theirs, batch).total() != contrast.loss(ours, shuffled, batch).total()


def test_everything_that_is_to_learn_has_a_gradient():
    for critic in ("dot", "bilinear", "mlp"):
        for form in ("nce", "wasserstein"):
            method, ours, theirs, batch = ready(critic=critic, global_form=form, ot="ipot")
            method.loss(ours, theirs, batch).total().backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters()), (critic, form)
            assert method.project["teacher"].weight.grad.abs().sum() > 0


def test_the_dual_form_is_a_difference_of_mean_scores():
    method, ours, theirs, batch = ready(global_form="wasserstein", temperature=1.0, negatives=100)
    student, teacher = method.projected(ours, theirs)
    rows = method.bank.rows(batch.ids)
    keep = ~nn.functional.one_hot(rows, 20).bool()
    expected = -2 * (student * teacher).sum(1)
    for anchor, table in ((teacher, method.bank.student), (student, method.bank.teacher)):
        expected = expected + (anchor @ table.T)[keep].reshape(4, 19).mean(1)
    torch.testing.assert_close(method.loss(ours, theirs, batch)["contrast"], expected, rtol=1e-4, atol=1e-5)


def test_others_of_the_batch_need_no_memory():
    batch = batch_of(0, 3, 7, 7)
    method, ours, theirs, _ = ready(batch, in_batch_negatives=True, local_weight=0.0, task_weight=0.0)
    assert method.bank is None
    student, teacher = method.projected(ours, theirs)
    expected = []
    for i in range(4):
        total = 0.0
        for anchor, partners in ((teacher, student), (student, teacher)):
            own = (anchor[i] @ partners[i])[None] / 0.07
            others = torch.stack([anchor[i] @ partners[j] for j in range(4) if batch.ids[j] != batch.ids[i]]) / 0.07
            total += noise_contrast(own, others[None], total=20).item()
        expected.append(total)
    assert method.loss(ours, theirs, batch)["contrast"].tolist() == pytest.approx(expected, rel=1e-4)
    apart = ready(batch, in_batch_negatives=True, other_classes=True)[0]
    chosen, mask = apart._others(batch)
    assert torch.equal(mask, batch.labels[chosen] != batch.labels[:, None])


def test_memory_moves_after_the_step_and_the_constant_is_set_once():
    method, ours, theirs, batch = ready()
    step = Step(batch, {}, 0, 0, 0.0)
    before = copy.deepcopy(method.bank.student)
    method.before_step(step)
    method.loss(ours, theirs, batch)
    assert torch.equal(before, method.bank.student)
    constant = method.log_z.clone()
    assert constant.isfinite().all()
    method.after_step(step)
    changed = (before != method.bank.student).any(1)
    assert changed.nonzero().flatten().tolist() == method.bank.rows(batch.ids).tolist()
    method.loss(ours, theirs, batch)
    assert torch.equal(constant, method.log_z)
    assert {"log_z", "bank.student", "bank.teacher", "bank.ids"} <= method.state_dict().keys()


def test_a_batch_of_strangers_is_refused():
    method, ours, theirs, batch = ready()
    with pytest.raises(InputError, match="no row for sample 1:"):
        method.loss(ours, theirs, batch.with_(ids=torch.tensor([1, 2, 4, 5])))


def test_features_that_do_not_exist_are_refused():
    with pytest.raises(InputError, match="several places"):
        ready(feature="*")


@pytest.mark.slow
def test_a_students_vector_is_nearer_to_its_teachers_than_to_others_on_unseen_samples(recipe, go):
    """Chance is a half; no label is used."""
    from tutelage.data.digits import Digits
    from tutelage.engine import checkpoint

    convnet = {"model": "convnet", "depth": 2}
    finished = go(
        recipe(
            {"name": "wcord", "task_weight": 0.0, "negatives": 64, "proj_dim": 32, "global_weight": 1.0},
            teacher={**convnet, "width": 8, "weights": {"train": {"epochs": 5}}},
            student={**convnet, "width": 4},
            epochs=12,
            data={"name": "digits", "limit": 300},
        )
    )
    splits = Digits().load(0)
    batch, vectors = splits.test.fetch(range(200)), []
    for stage, name, width in (("teacher", "teacher", 8), ("transfer", "student", 4)):
        model = ConvNet(splits.info, width=width, depth=2)
        _, state = checkpoint.load(next((finished.folder / "stages" / stage / "end").glob("step-*")))
        model.load_state_dict(state["models"][name])
        vectors.append(Participant(name, model, trainable=False, taps=["embedding"])(batch).embedding)
    weights = state["method"]
    for side, name in enumerate(("teacher", "student")):
        head = weights[f"project.{name}.weight"], weights[f"project.{name}.bias"]
        vectors[side] = nn.functional.normalize(nn.functional.linear(vectors[side], *head), dim=1)
    scores = vectors[1] @ vectors[0].T
    assert (scores.diagonal()[:, None] > scores).float().mean() > 0.7
    history = json.loads((finished.folder / "stages" / "transfer" / "record.json").read_text())["history"]
    known = [epoch["losses"]["transfer/information"] for epoch in history]
    assert known[-1] > known[0] + 1.0
