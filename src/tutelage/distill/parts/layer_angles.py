"""The angles at which a student's hidden states see the teacher's (arXiv:2502.04499, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.distill.parts.features import as_tokens, same_positions
from tutelage.losses import angle_cosines, structured_cosine
from tutelage.models.participant import observing
from tutelage.models.taps import places
from tutelage.recipe.errors import InputError


@dataclass(frozen=True)
class Angles:
    """Cosines of the angles between the directions to two teacher states, seen from a student state.

    Args:
        mean: Mean cosine over valid tokens, student states and pairs of teacher states, in [-1, 1].
        acute: Share of cosines above 0: both targets pull the same way.
        histogram: ``[bins]`` counts over [-1, 1].
        each: Mean cosine and share of acute angles by (student state, teacher state, other teacher state).
    """

    mean: float
    acute: float
    histogram: Tensor
    each: Mapping[tuple[int, int, int], tuple[float, float]]


def block_states(module: nn.Module, layers: str) -> tuple[str, ...]:
    """Taps of a model's hidden states: what enters its first block is state 0, what leaves block i is state i + 1.

    Args:
        module: The model.
        layers: Pattern of its blocks.

    Raises:
        InputError: The pattern matches nothing.
    """
    blocks = tuple(places(module, [layers]))
    return (f"{blocks[0]}:input", *blocks)


def angles_between(
    student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], mask: Tensor | None = None, *, bins: int = 1000
) -> Angles:
    """The angles from every student state to every pair of teacher states.

    Args:
        student: ``[batch, tokens, width]`` or ``[batch, channels, height, width]`` by number of the state, in the
            teacher's width.
        teacher: At least two states of the same form.
        mask: ``[batch, tokens]``, true for real tokens; ``None``: all are.
        bins: Bins of the histogram.

    Raises:
        InputError: There is nothing to look at, or states differ in width or tokens.
    """
    if not student or len(teacher) < 2:
        raise InputError(
            f"angles need a student state and two teacher states; there are {len(student)} and {len(teacher)}"
        )
    names = [*student, *teacher]
    states = [as_tokens(one) for one in same_positions(*student.values(), *teacher.values())]
    if len({one.shape for one in states}) > 1:
        shapes = ", ".join(sorted({str(list(one.shape[1:])) for one in states}))
        raise InputError(f"angles need states of one width and as many tokens, got {shapes}; use adapters to one width")
    valid = torch.ones(states[0].shape[:2], dtype=torch.bool) if mask is None else mask.bool().cpu()
    if valid.shape != states[0].shape[:2]:
        raise InputError(f"the mask has the shape {list(valid.shape)}; expected {list(states[0].shape[:2])}")
    if not valid.any():
        raise InputError("the mask leaves no token to look at")
    ours = dict(zip(names[: len(student)], states, strict=False))
    theirs = dict(zip(names[len(student) :], states[len(student) :], strict=True))
    each, found = {}, []
    for i, here in ours.items():
        for a, b in combinations(theirs, 2):
            cosines = angle_cosines(here, theirs[a], theirs[b]).detach().cpu()[valid]
            each[i, a, b] = (float(cosines.mean()), float((cosines > 0).float().mean()))
            found.append(cosines)
    every = torch.cat(found).float()
    return Angles(
        float(every.mean()),
        float((every > 0).float().mean()),
        torch.histc(every.clamp(-1, 1), bins, -1, 1).long(),
        each,
    )


@dataclass(frozen=True)
class Probe:
    """The study's two instruments on one batch.

    Args:
        angles: Of each width that teacher states share with matched student states.
        ways: Cosine, averaged over tokens, of the student's and the teacher's way between two matched pairs of states.
    """

    angles: Sequence[Angles]
    ways: Mapping[tuple[tuple[int, int], tuple[int, int]], float]


def probe_states(matched: Sequence[tuple[int, int, Tensor]], teacher: Mapping[int, Tensor]) -> Probe:
    """Both instruments for matched student states; what differs in width from them is left out.

    Args:
        matched: Student state, teacher state, and the student's in that one's width: ``[batch, tokens, width]`` or
            ``[batch, channels, height, width]``.
        teacher: All teacher states by number.
    """
    angles, ways = [], {}
    for width in dict.fromkeys(_width(one) for _, _, one in matched):
        ours = {i: one for i, _, one in matched if _width(one) == width}
        theirs = {j: one for j, one in teacher.items() if _width(one) == width}
        if len(theirs) > 1:
            angles.append(angles_between(ours, theirs))
    for (i, a, here), (j, b, there) in combinations(matched, 2):
        states = (here, there, teacher[a], teacher[b])
        # Two student states on the way to one teacher state have no way to compare.
        if a != b and len({_width(one) for one in states}) == 1:
            tokens = [as_tokens(one) for one in same_positions(*states)]
            ways[(i, a), (j, b)] = float(structured_cosine(*tokens).mean())
    return Probe(angles, ways)


def angle_tables(start: Probe, end: Probe, *, bins: int = 20) -> dict[str, list[dict[str, Any]]]:
    """Tables for a report: angles by student state, their histogram, and ways; those that have rows.

    Args:
        start: Before training.
        end: After it, of the same states.
        bins: Rows of the histogram.
    """
    tables: dict[str, list[dict[str, Any]]] = {"angles to teacher layers": [], "histogram of the angles' cosines": []}
    rows = tables["angles to teacher layers"]
    sides = {"start": start, "end": end}
    each = {when: _by_state(probe) for when, probe in sides.items()}
    for state in each["start"]:
        row: dict[str, Any] = {"student state": state}
        for when, found in each.items():
            cosines, acute = zip(*found[state], strict=True)
            row |= {f"mean cosine, {when}": _mean(cosines), f"acute, {when}": _mean(acute)}
        rows.append(row)
    if rows:
        names = [name for name in rows[0] if name != "student state"]
        rows.append({"student state": "all", **{name: _mean([row[name] for row in rows]) for name in names}})
        counts = {when: sum(one.histogram for one in probe.angles) for when, probe in sides.items()}
        shares = {when: torch.as_tensor(one).float().reshape(bins, -1).sum(1) for when, one in counts.items()}
        for place in range(bins):
            low = -1 + 2 * place / bins
            told = {when: float(one[place] / one.sum()) for when, one in shares.items()}
            tables["histogram of the angles' cosines"].append(
                {"cosine": f"{low:+.1f} to {low + 2 / bins:+.1f}", **told}
            )
    tables["cosine of matched ways"] = [
        {"student states": f"{i} to {j}", "teacher states": f"{a} to {b}", "start": value, "end": end.ways[pair]}
        for pair, value in start.ways.items()
        for (i, a), (j, b) in [pair]
    ]
    return {name: table for name, table in tables.items() if table}


def _by_state(probe: Probe) -> dict[int, list[tuple[float, float]]]:
    found: dict[int, list[tuple[float, float]]] = {}
    for angles in probe.angles:
        for (state, _, _), values in angles.each.items():
            found.setdefault(state, []).append(values)
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _width(state: Tensor) -> tuple[int, int]:
    return state.ndim, state.shape[1 if state.ndim == 4 else -1]


def layer_angles(
    teacher: nn.Module,
    student: nn.Module,
    examples: Batch,
    *,
    mask: Tensor | None = None,
    teacher_layers: str = "blocks.*",
    student_layers: str = "blocks.*",
    adapters: Mapping[int, nn.Module] | None = None,
    teacher_states: Sequence[int] | None = None,
    bins: int = 1000,
) -> Angles:
    """The study's instrument: the angles from every student state to every pair of teacher states, on some samples.

    Both models are left as they were.

    Args:
        teacher: The teacher.
        student: The student, before, during or after training.
        examples: What they are shown.
        mask: ``[batch, tokens]``, true for real tokens; ``None``: all are.
        teacher_layers: Pattern of the teacher's blocks.
        student_layers: Pattern of the student's blocks.
        adapters: From a student state to the teacher's width, by its number; states without one are taken as they are.
        teacher_states: The teacher states that are paired; ``None`` for all.
        bins: Bins of the histogram.

    Raises:
        InputError: A pattern matches nothing, a teacher state does not exist, or the states differ in width or tokens.
    """
    theirs = _states("teacher", teacher, examples, teacher_layers)
    chosen = range(len(theirs)) if teacher_states is None else teacher_states
    missing = [state for state in chosen if not 0 <= state < len(theirs)]
    if missing:
        raise InputError(f"the teacher has no state {missing[0]}; expected 0 to {len(theirs) - 1}")
    ours = dict(enumerate(_states("student", student, examples, student_layers)))
    with torch.no_grad():
        for state, adapter in (adapters or {}).items():
            ours[state] = adapter(ours[state])
    return angles_between(ours, {state: theirs[state] for state in chosen}, mask, bins=bins)


def _states(name: str, module: nn.Module, examples: Batch, layers: str) -> list[Tensor]:
    taps = block_states(module, layers)
    with observing(name, module, taps, example=examples.inputs) as participant:
        outputs = participant(examples)
    return [outputs.taps[tap] for tap in taps]
