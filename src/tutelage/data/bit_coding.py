"""Rows of sorted ids, and small numbers, in few bits: a whole batch of records coded or decoded at once.

A record is what belongs to one sample: it begins on a byte of its own, so that any choice of records can be laid one
after the other and decoded together. Ids are coded as by Elias (1974) and Fano (1971): the high bits of a row in unary,
which costs about two bits an id, the low bits as they are. Numbers are coded as exponential Golomb codes: their length
in unary, then the digits. All unary parts lie together, and all digits, since each kind can be taken apart without a
loop over its members.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

Array = numpy.ndarray[Any, Any]
# One load of 64 bits from any byte holds this many bits from any bit of that byte.
_WIDEST = 57


def offsets(lengths: Array) -> Array:
    """``[n + 1]`` int64: where each of some parts begins, and the end of the last."""
    found = numpy.zeros(len(lengths) + 1, numpy.int64)
    numpy.cumsum(lengths, out=found[1:])
    return found


def within(lengths: Array) -> Array:
    """``[sum]`` int64: 0, 1, ... for each of some parts."""
    begins = offsets(lengths)
    found: Array = numpy.arange(begins[-1]) - numpy.repeat(begins[:-1], lengths)
    return found


class Records:
    """Bits of several records, each from a byte's beginning.

    Args:
        parts: The records' bytes, uint8.
    """

    def __init__(self, parts: Sequence[Array]) -> None:
        # Any eight bytes from a byte of the last record must be there to be read.
        self._data = numpy.concatenate([*parts, numpy.zeros(8, numpy.uint8)])
        self.begins = 8 * offsets(numpy.fromiter((len(part) for part in parts), numpy.int64, len(parts)))[:-1]

    def ones(self) -> Array:
        """Places of all bits that are set, in rising order."""
        # Seven times as fast of truth values as of small numbers.
        found: Array = numpy.flatnonzero(numpy.unpackbits(self._data, bitorder="little").view(numpy.bool_))
        return found

    def digits(self, widths: Array, of: Array) -> Array:
        """Numbers that lie one after the other.

        Args:
            widths: ``[n]`` bits of each, at most 57.
            of: ``[records]``: how many of them are each record's.

        Returns:
            ``[n]`` int64.
        """
        at = self.places(widths, of)
        words: Array = numpy.ndarray((len(self._data) - 7,), "<u8", self._data, strides=(1,))[at >> 3]
        at &= 7
        words >>= at.view(numpy.uint64)
        # What is above the number's own bits is shifted out and back.
        spare = (64 - widths).view(numpy.uint64)
        words <<= spare
        words >>= spare
        found: Array = words.view(numpy.int64)
        return found

    def places(self, lengths: Array, of: Array) -> Array:
        """Where things of some lengths, in bits, begin that lie one after the other in each record."""
        begins = offsets(lengths)
        firsts = offsets(of)[:-1]
        found: Array = begins[:-1] + numpy.repeat(self.begins - begins[firsts], of)
        return found


def _packed(bits: Array, lengths: Array) -> list[Array]:
    """Bits as one array of bytes for each record."""
    return [numpy.packbits(part, bitorder="little") for part in numpy.split(bits, offsets(lengths)[1:-1])]


def sums(values: Array, of: Array) -> Array:
    """Sum of each record's values."""
    total = offsets(values)
    ends = offsets(of)
    found: Array = total[ends[1:]] - total[ends[:-1]]
    return found


def _digits(values: Array, widths: Array, of: Array) -> list[Array]:
    if widths.size and widths.max() > _WIDEST:
        raise ValueError(f"a number of {int(widths.max())} bits is too large to be coded")
    bits = (numpy.repeat(values, widths) >> within(widths)) & 1
    return _packed(bits.astype(numpy.uint8), sums(widths, of))


def _low_bits(counts: Array, universe: int) -> Array:
    found: Array = numpy.log2(universe / numpy.maximum(counts, 1)).astype(numpy.int64).clip(min=0)
    return found


