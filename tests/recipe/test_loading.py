"""Loading: inheritance, overrides, and every mistake answered with its place and the right spelling."""

from __future__ import annotations

import copy
import pickle
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutelage.recipe.errors import InputError, RecipeError
from tutelage.recipe.loading import load_recipe, load_train
from tutelage.recipe.spec import Recipe, Spec

HEAD = """
method: fx-inherit
teacher: {model: fx-net, width: 4}
student: {model: fx-net, width: 2}
data: fx-data
train: {optimizer: fx-sgd, schedule: fx-flat}
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def said(source: Any, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(source, overrides)
    return str(caught.value)


def test_a_complete_recipe(mapping: dict[str, Any]) -> None:
    before = copy.deepcopy(mapping)
    recipe = load_recipe(mapping)
    assert mapping == before
    assert recipe.method == Spec("method", "fx-own", recipe.method.args)
    assert recipe.method.args["temperature"] == 2.0
    assert recipe.method.args["layers"] == (1, 2)
    assert recipe.baseline
    assert recipe.seed == 3
    assert recipe.name == "fx-own"
    teacher = recipe.slots["teacher"]
    assert teacher.args == {"width": 64, "depth": None}
    assert teacher.extras["weights"]["train"].epochs == 2
    assert recipe.slots["student"].extras["freeze"] == ("stem.*",)
    assert recipe.slots["data"].extras["augment"][0].args["pixels"] == 2
    assert recipe.slots["peers"][0].args["width"] == 3
    assert recipe.train.optimizer.args["lr"] == 1.0
    assert recipe.train.groups[0].match == "head.*"


def test_frozen_throughout_and_portable(mapping: dict[str, Any]) -> None:
    recipe = load_recipe(mapping)
    with pytest.raises(AttributeError):
        recipe.seed = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        recipe.method.args["temperature"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        recipe.slots["x"] = 1  # type: ignore[index]
    assert pickle.loads(pickle.dumps(recipe)) == recipe == copy.deepcopy(recipe)  # noqa: S301 - our own bytes
    assert hash(recipe) == hash(load_recipe(mapping))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    temperature=st.floats(0, 20, exclude_min=True) | st.integers(1, 20),
    layers=st.lists(st.integers(), max_size=3),
    where=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    seed=st.integers(0, 2**63 - 1),
    weights=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
)
def test_what_is_resolved_reloads_equal(
    mapping: dict[str, Any],
    tmp_path: Path,
    temperature: float,
    layers: list[int],
    where: Any,
    name: str,
    seed: int,
    weights: Any,
) -> None:
    method = {"name": "fx-own", "temperature": temperature, "layers": layers, "where": where, "inner": "fx-move"}
    changed = {**mapping, "method": method, "name": name, "seed": seed}
    changed["student"] = {**mapping["student"], "weights": weights}
    recipe = load_recipe(changed)
    assert load_recipe(recipe.to_dict()) == recipe
    path = tmp_path / "resolved.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    again = load_recipe(path)
    assert again == recipe
    assert again.fingerprint() == recipe.fingerprint()
    assert again.to_yaml() == recipe.to_yaml()


def test_fingerprints_see_values_and_not_form(mapping: dict[str, Any]) -> None:
    one = load_recipe(mapping)
    reordered = load_recipe(dict(reversed(mapping.items())))
    assert (
        one.fingerprint() == reordered.fingerprint() == load_recipe(mapping, ["method.temperature=2.0"]).fingerprint()
    )
    assert one.fingerprint() != load_recipe(mapping, ["seed=4"]).fingerprint()
    assert (
        one.slots["student"].fingerprint() != load_recipe(mapping, ["student.width=9"]).slots["student"].fingerprint()
    )


def test_base_merges_and_replaces(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", HEAD)
    (tmp_path / "sub").mkdir()
    child = """
        base: ../base.yaml
        student: {width: 3}
        data: {size: 5, augment: [fx-move]}
        train: {optimizer: {lr: 2}}
    """
    recipe = load_recipe(write(tmp_path / "sub", "child.yaml", child))
    assert recipe.name == "child"
    assert recipe.slots["student"].args["width"] == 3
    assert recipe.slots["data"].name == "fx-data"
    assert recipe.slots["data"].args["size"] == 5
    assert recipe.train.optimizer.args["lr"] == 2.0


def test_a_changed_name_drops_the_old_arguments(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", HEAD.replace("fx-inherit", "{name: fx-inherit, warmth: 3}"))
    same = load_recipe(write(tmp_path, "a.yaml", "base: base.yaml\nmethod: fx-inherit\n"))
    assert same.method.args["warmth"] == 3
    other = load_recipe(
        write(tmp_path, "b.yaml", "base: base.yaml\nmethod: fx-own\npeers: [{model: fx-net, width: 1}]\n")
    )
    assert "warmth" not in other.method.args


def test_a_base_may_hold_weights_of_another_form(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", HEAD.replace("width: 4", "width: 4, weights: runs/x"))
    child = "base: base.yaml\nteacher: {weights: {train: {optimizer: fx-sgd, schedule: fx-flat}}}\n"
    teacher = load_recipe(write(tmp_path, "c.yaml", child)).slots["teacher"]
    assert teacher.extras["weights"]["train"].epochs == 10
    assert teacher.args["width"] == 4


def test_bases_that_do_not_work(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "seed: 1\nbase: b.yaml\n")
    path = write(tmp_path, "b.yaml", "base: a.yaml\n")
    assert "a.yaml -> b.yaml -> a.yaml" in said(tmp_path / "a.yaml")
    path.write_text("base: missing.yaml\n")
    text = said(tmp_path / "a.yaml")
    assert "b.yaml:1:7: base:" in text
    assert "a.yaml -> b.yaml -> missing.yaml" in text
    path.write_text("- 1\n")
    assert "expected a mapping" in said(tmp_path / "a.yaml")
    path.write_text("base: 3\n")
    assert "path of another recipe" in said(tmp_path / "a.yaml")
    assert "no such file" in said({"base": "nowhere.yaml"})


def test_a_mistake_in_a_base_is_shown_there(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", HEAD.replace("width: 2", "widht: 2"))
    text = said(write(tmp_path, "child.yaml", "base: base.yaml\nseed: 1\n"))
    assert "base.yaml:4:26: student.widht" in text


def test_overrides(mapping: dict[str, Any]) -> None:
    texts = [
        "method.temperature=3",
        "seed=1",
        "data.augment.0.pixels=0",
        "train.schedule.warmup=5",
        "peers.0.width=7",
        "name=x",
    ]
    recipe = load_recipe(mapping, texts)
    assert recipe.method.args["temperature"] == 3
    assert recipe.seed == 1
    assert recipe.name == "x"
    assert recipe.slots["data"].extras["augment"][0].args["pixels"] == 0
    assert recipe.train.schedule.args["warmup"] == 5
    assert recipe.slots["peers"][0].args["width"] == 7
    assert load_recipe(mapping, ["method.layers=[3, 4]"]).method.args["layers"] == (3, 4)
    assert load_recipe(mapping, ["data.limit="]).slots["data"].extras["limit"] is None
    assert (
        load_recipe({**mapping, "teacher": None}, ["teacher.model=fx-net", "teacher.width=1"])
        .slots["teacher"]
        .args["width"]
        == 1
    )


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("method.temprature=2", "override 'method.temprature=2': method.temprature: the method 'fx-own' has no key"),
        ("seed", "expected key=value"),
        ("=3", "expected key=value"),
        ("a..b=3", "expected key=value"),
        ("data.augment.4.pixels=1", "this list has 1 items: write 0 to 0"),
        ("data.augment.x.pixels=1", "'x' is no position"),
        ("seed=[1", "not valid YAML"),
        ("seed=!!int 1", "the tag"),
        ("method.temperature=two", "found 'two' (text), expected a number > 0 and <= 20 or a ramp"),
        ("method.temperature=true", "found true (a boolean)"),
        ("method.temperature=0", "found 0 (an integer), expected a number > 0"),
        ("method.temperature=.inf", "expected a number"),
        ("method.temperature={name: fx-line, start: -1, end: 2}", "method.temperature.start: found -1"),
        ("method.temperature={name: fx-lin, start: 1, end: 2}", "Did you mean 'fx-line'?"),
        ("method.temperature={name: fx-line, start: 1}", "needs the key 'end'"),
        ("method.mode=reverze", "Did you mean 'reverse'?"),
        ("method.layers=[1, x]", "method.layers.1: found 'x'"),
        ("method.pair=[1]", "a list of 2"),
        ("method.flag=1", "expected true or false"),
        ("method.flag=yes", "expected true or false"),
        ("method.mode=null", "found null"),
        ("method.many=[3]", "method.many.0: found 3 (an integer), expected an augment"),
        ("method=fx-ownn", "Did you mean 'fx-own'?"),
        ("method=fx-net", "'fx-net' is a model, not a method."),
        ("method=pack.mod:Thing", "a method must be registered"),
        ("train.optimizer=fx-flat", "'fx-flat' is a schedule, not an optimizer."),
        ("train.epochs=1.5", "train.epochs: found 1.5"),
        ("train.accumulate=64", "cannot be cut into 64 parts"),
        ("train.precision=bf61", "Did you mean 'bf16'?"),
        ("train.checkpoint.secnds=1", "Did you mean 'seconds'?"),
        ("train.groups=[{lr_scale: 1}]", "train.groups.0.match: 'groups' needs the key 'match'"),
        ("student.nmae=x", "has no key 'nmae'"),
        ("student={widht: 1}", "Did you mean 'width'?"),
        ("student.weights=3", "expected the path of a run"),
        ("student.weights={trian: {}}", "Did you mean 'train'?"),
        ("student.width=null", "found null"),
        ("student={model: 'not a module:x', width: 1}", "is not of the form package.module:Attribute"),
        ("data={nmae: fx-data}", "Did you mean 'name'?"),
        ("data.limit=0", "found 0 (an integer), expected an integer >= 1"),
        ("techer.width=3", "a recipe has no key 'techer'. Did you mean 'teacher'?"),
        ("seed=-1", "seed: found -1"),
        ("seed=true", "found true (a boolean)"),
        ("name=a/b", "name: found 'a/b'"),
        ("baseline=1", "expected true or false"),
        ("peers=[]", "expected a list of models"),
        ("stages=3", "expected a list of stages"),
        ("stages=[{trian: {}}]", "Did you mean 'train'?"),
        ("also=[fx-onw]", "Did you mean 'fx-own'?"),
        ("callbacks=x", "expected a list of callbacks"),
    ],
)
def test_mistakes(mapping: dict[str, Any], text: str, answer: str) -> None:
    assert answer in said(mapping, text)


def test_a_list_may_be_left_out() -> None:
    model = {"model": "mlp", "weights": {"train": {"epochs": 1}}}
    whole = {"method": "complementary-transfer", "teacher": model, "student": model, "data": "digits"}
    assert "more_teachers" not in load_recipe(whole).slots
    assert load_recipe({**whole, "more_teachers": None}).slots["more_teachers"] is None
    several = load_recipe({**whole, "more_teachers": [model, model]})
    assert list(several.models) == ["teacher", "student", "more_teachers-1", "more_teachers-2"]
    assert load_recipe(several.to_dict()) == several
    assert "expected a list of models" in said({**whole, "more_teachers": []})
    assert "expected a list of models" in said({**whole, "more_teachers": model})


def test_all_mistakes_at_once_with_their_places(tmp_path: Path) -> None:
    text = (
        HEAD.replace("width: 4", "widht: 4").replace("fx-sgd", "fx-sdg").replace("data: fx-data", "dat: fx-data")
        + "seed: x\n"
    )
    lines = said(write(tmp_path, "r.yaml", text)).splitlines()
    places = [line.split("r.yaml:")[1].split(": ")[:2] for line in lines]
    assert places == [
        ["2:1", "data"], ["3:1", "teacher.width"], ["3:26", "teacher.widht"],
        ["5:1", "dat"], ["6:20", "train.optimizer"], ["7:7", "seed"],
    ]  # fmt: skip


def test_slots_must_fit_the_method(mapping: dict[str, Any]) -> None:
    assert "takes no 'peers'; it takes teacher, student, data. 'peers' belongs to bd-kd, fx-own." in said(
        mapping, "method=fx-inherit"
    )
    del mapping["student"]
    assert "the method 'fx-own' needs 'student': a model." in said(mapping)
    assert "a model is named by the key 'model', not 'name'." in said({**mapping, "student": {"name": "fx-net"}})
    assert "student.model: a model needs the key 'model'" in said({**mapping, "student": {"width": 1}})
    assert "needs the key 'method'" in said({"seed": 1})
    assert "Did you mean 'method'?" in said({"metod": "fx-own"})


def test_optional_slots(mapping: dict[str, Any]) -> None:
    assert load_recipe({**mapping, "teacher": None}).slots["teacher"] is None
    del mapping["teacher"]
    assert "teacher" not in load_recipe(mapping).slots


def test_stages_inherit_and_round_trip(mapping: dict[str, Any]) -> None:
    mapping["stages"] = [{"name": "first", "train": {"epochs": 1}}, {"method": "fx-inherit", "also": ["fx-own"]}]
    recipe = load_recipe(mapping)
    first, second = recipe.stages
    assert first.train.epochs == 1
    assert first.train.batch_size == 32
    assert first.method == recipe.method
    assert second.name == "stage-2"
    assert second.method.name == "fx-inherit"
    assert second.also[0].name == "fx-own"
    assert load_recipe(recipe.to_dict()) == recipe


def test_load_train(mapping: dict[str, Any]) -> None:
    assert load_train(mapping["train"]).batch_size == 32
    with pytest.raises(RecipeError, match=r"train\.epochs"):
        load_train({**mapping["train"], "epochs": 0})


def test_build(mapping: dict[str, Any]) -> None:
    ramp = "method.temperature={name: fx-line, start: 1, end: 4}"
    recipe = load_recipe(mapping, ["method.inner=fx-move", "method.many=[fx-move]", ramp])
    method = recipe.method.build()
    assert method.inner.pixels == 1
    assert method.many[0].pixels == 1
    assert method.temperature.end == 4.0
    assert method.layers == [1, 2]
    assert method.pair == (0.9, 0.999)
    assert recipe.slots["student"].build("info") == ("net", "info", 8, None)
    assert recipe.slots["student"].build("info", width=1) == ("net", "info", 1, None)
    assert recipe.train.optimizer.build([1]) == ("sgd", [1], 1.0)


def foreign(mapping: dict[str, Any], slot: str, **args: Any) -> Spec:
    recipe: Recipe = load_recipe({**mapping, slot: args})
    spec = recipe.slots[slot]
    assert isinstance(spec, Spec)
    return spec


def test_the_users_own_components(mapping: dict[str, Any]) -> None:
    own = foreign(mapping, "student", model="fractions:Fraction", numerator=3, denominator=4, weights="x")
    assert str(own.build("info")) == "3/4"
    assert own.extras["weights"] == "x"
    for name, args, answer in (
        ("no_such_module:X", {}, "cannot be imported"),
        ("fractions:Fractoin", {}, "Did you mean 'Fraction'?"),
        ("fractions:Fraction", {"numeratr": 3}, "Did you mean 'numerator'?"),
        ("textwrap:TextWrapper", {"widht": 3}, "Did you mean 'width'?"),
        ("math:pi", {}, "not a class or function"),
    ):
        with pytest.raises(InputError, match=answer):
            foreign(mapping, "student", model=name, **args).build("info")
    given = load_recipe(mapping, ["train.optimizer={name: 'tutelage_fixture.parts:sgd', lr: 3}"]).train.optimizer
    assert given.build(["p"]) == ("sgd", ["p"], 3)
    with pytest.raises(InputError, match="lr: found -3"):
        load_recipe(mapping, ["train.optimizer={name: 'tutelage_fixture.parts:sgd', lr: -3}"]).train.optimizer.build(
            ["p"]
        )


def test_a_list_may_be_left_out_where_the_method_says_so() -> None:
    whole = {
        "method": "bd-kd",
        "teacher": {"model": "mlp"},
        "student": {"model": "mlp"},
        "data": "digits",
    }
    assert set(load_recipe(whole).models) == {"teacher", "student"}
    several = load_recipe({**whole, "peers": [{"model": "mlp"}, {"model": "convnet"}]})
    assert set(several.models) == {"teacher", "student", "peers-1", "peers-2"}
    assert load_recipe({**whole, "peers": None}).slots["peers"] is None
    assert "peers: found [] (a list), expected a list of models" in said({**whole, "peers": []})
