"""Categories as vectors: a fixed table of class embeddings, and noise around its rows (arXiv:2504.21478)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.recipe.errors import InputError

Source = Literal["gaussian", "uniform"]
Kind = Literal["random", "onehot", "text"]


class CategoryEmbeddings(nn.Module):
    """Category embedding noise diffusion: latent vectors ê = e_c + M ⊙ q around the embedding of a class.

    A source of noise is drawn for every sample, and a fresh q from it: standard normal, or uniform in [−1, 1]. Its
    magnitude is a multiple of the mean standard deviation of the table's rows, so that it fits any encoder.

    Args:
        table: ``[classes, width]``; fixed.
        sources: Where noise comes from.
        magnitudes: One for each source.

    Raises:
        InputError: There is no source, or not as many magnitudes.
    """

    table: Tensor
    scales: Tensor

    def __init__(self, table: Tensor, sources: Sequence[Source], magnitudes: Sequence[float]) -> None:
        super().__init__()
        if not sources or len(sources) != len(magnitudes):
            raise InputError(
                f"{len(sources)} noise sources and {len(magnitudes)} magnitudes: expected a magnitude for each source, "
                "and at least one"
            )
        self.sources = tuple(sources)
        self.register_buffer("table", table.detach().clone().float())
        spread = self.table.std(1, unbiased=False).mean()
        self.register_buffer("scales", torch.tensor(magnitudes, dtype=torch.float32) * spread)

    @property
    def width(self) -> int:
        """Of an embedding."""
        return int(self.table.shape[1])

    def forward(self, labels: Tensor) -> Tensor:
        """``[batch]`` class indices to ``[batch, width]`` noised embeddings."""
        count, device = len(labels), self.table.device
        chosen = torch.randint(len(self.sources), (count,), device=device)
        noise = torch.zeros(count, self.width, device=device)
        for place, source in enumerate(self.sources):
            drawn = torch.randn_like(noise) if source == "gaussian" else 2 * torch.rand_like(noise) - 1
            noise = torch.where((chosen == place)[:, None], drawn, noise)
        return noised(self.table[labels], self.scales[chosen][:, None], noise)


def noised(embeddings: Tensor, magnitudes: Tensor, noise: Tensor) -> Tensor:
    """Embeddings moved by noise: e + M ⊙ q.

    Args:
        embeddings: ``[batch, width]``.
        magnitudes: Broadcast over ``[batch, width]``.
        noise: ``[batch, width]``.
    """
    return embeddings + magnitudes * noise


def balanced(count: int, classes: int, device: torch.device) -> Tensor:
    """``[count]`` int64 labels: each class ``count // classes`` times, the rest at random."""
    even = torch.arange(classes, device=device).repeat_interleave(count // classes)
    return torch.cat([even, torch.randint(classes, (count - len(even),), device=device)])


def category_table(kind: Kind, names: Sequence[str], *, width: int, encoder: str | None, prompt: str) -> Tensor:
    """A vector for each class.

    Args:
        kind: ``random``: orthonormal rows, as far as the width has room; ``onehot``; ``text``: of the class's name.
        names: Class names in label order: the teacher's.
        width: Width of random vectors.
        encoder: For text, a local folder of a transformers text model, or a ``.safetensors`` file with one tensor
            ``[classes, width]`` in label order.
        prompt: Text around a name, which stands for ``{}``.

    Returns:
        ``[classes, width]`` float32.

    Raises:
        InputError: The encoder is missing or does not fit.
    """
    if kind == "onehot":
        return torch.eye(len(names))
    if kind == "random":
        drawn = torch.randn(max(len(names), width), width)
        rows: Tensor = torch.linalg.qr(drawn).Q if len(names) <= width else drawn / width**0.5
        return rows[: len(names)]
    if encoder is None:
        raise InputError(
            "method.encoder: embeddings of text need a local folder of a text encoder, or a .safetensors file with a "
            "vector for each class"
        )
    path = Path(encoder).expanduser()
    if not path.exists():
        raise InputError(f"method.encoder: there is no '{encoder}'")
    table = _stored(path) if path.suffix == ".safetensors" else _encoded(path, [prompt.format(n) for n in names])
    if table.ndim != 2 or len(table) != len(names):
        raise InputError(
            f"method.encoder: {path} gives {list(table.shape)}, but there are {len(names)} classes; expected "
            f"[{len(names)}, width]"
        )
    return table


def _stored(path: Path) -> Tensor:
    from tutelage.models.weight_files import read_tensors

    tensors = read_tensors(path)[1]
    if len(tensors) != 1:
        raise InputError(f"method.encoder: {path} holds {len(tensors)} tensors; expected one, [classes, width]")
    (table,) = tensors.values()
    return table.float()


def _encoded(path: Path, texts: Sequence[str]) -> Tensor:
    """Mean of the last hidden states over the tokens of each text."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise InputError(
            "method.embeddings: text needs transformers: pip install 'tutelage[text]'; or give the vectors as a "
            ".safetensors file"
        ) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        model = AutoModel.from_pretrained(path, local_files_only=True).eval()
    except (OSError, ValueError) as error:
        raise InputError(f"method.encoder: {path} is no text encoder that transformers can read: {error}") from error
    words = tokenizer(list(texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden: Tensor = model(**words).last_hidden_state
    mask = words["attention_mask"][..., None]
    mean: Tensor = (hidden * mask).sum(1) / mask.sum(1)
    return mean
