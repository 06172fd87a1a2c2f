"""Checking values against signatures: every problem is collected, with its place and the nearest valid choice."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

from annotated_types import Ge, MinLen

from tutelage.recipe.errors import InputError, Problem, article, nearest
from tutelage.recipe.merging import merge
from tutelage.recipe.registry import Entry, Registry
from tutelage.recipe.scan import REQUIRED, Param
from tutelage.recipe.schema import Form, Misfit, expected, fit, form, same, section_params
from tutelage.recipe.spec import Inner, Section, Spec, StoreSection, TrainSection, plain
from tutelage.recipe.types import Of
from tutelage.recipe.yaml_source import Node, Place, describe, from_python, problem, show

Keys = tuple[str | int, ...]

# Keys that all components of a kind share, besides their own arguments.
EXTRAS: dict[str, tuple[Param, ...]] = {
    "model": (
        Param(
            "weights",
            Any,
            None,
            "A run folder, model folder or .safetensors file; or {train: {...}, callbacks: [...]} to train it first.",
        ),
        Param("freeze", tuple[str, ...], (), "Patterns of parameter names that stay as they are, e.g. stem.*"),
        Param("cache", bool, False, "Of a frozen model: ask it about each sample once; not with augmentation."),
        Param(
            "store",
            Annotated[StoreSection | None, Inner(StoreSection)],
            None,
            "Of a frozen model: keep its logits of each view on disk.",
        ),
        Param(
            "channels",
            Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1)] | None,
            None,
            "Input channels that it sees; null for all.",
        ),
        Param("adapter", Annotated[Any, Of("adapter")] | None, None, "What of it is trained; null for everything."),
    ),
    "data": (
        Param("augment", Annotated[tuple[Any, ...], Of("augment")], (), "Changes made to each training batch."),
        Param("workers", Annotated[int, Ge(0)], 0, "Processes that fetch samples; 0 fetches in the main one."),
        Param(
            "limit", Annotated[int, Ge(1)] | None, None, "Use only this many training samples, balanced over classes."
        ),
        Param(
            "imbalance",
            Annotated[float, Ge(1)] | None,
            None,
            "Thin out training to a long tail: how many times more samples the first class has than the last.",
        ),
        Param(
            "labelled",
            Annotated[int, Ge(1)] | None,
            None,
            "Keep only so many training labels, balanced over classes; the others are for methods that need none.",
        ),
    ),
}


class Bad:
    """Stands in the result for a value that a problem was noted for."""


BAD = Bad()


def naming_key(kind: str) -> str:
    """The key that names a component of a kind."""
    return "model" if kind == "model" else "name"


class Checker:
    """One walk over a recipe.

    Args:
        registry: Where names are looked up.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.problems: list[Problem] = []
        # The recipe's own way of training, which models that are trained on the spot go on from.
        self.train: Node | None = None

    def note(self, message: str, place: Place, path: Keys, hint: str = "") -> Bad:
        """Note a problem."""
        self.problems.append(problem(message, place, path, hint))
        return BAD

    def params(
        self,
        params: Sequence[Param],
        node: Node,
        path: Keys,
        *,
        whose: str,
        known: Collection[str] = (),
        open_: bool = False,
    ) -> dict[str, Any]:
        """Values of a mapping's keys, defaults filled in.

        Args:
            params: The keys it takes.
            node: The mapping.
            path: Where it stands.
            whose: Who takes the keys, for messages.
            known: Other keys that are checked elsewhere.
            open_: Whether keys beyond these are accepted as they are.
        """
        out: dict[str, Any] = {}
        valid = [p.name for p in params]
        given: Mapping[str, Node] = node.value
        for key, value in given.items():
            if key not in valid and key not in known:
                if open_:
                    out[key] = value.plain()
                else:
                    hint = nearest(key, [*valid, *known]) if valid or known else "It takes no keys."
                    self.note(f"{whose} has no key '{key}'.", value.where, (*path, key), hint)
        for param in params:
            if param.name in given:
                out[param.name] = self.value(param, given[param.name], (*path, param.name))
            elif param.required:
                what = expected_of(param)
                out[param.name] = self.note(
                    f"{whose} needs the key '{param.name}': {what}.", node.where, (*path, param.name)
                )
            else:
                out[param.name] = self.default(param, node, (*path, param.name))
        return out

    def default(self, param: Param, node: Node, path: Keys) -> Any:
        """Value of a key that is not given."""
        shape = form(param.annotation, param.default)
        if param.default is None:
            return None
        if shape.of or shape.section:
            return self.value(param, from_python(plain(param.default), place=node.where), path)
        try:
            return fit(param.annotation, plain(param.default))
        except (Misfit, TypeError):
            return param.default

    def value(self, param: Param, node: Node, path: Keys) -> Any:
        """Value of a key."""
        shape = form(param.annotation, param.default)
        if node.value is None and (shape.of or shape.section or param.default is None):
            if shape.nullable:
                return None
            return self.note(f"found null, expected {expected_of(param)}.", node.where, path)
        if shape.many and (shape.of or shape.section):
            if not isinstance(node.value, tuple):
                return self.misfit(node, path, f"a list of {shape.of or 'mapping'}s")
            return tuple(self.one(shape, param, item, (*path, i)) for i, item in enumerate(node.value))
        if shape.of or shape.section:
            return self.one(shape, param, node, path)
        if shape.ramped and isinstance(node.value, Mapping | str):
            return self.ramp(param, node, path)
        return self.leaf(param, node, path)

    def one(self, shape: Form, param: Param, node: Node, path: Keys) -> Any:
        """A nested component or section."""
        if shape.section:
            return self.section(shape.section, node, path)
        assert shape.of is not None
        fallback = param.default if isinstance(param.default, str) and not shape.many else None
        if shape.of == "data" and isinstance(node.value, Mapping):
            # A data set inside another is only read by it; what batches are made of is the outer one's to say. A
            # resolved recipe spells the defaults out.
            for extra in EXTRAS["data"]:
                own = node.value.get(extra.name)
                if own is not None and not same(own.plain(), plain(extra.default)):
                    hint = "Give it to the outer data set."
                    self.note(f"'{extra.name}' does nothing here.", own.where, (*path, extra.name), hint)
        return self.component(shape.of, node, path, fallback=fallback)

    def leaf(self, param: Param, node: Node, path: Keys) -> Any:
        """A plain value."""
        value = node.plain()
        try:
            return fit(param.annotation, value)
        except Misfit as misfit:
            if param.default is not REQUIRED and same(value, plain(param.default)):
                return param.default
            for place in dict.fromkeys(misfit.places):
                part = node
                for key in place:
                    part = part.value[key]
                found = f"found {show(part.plain())} ({describe(part.value)})"
                choices = _choices(param.annotation)
                hint = nearest(part.value, choices) if choices and isinstance(part.value, str) else ""
                self.note(f"{found}, expected {expected(param.annotation)}.", part.place, (*path, *place), hint)
            return BAD

    def ramp(self, param: Param, node: Node, path: Keys) -> Any:
        """A number that moves: its ends must lie in the number's range."""
        if isinstance(node.value, str) and not self.registry.find("ramp", node.value):
            return self.leaf(param, node, path)
        spec = self.component("ramp", node, path)
        if isinstance(spec, Spec) and isinstance(node.value, Mapping):
            for key in ("start", "end"):
                if key in node.value and not isinstance(spec.args.get(key), Bad | Spec):
                    self.leaf(param, node.value[key], (*path, key))
        return spec

    def misfit(self, node: Node, path: Keys, what: str) -> Bad:
        """Note a value of the wrong type."""
        return self.note(f"found {show(node.plain())} ({describe(node.value)}), expected {what}.", node.place, path)

    def section(self, section: type[Section], node: Node, path: Keys) -> Any:
        """A fixed part of the recipe."""
        params = section_params(section)
        if not isinstance(node.value, Mapping):
            keys = ", ".join(p.name for p in params)
            return self.misfit(node, path, f"a mapping of {keys}")
        values = self.params(params, node, path, whose=f"'{path[-1] if isinstance(path[-1], str) else path[-2]}'")
        if section is TrainSection:
            self._enough_to_cut(values, node, path)
        return BAD if any(value is BAD for value in values.values()) else section(**values)

    def _enough_to_cut(self, values: Mapping[str, Any], node: Node, path: Keys) -> None:
        size, parts = values["batch_size"], values["accumulate"]
        if isinstance(size, int) and isinstance(parts, int) and parts > size:
            at = node.value.get("accumulate", node.value.get("batch_size", node))
            self.note(
                f"a batch of {size} cannot be cut into {parts} parts; accumulate is at most batch_size.",
                at.place,
                (*path, "accumulate"),
            )

    def component(self, kind: str, node: Node, path: Keys, *, fallback: str | None = None) -> Any:
        """A component: its name is looked up and its arguments checked."""
        key = naming_key(kind)
        if isinstance(node.value, str):
            node = Node({key: Node(node.value, node.place)}, node.place, node.key, short=True)
        if not isinstance(node.value, Mapping):
            return self.misfit(node, path, f"{article(kind)}: its name, or a mapping with '{key}' and its arguments")
        if node.short and key != "name" and "name" in node.value and key not in node.value:
            node = Node({key if k == "name" else k: v for k, v in node.value.items()}, node.place, node.key)
        entry, name = self.named(kind, node, path, fallback)
        if entry is None and ":" not in name:
            return BAD
        named = node.value.get(key)
        place = named.place if named is not None else node.where
        arguments = Node({k: v for k, v in node.value.items() if k != key}, node.place, node.key)
        extras = EXTRAS.get(kind, ())
        own = [] if entry is None else self._keys(entry, extras, place, path)
        known = {key: None, **dict.fromkeys(p.name for p in extras)}
        whose = f"the {kind} '{name}'"
        taken = {p.name for p in extras}
        args = self.params(
            own,
            Node({k: v for k, v in arguments.value.items() if k not in taken}, node.place, node.key),
            path,
            whose=whose,
            known=known,
            open_=entry is None,
        )
        shared = self.params(
            extras,
            Node({k: v for k, v in arguments.value.items() if k in taken}, node.place, node.key),
            path,
            whose=whose,
        )
        if kind == "model":
            shared["weights"] = self.weights(arguments.value.get("weights"), (*path, "weights"))
        if any(
            value is BAD or (isinstance(value, tuple) and BAD in value) for value in (*args.values(), *shared.values())
        ):
            return BAD
        return Spec(kind, name, args, shared, place)

    def _keys(self, entry: Entry, extras: Sequence[Param], place: Place, path: Keys) -> Sequence[Param]:
        try:
            params = entry.params
        except InputError as error:
            self.note(str(error), place, path)
            return ()
        reserved = {naming_key(entry.kind), *(p.name for p in extras)}
        clash = sorted(reserved & {p.name for p in params})
        if clash:
            self.note(f"the {entry.kind} '{entry.name}' may not have an argument named '{clash[0]}'.", place, path)
        return params

    def named(self, kind: str, node: Node, path: Keys, fallback: str | None) -> tuple[Entry | None, str]:
        """The entry that a component mapping names, and the name; (None, "") once a problem is noted."""
        key = naming_key(kind)
        named = node.value.get(key)
        if named is None:
            if fallback is not None and "name" not in node.value:
                return self.registry.find(kind, fallback), fallback
            self._unnamed(kind, key, node, path)
            return None, ""
        name, where = named.value, (*path, key)
        if not isinstance(name, str) or not name:
            self.misfit(named, where, f"the name of {article(kind)}")
            return None, ""
        if ":" in name:
            module, _, attribute = name.partition(":")
            if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
                self.note(f"'{name}' is not of the form package.module:Attribute.", named.place, where)
                return None, ""
            if kind == "method":
                self.note(f"a method must be registered; '{name}' can be a plugin's.", named.place, where)
                return None, ""
            return None, name
        entry = self.registry.find(kind, name)
        if entry is None:
            message, hint = self.registry.missing(kind, name)
            self.note(message, named.place, where if not node.short else path, hint)
            return None, ""
        return entry, name

    def _unnamed(self, kind: str, key: str, node: Node, path: Keys) -> None:
        taken = {p.name for p in EXTRAS.get(kind, ())} | {key}
        slips = [k for k in node.value if k not in taken and nearest(k, [key]).startswith("Did")]
        if kind == "model" and "name" in node.value:
            where = node.value["name"].where
            self.note(
                "a model is named by the key 'model', not 'name'.", where, (*path, "name"), "Did you mean 'model'?"
            )
        elif slips:
            where = node.value[slips[0]].where
            self.note(f"{article(kind)} has no key '{slips[0]}'.", where, (*path, slips[0]), nearest(slips[0], [key]))
        else:
            hint = nearest("", self.registry.names(kind))
            self.note(f"{article(kind)} needs the key '{key}'.", node.where, (*path, key), hint)

    def weights(self, node: Node | None, path: Keys) -> Any:
        """Where a model's weights come from: nowhere, a path, or training on the spot."""
        if node is None or node.value is None:
            return None
        if isinstance(node.value, str) and node.value:
            return node.value
        if isinstance(node.value, Mapping):
            train = Param("train", TrainSection, REQUIRED, "how to train it")
            keys = ["train", "callbacks"]
            for key, value in node.value.items():
                if key not in keys:
                    self.note(f"'weights' has no key '{key}'.", value.where, (*path, key), nearest(key, keys))
            if "train" not in node.value:
                if len(node.value) == 0:
                    self.note(f"'weights' needs the key 'train': {train.doc}.", node.where, (*path, "train"))
                return BAD
            own = node.value["train"]
            if self.train is not None and isinstance(own.value, Mapping):
                own = merge(self.train, own, "train")
            found = {"train": self.section(TrainSection, own, (*path, "train"))}
            if "callbacks" in node.value:
                beside = Param("callbacks", Annotated[tuple[Any, ...], Of("callback")], REQUIRED)
                found["callbacks"] = self.value(beside, node.value["callbacks"], (*path, "callbacks"))
            bad = BAD in found.values() or (isinstance(found.get("callbacks"), tuple) and BAD in found["callbacks"])
            return BAD if bad else found
        return self.misfit(node, path, "the path of a run, a model folder or a .safetensors file, or {train: {...}}")


def expected_of(param: Param) -> str:
    """What a key's value must be, in words."""
    shape = form(param.annotation, param.default)
    if shape.section:
        keys = ", ".join(p.name for p in section_params(shape.section))
        return f"a list of mappings of {keys}" if shape.many else f"a mapping of {keys}"
    if shape.of:
        return f"a list of {shape.of}s" if shape.many else article(shape.of)
    return expected(param.annotation)


def _choices(annotation: Any) -> list[str]:
    """The texts that a type allows, if it allows only certain texts."""
    from typing import Literal, get_args, get_origin

    if get_origin(annotation) is Literal:
        return [a for a in get_args(annotation) if isinstance(a, str)]
    return [c for a in get_args(annotation) if not isinstance(a, str) for c in _choices(a)]
