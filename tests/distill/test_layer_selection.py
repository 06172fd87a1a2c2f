"""Layer selection: maps, pairs, copies, adapters, angles, and what the study says may be asserted on digits."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.layer_selection import LayerSelection
from tutelage.engine.method import Room
from tutelage.models.participant import Participant
from tutelage.models.vit import ViT
from tutelage.recipe.errors import InputError, RecipeError

INFO = DataInfo((1, 8, 8), 10, tuple("0123456789"), "")
BATCH = Batch(torch.rand(4, 1, 8, 8), torch.arange(4), torch.arange(4), torch.arange(4))


def vit(depth, dim=16):
    return ViT(INFO, patch=(1, 8), dim=dim, depth=depth, heads=2)


def ready(teacher, student, **arguments):
    """The method set up, and both models' outputs."""
    method = LayerSelection(**arguments)
    room = Room({"teacher": teacher, "student": student}, INFO, BATCH, ["student"])
    method.setup(room)
    outputs = {}
    for name, module in room.modules.items():
        outputs[name] = Participant(name, module, trainable=name == "student", taps=room.taps(name))(BATCH)
    return method, outputs["student"], outputs["teacher"]


@pytest.mark.parametrize(
    ("strategy", "pairs"),
    [
        ("forward", ((0, 0), (1, 2), (2, 4), (3, 6))),
        ("reverse", ((0, 0), (1, 6), (2, 4), (3, 2))),
        ("all_to_one", ((0, 3), (1, 3), (2, 3), (3, 3))),
        ("single", ((3, 6),)),
        ("none", ()),
    ],
)
def test_which_states_are_matched(strategy, pairs):
    method, _, _ = ready(vit(6), vit(3), strategy=strategy)
    assert method.pairs == pairs


def test_a_random_order_is_that_of_the_seed():
    orders = set()
    for seed in (0, 0, 1, 2, 3, 4, 5):
        torch.manual_seed(seed)
        models = vit(6), vit(3)
        torch.manual_seed(seed)
        method, _, _ = ready(*models, strategy="random")
        assert sorted(t for _, t in method.pairs) == [0, 2, 4, 6]
        orders.add((seed, method.pairs))
    assert len(orders) == 6
    assert len({pairs for _, pairs in orders}) > 1


def test_state_zero_enters_the_blocks_and_state_i_leaves_block_i():
    teacher, student = vit(6).eval(), vit(3).eval()
    method, ours, theirs = ready(teacher, student)
    entering = (student.patches(BATCH.inputs).flatten(2).transpose(1, 2) + student.position).detach()
    pairs = method.matched(ours, theirs)
    assert torch.allclose(pairs[0][0], entering, atol=1e-6)
    state = (teacher.patches(BATCH.inputs).flatten(2).transpose(1, 2) + teacher.position).detach()
    for block in teacher.blocks[:2]:
        state = block(state)
    assert torch.allclose(pairs[1][1], state, atol=1e-5)


def test_a_copy_matched_in_order_costs_nothing_and_in_reverse_something():
    teacher = vit(3)
    for strategy, zero in (("forward", True), ("reverse", False)):
        method, ours, theirs = ready(teacher, vit(3), strategy=strategy, student_init="copy")
        hidden = method.loss(ours, theirs, BATCH)["hidden"].mean().item()
        assert (hidden < 1e-9) is zero


def test_copies_come_from_the_forward_list():
    teacher, student = vit(6), vit(3)
    ready(teacher, student, student_init="copy_reversed")
    for own, source in enumerate((5, 3, 1)):
        assert torch.equal(student.blocks[own].mlp[0].weight, teacher.blocks[source].mlp[0].weight)
    assert torch.equal(student.head.weight, teacher.head.weight)


def test_without_hidden_states_it_is_labels_and_divergence():
    method, ours, theirs = ready(vit(6), vit(3), strategy="none")
    losses = method.loss(ours, theirs, BATCH)
    cross = torch.nn.functional.cross_entropy(ours.logits, BATCH.labels)
    divergence = torch.nn.functional.kl_div(
        ours.logits.log_softmax(-1), theirs.logits.softmax(-1), reduction="batchmean"
    )
    assert losses.total().item() == pytest.approx((cross + divergence).item(), abs=1e-5)


