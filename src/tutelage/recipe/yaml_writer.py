"""YAML 1.2 text that reads back as what was written."""

from __future__ import annotations

import math
from typing import Any

import yaml

from tutelage.recipe.errors import RecipeError
from tutelage.recipe.yaml_source import Place, scalar

# What some reader takes for the end of a line: escaped, never written as it is.
_BREAKS = frozenset("\n\r\x85\u2028\u2029\ufeff")
_older: Any = yaml.resolver.Resolver.resolve


class _Writer(yaml.SafeDumper):
    """Quotes by YAML 1.2's rules, and never uses anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """The tag that an unquoted scalar reads back as, so that none need be written."""
        if kind is not yaml.ScalarNode or not implicit[0]:
            return _older(self, kind, value, implicit)
        names = {str: "str", int: "int", float: "float", bool: "bool", type(None): "null"}
        return f"tag:yaml.org,2002:{names[type(_read(value))]}"


def _text(writer: _Writer, value: str) -> yaml.ScalarNode:
    # Words that YAML 1.1 takes for booleans or dates are quoted too, for the sake of other readers.
    older = _older(writer, yaml.ScalarNode, value, (True, False)) != "tag:yaml.org,2002:str"
    quoted = older or not isinstance(_read(value), str) or bool(set(value) & _BREAKS)
    return writer.represent_scalar("tag:yaml.org,2002:str", value, style='"' if quoted else None)


def _read(value: str) -> Any:
    try:
        return scalar(value, Place())
    except RecipeError:
        return None


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
