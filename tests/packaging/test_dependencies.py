"""What is imported is declared, what is declared is pinned, and the light rooms stay light."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

# Import names that differ from the name of the distribution.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml"}
CORE = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
EXTRAS = {
    canonicalize_name(Requirement(text).name)
    for extra, texts in PROJECT["optional-dependencies"].items()
    if extra not in ("test", "docs", "dev")
    for text in texts
}


def _imports(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Top-level name, line and whether importing the module runs it unconditionally."""

    def visit(node: ast.AST, always: bool) -> Iterator[tuple[str, int, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno, always) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0], node.lineno, always
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Try)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, always and not inner and not typing_only)

    return visit(tree, True)


def _foreign(path: Path) -> Iterator[tuple[str, int, bool]]:
    for name, line, always in _imports(ast.parse(path.read_text())):
        if name not in sys.stdlib_module_names and name not in ("tutelage", "__future__"):
            yield canonicalize_name(DISTRIBUTIONS.get(name, name)), line, always


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_every_import_is_declared(path: Path) -> None:
    wrong = []
    for name, line, always in _foreign(path):
        if name not in CORE | EXTRAS:
            wrong.append(f"line {line}: '{name}' is declared nowhere in pyproject.toml")
        elif always and name not in CORE:
            wrong.append(f"line {line}: '{name}' belongs to an extra: import it in the function that needs it")
    assert not wrong, f"{path.relative_to(ROOT)}\n" + "\n".join(wrong)


def test_the_import_check_sees_what_it_should() -> None:
    code = """
import a
if TYPE_CHECKING:
    import b
def f():
    from c.d import e
try:
    import g
except ImportError:
    g = None
"""
    assert list(_imports(ast.parse(code))) == [("a", 2, True), ("b", 4, False), ("c", 6, False), ("g", 8, False)]


def _python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["tutelage", "tutelage.recipe", "tutelage.recipe.registry", "tutelage.cli"])
def test_light_modules_load_nothing_heavy(module: str) -> None:
    heavy = "torch numpy sklearn torchmetrics accelerate transformers datasets pandas matplotlib onnx ray"
    assert _python(f"import sys, {module}; print(*sorted(set({heavy.split()!r}) & set(sys.modules)))") == ""


def test_every_module_imports_with_the_core_alone() -> None:
    """As in an environment without extras: whatever belongs to one is not there to be imported."""
    names = {name for name, dist in DISTRIBUTIONS.items() if canonicalize_name(dist) in EXTRAS - CORE}
    names |= {name.replace("-", "_") for name in EXTRAS - CORE}
    _python(
        f"""
import importlib, importlib.abc, importlib.util, pkgutil, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {sorted(names)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
# Who asks whether a package is there gets an answer, not an error.
real = importlib.util.find_spec
absent = {sorted(names)!r}
importlib.util.find_spec = lambda name, package=None: None if name.split(".")[0] in absent else real(name, package)
import tutelage
for found in pkgutil.walk_packages(tutelage.__path__, "tutelage."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
"""
    )


def _pins(file: str) -> dict[str, str]:
    pins: dict[str, str] = {}
    for line in (ROOT / "requirements" / file).read_text().splitlines():
        if line.startswith("-r "):
            pins |= _pins(line[3:])
        elif line and not line.startswith("#"):
            name, exact, version = line.partition("==")
            assert exact
            assert re.fullmatch(r"[\w.]+", version), f"{file}: '{line}' is not an exact pin"
            assert pins.get(canonicalize_name(name), version) == version, f"{file}: two versions of {name}"
            pins[canonicalize_name(name)] = version
    return pins


def _needs(name: str) -> list[str]:
    """What an installed package needs; `make test` alone does not install what only the documentation needs."""
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        ("base.txt", ["data", "report"]),
        ("test.txt", ["test", "data", "report", "export", "scale"]),
        ("docs.txt", ["docs"]),
    ],
)
def test_pins_are_complete_and_within_the_ranges(file: str, extras: list[str]) -> None:
    pins = _pins(file)
    wanted = [*PROJECT["dependencies"], *(text for extra in extras for text in PROJECT["optional-dependencies"][extra])]
    todo, seen, wrong = [Requirement(text) for text in wanted], set[str](), list[str]()
    while todo:
        need = todo.pop()
        name = canonicalize_name(need.name)
        if name == "tutelage" or str(need) in seen:
            continue
        seen.add(str(need))
        if name not in pins:
            # A build of torch for an accelerator brings its maker's libraries, and pins them exactly by itself.
            if not name.startswith(("nvidia-", "cuda-", "triton")):
                wrong.append(f"{name} is needed and not pinned")
            continue
        if not need.specifier.contains(pins[name], prereleases=True):
            wrong.append(f"{name}=={pins[name]} is outside {need.specifier}")
        for text in _needs(name):
            deeper = Requirement(text)
            if deeper.marker is None or any(deeper.marker.evaluate({"extra": extra}) for extra in need.extras or {""}):
                todo.append(deeper)
    assert not wrong, "\n".join(wrong)


def test_torchvision_is_kept_out() -> None:
    """It would pull a second build of torch in; nothing here needs it."""
    for file in (ROOT / "requirements").glob("*.txt"):
        assert "torchvision" not in _pins(file.name)


def test_versions_agree() -> None:
    import tutelage

    assert tutelage.__version__ == PROJECT["version"]
    assert re.search(rf"^## \[?{re.escape(PROJECT['version'])}", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
