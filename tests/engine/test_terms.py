"""Terms of a loss: what is minimised, what is only logged, and names that would hide each other."""

from __future__ import annotations

import pytest
import torch

from tutelage.engine.terms import Losses

TERMS = Losses(task=torch.tensor([1.0, 3.0]), transfer=torch.tensor(5.0)).weighted(transfer=2.0)


def test_what_is_noted_is_logged_and_not_minimised():
    noted = TERMS.noting(softness=torch.tensor([4.0, 8.0]))
    assert {name: value.item() for name, value in noted.means().items()} == {"task": 2, "transfer": 5, "softness": 6}
    assert noted.total().item() == TERMS.total().item() == 12.0
    assert list(noted) == ["task", "transfer"]


def test_notes_have_no_graph_and_follow_their_terms():
    value = torch.ones(2, requires_grad=True)
    noted = TERMS.noting(softness=value)
    assert not noted.means()["softness"].requires_grad
    moved = Losses(task=torch.zeros(2)) | noted.without("task").weighted(transfer=1.0).prefixed("also1")
    assert set(moved.means()) == {"task", "also1.transfer", "also1.softness"}


def test_a_note_may_not_bear_the_name_of_a_term():
    with pytest.raises(KeyError, match="task"):
        TERMS.noting(task=torch.ones(()))
    with pytest.raises(KeyError, match="softness"):
        TERMS.noting(softness=torch.ones(())) | Losses(softness=torch.ones(()))
