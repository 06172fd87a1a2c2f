from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tutelage.data.batch import DataInfo
from tutelage.models.weights import find_weights, load_model, load_weights, save_weights, write_safetensors
from tutelage.recipe.errors import InputError, RunError
from tutelage.recipe.registry import registry

INFO = DataInfo((1, 4, 4), 3, ("a", "b", "c"), "sha256:0")
DATA = {"input_shape": [1, 4, 4], "classes": 3, "class_names": ["a", "b", "c"], "fingerprint": "sha256:0"}
CONFIG: dict[str, Any] = {"model": {"name": "mlp", "args": {"hidden": [5]}}, "data": DATA}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4, bias=False)
        self.head = nn.Linear(4, 4)
        self.head.weight = self.embed.weight


def mlp(seed: int = 0, **arguments: Any) -> nn.Module:
    torch.manual_seed(seed)
    return registry().load("model", "mlp")(INFO, **{"hidden": [5], **arguments})


def same(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


def refused(module: nn.Module, source: Path, match: str) -> str:
    """The refusal's text; the module must come out as it went in."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(InputError, match=match) as caught:
        load_weights(module, source)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    return str(caught.value)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "model"
    save_weights(mlp(1), folder, CONFIG)
    return folder


def test_round_trip_from_file_folder_and_run(saved: Path) -> None:
    for source in (saved / "model.safetensors", saved, saved.parent, str(saved.parent)):
        assert find_weights(source) == saved / "model.safetensors"
        module = mlp(2)
        assert not same(module, mlp(1))
        load_weights(module, source)
        assert same(module, mlp(1))
        assert same(load_model(saved.parent), mlp(1))
    assert sorted(p.name for p in saved.iterdir()) == ["config.json", "model.safetensors"]
    assert CONFIG.items() <= json.loads((saved / "config.json").read_text()).items()


def test_a_loaded_model_is_ready_to_use(saved: Path) -> None:
    module = load_model(saved)
    assert not module.training
    assert module(torch.zeros(2, 1, 4, 4)).shape == (2, 3)


def test_the_users_own_class_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_for_weights.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Linear):\n"
        "    def __init__(self, features: int, bias: bool = True):\n"
        "        super().__init__(features, 3, bias=bias)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import mine_for_weights

    module = mine_for_weights.Net(7, bias=False)
    model = {"name": "mine_for_weights:Net", "args": {"features": 7, "bias": False}}
    save_weights(module, tmp_path / "out", {"model": model, "data": DATA})
    assert same(load_model(tmp_path / "out"), module)


def test_tied_weights_are_stored_once_and_come_back_tied(tmp_path: Path) -> None:
    torch.manual_seed(3)
    module = Tied()
    save_weights(module, tmp_path, {})
    assert set(load_file(tmp_path / "model.safetensors")) == {"embed.weight", "head.bias"}
    torch.manual_seed(4)
    fresh = Tied()
    load_weights(fresh, tmp_path)
    assert same(fresh, module)
    assert fresh.head.weight is fresh.embed.weight


def test_a_tie_is_kept_whichever_name_the_file_has(tmp_path: Path) -> None:
    value = torch.randn(4, 4)
    save_file({"head.weight": value, "head.bias": torch.zeros(4)}, tmp_path / "a.safetensors")
    module = Tied()
    load_weights(module, tmp_path / "a.safetensors")
    assert torch.equal(module.embed.weight, value)
    both = {"head.weight": value, "embed.weight": value + 1, "head.bias": torch.zeros(4)}
    save_file(both, tmp_path / "b.safetensors")
    refused(module, tmp_path / "b.safetensors", "differ, but the model has one tensor")


def test_views_of_one_storage_are_stored_apart(tmp_path: Path) -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            whole = torch.arange(8.0)
            self.register_buffer("low", whole[:4])
            self.register_buffer("transposed", whole.view(2, 4).T)

    save_weights(Views(), tmp_path, {})
    found = load_file(tmp_path / "model.safetensors")
    assert found["low"].tolist() == [0, 1, 2, 3]
    assert torch.equal(found["transposed"], torch.arange(8.0).view(2, 4).T)


def test_half_precision_files_fill_a_full_precision_model(tmp_path: Path) -> None:
    save_weights(mlp(1).half(), tmp_path, CONFIG)
    module = mlp(2)
    load_weights(module, tmp_path)
    assert next(module.parameters()).dtype == torch.float32
    torch.testing.assert_close(module.head.weight, mlp(1).head.weight, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.pkl", "w.ckpt", "w.safetensors", "w"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_by_name_and_by_content(tmp_path: Path, name: str, zipped: bool) -> None:
    path = tmp_path / name
    torch.save(mlp(1).state_dict(), path, _use_new_zipfile_serialization=zipped)
    text = refused(mlp(2), path, "is a pickle")
    assert "trust-pickle" in text
    with pytest.raises(InputError, match="is a pickle"):
        find_weights(path)
    module = mlp(2)
    load_weights(module, path, trust_pickle=True)
    assert same(module, mlp(1))


def test_the_conversion_that_the_refusal_names_works(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(Tied().state_dict(), path)
    text = refused(Tied(), path, "Convert it once")
    lines = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    assert len(lines) == 2
    exec("\n".join(lines), {})
    load_weights(Tied(), tmp_path / "w.safetensors")


def test_trusted_pickles_of_other_forms(tmp_path: Path) -> None:
    for index, value in enumerate(({"epoch": 3, "state_dict": mlp(1).state_dict()}, mlp(1))):
        torch.save(value, tmp_path / f"{index}.pt")
        module = mlp(2)
        load_weights(module, tmp_path / f"{index}.pt", trust_pickle=True)
        assert same(module, mlp(1))
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match="holds a list, expected a mapping"):
        load_weights(mlp(), tmp_path / "list.pt", trust_pickle=True)
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(InputError, match="cannot be unpickled"):
        load_weights(mlp(), tmp_path / "junk.pt", trust_pickle=True)


def test_a_header_length_that_looks_like_a_pickle_is_not_one(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for padding in range(0x280):
        save_file({"weight": torch.zeros(1, 2)}, path, metadata={"note": "x" * padding})
        if path.read_bytes()[:2] == b"\x80\x02":
            break
    assert path.read_bytes()[:2] == b"\x80\x02"
    load_weights(nn.Linear(2, 1, bias=False), path)


def test_shapes_that_differ_are_listed(saved: Path) -> None:
    text = refused(mlp(hidden=[6]), saved, "does not fit the model MLP")
    assert "blocks.0.0.weight: expected shape [6, 16], found [5, 16]" in text
    assert "head.weight: expected shape [3, 6], found [3, 5]" in text


def test_a_long_list_is_cut_after_ten(tmp_path: Path) -> None:
    save_weights(mlp(hidden=[5] * 12), tmp_path, CONFIG)
    text = refused(mlp(hidden=[6] * 12), tmp_path, "does not fit")
    assert text.count("expected shape [") == 10
    assert "more" in text


def test_missing_and_unexpected_names_have_the_nearest_beside(tmp_path: Path) -> None:
    state = mlp(1).state_dict()
    state["haed.bias"] = state.pop("head.bias")
    save_file(state, tmp_path / "w.safetensors")
    text = refused(mlp(), tmp_path / "w.safetensors", "does not fit")
    assert "head.bias: missing. Did you mean 'haed.bias'?" in text
    assert "haed.bias: not in the model. Did you mean 'head.bias'?" in text


def test_numbers_of_another_kind_and_nan_are_refused(tmp_path: Path) -> None:
    state = dict(mlp(1).state_dict())
    save_file({**state, "head.bias": torch.zeros(3, dtype=torch.int64)}, tmp_path / "int.safetensors")
    refused(mlp(), tmp_path / "int.safetensors", r"head.bias: expected torch.float32, found torch.int64")
    save_file({**state, "head.bias": torch.tensor([0, float("nan"), 0])}, tmp_path / "nan.safetensors")
    refused(mlp(), tmp_path / "nan.safetensors", "head.bias: holds NaN")


def test_damaged_files_are_refused(saved: Path, tmp_path: Path) -> None:
    whole = (saved / "model.safetensors").read_bytes()
    cases = {
        "short": whole[: len(whole) // 2],
        "head": whole[:20],
        "empty": b"",
        "text": b"hello, this is text",
        "long": whole + b"x",
    }
    for name, content in cases.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        refused(mlp(), path, "is damaged, or no safetensors file")
    (tmp_path / "lfs.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    refused(mlp(), tmp_path / "lfs.safetensors", "git lfs pull")


def test_a_missing_file_names_its_nearest_neighbour(saved: Path, tmp_path: Path) -> None:
    refused(mlp(), saved / "modle.safetensors", "no weights at .*modle.safetensors.*Did you mean 'model.safetensors'")
    refused(mlp(), tmp_path / "rum" / "model", "Did you mean 'run'")
    (tmp_path / "empty").mkdir()
    refused(mlp(), tmp_path / "empty" / "x.safetensors", "is empty")


def test_folders_without_weights_say_what_they_are(tmp_path: Path) -> None:
    refused(mlp(), tmp_path, "neither a model folder nor a run")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    refused(mlp(), tmp_path, "Name the file: other.safetensors")
    (tmp_path / "other.safetensors").unlink()
    torch.save({}, tmp_path / "pytorch_model.bin")
    refused(mlp(), tmp_path, "is a pickle")
    (tmp_path / "pytorch_model.bin").unlink()
    (tmp_path / "manifest.json").write_text("{}")
    refused(mlp(), tmp_path, "has no model yet.*`tutelage resume")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "has no config.json"),
        ("{", "is damaged"),
        ("[]", "was not written by Tutelage"),
        ("{}", "was not written by Tutelage"),
        (json.dumps({**CONFIG, "format": 99}), "format 99"),
        (json.dumps({**CONFIG, "model": {"name": "mlpp", "args": {}}}), "no model named 'mlpp'.*Did you mean 'mlp'"),
        (json.dumps({**CONFIG, "model": {"name": "mlp", "args": {"hiden": [5]}}}), "Did you mean 'hidden'"),
        (json.dumps({**CONFIG, "model": {"name": "mlp", "args": {"hidden": "five"}}}), "config.json.*hidden.*'five'"),
        (json.dumps({**CONFIG, "data": {**DATA, "classes": "many"}}), "is damaged"),
    ],
)
def test_a_bad_description_is_refused(saved: Path, content: str | None, match: str) -> None:
    (saved / "config.json").unlink()
    if content is not None:
        (saved / "config.json").write_text(content)
    with pytest.raises(InputError, match=match):
        load_model(saved)


def test_weights_in_several_files_are_read_through_their_index(tmp_path: Path) -> None:
    state = mlp(1).state_dict()
    where = {name: f"part-{index % 2}.safetensors" for index, name in enumerate(state)}
    for part in set(where.values()):
        save_file({name: value for name, value in state.items() if where[name] == part}, tmp_path / part)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    module = mlp(2)
    load_weights(module, tmp_path)
    assert same(module, mlp(1))
    (tmp_path / "part-1.safetensors").unlink()
    refused(mlp(), tmp_path, "part-1.safetensors is missing")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_the_prefix_of_a_wrapper_is_taken_off(tmp_path: Path, prefix: str) -> None:
    save_file({prefix + name: value for name, value in mlp(1).state_dict().items()}, tmp_path / "w.safetensors")
    module = mlp(2)
    load_weights(module, tmp_path / "w.safetensors")
    assert same(module, mlp(1))


def test_loading_does_not_move_the_random_state(saved: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    load_model(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_overwritten_is_replaced_whole(saved: Path) -> None:
    save_weights(mlp(7), saved, CONFIG)
    assert same(load_model(saved), mlp(7))
    assert len(list(saved.iterdir())) == 2


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        save_weights(mlp(), tmp_path / "file" / "model", CONFIG)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none/w.safetensors cannot be written: .*No such file"):
        write_safetensors(mlp(), tmp_path / "none" / "w.safetensors")
    assert not list(tmp_path.iterdir())
