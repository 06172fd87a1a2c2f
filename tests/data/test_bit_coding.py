"""Codes of ids and numbers: what goes in comes out, in as many bits as is said."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data import bit_coding

ROWS = st.lists(st.lists(st.sets(st.integers(0, 299), max_size=12), max_size=4), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from([300, 301, 1000, 49152]))
def test_rows_of_ids_come_back_also_empty_ones(records, universe):
    rows = numpy.array([len(record) for record in records])
    counts = numpy.array([len(row) for record in records for row in record], numpy.int64)
    ids = numpy.array([one for record in records for row in record for one in sorted(row)], numpy.int64)
    high, low = bit_coding.code_ids(ids, counts, rows, universe)
    assert bit_coding.decode_ids(high, low, counts, rows, universe).tolist() == ids.tolist()
    # Any choice of records in any order, since each begins on a byte of its own.
    turned = list(reversed(range(len(records))))
    again = [one for r in turned for row in records[r] for one in sorted(row)]
    sizes = numpy.array([len(row) for r in turned for row in records[r]], numpy.int64)
    found = bit_coding.decode_ids([high[r] for r in turned], [low[r] for r in turned], sizes, rows[turned], universe)
    assert found.tolist() == again


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2**40), max_size=9), min_size=1, max_size=4), st.integers(0, 12))
def test_numbers_come_back(records, order):
    of = numpy.array([len(record) for record in records])
    numbers = numpy.array([one for record in records for one in record], numpy.int64)
    coded = bit_coding.code_numbers(numbers, of, order)
    assert bit_coding.decode_numbers(*coded, of, order).tolist() == numbers.tolist()
    each = numpy.arange(len(numbers)) % 5
    assert bit_coding.decode_numbers(*bit_coding.code_numbers(numbers, of, each), of, each).tolist() == numbers.tolist()
    total = sum(len(part) for section in coded for part in section)
    assert total <= bit_coding.bits_of(numbers, order).sum() / 8 + 2 * len(records)


def test_ids_take_two_bits_more_than_their_share_of_the_vocabulary():
    draw = numpy.random.default_rng(0)
    counts = numpy.full(200, 30)
    ids = numpy.concatenate([numpy.sort(draw.choice(49152, 30, replace=False)) for _ in counts])
    high, low = bit_coding.code_ids(ids, counts, numpy.array([200]), 49152)
    assert 8 * (len(high[0]) + len(low[0])) / len(ids) <= math.log2(49152 / 30) + 2 + 0.1


def test_a_whole_row_takes_about_two_bits_a_token():
    ids = numpy.arange(1000)
    high, low = bit_coding.code_ids(ids, numpy.array([1000]), numpy.array([1]), 1000)
    assert (len(high[0]), len(low[0])) == (250, 0)
    assert bit_coding.decode_ids(high, low, numpy.array([1000]), numpy.array([1]), 1000).tolist() == ids.tolist()


def test_bytes_that_are_no_code_are_refused():
    counts, rows = numpy.array([2]), numpy.array([1])
    high, low = bit_coding.code_ids(numpy.array([1, 5]), counts, rows, 10)
    with pytest.raises(ValueError, match="ids where"):
        bit_coding.decode_ids([high[0] | 255], low, counts, rows, 10)
    with pytest.raises(ValueError, match="numbers where"):
        bit_coding.decode_numbers(*bit_coding.code_numbers(numpy.array([3, 4]), counts, 0), numpy.array([3]), 0)
    with pytest.raises(ValueError, match="too large"):
        bit_coding.code_numbers(numpy.array([2**60]), numpy.array([1]), 0)