def code_ids(ids: Array, counts: Array, rows: Array, universe: int) -> tuple[list[Array], list[Array]]:
    """Rows of ids, each in rising order without repetition.

    Args:
        ids: ``[sum of counts]`` int64 in [0, universe).
        counts: ``[rows]`` ids of each row.
        rows: ``[records]`` rows of each record.
        universe: One more than the largest id can be.

    Returns:
        For each record its bytes of high and of low bits.
    """
    low = _low_bits(counts, universe)
    wide = numpy.repeat(low, counts)
    lengths = counts + ((universe - 1) >> low) + 1
    places = numpy.repeat(offsets(lengths)[:-1], counts) + (ids >> wide) + within(counts)
    bits = numpy.zeros(int(lengths.sum()), numpy.uint8)
    bits[places] = 1
    return _packed(bits, sums(lengths, rows)), _digits(ids & ((1 << wide) - 1), wide, sums(counts, rows))


def decode_ids(high: Sequence[Array], low: Sequence[Array], counts: Array, rows: Array, universe: int) -> Array:
    """The ids that `code_ids` was given.

    Raises:
        ValueError: The bytes are no such code.
    """
    wide = _low_bits(counts, universe)
    lengths = counts + ((universe - 1) >> wide) + 1
    records = Records(high)
    ones = records.ones()
    if len(ones) != counts.sum():
        raise ValueError(f"{len(ones)} ids where {int(counts.sum())} should be")
    ids: Array = ones - numpy.repeat(records.places(lengths, rows), counts)
    ids -= within(counts)
    each = numpy.repeat(wide, counts)
    ids <<= each
    ids |= Records(low).digits(each, sums(counts, rows))
    return ids


def code_numbers(numbers: Array, of: Array, order: int | Array) -> tuple[list[Array], list[Array]]:
    """Numbers, the small ones in few bits.

    Args:
        numbers: ``[n]`` int64, at least 0.
        of: ``[records]``: how many of them are each record's.
        order: Digits of the smallest numbers, at least 0: 2ᵒʳᵈᵉʳ of them take ``order`` + 1 bits. One for all, or
            ``[n]``, one for each.

    Returns:
        For each record its bytes of lengths and of digits.
    """
    shifted = numbers + (1 << numpy.asarray(order))
    length = _length(shifted)
    unary = length - order + 1
    bits = numpy.zeros(int(unary.sum()), numpy.uint8)
    bits[numpy.cumsum(unary) - 1] = 1
    return _packed(bits, sums(unary, of)), _digits(shifted - (1 << length), length, of)


def decode_numbers(unary: Sequence[Array], digits: Sequence[Array], of: Array, order: int | Array) -> Array:
    """The numbers that `code_numbers` was given.

    Raises:
        ValueError: The bytes are no such code.
    """
    records = Records(unary)
    ones = records.ones()
    if len(ones) != of.sum():
        raise ValueError(f"{len(ones)} numbers where {int(of.sum())} should be")
    length = numpy.empty_like(ones)
    numpy.subtract(ones[1:], ones[:-1], out=length[1:])
    firsts, some = offsets(of)[:-1], of > 0
    length[firsts[some]] = ones[firsts[some]] - records.begins[some] + 1
    length += order
    length -= 1
    found = Records(digits).digits(length, of)
    found += numpy.left_shift(1, length)
    found -= numpy.left_shift(1, order)
    return found


def bits_of(numbers: Array, order: int | Array) -> Array:
    """Bits that each number takes."""
    found: Array = 2 * _length(numbers + (1 << numpy.asarray(order))) - order + 1
    return found


def _length(values: Array) -> Array:
    # Exact below 2⁵³, unlike a logarithm.
    found: Array = numpy.frexp(values.astype(numpy.float64))[1].astype(numpy.int64) - 1
    return found
