"""Which student layer is matched to which teacher layer (arXiv:2502.04499)."""

from __future__ import annotations

from typing import Literal, get_args

import torch

Strategy = Literal["none", "forward", "reverse", "random", "all_to_one", "single"]


def layer_map(teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    """Evenly spaced teacher blocks, the last one included: round((j + 1) · teacher / student) − 1, halves rounded up.

    Args:
        teacher_layers: Blocks of the teacher, at least 1.
        student_layers: Blocks of the student, in [1, teacher_layers].

    Returns:
        Zero-based teacher block for each student block, rising.

    Raises:
        ValueError: The student has no block, or more than the teacher.
    """
    if not 1 <= student_layers <= teacher_layers:
        bounds = f"1 to {teacher_layers} student blocks fit {teacher_layers} teacher blocks"
        raise ValueError(f"{bounds}, got {student_layers}; name the pairs of layers yourself")
    return tuple(
        (2 * (j + 1) * teacher_layers + student_layers) // (2 * student_layers) - 1 for j in range(student_layers)
    )


def select_layers(
    strategy: Strategy,
    teacher_layers: int,
    student_layers: int,
    generator: torch.Generator | None = None,
    *,
    match_embeddings: bool = True,
    teacher_state: int | None = None,
    student_state: int | None = None,
) -> tuple[tuple[int, int], ...]:
    """Pairs of hidden states to match; state 0 is the output of the embeddings, state i + 1 that of block i.

    Args:
        strategy: ``none``; ``forward``: ``layer_map``; ``reverse``: its targets in reversed order; ``random``: in an
            order drawn once, here; ``all_to_one``: every student state, embeddings included, to one teacher state;
            ``single``: one student state to one teacher state.
        teacher_layers: Blocks of the teacher.
        student_layers: Blocks of the student.
        generator: Draws the order of ``random``, and is needed for it alone.
        match_embeddings: Whether forward, reverse and random match state 0 to state 0, and all_to_one state 0 at all.
        teacher_state: Target of ``all_to_one`` (default: the middle, 6 of 12) and ``single`` (default: the last).
        student_state: Source of ``single`` (default: the last).

    Returns:
        ``(student state, teacher state)`` pairs, in the order of the student's states.

    Raises:
        ValueError: The strategy is unknown, the layers do not fit, a state does not exist, or random has no generator.
    """
    if strategy not in get_args(Strategy):
        raise ValueError(f"unknown strategy {strategy!r}; it must be one of {', '.join(get_args(Strategy))}")
    for name, state, layers in (("teacher", teacher_state, teacher_layers), ("student", student_state, student_layers)):
        if state is not None and not 0 <= state <= layers:
            raise ValueError(f"{name}_state must lie in [0, {layers}] for {layers} blocks, got {state}")
    embeddings = ((0, 0),) if match_embeddings else ()
    if strategy == "none":
        return ()
    if strategy == "single":
        source = student_layers if student_state is None else student_state
        return ((source, teacher_layers if teacher_state is None else teacher_state),)
    if strategy == "all_to_one":
        target = teacher_layers // 2 if teacher_state is None else teacher_state
        return tuple((state, target) for state in range(0 if match_embeddings else 1, student_layers + 1))
    blocks = layer_map(teacher_layers, student_layers)
    if strategy == "reverse":
        blocks = blocks[::-1]
    elif strategy == "random":
        if generator is None:
            raise ValueError(
                "random needs a generator: the order is drawn once a run and must not depend on global state"
            )
        blocks = tuple(blocks[i] for i in torch.randperm(len(blocks), generator=generator).tolist())
    return embeddings + tuple((j + 1, block + 1) for j, block in enumerate(blocks))
