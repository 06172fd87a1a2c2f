"""Texts that a model writes itself."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le

from tutelage.data.batch import Batch
from tutelage.data.tokens import TokenBatch, prompted
from tutelage.engine.method import Room, Step
from tutelage.engine.sampler import Sampler
from tutelage.models.causal_lm import CausalLM
from tutelage.models.generating import write
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component
from tutelage.recipe.types import Ramped


@component("sampler", "on-policy")
class OnPolicy(Sampler):
    """Answers that the student writes to the batch's prompts, in place of the data's (arXiv:2306.13649).

    One draw decides for the whole batch, the same in every process. No gradient flows through what is written.

    Args:
        share: How often the student writes, in [0, 1]; otherwise the data's answers are used.
        else_teacher: Whether the teacher writes when the student does not, in place of the data.
        temperature: Of what is drawn; not that of a loss. 0 takes the likeliest.
        top_p: Draw from the likeliest tokens that together have so much probability.
        max_new_tokens: Most tokens of an answer.
    """

    subject: ClassVar[str] = "tokens"

    def __init__(
        self,
        *,
        share: Annotated[float, Ge(0), Le(1), Ramped()] = 0.5,
        else_teacher: bool = False,
        temperature: Annotated[float, Ge(0)] = 1.0,
        top_p: Annotated[float, Gt(0), Le(1)] = 1.0,
        max_new_tokens: Annotated[int, Ge(1)] = 128,
    ) -> None:
        super().__init__()
        self.share, self.else_teacher = share, else_teacher
        self.temperature, self.top_p, self.max_new_tokens = temperature, top_p, max_new_tokens

    def setup(self, room: Room) -> None:
        """Refuse texts without prompts, which nobody can answer.

        Raises:
            InputError: The data has no prompts.
        """
        example = room.example
        if not isinstance(example, TokenBatch) or int(example.starts.min()) < 1:
            raise InputError("on-policy: answers need prompts, and some texts of the data have none")

    def sample(self, step: Step) -> Batch:
        """The batch, or what was written to its prompts."""
        batch = step.batch
        assert isinstance(batch, TokenBatch)
        who = self.writer(step)
        return batch if who is None else self.written(step, batch, who)

    def writer(self, step: Step) -> Literal["student", "teacher"] | None:
        """Who writes in this step; ``None`` for the data."""
        # Seeds of all processes differ, so the draw is of the step alone.
        generator = torch.Generator().manual_seed(7919 * step.index + 17)
        if float(torch.rand((), generator=generator)) < self.share:
            return "student"
        return "teacher" if self.else_teacher else None

    def written(self, step: Step, batch: TokenBatch, who: str) -> TokenBatch:
        """Answers of a participant to the batch's prompts."""
        model = step.participants[who].module
        assert isinstance(model, CausalLM)
        prompts = [batch.inputs[row, : int(start)].cpu() for row, start in enumerate(batch.starts)]
        answers = write(model, prompts, most=self.max_new_tokens, temperature=self.temperature, top_p=self.top_p)
        return prompted(prompts, answers, batch, model.tokenizer.pad)
