from __future__ import annotations

import pytest

from tutelage.measure.anls import anls, answer_similarity, edit_distance


@pytest.mark.parametrize(("a", "b", "apart"), [("kitten", "sitting", 3), ("", "abc", 3), ("same", "same", 0)])
def test_edit_distance(a, b, apart):
    assert edit_distance(a, b) == edit_distance(b, a) == apart


def test_the_cards_numbers():
    assert answer_similarity("12 March 1998", ["12 march 1999", "march 1999"]) == pytest.approx(0.9230769)
    assert answer_similarity("abc", ["abd"]) == pytest.approx(0.6666667)
    # A distance of exactly one half is too far.
    assert answer_similarity("ab", ["ad"]) == 0.0


def test_case_spaces_and_nothing():
    assert answer_similarity("  Yes ", ["YES"]) == 1.0
    assert answer_similarity("", [""]) == 1.0
    with pytest.raises(ValueError, match="at least one reference"):
        answer_similarity("a", [])


def test_means_by_kind():
    found = anls(["abc", "x", "10"], [["abd"], ["y"], ["10"]], ["text", "text", "number"])
    assert found == {"all": pytest.approx((2 / 3 + 0 + 1) / 3), "text": pytest.approx(1 / 3), "number": 1.0}
    with pytest.raises(ValueError, match="expected as many"):
        anls(["a"], [])
