"""The angles at which a student's hidden states see the teacher's (arXiv:2502.04499, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from tutelage.data.batch import Batch
from tutelage.distill.features import as_tokens, same_positions
from tutelage.losses import angle_cosines
from tutelage.models.inert import evaluating
from tutelage.models.participant import Participant
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
    with evaluating(module):
        participant = Participant(name, module, trainable=False, taps=taps, example=examples.inputs)
        try:
            outputs = participant(examples)
        finally:
            participant.close()
    return [outputs.taps[tap] for tap in taps]
