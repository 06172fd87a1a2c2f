from __future__ import annotations

import math

import pytest
import torch

from tutelage.measure.class_similarity import class_profiles, profile_agreement, soft_label_facts


def test_profiles_are_means_of_distributions():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8]])
    found = class_profiles(probabilities.log(), torch.tensor([0, 0, 2]))
    assert found[0].tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert found[1].isnan().all()
    assert found[2].tolist() == pytest.approx([0.1, 0.1, 0.8])


def test_agreement():
    theirs = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]], dtype=torch.float64)
    same = profile_agreement(theirs, theirs)
    assert same["kl"] == pytest.approx(0.0, abs=1e-12)
    assert same["correlation"] == pytest.approx(1.0)
    ours = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]], dtype=torch.float64)
    found = profile_agreement(ours, theirs)
    assert found["kl"] == pytest.approx(float((theirs * (theirs / ours).log()).sum(1).mean()))
    # All others alike: nothing is said of which are.
    assert found["correlation"] == 0.0
    with pytest.raises(ValueError, match="cannot be compared"):
        profile_agreement(ours, theirs[:2, :2])


def test_what_a_temperature_makes():
    logits, labels = torch.tensor([[3.0, 1.0, 0.0, 0.0]]), torch.tensor([0])
    flat = soft_label_facts(logits, labels, temperature=1e6, superclasses=[[0, 1], [2, 3]])
    assert flat["entropy"] == pytest.approx(math.log(4), abs=1e-5)
    assert flat["superclass_mass"] == pytest.approx(1 / 3, abs=1e-4)
    plain = soft_label_facts(logits, labels, temperature=1.0, superclasses=[[0, 1], [2, 3]])
    assert plain["superclass_mass"] == pytest.approx(math.e / (math.e + 2))
    assert soft_label_facts(logits, labels, temperature=1.0)["superclass_mass"] is None
