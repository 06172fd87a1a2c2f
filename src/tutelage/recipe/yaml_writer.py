"""YAML 1.2 text that reads back as what was written."""

from __future__ import annotations

import math
from typing import Any

import yaml

from tutelage.recipe.errors import RecipeError
from tutelage.recipe.yaml_source import Place, scalar


class _Writer(yaml.SafeDumper):
    """Quotes by YAML 1.2's rules, and never uses anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(writer: _Writer, value: str) -> yaml.ScalarNode:
    # PyYAML quotes by 1.1: it would leave '1e-3' bare, which 1.2 reads as a number.
    ambiguous = len(value) < 500 and not _reads_as_text(value)
    return writer.represent_scalar("tag:yaml.org,2002:str", value, style='"' if ambiguous or "\n" in value else None)


def _reads_as_text(value: str) -> bool:
    try:
        return isinstance(scalar(value, Place()), str)
    except RecipeError:
        return False


def _number(writer: _Writer, value: float) -> yaml.ScalarNode:
    text = repr(value) if math.isfinite(value) else (".inf" if value > 0 else "-.inf")
    return writer.represent_scalar("tag:yaml.org,2002:float", text)


_Writer.add_representer(str, _text)
_Writer.add_representer(float, _number)


def to_yaml(value: Any) -> str:
    """YAML of plain data, keys in the order given."""
    text: str = yaml.dump(
        value, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )
    return text
