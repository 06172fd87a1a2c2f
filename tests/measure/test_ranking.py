from __future__ import annotations

import itertools

import numpy as np
import pytest

from tutelage.measure.ranking import rank_agreement, summed_ranks


def test_correlations_by_hand():
    score, truth = [1, 2, 3, 4, 4], [10.0, 30.0, 20.0, 40.0, 50.0]
    found = rank_agreement(score, truth, shares=(0.2, 0.4))
    pairs = list(itertools.combinations(range(5), 2))
    signs = [np.sign(score[i] - score[j]) * np.sign(truth[i] - truth[j]) for i, j in pairs]
    tied = sum(score[i] == score[j] for i, j in pairs)
    assert found["kendall"] == pytest.approx(sum(signs) / np.sqrt((10 - tied) * 10))
    assert found["pearson"] == pytest.approx(np.corrcoef(score, truth)[0, 1])
    ranks = [1, 2, 3, 4.5, 4.5], [1, 3, 2, 4, 5]
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    # Of two that are predicted best alike, the first counts: truly the second.
    assert (found["top_20"], found["best_of_top_20"]) == (0.0, 2.0)
    assert (found["top_40"], found["best_of_top_40"]) == (1.0, 1.0)


def test_perfect_reversed_and_constant():
    assert rank_agreement([1, 2, 3], [2, 4, 9])["kendall"] == pytest.approx(1)
    assert rank_agreement([3, 2, 1], [2, 4, 9])["spearman"] == pytest.approx(-1)
    assert rank_agreement([1, 1, 1], [2, 4, 9])["kendall"] is None


def test_summed_ranks_do_not_see_sizes():
    assert summed_ranks([[1, 2, 3], [300.0, 100.0, 200.0]]) == [4, 3, 5]
    with pytest.raises(ValueError, match="two lists of one length"):
        rank_agreement([1, 2], [1, 2, 3])
