"""The plugin below examples/, installed as a user would and used from another process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "examples" / "plugin"


def _install(source: Path, target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--target", str(target), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    search = os.pathsep.join([*(str(path) for path in paths), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": search}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(PLUGIN, source)
    target = tmp_path_factory.mktemp("target")
    _install(source, target)
    return target


def test_the_registry_lists_the_plugin_without_importing_it(installed: Path) -> None:
    done = _python(
        """
        import json, sys
        from tutelage.recipe.registry import registry
        found = [registry().get("augment", "sobel"), registry().get("model", "sobel-net")]
        heavy = [name for name in ("torch", "tutelage_sobel") if name in sys.modules]
        packages, keys = [e.package for e in found], [p.name for p in found[0].params]
        print(json.dumps({"packages": packages, "keys": keys, "heavy": heavy}))
        """,
        installed,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"packages": ["tutelage-sobel"] * 2, "keys": ["share"], "heavy": []}


def test_a_plugin_that_is_not_installed_is_not_listed() -> None:
    done = _python("from tutelage.recipe.registry import registry; print(registry().find('augment', 'sobel'))")
    assert done.stdout.strip() == "None", done.stderr


def test_a_recipe_uses_its_components(installed: Path) -> None:
    done = _python(
        f"""
        import torch
        from tutelage.data.batch import Batch, DataInfo
        from tutelage.recipe import load_recipe
        recipe = load_recipe({str(PLUGIN / "recipes" / "edges.yaml")!r}, ["data.augment=[{{name: sobel, share: 1.0}}]"])
        info = DataInfo((1, 8, 8), 10, tuple("0123456789"), "none")
        student = recipe.slots["student"].build(info)
        batch = Batch(torch.rand(4, 1, 8, 8), torch.zeros(4).long(), torch.arange(4), torch.arange(4))
        sobel = recipe.slots["data"].extras["augment"][0].build()
        shown = sobel(batch).inputs
        print(student(shown).shape == (4, 10), bool((shown != batch.inputs).any()))
        print(float(sobel(batch.with_(inputs=torch.ones(4, 1, 8, 8))).inputs.abs().max()))
        """,
        installed,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True", "0.0"]


def test_a_mistake_in_a_plugins_keys_is_explained(installed: Path) -> None:
    done = _python(
        f"""
        from tutelage.recipe import load_recipe
        from tutelage.recipe.errors import RecipeError
        try:
            load_recipe({str(PLUGIN / "recipes" / "edges.yaml")!r}, ["data.augment=[{{name: sobel, shares: 0.5}}]"])
        except RecipeError as error:
            print(error)
        """,
        installed,
    )
    assert "shares" in done.stdout, done.stderr
    assert "'share'" in done.stdout


def test_two_packages_with_one_name_are_refused_by_both_names(installed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(PLUGIN, other)
    (other / "src" / "tutelage_sobel").rename(other / "src" / "rival_edges")
    for file in [other / "pyproject.toml", *(other / "src").rglob("*.py")]:
        file.write_text(
            file.read_text().replace("tutelage_sobel", "rival_edges").replace("tutelage-sobel", "rival-edges")
        )
    target = tmp_path / "target"
    _install(other, target)
    done = _python(
        """
        from tutelage.recipe.errors import InputError
        from tutelage.recipe.registry import registry
        try:
            registry()
        except InputError as error:
            print(error.exit_code, error)
        """,
        installed,
        target,
    )
    assert done.stdout.startswith("2 "), done.stderr
    assert "tutelage-sobel" in done.stdout
    assert "rival-edges" in done.stdout
    assert "'sobel" in done.stdout