def test_adapters_bridge_widths_and_are_trained_with_the_method():
    method, ours, theirs = ready(vit(4, dim=16), vit(2, dim=8))
    assert {tuple(p.shape) for p in method.parameters()} == {(16, 8)}
    method.loss(ours, theirs, BATCH).total().backward()
    assert all(p.grad is not None for p in method.parameters())
    with pytest.raises(InputError, match="different widths"):
        ready(vit(4, dim=16), vit(2, dim=8), adapter="none")


def test_the_angle_of_the_card():
    method = LayerSelection()
    method.pairs, method.adapters = ((0, 0), (1, 1)), {"0": torch.nn.Identity(), "1": torch.nn.Identity()}
    method.states = {"student": ("s0", "s1"), "teacher": ("t0", "t1")}
    from tutelage.models.outputs import Outputs

    here = torch.zeros(1, 1, 2)
    student = Outputs(torch.zeros(1, 2), {"s0": here, "s1": here})
    teacher = Outputs(torch.zeros(1, 2), {"t0": torch.tensor([[[1.0, 0.0]]]), "t1": torch.tensor([[[1.0, 1.0]]])})
    found = method.angles(student, teacher)
    assert (found.mean, found.acute) == (pytest.approx(0.707107, abs=1e-6), 1.0)
    assert found.each.keys() == {(0, 0, 1), (1, 0, 1)}
    assert found.histogram.sum() == 2
    assert found.histogram[853] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"layer_map": [0, 9, 1]}, "layer_map"),
        ({"layer_map": [0]}, "layer_map"),
        ({"student_layers": "bloks.*"}, "bloks"),
        ({"strategy": "all_to_one", "teacher_state": 9}, "teacher_state"),
    ],
)
def test_layers_that_are_not_there(arguments, said):
    with pytest.raises(InputError, match=said):
        ready(vit(6), vit(3), **arguments)


def test_a_student_deeper_than_its_teacher_is_refused():
    with pytest.raises(InputError, match="name the pairs of layers yourself"):
        ready(vit(2), vit(3))


def test_an_unknown_strategy_is_answered_with_the_nearest(recipe, go):
    with pytest.raises(RecipeError, match="forward"):
        go(recipe({"name": "layer-selection", "strategy": "foward"}))


def test_stages_of_convolutions_can_be_matched_too(recipe, go):
    finished = go(
        recipe(
            {"name": "layer-selection", "hidden_weight": 0.01},
            teacher={"model": "convnet", "width": 6, "depth": 3, "weights": {"train": {"epochs": 1}}},
            student={"model": "convnet", "width": 4, "depth": 3},
            epochs=1,
        )
    )
    assert finished.report["status"] == "done"


def test_most_angles_are_acute_at_first_and_after_training(recipe, go):
    """The study's explanation, in the bounds that its card allows on digits."""
    from tutelage.data.digits import Digits
    from tutelage.engine import checkpoint

    sizes = {"patch": [1, 8], "dim": 32, "heads": 4}
    finished = go(
        recipe(
            {"name": "layer-selection", "hidden_weight": 0.1},
            teacher={"model": "vit", **sizes, "depth": 6, "weights": {"train": {"epochs": 20, "batch_size": 20}}},
            student={"model": "vit", **sizes, "depth": 3},
            epochs=20,
            batch_size=20,
        )
    )
    teacher, student = vit6(), vit3()
    for stage, name, module in (("teacher", "teacher", teacher), ("transfer", "student", student)):
        _, state = checkpoint.load(next((finished.folder / "stages" / stage / "end").glob("step-*")))
        module.load_state_dict(state["models"][name])
    test = Digits().load(0).test.fetch(range(100))
    shares = []
    for module in (vit3(), student):
        method = LayerSelection()
        room = Room({"teacher": teacher, "student": module}, INFO, test, ["student"])
        method.setup(room)
        shares.append(method.angles(room.look("student"), room.look("teacher")).acute)
    assert shares[0] > 0.9
    assert shares[1] > 0.6


def vit6():
    return ViT(INFO, patch=(1, 8), dim=32, depth=6, heads=4)


def vit3():
    return ViT(INFO, patch=(1, 8), dim=32, depth=3, heads=4)
