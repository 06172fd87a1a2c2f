"""Reading components from source text: names, signatures and documentation, without importing any of it."""

from __future__ import annotations

import ast
import builtins
import enum
import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tutelage.recipe.errors import InputError

# The only modules that annotations and defaults may draw on: all light, none with effects on import.
READABLE = ("annotated_types", "collections", "collections.abc", "math", "pathlib", "tutelage.recipe.types", "typing")
_TYPES = "bool bytes complex dict float frozenset int list object range set str tuple type"
_SAFE_BUILTINS = {name: getattr(builtins, name) for name in _TYPES.split()}
_MARK = re.compile(r"^@(?:\w+\.)*(?:component|method)\(", re.MULTILINE)

Definition = ast.ClassDef | ast.FunctionDef


class Required(enum.Enum):
    """Stands for "no default"."""

    REQUIRED = "required"


REQUIRED: Final = Required.REQUIRED


@dataclass(frozen=True)
class Param:
    """One recipe key of a component.

    Args:
        name: The key.
        annotation: The evaluated type, constraints included.
        default: Its default, or `REQUIRED`.
        doc: What the docstring's ``Args:`` says of it.
    """

    name: str
    annotation: Any
    default: Any = REQUIRED
    doc: str = ""

    @property
    def required(self) -> bool:
        """Whether a recipe must give it."""
        return self.default is REQUIRED


class Unreadable(Exception):
    """An expression that cannot be evaluated without importing something heavy."""


