"""Layer selection: maps, pairs, copies, adapters, angles, and what the study says may be asserted on digits."""

from __future__ import annotations

import pytest
import torch

from tutelage.data.batch import Batch, DataInfo
from tutelage.distill.layer_selection import LayerSelection
from tutelage.distill.parts.layer_angles import angle_tables, probe_states
from tutelage.engine.method import Room
from tutelage.models.convnet import ConvNet
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
    assert method.findings(None) == {}


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


def test_the_published_scale_divides_by_the_batch_once_more():
    teacher, student = vit(6), vit(3)
    plain, published = (ready(teacher, student, per_batch=once)[0] for once in (False, True))
    _, ours, theirs = ready(teacher, student)
    first, second = (method.loss(ours, theirs, BATCH) for method in (plain, published))
    torch.testing.assert_close(first["hidden"], second["hidden"])
    assert second.weight("hidden") == pytest.approx(3.0 / 4)


def test_a_copied_convolutional_network_costs_nothing_in_order():
    teacher = ConvNet(INFO, width=4)
    for strategy, zero in (("forward", True), ("reverse", False)):
        method, ours, theirs = ready(
            teacher.eval(), ConvNet(INFO, width=4).eval(), strategy=strategy, student_init="copy"
        )
        assert (method.loss(ours, theirs, BATCH)["hidden"].mean().item() < 1e-9) is zero
    assert [j for _, j in method.pairs] == [0, 3, 2, 1]


def test_channels_are_bridged_and_larger_maps_averaged():
    method, ours, theirs = ready(ConvNet(INFO, width=6), ConvNet(INFO, width=4, depth=2), strategy="all_to_one")
    assert {tuple(p.shape) for p in method.parameters()} == {(6, 1, 1, 1), (6, 4, 1, 1), (6, 8, 1, 1)}
    pairs = method.matched(ours, theirs)
    assert [tuple(mine.shape) for mine, _ in pairs] == [(4, 64, 6), (4, 64, 6), (4, 16, 6)]
    averaged = torch.nn.functional.avg_pool2d(theirs.taps["blocks.0"], 2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(pairs[2][1], averaged.detach())


@pytest.mark.parametrize("turned", [False, True])
def test_tokens_and_maps_meet_on_the_grid_of_the_patches(turned):
    tokens, maps = ViT(INFO, patch=2, dim=8, depth=2, heads=2, pool="token"), ConvNet(INFO, width=8, depth=2)
    models = (maps, tokens) if turned else (tokens, maps)
    method, ours, theirs = ready(*models)
    for mine, target in method.matched(ours, theirs):
        assert mine.shape == target.shape
    grid = (ours if turned else theirs).taps["blocks.0"][:, 1:]
    whole = dict(zip((i for i, _ in method.pairs), method.matched(ours, theirs), strict=True))[1]
    assert whole[0].shape[1] == grid.shape[1] == 16


def test_ways_between_matched_pairs():
    """The student goes straight, the teacher half to the side."""
    states = [torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[1.0, 0.0]]])]
    teacher = {0: torch.tensor([[[0.0, 0.0]]]), 3: torch.tensor([[[2.0, 2.0]]])}
    probe = probe_states([(0, 0, states[0]), (1, 3, states[1])], teacher)
    assert probe.ways == {((0, 0), (1, 3)): pytest.approx(0.707107, abs=1e-6)}
    tables = angle_tables(probe, probe)
    (way,) = tables["cosine of matched ways"]
    assert way["student states"] == "0 to 1"
    assert way["teacher states"] == "0 to 3"
    histogram = tables["histogram of the angles' cosines"]
    assert sum(row["start"] for row in histogram) == pytest.approx(1.0)
    assert len(histogram) == 20


def test_what_is_matched_to_one_state_has_no_ways():
    here = torch.rand(2, 3, 4)
    assert probe_states([(0, 1, here), (1, 1, here)], {0: here, 1: here}).ways == {}
    assert angle_tables(probe_states([], {}), probe_states([], {})) == {}


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
    # Stages of unlike width have no angles between them.
    assert "angles to teacher layers" not in finished.report["findings"]


def test_most_angles_are_acute_at_first_and_after_training(recipe, go):
    """The study's explanation, in the bounds that its card allows on digits."""
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
    table = finished.report["findings"]["angles to teacher layers"]
    assert [row["student state"] for row in table] == [0, 1, 2, 3, "all"]
    assert table[-1]["acute, start"] > 0.9
    assert table[-1]["acute, end"] > 0.6
    assert len(finished.report["findings"]["cosine of matched ways"]) == 6
