"""How plausible a fact is at a time: its text's vector and the time's waves through one hidden layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.data.temporal import TemporalInfo
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component


def waves(times: Tensor, width: int) -> Tensor:
    """``[..., width]``: ``sin(t / 10000^(2i/d))`` of times, each followed by the cosine of the same.

    Args:
        times: ``[...]`` counted from the first.
        width: ``d``, even.
    """
    power = torch.arange(0, width, 2, device=times.device, dtype=torch.float64) / width
    angle = times.double()[..., None] / 10000.0**power
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2).float()


@component("model", "temporal-scorer")
class TemporalScorer(nn.Module):
    """``Linear(ReLU(Linear([text; waves(time)])))`` (arXiv:2309.16357, section 4).

    Args:
        data: The dated facts that it is built for.
        hidden: Width of the hidden layer.
        time_width: Numbers of a time, half of them sines: even.
    """

    standard_taps: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self, data: DataInfo, /, *, hidden: Annotated[int, Ge(1)] = 64, time_width: Annotated[int, Ge(2)] = 64
    ) -> None:
        super().__init__()
        if not isinstance(data, TemporalInfo):
            raise InputError("this model scores facts at times: use it with data of dated facts, such as 'dated-facts'")
        if time_width % 2:
            raise InputError(f"time_width {time_width}: half of it are sines, so it must be even")
        self.info, self.time_width = data, time_width
        self.text = nn.Linear(data.input_shape[0], hidden)
        self.time = nn.Linear(time_width, hidden, bias=False)
        self.out = nn.Linear(hidden, 1)
        # One layer over both parts: its start is that of a layer as wide as both together.
        bound = (data.input_shape[0] + time_width) ** -0.5
        for layer in (self.text, self.time):
            nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.uniform_(self.text.bias, -bound, bound)
        self.register_buffer("clock", waves(torch.arange(data.times), time_width), persistent=False)

    @classmethod
    def from_folder(cls, folder: Path, data: DataInfo, **args: Any) -> Self:
        """The model that a folder describes."""
        info = json.loads((folder / "config.json").read_text(encoding="utf-8"))["data"]
        names = tuple(info["relation_names"])
        whole = TemporalInfo(
            data.input_shape, data.classes, (), data.fingerprint, (), int(info["first"]), int(info["last"]), names
        )
        return cls(whole, **args)

    def forward(self, text: Tensor, times: Tensor | None = None) -> Tensor:
        """Scores ``[batch, n]`` of facts ``[batch, width]`` at times ``[batch, n]``, or ``[batch, times]`` at all.

        Text and time enter the hidden layer as a sum, so that each is multiplied once however many pairs there are.
        """
        facts, clock = self.text(text)[:, None], self.clock
        assert isinstance(clock, Tensor)
        if times is None:
            moments = self.time(clock)[None]
        elif times.numel() < len(clock):
            moments = self.time(clock.index_select(0, times.reshape(-1))).view(*times.shape, -1)
        else:
            moments = self.time(clock).index_select(0, times.reshape(-1)).view(*times.shape, -1)
        scores: Tensor = self.out(torch.relu(facts + moments))
        return scores.squeeze(-1)
