"""How sure a number is: percentile bootstrap over samples, t interval over runs.

Every function draws the same resamples for the same number of samples and seed, so that statistics of the same split
are resampled jointly, and a report is the same number for number when it is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.measure.number import Number

Floats: TypeAlias = NDArray[np.float64]
RESAMPLES = 1000
LEVEL = 0.95
_TAIL = (1 - LEVEL) / 2
# Entries of the weight matrix that exist at once: 16 MB of float64, whatever the number of samples.
_CHUNK = 2_000_000
# Draws up to this many entries are kept (as uint16, 32 MB), for one report asks for the same ones a dozen times.
_KEEP = 16_000_000


def weights(n: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[Floats]:
    """How often each sample occurs in each bootstrap resample, in chunks of resamples.

    Args:
        n: Number of samples, at least 1.
        resamples: Number of resamples in all chunks together.
        seed: Seed of the draws.

    Yields:
        ``[chunk, n]`` float64 counts; every row is one multinomial draw and sums to ``n``.
    """
    rows = max(1, _CHUNK // n)
    if n * resamples <= _KEEP:
        counts = _kept(n, resamples, seed)
        for start in range(0, resamples, rows):
            yield counts[start : start + rows].astype(np.float64)
    else:
        for chunk in _draw(n, resamples, seed, rows):
            yield chunk.astype(np.float64)


def interval(
    statistic: Callable[[Floats], Floats],
    n: int,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    floor: float | None = None,
) -> Number:
    """A statistic that is no plain mean, e.g. a calibration error, with its bootstrap interval.

    Statistics made of absolute values grow under resampling, which would push the percentile interval off the estimate;
    the resampled values are therefore shifted by their mean excess over the estimate first.

    Args:
        statistic: Maps sample weights ``[chunk, n]`` to ``[chunk]`` values; a row of ones is the sample itself.
        n: Number of samples.
        resamples: Number of resamples.
        seed: Seed of the draws.
        floor: Smallest value the statistic can have; the interval is cut there.
    """
    value = float(statistic(np.ones((1, n)))[0])
    drawn = np.concatenate([statistic(chunk) for chunk in weights(n, resamples=resamples, seed=seed)])
    low, high = _ends(drawn - (drawn.mean() - value))
    if floor is not None:
        low, high = max(low, floor), max(high, floor)
    return Number(value, low, high, n)


def resampled_means(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Means of ``values`` ``[n]`` or ``[n, k]`` over each resample: ``[resamples]`` or ``[resamples, k]``."""
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    return np.concatenate([chunk @ array / n for chunk in weights(n, resamples=resamples, seed=seed)])


def mean_interval(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Number:
    """The mean of per-sample values with its percentile bootstrap interval.

    Args:
        values: ``[n]``, n >= 1. Booleans are a proportion: when all agree, resampling would claim certainty, and the
            exact binomial (Clopper-Pearson) bound stands in for it.
        resamples: Number of resamples.
        seed: Seed of the draws.

    Raises:
        ValueError: There is no value.
    """
    array = _vector(values)
    n, value = len(array), float(array.mean())
    if np.asarray(values).dtype == bool and value in (0.0, 1.0):
        bound = _TAIL ** (1 / n)
        return Number(value, bound, 1.0, n) if value == 1.0 else Number(value, 0.0, 1 - bound, n)
    if not np.isfinite(value):
        return Number(value, None, None, n)
    low, high = _ends(resampled_means(array, resamples=resamples, seed=seed))
    return Number(value, low, high, n)


def paired_difference(a: ArrayLike, b: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Number:
    """The mean of ``a - b`` over the same samples ``[n]``, resampled in pairs.

    Raises:
        ValueError: The two have different lengths, or there is no value.
    """
    first, second = _vector(a), _vector(b)
    if len(first) != len(second):
        raise ValueError(f"a paired difference needs the same samples twice, not {len(first)} and {len(second)}")
    return mean_interval(first - second, resamples=resamples, seed=seed)


def gap_recovered(
    after: ArrayLike, baseline: ArrayLike, source: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Number | None:
    """How much of the gap to the source was closed: ``(after - baseline) / (source - baseline)``, resampled jointly.

    Args:
        after: ``[n]`` per-sample quality of the recipient.
        baseline: ``[n]`` of the same recipient without transfer.
        source: ``[n]`` of the source.
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        ``None`` when there is no gap. The interval is ``None`` when the gap's own sign is not certain at the 95 %
        level: a ratio over a number that may be zero has no bounded interval.

    Raises:
        ValueError: The three have different lengths, or there is no value.
    """
    columns = [_vector(after), _vector(baseline), _vector(source)]
    if len({len(column) for column in columns}) != 1:
        raise ValueError("the recovered gap needs the same samples three times")
    means = np.array([column.mean() for column in columns])
    gap = means[2] - means[1]
    # Equal sums reached in another order may differ in the last bit; that is still no gap.
    if not np.isfinite(means).all() or abs(gap) <= 1e-12 * max(1.0, float(np.abs(means).max())):
        return None
    n, value = len(columns[0]), float((means[0] - means[1]) / gap)
    drawn = resampled_means(np.stack(columns, axis=1), resamples=resamples, seed=seed)
    gaps = drawn[:, 2] - drawn[:, 1]
    if np.mean(gaps * np.sign(gap) <= 0) > _TAIL:
        return Number(value, None, None, n)
    kept = gaps * np.sign(gap) > 0
    low, high = _ends((drawn[kept, 0] - drawn[kept, 1]) / gaps[kept])
    return Number(value, low, high, n)


def across_seeds(values: Sequence[float] | Floats) -> Number:
    """The mean over runs with its 95 % Student t interval; one run has no interval.

    Args:
        values: One value a run, ``[runs]``, runs >= 1. ``n`` of the result counts runs.

    Raises:
        ValueError: There is no run.
    """
    from scipy.special import stdtrit

    array = _vector(values)
    n, mean = len(array), float(array.mean())
    if n == 1:
        return Number(mean, None, None, 1)
    half = float(stdtrit(n - 1, 1 - _TAIL) * array.std(ddof=1) / np.sqrt(n))
    return Number(mean, mean - half, mean + half, n)


@lru_cache(maxsize=2)
def _kept(n: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    return np.concatenate(list(_draw(n, resamples, seed, max(1, _CHUNK // n))))


def _draw(n: int, resamples: int, seed: int, rows: int) -> Iterator[NDArray[np.uint16]]:
    # Counting uniform draws is a multinomial draw, ten times faster than numpy's own (one binomial per entry).
    generator = np.random.default_rng([seed, n])
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = generator.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.uint16)


def _vector(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"expected at least one value in a flat list, not shape {list(array.shape)}")
    return array


def _ends(drawn: Floats) -> tuple[float, float]:
    low, high = np.quantile(drawn, [_TAIL, 1 - _TAIL])
    return float(low), float(high)
