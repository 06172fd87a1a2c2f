"""Texts and names as commands hold them."""

from __future__ import annotations

import re

from tutelage.recipe.errors import InputError

_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "'": "'", '"': '"', "\\": "\\"}
_UNSAFE = re.compile("[\\\\'\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UNSAFE_DOUBLE = re.compile('[\\\\"\x00-\x1f\x7f-\x9f\u2028\u2029]')
_WRITTEN = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "'": "\\'", '"': '\\"'}


def quote(text: str) -> str:
    """Text as a command holds it, in single quotes."""
    return f"'{_UNSAFE.sub(_escaped, text)}'" if _UNSAFE.search(text) else f"'{text}'"


def double(text: str) -> str:
    """Text in double quotes, as literals are written."""
    return f'"{_UNSAFE_DOUBLE.sub(_escaped, text)}"'


def _escaped(found: re.Match[str]) -> str:
    return _WRITTEN.get(found[0]) or f"\\u{ord(found[0]):04X}"


def unquote(text: str) -> str:
    """What quoted text says."""
    inner = text[3:-3] if len(text) >= 6 and text[:3] in ("'''", '"""') and text[-3:] == text[:3] else text[1:-1]
    return _ESCAPE.sub(_unescaped, inner) if "\\" in inner else inner


def _unescaped(found: re.Match[str]) -> str:
    mark = found[1]
    if len(mark) > 1:
        code = int(mark[1:], 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise InputError(f"{found[0]} is no character")
        return chr(code)
    # As other programs read it, a backslash before anything else is itself.
    return _ESCAPES.get(mark) or found[0]


def entity(text: str) -> tuple[str, str]:
    """What a node is called, and how: ``curie``, ``uri``, ``label`` or ``blank``."""
    first = text[0]
    if first == "<":
        return text[1:-1], "uri"
    if first in "'\"":
        return unquote(text), "label"
    if text.startswith("_:"):
        return text[2:], "blank"
    if text.startswith(("http://", "https://")):
        return text, "uri"
    return text, "curie"


def say(value: str, kind: str | None) -> str:
    """A node as a command names it.

    Args:
        value: Without its quotes or brackets.
        kind: As `entity` returns it; without it, what looks like an IRI or a CURIE is taken for one.
    """
    if kind == "uri":
        return f"<{value}>"
    if kind == "label":
        return quote(value)
    if kind == "blank":
        return f"_:{value}"
    if kind == "curie":
        return value
    if value.startswith(("http://", "https://", "urn:")):
        return f"<{value}>"
    return value if re.fullmatch(r"[A-Za-z_][\w.-]*:[^\s'\"<]+|[^\s'\"<#,]+", value) else quote(value)
