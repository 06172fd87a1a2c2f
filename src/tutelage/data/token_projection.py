"""Next-token distributions kept as the hidden states that the model's own output matrix makes them of.

A distribution over a vocabulary has as many numbers as the vocabulary, but those of one model are made of as many as
its width. In directions in which an error of the states costs equally much divergence, and which are independent of
each other, the states are rounded to one step: coarsely where the model's answer is sure of itself, finely where it is
not. No token is left out, so that there is no tail to be filled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy
import torch
from torch import Tensor

from tutelage.data import bit_coding
from tutelage.data.bit_coding import Array
from tutelage.losses import Head
from tutelage.recipe.errors import InputError, RunError

# Steps of a position are wider or finer by half octaves, at most so many.
_SCALES = 12
_COUNT_ORDER = 6
# Rounding is towards 0 by this much more than to the nearest: zeros are cheap.
_DEAD = 0.15
# A bit less makes an error this much larger, 2 ln 2 / 12 squared steps, wherever rounding is fine.
_BIT = math.log(2) / 6
_ROWS = 32
# Positions by which directions and step are chosen.
_FITTED = 400


@dataclass(frozen=True)
class Coded:
    """Rounded hidden states.

    Args:
        scales: ``[positions]`` int64 in [0, 24]: half octaves of each position's step.
        numbers: ``[positions, rank]`` int64 multiples of it.
    """

    scales: Tensor
    numbers: Tensor

    def __len__(self) -> int:
        return len(self.scales)


@dataclass(frozen=True)
class Hidden:
    """Hidden states at the model's output matrix, rounded to a size or to a divergence that is asked for.

    Whoever reads them needs that matrix (and bias), see `head`.

    Args:
        width: Of the hidden states.
        kl: Mean divergence from the model that is aimed at, in nats; or
        bytes_per_token: the size that is.
        arrays: What `fitted` found: ``basis`` ``[width, rank]`` from states to coefficients, ``inverse`` ``[rank,
            width]``, ``mean`` ``[width]``, ``orders`` ``[rank]``, ``step``, ``sensitivity`` and ``share`` ``[1]``.

    Raises:
        InputError: Not one of ``kl`` and ``bytes_per_token`` is given, or it is not positive.
    """

    width: int
    kl: float | None = None
    bytes_per_token: float | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict, repr=False, compare=False)
    name: ClassVar[str] = "hidden"
    sections: ClassVar[int] = 5

    def __post_init__(self) -> None:
        asked = [value for value in (self.kl, self.bytes_per_token) if value is not None]
        if len(asked) != 1 or not asked[0] > 0:
            raise InputError("a store of hidden states needs kl or bytes_per_token, one of them, above 0")

    @property
    def settings(self) -> dict[str, Any]:
        """What a store says that it holds."""
        return {"kind": self.name, "width": self.width, "kl": self.kl, "bytes_per_token": self.bytes_per_token}

    @property
    def rank(self) -> int:
        """Directions that are kept."""
        return len(self.arrays["orders"])

    def fitted(self, head: Head) -> Hidden:
        """The same with directions and a step that fit a model.

        Args:
            head: The model's output matrix with ``[positions, width]`` hidden states of some of its texts, better
                several times as many as the width: what they say nothing about is kept as exactly, in more bytes.

        Raises:
            InputError: They are too few.
        """
        hidden = _finite(head.hidden)
        if len(hidden) < 16:
            raise InputError(f"a store of hidden states is fitted to at least 16 positions, not {len(hidden)}")
        # Directions and step are of different texts: those that the directions were made of need fewer bits.
        seen, hidden = hidden.split([len(hidden) - len(hidden) // 3, len(hidden) // 3])
        mean = seen.double().mean(0)
        factor = torch.linalg.cholesky(_curvature(head, seen[:_FITTED]))
        turned = torch.linalg.svd((seen.double() - mean) @ factor, full_matrices=True).Vh
        basis = factor @ turned.T
        arrays: dict[str, Array] = {
            "basis": basis.float().numpy(),
            "inverse": torch.linalg.inv(basis).float().numpy(),
            "mean": mean.float().numpy(),
            "orders": numpy.zeros(self.width, numpy.int64),
            "step": numpy.ones(1),
            "sensitivity": numpy.ones(1),
            "share": numpy.ones(1),
        }
        whole = replace(self, arrays=arrays)
        hidden = hidden[torch.linspace(0, len(hidden) - 1, min(len(hidden), _FITTED)).long()]
        sensitivity = whole._sensitivities(head, hidden)
        arrays["sensitivity"] = numpy.array([float(sensitivity.log().mean().exp())])
        few = slice(None, None, max(len(hidden) // 64, 1))
        tried = []
        # How far a position's own step may differ from the others': at a coarse one the curvature says little.
        for share in (0.0, 0.5, 1.0):
            arrays["share"] = numpy.array([share])
            found = replace(whole, arrays=dict(arrays))._searched(head, hidden, sensitivity, few)
            cost = (
                found._divergence(head, hidden[few], sensitivity[few])
                if self.kl is None
                else found._bytes(hidden, sensitivity)
            )
            tried.append((cost, share, found))
        return min(tried, key=lambda one: one[:2])[2]

    # ------------------------------------------------------------------ writing

    def keep(self, head: Head) -> Coded:
        """Rounded states of ``[positions, width]`` hidden ones; the model's output matrix says how finely each."""
        hidden = _finite(head.hidden)
        return self._rounded(hidden, self._sensitivities(head, hidden))

    def pack(self, coded: Coded, lengths: Array) -> list[list[Array]]:
        """The bytes of each sample.

        Args:
            coded: Of all positions, the samples' one after the other.
            lengths: ``[samples]`` positions of each.
        """
        numbers, scales = coded.numbers.numpy(), coded.scales.numpy()
        counts, some = self._used(numbers)
        signed = numbers[some].astype(numpy.int64)
        parts = [
            *bit_coding.code_numbers(counts, lengths, _COUNT_ORDER),
            *bit_coding.code_numbers(_folded(signed), bit_coding.sums(counts, lengths), self._orders(scales)[some]),
            numpy.split(scales.astype(numpy.uint8), numpy.cumsum(lengths)[:-1]),
        ]
        return [list(sections) for sections in zip(*parts, strict=True)]

    # ------------------------------------------------------------------ reading

    def unpack(self, records: Sequence[Sequence[Array]], lengths: Array) -> Coded:
        """What `pack` was given, exactly.

        Raises:
            ValueError: The bytes are no such records.
        """
        of = [list(part) for part in zip(*records, strict=True)]
        counts = bit_coding.decode_numbers(of[0], of[1], lengths, _COUNT_ORDER)
        scales = numpy.concatenate(of[4]).astype(numpy.int64)
        some = numpy.arange(self.rank) < counts[:, None]
        orders = self._orders(scales)[some]
        folded = bit_coding.decode_numbers(of[2], of[3], bit_coding.sums(counts, lengths), orders)
        numbers = numpy.zeros((len(counts), self.rank), numpy.int32)
        sign = folded & 1
        folded >>= 1
        folded ^= numpy.negative(sign, out=sign)
        numbers[some] = folded
        return Coded(torch.from_numpy(scales), torch.from_numpy(numbers))

    def states(self, coded: Coded) -> Tensor:
        """``[positions, width]``: hidden states again, as exactly as they were kept."""
        steps = self._steps(coded.scales)
        inverse, mean = (torch.from_numpy(self.arrays[name]) for name in ("inverse", "mean"))
        return torch.addmm(mean, coded.numbers.float() * steps[:, None].float(), inverse)

    def head(self, coded: Coded, matrix: Head) -> Head:
        """The model again, as it was kept, for `tutelage.losses.projected_loss`.

        Args:
            coded: What was kept.
            matrix: The model's output matrix (and bias); its hidden states are not looked at.
        """
        return replace(matrix, hidden=self.states(coded))

    # ------------------------------------------------------------------ inside

    def _searched(self, head: Head, hidden: Tensor, sensitivity: Tensor, few: slice) -> Hidden:
        """The same with the coarsest step that keeps what is asked for."""
        near, far = 1e-5, 10.0
        for _ in range(11):
            step = math.sqrt(near * far)
            found = self._at(step, hidden, sensitivity)
            if self.kl is not None:
                coarser = found._divergence(head, hidden[few], sensitivity[few]) < self.kl
            else:
                coarser = found._bytes(hidden, sensitivity) > (self.bytes_per_token or 0)
            near, far = (step, far) if coarser else (near, step)
        return self._at(near if self.kl is not None else far, hidden, sensitivity)

    def _at(self, step: float, hidden: Tensor, sensitivity: Tensor) -> Hidden:
        """The same with another step, and the codes that fit it."""
        found = replace(self, arrays={**self.arrays, "step": numpy.array([step])})
        numbers = found._rounded(hidden, sensitivity).numbers.numpy().astype(numpy.int64)
        bits = numpy.stack([bit_coding.bits_of(_folded(numbers), order).sum(0) for order in range(16)])
        return replace(found, arrays={**found.arrays, "orders": bits.argmin(0)})

    def _used(self, numbers: Array) -> tuple[Array, Array]:
        """How many numbers of each position come before only zeros do, and which."""
        counts = ((numbers != 0) * numpy.arange(1, numbers.shape[1] + 1)).max(1, initial=0)
        return counts, numpy.arange(numbers.shape[1]) < counts[:, None]

    def _orders(self, scales: Array) -> Array:
        """``[positions, rank]``: of each number's code; there are few scales."""
        table: Array = self.arrays["orders"] - (numpy.arange(2 * _SCALES + 1)[:, None] - _SCALES) // 2
        found: Array = table.clip(min=0)[scales]
        return found

    def _steps(self, scales: Tensor) -> Tensor:
        return float(self.arrays["step"][0]) * torch.exp2((scales - _SCALES).double() / 2)

    def _rounded(self, hidden: Tensor, sensitivity: Tensor) -> Coded:
        wider = torch.log2(float(self.arrays["sensitivity"][0]) / sensitivity.clamp(min=1e-12))
        wider = wider * float(self.arrays["share"][0])
        scales = wider.round().long().clamp(-_SCALES, _SCALES) + _SCALES
        basis, mean = (torch.from_numpy(self.arrays[name]) for name in ("basis", "mean"))
        exact = ((hidden - mean) @ basis) / self._steps(scales)[:, None]
        numbers = exact.sign() * (exact.abs() + 0.5 - _DEAD).floor()
        bits = bit_coding.bits_of(_folded(numbers.long().numpy()), self._orders(scales.numpy()))
        # What ends a position is left out as long as the bits are worth more than the error, which is in squared steps.
        gain = numbers * (2 * exact - numbers) - _BIT * torch.from_numpy(bits)
        total = torch.nn.functional.pad(gain.cumsum(1), (1, 0))
        return Coded(scales, numbers.masked_fill_(torch.arange(self.rank) >= total.argmax(1)[:, None], 0).int())

    def _sensitivities(self, head: Head, hidden: Tensor) -> Tensor:
        """``[positions]``: how much divergence an equal error in all directions costs each position."""
        inverse = torch.from_numpy(self.arrays["inverse"])
        turned = head.weight.detach().float().cpu() @ inverse.T
        squares = turned.square().sum(1)
        found = []
        for rows in hidden.split(_ROWS):
            p = torch.softmax(replace(head, hidden=rows).logits().detach(), -1)
            found.append(p @ squares - (p @ turned).square().sum(1))
        return torch.cat(found).clamp(min=0).double()

    def _bytes(self, hidden: Tensor, sensitivity: Tensor) -> float:
        coded = self._rounded(hidden, sensitivity)
        return sum(len(part) for part in self.pack(coded, numpy.array([len(hidden)]))[0]) / len(hidden)

    def _divergence(self, head: Head, hidden: Tensor, sensitivity: Tensor) -> float:
        states = self.states(self._rounded(hidden, sensitivity))
        total = 0.0
        for ours, theirs in zip(hidden.split(_ROWS), states.split(_ROWS), strict=True):
            log_p, log_q = (
                torch.log_softmax(replace(head, hidden=one).logits().detach(), -1) for one in (ours, theirs)
            )
            total += float((log_p.exp() * (log_p - log_q)).sum())
        return total / len(hidden)


def _folded(numbers: Array) -> Array:
    """Numbers of either sign as ones of at least 0, the small ones small."""
    found: Array = (numbers << 1) ^ (numbers >> 63)
    return found


def _finite(values: Tensor) -> Tensor:
    values = values.detach().float().cpu()
    if not bool(values.isfinite().all()):
        raise RunError("the model to be stored gives hidden states that are no numbers, or infinite")
    return values


def _curvature(head: Head, hidden: Tensor) -> Tensor:
    """``[width, width]``: twice the mean divergence that an error of the states makes, as a quadratic form."""
    weight = head.weight.detach().float().cpu()
    total, means = torch.zeros(len(weight)), []
    for rows in hidden.split(_ROWS):
        p = torch.softmax(replace(head, hidden=rows).logits().detach(), -1)
        total += p.sum(0)
        means.append(p @ weight)
    mean = torch.cat(means).double()
    form = ((weight * total[:, None]).T @ weight).double() - mean.T @ mean
    form = form / len(hidden)
    # Directions that change nothing are given a little, so that all can be turned back.
    least = 1e-6 * form.diagonal().mean().clamp(min=1e-12)
    return form + least * torch.eye(len(form), dtype=form.dtype)