@dataclass(frozen=True)
class Module:
    """A parsed source file."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, str(self.path))

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """Its top-level classes and functions."""
        return {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}

    @cached_property
    def assigned(self) -> dict[str, ast.expr]:
        """Its top-level assignments."""
        out: dict[str, ast.expr] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign):
                out.update({t.id: node.value for t in node.targets if isinstance(t, ast.Name)})
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                out[node.target.id] = node.value
        return out

    @cached_property
    def imports(self) -> dict[str, tuple[str, str | None]]:
        """Local name to (module, attribute), with attribute ``None`` for a module itself."""
        out: dict[str, tuple[str, str | None]] = {}
        package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        guarded = (n for top in self.tree.body if isinstance(top, ast.If | ast.Try) for n in top.body)
        for node in (*self.tree.body, *guarded):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    out[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0],
                        None,
                    )
            elif isinstance(node, ast.ImportFrom):
                origin = node.module or ""
                if node.level:
                    parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                    origin = ".".join([*parent, *([node.module] if node.module else [])])
                out.update({alias.asname or alias.name: (origin, alias.name) for alias in node.names})
        return out


class _Names(dict[str, Any]):
    """Names as an expression of a module sees them, looked up when asked for."""

    def __init__(self, sources: Sources, module: Module) -> None:
        super().__init__()
        self._sources, self._module = sources, module

    def __missing__(self, name: str) -> Any:
        return self._sources.value(self._module, name)


@dataclass
class Sources:
    """Modules of the packages that are read, by dotted name.

    Args:
        roots: Top-level package name to its folder, or to its file for a single-module package.
    """

    roots: Mapping[str, Path]
    _modules: dict[str, Module | None] = field(default_factory=dict)

    def find(self, name: str) -> Module | None:
        """A module by its dotted name; ``None`` when it belongs to no package that is read."""
        if name not in self._modules:
            self._modules[name] = self._locate(name)
        return self._modules[name]

    def _locate(self, name: str) -> Module | None:
        top, *rest = name.split(".")
        root = self.roots.get(top)
        if root is None:
            return None
        base = root.joinpath(*rest)
        candidates = [base / "__init__.py", base.with_suffix(".py")] if root.is_dir() else [root] if not rest else []
        path = next((p for p in candidates if p.is_file()), None)
        return self.add(name, path) if path else None

    def add(self, name: str, path: Path, text: str | None = None) -> Module:
        """Take a file in as a module."""
        module = Module(name, path, path.read_text(encoding="utf-8") if text is None else text)
        self._modules[name] = module
        return module

    def value(self, module: Module, name: str) -> Any:
        """What a name of a module stands for.

        Raises:
            KeyError: It stands for nothing that can be read.
        """
        if name in module.imports:
            origin, attribute = module.imports[name]
            if attribute is None:
                if origin in READABLE:
                    return importlib.import_module(origin)
                raise KeyError(name)
            if origin in READABLE:
                return getattr(importlib.import_module(origin), attribute)
            source = self.find(origin)
            if source is None:
                raise KeyError(name)
            return self.value(source, attribute)
        if name in module.assigned:
            return self.evaluate(module, module.assigned[name])
        raise KeyError(name)

    def evaluate(self, module: Module, expression: ast.expr) -> Any:
        """Value of an annotation or default.

        Raises:
            Unreadable: It uses something outside `READABLE` and the packages that are read.
        """
        if isinstance(expression, ast.Constant) and not isinstance(expression.value, str):
            return expression.value
        code = compile(ast.Expression(expression), str(module.path), "eval")
        try:
            return eval(code, {"__builtins__": _SAFE_BUILTINS}, _Names(self, module))  # noqa: S307 - names are closed
        except Exception as error:
            raise Unreadable(f"{ast.unparse(expression)!r}: {error}") from error

    def definition(self, module: Module, expression: ast.expr) -> tuple[Module, Definition] | None:
        """The class or function that an expression such as ``Base``, ``base.Base`` or ``Base[T]`` names."""
        if isinstance(expression, ast.Subscript):
            return self.definition(module, expression.value)
        if isinstance(expression, ast.Name):
            return self._named(module, expression.id, 0)
        if isinstance(expression, ast.Attribute):
            dotted = ast.unparse(expression.value).split(".")
            origin, attribute = module.imports.get(dotted[0], (dotted[0], None))
            path = ".".join([origin, *([attribute] if attribute else []), *dotted[1:]])
            source = self.find(path)
            return self._named(source, expression.attr, 0) if source else None
        return None

    def _named(self, module: Module, name: str, depth: int) -> tuple[Module, Definition] | None:
        if name in module.definitions:
            return module, module.definitions[name]
        if name in module.imports and depth < 20:
            origin, attribute = module.imports[name]
            source = self.find(origin)
            if source is not None and attribute is not None:
                return self._named(source, attribute, depth + 1)
        return None

    def ancestry(self, module: Module, node: Definition) -> list[tuple[Module, Definition]]:
        """The definition and, for a class, the bases that can be read, nearest first."""
        order: list[tuple[Module, Definition]] = []

        def visit(where: Module, what: Definition, depth: int) -> None:
            order.append((where, what))
            if isinstance(what, ast.ClassDef) and depth < 20:
                for base in what.bases:
                    found = self.definition(where, base)
                    if found is not None:
                        visit(*found, depth + 1)

        visit(module, node, 0)
        # Python puts a shared base after all that derive from it, so the last mention counts.
        return [item for i, item in enumerate(order) if all(item[1] is not later[1] for later in order[i + 1 :])]


def marked(module: Module) -> Iterator[tuple[Definition, str, tuple[str, ...], dict[str, str]]]:
    """Definitions of a module that carry ``@component`` or ``@method``: node, decorator, its literal arguments.

    Raises:
        InputError: An argument of the decorator is not a literal string.
    """
    if not _MARK.search(module.text):
        return
    for node in module.definitions.values():
        for mark in node.decorator_list:
            if not isinstance(mark, ast.Call):
                continue
            called = ast.unparse(mark.func).rpartition(".")[2]
            if called not in ("component", "method"):
                continue
            values = [*mark.args, *(k.value for k in mark.keywords)]
            if not all(isinstance(v, ast.Constant) and isinstance(v.value, str) for v in values):
                raise InputError(f"{module.path}:{mark.lineno}: the arguments of @{called} must be literal strings")
            positional = tuple(ast.literal_eval(a) for a in mark.args)
            yield node, called, positional, {str(k.arg): ast.literal_eval(k.value) for k in mark.keywords}


def arguments_doc(doc: str | None) -> dict[str, str]:
    """The entries of a Google-style ``Args:`` section, each on one line."""
    out: dict[str, str] = {}
    inside, indent, current = False, 0, ""
    for line in (doc or "").expandtabs().splitlines():
        depth = len(line) - len(line.lstrip())
        if line.strip() in ("Args:", "Arguments:"):
            inside, indent, current = True, depth, ""
        elif inside and line.strip() and depth <= indent:
            inside = False
        elif inside and line.strip():
            entry = re.match(r"\s+\*{0,2}(\w+)(?: \([^)]*\))?:\s*(.*)", line)
            if entry and depth == indent + 4:
                current = entry[1]
                out[current] = entry[2].strip()
            elif current:
                out[current] = f"{out[current]} {line.strip()}".strip()
    return out


@dataclass(frozen=True)
class Signature:
    """What the source says of a component: its keys, what the engine supplies, and its class attributes."""

    params: tuple[Param, ...]
    positional: tuple[str, ...]
    attributes: Mapping[str, Any]


def signature(sources: Sources, module: Module, node: Definition) -> Signature:
    """Read the signature of a class or function, following base classes.

    Raises:
        InputError: A type or default cannot be read without importing heavy modules.
    """
    line = sources.ancestry(module, node)
    docs: dict[str, str] = {}
    attributes: dict[str, Any] = {}
    for where, what in reversed(line):
        docs.update(arguments_doc(ast.get_docstring(what)))
        if isinstance(what, ast.ClassDef):
            for statement in what.body:
                name, value = _attribute(statement)
                if name and value is not None and not name.startswith("_"):
                    try:
                        attributes[name] = sources.evaluate(where, value)
                    except Unreadable:
                        attributes.pop(name, None)
    if isinstance(node, ast.FunctionDef):
        params, positional = _params(sources, module, node, docs, skip=0)
        return Signature(params, positional, attributes)
    for where, what in line:
        if not isinstance(what, ast.ClassDef):
            continue
        init = next((n for n in what.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if init is not None:
            docs.update({k: v for k, v in arguments_doc(ast.get_docstring(init)).items() if k not in docs})
            params, positional = _params(sources, where, init, docs, skip=1)
            return Signature(params, positional, attributes)
        if _is_dataclass(what):
            return Signature(_fields(sources, line, docs), (), attributes)
    return Signature((), (), attributes)


def _attribute(node: ast.stmt) -> tuple[str, ast.expr | None]:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id, node.value
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    return "", None


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(mark) for mark in node.decorator_list)


def _fields(sources: Sources, line: list[tuple[Module, Definition]], docs: Mapping[str, str]) -> tuple[Param, ...]:
    out: dict[str, Param] = {}
    for where, what in reversed(line):
        if not isinstance(what, ast.ClassDef) or not _is_dataclass(what):
            continue
        for node in what.body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            if "ClassVar" not in ast.unparse(node.annotation):
                name = node.target.id
                out[name] = _param(sources, where, name, node.annotation, node.value, node.lineno, docs)
    return tuple(out.values())


def _params(
    sources: Sources, module: Module, node: ast.FunctionDef, docs: Mapping[str, str], *, skip: int
) -> tuple[tuple[Param, ...], tuple[str, ...]]:
    spec = node.args
    ordered = [*spec.posonlyargs, *spec.args]
    needed = tuple(arg.arg for arg in ordered[: len(ordered) - len(spec.defaults)][skip:])
    params = tuple(
        _param(sources, module, arg.arg, arg.annotation, default, arg.lineno, docs)
        for arg, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
    )
    return params, needed


def _param(
    sources: Sources,
    module: Module,
    name: str,
    annotation: ast.expr | None,
    default: ast.expr | None,
    line: int,
    docs: Mapping[str, str],
) -> Param:
    try:
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        kind = Any if annotation is None else sources.evaluate(module, annotation)
        value = REQUIRED if default is None else sources.evaluate(module, default)
    except Unreadable as error:
        raise InputError(
            f"{module.path}:{line}: '{name}' cannot be read without importing its module: {error}."
            f" Types and defaults of recipe keys may use builtins, {', '.join(READABLE)} and constants made of them."
        ) from error
    return Param(name, kind, value, docs.get(name, ""))
