"""Domains: who is held out, that nothing of it is trained or validated on, and the suites that have them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tutelage.data.digits import Digits
from tutelage.data.domains import Domains, divide_by_domain, held_out
from tutelage.data.glyphs import Glyphs
from tutelage.data.mnist_to_digits import MnistToDigits
from tutelage.data.rotated import Rotated
from tutelage.data.shaping import shape
from tutelage.data.warping import warped
from tutelage.recipe.errors import InputError

NAMES = ("photo", "sketch", "10")


def test_a_domain_is_held_out_by_place_or_name() -> None:
    assert held_out(NAMES, None) == ()
    assert held_out(NAMES, 1) == (1,)
    assert held_out(NAMES, ["10", 0]) == (0, 2)
    # A number that is no place can still be a name.
    assert held_out(NAMES, 10) == (2,)
    with pytest.raises(InputError, match=r"no domain 'skech'. Did you mean 'sketch'"):
        held_out(NAMES, "skech")
    with pytest.raises(InputError, match="no domain '3'"):
        held_out(NAMES, 3)
    with pytest.raises(InputError, match="names all domains"):
        held_out(NAMES, [0, 1, 2])


def suite(held: tuple[int, ...] = (2,), count: int = 600) -> tuple[torch.Tensor, Domains]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (count,), generator=generator)
    return labels, Domains(NAMES, torch.randint(3, (count,), generator=generator), held)


def test_testing_gets_all_of_what_is_held_out_and_nothing_else() -> None:
    labels, domains = suite()
    parts = divide_by_domain(labels, domains, validation=0.25, test=0.2, seed=0, names="abcd")
    assert torch.equal(parts.test, (domains.by_id == 2).nonzero().flatten())
    everything = torch.cat([parts.train, parts.validation, parts.test])
    assert torch.equal(everything.sort().values, torch.arange(600))
    for domain in (0, 1):
        for label in range(4):
            cell = ((domains.by_id == domain) & (labels == label)).nonzero().flatten()
            validated = int(torch.isin(cell, parts.validation).sum())
            assert validated == round(0.25 * len(cell))


def test_without_one_held_out_every_domain_is_in_every_part() -> None:
    labels, domains = suite(())
    parts = divide_by_domain(labels, domains, validation=0.2, test=0.2, seed=0, names="abcd")
    for part in (parts.train, parts.validation, parts.test):
        assert set(domains.of(part).tolist()) == {0, 1, 2}


def test_domains_of_single_samples_are_divided_by_class() -> None:
    labels = torch.arange(2).repeat(20)
    parts = divide_by_domain(
        labels, Domains(NAMES * 20, torch.arange(40)), validation=0.1, test=0.2, seed=0, names=("x", "y")
    )
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [28, 4, 8]
    assert not parts.warnings


def test_a_class_that_only_the_held_out_domain_has_is_named() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    domains = Domains(("a", "b"), torch.tensor([0, 0, 0, 1]), (1,))
    assert len(divide_by_domain(labels, domains, validation=0, test=0.2, seed=0, names="xy").test) == 1
    with pytest.raises(InputError, match="no sample of class 'y' to train on"):
        divide_by_domain(
            labels, Domains(("a", "b"), torch.tensor([0, 0, 1, 1]), (1,)), validation=0, test=0.2, seed=0, names="xy"
        )


def test_deciding_by_the_held_out_domain_is_refused() -> None:
    _, domains = suite()
    fine, leak = (domains.by_id != 2).nonzero().flatten(), (domains.by_id == 2).nonzero().flatten()[:1]
    domains.refuse_held_out(fine, "callbacks: 'swad'")
    with pytest.raises(InputError, match="callbacks: 'swad' would be chosen by samples of the held-out domain '10'"):
        domains.refuse_held_out(torch.cat([fine, leak]), "callbacks: 'swad'")


def test_turning_by_a_right_angle_is_exact() -> None:
    images = torch.rand(3, 2, 7, 7, generator=torch.Generator().manual_seed(0))
    for quarter in range(4):
        turned = warped(images, torch.full((3,), 90.0 * quarter))
        torch.testing.assert_close(turned, images.rot90(quarter, (2, 3)), atol=1e-5, rtol=1e-4)


def test_scaling_and_moving() -> None:
    spot = torch.zeros(1, 1, 9, 9)
    spot[0, 0, 4, 5] = 1.0
    moved = warped(spot, torch.zeros(1), move=torch.tensor([[2 / 9, -4 / 9]]))
    assert moved.flatten().argmax() == 2 * 9 + 6
    twice = warped(spot, torch.zeros(1), scale=torch.tensor([2.0]))
    assert twice.flatten().argmax() == 4 * 9 + 6
    turned = warped(spot, torch.tensor([90.0]), move=torch.tensor([[2 / 9, 0.0]]))
    assert turned.flatten().argmax() == 3 * 9 + 5
    assert warped(spot, torch.zeros(1), size=5).shape == (1, 1, 5, 5)


def test_a_wide_image_is_turned_and_not_sheared() -> None:
    wide = torch.zeros(1, 1, 11, 21)
    wide[0, 0, 5, 10:14] = 1.0
    up = warped(wide, torch.tensor([90.0]))
    assert up[0, 0, 2:6, 10].min() > 0.9
    assert float(up.sum()) == pytest.approx(4.0, abs=1e-3)


def test_rotated_digits_leave_one_out() -> None:
    splits, whole = Rotated(of=Digits(), hold_out=3).load(0), Digits()
    assert splits.domains is not None
    assert splits.record["hold_out"] == ["60"]
    assert set(splits.domains.of(splits.test.ids).tolist()) == {3}
    assert set(splits.domains.of(splits.train.ids).tolist()) == {0, 1, 2}
    assert splits.validation is not None
    splits.domains.refuse_held_out(splits.validation.ids, "this")
    # Each image is in one domain only, as it was turned by that domain's angle.
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 1797
    images, labels = whole.read()
    batch = splits.test.fetch(range(50))
    torch.testing.assert_close(batch.inputs, warped(images[batch.ids], torch.full((50,), 60.0)))
    assert torch.equal(batch.labels, labels[batch.ids])
    sizes = torch.bincount(splits.domains.by_id)
    assert int(sizes.max() - sizes.min()) <= 10
    shaped = shape(splits, {"limit": 100}, 0)
    assert shaped.domains is splits.domains
    assert set(splits.domains.of(shaped.train.ids).tolist()) == {0, 1, 2}


def test_suites_say_what_they_cannot_turn() -> None:
    with pytest.raises(InputError, match=r"angles \[0.0, 0.0\] has an angle twice"):
        Rotated(of=Digits(), angles=(0.0, 0.0)).load(0)


def test_glyphs_are_classes_and_fonts_domains() -> None:
    pytest.importorskip("matplotlib")
    glyphs = Glyphs(characters="AOX", fonts=("DejaVu*", "cmr10", "cmtt10"), views=3, size=16, hold_out="cmtt10")
    splits = glyphs.load(0)
    assert splits.info.class_names == ("A", "O", "X")
    assert splits.info.input_shape == (1, 16, 16)
    assert splits.domains is not None
    assert "DejaVuSansDisplay" not in splits.domains.names
    assert {splits.domains.names[d] for d in splits.domains.of(splits.test.ids).tolist()} == {"cmtt10"}
    assert len(splits.test) == 9
    assert torch.equal(glyphs.load(1).test.inputs, splits.test.inputs)
    # Views differ, and letters of an unseen font are still nearest to their own class.
    assert len(splits.test.inputs.flatten(1).unique(dim=0)) == 9
    distance = torch.cdist(splits.test.inputs.flatten(1), splits.train.inputs.flatten(1))
    assert float((splits.train.labels[distance.argmin(1)] == splits.test.labels).float().mean()) > 0.8


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"characters": "ABA"}, "names a character twice"),
        ({"characters": "A B", "fonts": ("cmr10", "DejaVuSans")}, "' ' draws nothing"),
        ({"characters": "A\u4e2d", "fonts": ("DejaVuSans",)}, "'DejaVuSans' has no character '\u4e2d'"),
        ({"characters": "A\u4e2d"}, "none of \\* has all of"),
        ({"fonts": ("DejaVuSan",)}, "no font is called 'DejaVuSan'. Did you mean 'DejaVuSans'"),
        ({"fonts": ("no/such.ttf",)}, r"there is no file no/such\.ttf"),
    ],
)
def test_glyphs_that_cannot_be_drawn(keys: dict, message: str) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(InputError, match=message):
        Glyphs(**keys).load(0)


def test_symbol_fonts_are_used_only_when_named() -> None:
    pytest.importorskip("matplotlib")
    both = Glyphs(characters="AB", fonts=("cm*", "cmsy10"), views=1).load(0).domains
    assert both is not None
    assert "cmsy10" in both.names
    assert "cmex10" not in both.names


def test_mnist_to_digits_tests_on_other_hands(tmp_path: Path) -> None:
    digits = load_digits()
    for digit in range(10):
        images = digits.images[digits.target == digit][:20] / 16
        # Each pixel of the 8x8 becomes 4x4, and what the frame of 2 would be is cut off.
        large = images.repeat(4, 1).repeat(4, 2)[:, 2:30, 2:30]
        (tmp_path / f"{digit}.json").write_text(json.dumps({"data": large.flatten().round(4).tolist()}))
    splits = MnistToDigits(path=str(tmp_path)).load(0)
    assert splits.domains is not None
    assert splits.record["domains"] == {"mnist": 200, "digits": 1797}
    assert splits.record["hold_out"] == ["digits"]
    assert len(splits.test) == 1797
    assert set(splits.domains.of(splits.train.ids).tolist()) == {0}
    batch = splits.train.fetch(range(30))
    for image, place in zip(batch.inputs, batch.ids.tolist(), strict=True):
        original = digits.images[digits.target == place // 20][place % 20] / 16
        np.testing.assert_allclose(image[0, 1:7, 1:7].numpy(), original[1:7, 1:7], atol=1e-3)
    test = splits.test.fetch(range(5))
    np.testing.assert_allclose(test.inputs[:, 0].numpy(), digits.images[:5] / 16, atol=1e-6)
