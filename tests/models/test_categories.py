"""Category embeddings: the card's noise, tables of every kind, and labels in equal parts."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from tutelage.models.categories import CategoryEmbeddings, balanced, category_table, noised
from tutelage.recipe.errors import InputError

NAMES = ("cat", "dog", "bird")


def table(kind: str, **changes: object) -> torch.Tensor:
    return category_table(kind, NAMES, **{"width": 8, "encoder": None, "prompt": "a {}", **changes})


def test_the_worked_example_of_the_noise() -> None:
    e, m = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([[0.1], [0.5]])
    q = torch.tensor([[1.0, 0.0, -1.0], [0.2, -0.4, 0.0]])
    found = noised(e.expand(2, 3), m, q)
    assert torch.allclose(found, torch.tensor([[1.1, -2.0, 0.4], [1.1, -2.2, 0.5]]))
    assert torch.equal(noised(e.expand(2, 3), torch.zeros(2, 1), q), e.expand(2, 3))


def test_noise_is_relative_to_the_table_and_never_touches_it() -> None:
    categories = CategoryEmbeddings(100 * table("random"), ["gaussian", "uniform"], [0.1, 0.5])
    before = categories.table.clone()
    labels = torch.zeros(4000, dtype=torch.int64)
    torch.manual_seed(0)
    first = categories(labels)
    torch.manual_seed(1)
    second = categories(labels)
    assert not torch.equal(first, second)
    assert torch.equal(categories.table, before)
    spread = before.std(1, unbiased=False).mean()
    away = (first - before[0]) / spread
    assert away.square().mean().sqrt().item() == pytest.approx(((0.1**2 + 0.5**2 / 3) / 2) ** 0.5, rel=0.03)
    still = CategoryEmbeddings(before, ["gaussian"], [0.0])
    assert torch.equal(still(labels), before[labels])


def test_tables() -> None:
    torch.manual_seed(0)
    random = table("random")
    assert torch.allclose(random @ random.T, torch.eye(3), atol=1e-6)
    assert torch.equal(table("onehot"), torch.eye(3))
    assert table("random", width=2).shape == (3, 2)


def test_a_table_of_text_comes_from_a_file(tmp_path) -> None:
    kept = torch.randn(3, 5)
    save_file({"embeddings": kept}, tmp_path / "names.safetensors")
    assert torch.equal(table("text", encoder=str(tmp_path / "names.safetensors")), kept)
    save_file({"embeddings": kept[:2]}, tmp_path / "two.safetensors")
    with pytest.raises(InputError, match=r"\[2, 5\], but there are 3 classes"):
        table("text", encoder=str(tmp_path / "two.safetensors"))
    save_file({"a": kept, "b": kept + 1}, tmp_path / "both.safetensors")
    with pytest.raises(InputError, match="holds 2 tensors"):
        table("text", encoder=str(tmp_path / "both.safetensors"))


def test_a_table_of_text_comes_from_a_text_model(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "bird"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    config = transformers.BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(tmp_path)
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    found = table("text", encoder=str(tmp_path))
    assert found.shape == (3, 8)
    assert len({tuple(row) for row in found.tolist()}) == 3


def test_bad_tables_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"method\.encoder: embeddings of text need"):
        table("text")
    with pytest.raises(InputError, match="there is no"):
        table("text", encoder=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="1 noise sources and 2 magnitudes"):
        CategoryEmbeddings(torch.eye(2), ["gaussian"], [0.1, 0.2])


def test_labels_are_in_equal_parts() -> None:
    counts = balanced(23, 5, torch.device("cpu")).bincount(minlength=5)
    assert counts.sum() == 23
    assert counts.min() >= 4
