"""QAT-KD: distillation for quantisation-aware training of transformer encoders (arXiv:2211.11014, EMNLP 2022)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tutelage.data.batch import Batch
from tutelage.distill.base import LogitDistillation
from tutelage.distill.parts.attention_report import attention_report
from tutelage.distill.parts.layer_angles import block_states
from tutelage.engine.method import Finding, Room
from tutelage.engine.run import Run
from tutelage.engine.terms import Losses
from tutelage.losses import attention_divergence, score_distance, soft_cross_entropy
from tutelage.models.outputs import Outputs
from tutelage.models.paths import modules_of
from tutelage.models.quantization import Bits, Rounding, WeightQuantizer, packed_bytes
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import method
from tutelage.recipe.types import Ramped

Compare = Callable[[Tensor, Tensor], Tensor]

# Places inside a block, and the argument that weighs their comparison. What enters the second half of a block is the
# attention's output added to what it read; its normalisation is what the paper calls the attention output.
_PLACES = {
    "map": "attention.probabilities",
    "output": "norm2",
    "score": "attention.scores",
    "context": "attention.context",
    "sa_output": "attention.out",
}


@method("qat-kd", paper="arXiv:2211.11014", route="distill")
class QATKD(LogitDistillation):
    """Train a copy of the teacher with weights of few bits so that it attends as the teacher does.

    The student starts from the teacher's weights and must have its shape: blocks like those of ``vit``. Its latent
    weights are quantised anew at every use, its activations to 8 bits; position embedding, normalisations, biases and
    the classifier stay as they are. The labels are not used. The saved model has the quantised weights; its activations
    are no longer rounded.

    Args:
        map_coeff: Weight of the divergence of attention maps, summed over layers.
        output_coeff: Weight of the distance of attention outputs, after residual and normalisation.
        score_coeff: Weight of the distance of attention scores (TernaryBERT), to compare with.
        context_coeff: Weight of the distance of what the heads gather, to compare with.
        sa_output_coeff: Weight of the distance of what joins the heads, before the residual, to compare with.
        pred_loss: Match the teacher's distribution at temperature 1.
        rep_loss: Match the hidden states, those that enter the first block included.
        weight_bits: 2 for ternary, 4 or 8.
        act_bits: Bits of activations: inputs of quantised layers, queries, keys, values and attention probabilities
            after dropout; null for none.
        clip_val: Weights and activations are clamped to ±this first.
        attn_layers: Blocks whose attention is compared, by place; null for all.
        quantize_embedding: Quantise the patch embedding too, a row at a time.
        layers: Pattern of the blocks.
        curvature: Also report the largest Hessian eigenvalue of both models' prediction loss, on one batch.
    """

    compared: ClassVar[bool] = False
    """A twin from labels alone would have weights of full precision."""

    rebuilt: Tensor

    def __init__(
        self,
        *,
        map_coeff: Annotated[float, Ge(0), Ramped()] = 1.0,
        output_coeff: Annotated[float, Ge(0), Ramped()] = 0.0,
        score_coeff: Annotated[float, Ge(0), Ramped()] = 0.0,
        context_coeff: Annotated[float, Ge(0), Ramped()] = 0.0,
        sa_output_coeff: Annotated[float, Ge(0), Ramped()] = 0.0,
        pred_loss: bool = True,
        rep_loss: bool = True,
        weight_bits: Literal[2, 4, 8] = 2,
        act_bits: Annotated[int, Ge(2)] | None = 8,
        clip_val: Annotated[float, Gt(0)] = 2.5,
        attn_layers: list[Annotated[int, Ge(0)]] | None = None,
        quantize_embedding: bool = True,
        layers: str = "blocks.*",
        curvature: bool = False,
    ) -> None:
        super().__init__()
        self.map_coeff, self.output_coeff, self.score_coeff = map_coeff, output_coeff, score_coeff
        self.context_coeff, self.sa_output_coeff = context_coeff, sa_output_coeff
        self.pred_loss, self.rep_loss = pred_loss, rep_loss
        self.weight_bits: Bits = weight_bits
        self.act_bits, self.clip_val, self.attn_layers = act_bits, clip_val, attn_layers
        self.quantize_embedding, self.layers, self.curvature = quantize_embedding, layers, curvature
        # A finished stage is set up again when it has a state: that is where the student gets its quantisers.
        self.register_buffer("rebuilt", torch.tensor(0))

    def setup(self, room: Room) -> None:
        """Copy the teacher into the student, place the quantisers, and tap what is compared.

        Raises:
            InputError: The models differ in shape, or their blocks are not those of an encoder with attention taps.
        """
        super().setup(room)
        teacher, student = room.modules["teacher"], room.modules["student"]
        self.states = block_states(student, self.layers)
        every = self.states[1:]
        if self.attn_layers is not None and max(self.attn_layers, default=0) >= len(every):
            raise InputError(
                f"method.attn_layers: {max(self.attn_layers)} is no block; there are {len(every)}, counted from 0"
            )
        self.attended = [every[i] for i in (range(len(every)) if self.attn_layers is None else self.attn_layers)]
        if not any(parametrize.is_parametrized(part) for part in student.modules()):
            self._begin(teacher, student, every)
        asked = [f"{block}.{place}" for block in self.attended for place in self._places().values()]
        for name in ("teacher", "student"):
            room.tap(name, *asked, *(self.states if self.rep_loss else ()))

    def _places(self) -> dict[str, str]:
        """The comparisons that count, and where in a block they look."""
        return {name: place for name, place in _PLACES.items() if getattr(self, f"{name}_coeff")}

    def _begin(self, teacher: nn.Module, student: nn.Module, blocks: Sequence[str]) -> None:
        source, own = teacher.state_dict(), student.state_dict()
        differing = [name for name in {**own, **source} if name not in own or name not in source]
        differing += [name for name in own if name in source and own[name].shape != source[name].shape]
        if differing:
            raise InputError(
                f"the student is to be the teacher with fewer bits, but they differ in '{differing[0]}'; give both "
                "slots the same model with the same keys"
            )
        parts = modules_of(student)
        for block in blocks:
            for needed in ("attention.mix", *_PLACES.values()):
                if f"{block}.{needed}" not in parts:
                    raise InputError(
                        f"the block '{block}' has no '{needed}': this method knows the encoder 'vit', whose attention "
                        "can be looked into"
                    )
        student.load_state_dict(source)
        for block in blocks:
            linear = {n: p for n, p in parts[block].named_modules() if isinstance(p, nn.Linear)}
            for name, layer in linear.items():
                # Query, key and value are three matrices that lie in one.
                groups = 3 if name == "attention.mix" else 1
                self._quantize(layer, groups)
                self._round(layer)
            for name in ("query", "key", "value", "drop"):
                self._round(parts[f"{block}.attention.{name}"], output=True)
        embedding = parts.get("patches")
        if self.quantize_embedding and embedding is not None:
            self._quantize(embedding, None)

    def _quantize(self, layer: nn.Module, groups: int | None) -> None:
        quantizer = WeightQuantizer(self.weight_bits, clip=self.clip_val, groups=groups)
        parametrize.register_parametrization(layer, "weight", quantizer)

    def _round(self, part: nn.Module, *, output: bool = False) -> None:
        if self.act_bits is not None:
            Rounding(self.act_bits, self.clip_val, output=output).place(part)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Losses:
        """``L_pred + L_rep`` and, weighted, each comparison of attention summed over layers."""
        losses, weights = {}, {}
        if self.pred_loss:
            losses["prediction"] = soft_cross_entropy(student.logits, teacher.logits.detach().softmax(-1))
        if self.rep_loss:
            losses["representation"] = self._summed(student, teacher, self.states, _squared)
        compare: dict[str, Compare] = {"map": attention_divergence, "score": score_distance}
        for name, place in self._places().items():
            taps = [f"{block}.{place}" for block in self.attended]
            losses[name] = self._summed(student, teacher, taps, compare.get(name, _squared))
            weights[name] = getattr(self, f"{name}_coeff")
        return Losses(**losses).weighted(**weights)

    @staticmethod
    def _summed(student: Outputs, teacher: Outputs, taps: Sequence[str], compare: Compare) -> Tensor:
        return torch.stack([compare(student.taps[tap], teacher.taps[tap].detach()) for tap in taps]).sum(0)

    def findings(self, run: Run) -> Mapping[str, Finding]:
        """How the student attends, layer by layer, and what its weights take when they are packed."""
        teacher, student = run.models["teacher"], run.models["student"]
        batch = run.splits.test.fetch(range(min(256, len(run.splits.test)))).to(run.accelerator.device)
        found: dict[str, Finding] = {
            "attention": attention_report(teacher, student, self.states[1:], batch, curvature=self.curvature),
            "packed bytes": packed_bytes(student),
            "bytes of the teacher": packed_bytes(teacher),
        }
        return found


def _squared(student: Tensor, teacher: Tensor) -> Tensor:
    """``[batch]``: mean squared difference of all entries, padding included."""
    return (student - teacher).square().flatten(1).mean(1)
