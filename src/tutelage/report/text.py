"""Numbers and answers in words, shared by the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

NOT_MEASURED = "not measured"
SHARES = frozenset({"accuracy", "agreement", "gap_recovered", "kept", "lost"})
"""Numbers shown in percent."""
TITLES: Mapping[str, str] = {
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "agreement": "agreement with source",
    "kl": "KL(source || model)",
    "reverse_kl": "KL(model || source)",
    "ece": "calibration error",
    "adaptive_ece": "adaptive calibration error",
    "kept": "kept of source",
    "lost": "lost of source",
    "membership_auc": "membership AUC",
    "flops": "FLOPs",
    "latency": "latency",
    "peak_memory": "peak memory",
    "wall_time": "wall time",
    "cpu_time": "CPU time",
    "gap_recovered": "gap recovered",
}
COSTS = ("parameters", "flops", "latency", "peak_memory", "wall_time", "cpu_time")
"""Costs in the order they are shown."""
Measured = Mapping[str, Any]


class Answer(NamedTuple):
    """One of the four answers in one line."""

    title: str
    text: str
    good: bool | None


def title(name: str) -> str:
    """What a number is called for people."""
    return TITLES.get(name, name.replace("_", " "))


def is_share(name: str) -> bool:
    """Whether a number is shown in percent."""
    return name in SHARES or name.endswith("_accuracy")


def value(name: str, number: Measured | None, *, signed: bool = False) -> str:
    """The estimate alone, e.g. ``95.3 %``, ``0.031``, ``12.3 k`` or ``2 min 5 s``."""
    if number is None or number.get("value") is None:
        return NOT_MEASURED
    amount = float(number["value"])
    if _counted(name):
        return quantity(name, amount)
    # A difference of two shares is in points, for a percentage of a percentage would be another number.
    unit = (" points" if signed else " %") if is_share(name) else ""
    return _fixed(name, amount, signed) + unit


def bounds(name: str, number: Measured | None) -> str:
    """The interval alone, e.g. ``[93.8, 96.7]``; empty where there is none."""
    if number is None or number.get("low") is None or number.get("high") is None:
        return ""
    return f"[{_fixed(name, float(number['low']))}, {_fixed(name, float(number['high']))}]"


def full(name: str, number: Measured | None, *, signed: bool = False) -> str:
    """Estimate and interval."""
    return " ".join(part for part in (value(name, number, signed=signed), bounds(name, number)) if part)


def quantity(name: str, amount: float) -> str:
    """A count, an amount of memory or a time in the unit that suits it."""
    if name.endswith("memory"):
        return _scaled(amount, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))
    if name.endswith(("time", "latency")):
        if amount < 1:
            return f"{amount * 1e3:.3g} ms" if amount >= 1e-3 or amount == 0 else f"{amount * 1e6:.3g} us"
        if amount < 60:
            return f"{amount:.3g} s"
        minutes, seconds = divmod(round(amount), 60)
        return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
    return _scaled(amount, 1000, ("", "k", "M", "G", "T", "P"))


def finding(found: Any) -> str:
    """Something that a method measured itself: a number, with its interval where it has one, or a text."""
    if isinstance(found, Mapping):
        whole = full("", found)
        return whole if found.get("n") is None else f"{whole} (n = {found['n']})"
    if isinstance(found, float):
        return f"{found:.4g}"
    return NOT_MEASURED if found is None else str(found)


def finding_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of a table that a method measured itself; what a row does not have is a dash."""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    return heads, [[finding(row[head]) if head in row else "-" for head in heads] for row in rows]


def four_answers(report: Mapping[str, Any]) -> list[Answer]:
    """What arrived, was kept, was lost and leaked, one line each.

    Args:
        report: A report as `tutelage.report.answers.build` makes it.
    """
    return [
        _arrived(report["arrived"], _names(report)),
        _retained("Kept", report["kept"], _names(report)),
        _retained("Lost", report["lost"], _names(report)),
        _leaked(report["leaked"]),
    ]


def _arrived(arrived: Measured, names: Mapping[str, str]) -> Answer:
    metric = str(arrived.get("metric", "accuracy"))
    if arrived.get("after") is None:
        return Answer("Arrived", NOT_MEASURED, None)
    text = f"{title(metric)} {full(metric, arrived['after'])}"
    gain, reference = arrived.get("gain"), arrived.get("reference")
    good = None
    if gain is None:
        text += "; no baseline to compare with"
    else:
        than = "against no transfer" if reference == "baseline" else "against before"
        text += f", {full(metric, gain, signed=True)} {than}"
        good = _direction(gain, bool(arrived.get("higher_is_better", True)))
    gap = arrived.get("gap_recovered")
    # A ratio over a gap that may be chance is a number in the file, but no answer.
    if gap is not None and gap.get("low") is not None:
        text += f"; {full('gap_recovered', arrived['gap_recovered'])} of the gap to {names.get('source', 'the source')}"
    return Answer("Arrived", text, good)


def _retained(heading: str, found: Measured, names: Mapping[str, str]) -> Answer:
    parts = []
    if found.get("of_before") is not None:
        parts.append(f"{full('kept', found['of_before'])} of what it got right before")
    if found.get("of_source") is not None:
        parts.append(f"{full('kept', found['of_source'])} of what {names.get('source', 'the source')} gets right")
    return Answer(heading, "; ".join(parts) or NOT_MEASURED, None)


def _leaked(leaked: Measured) -> Answer:
    parts, good = [], None
    for name, number in leaked.items():
        if number is not None:
            hint = " (0.5 gives nothing away)" if name == "membership_auc" else ""
            parts.append(f"{title(name)} {full(name, number)}{hint}")
    auc = leaked.get("membership_auc")
    if auc is not None and auc.get("low") is not None:
        good = False if auc["low"] > 0.5 else None
    return Answer("Leaked", "; ".join(parts) or NOT_MEASURED, good)


def _names(report: Mapping[str, Any]) -> dict[str, str]:
    rows = [row for row in report.get("rows", ()) if row["role"] == "source"]
    return {"source": f"the {rows[0]['name']}" if rows and rows[0]["name"].isidentifier() else "the source"}


def _direction(difference: Measured, higher_is_better: bool) -> bool | None:
    """Whether a difference is an improvement beyond chance; ``None`` when its interval holds zero or is missing."""
    low, high = difference.get("low"), difference.get("high")
    if low is None or high is None or low <= 0 <= high:
        return None
    return bool((low > 0) == higher_is_better)


def _counted(name: str) -> bool:
    return name.endswith(("memory", "time", "latency")) or name in {"parameters", "flops"}


def _fixed(name: str, amount: float, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{100 * amount:{sign}.1f}" if is_share(name) else f"{amount:{sign}.3f}"


def _scaled(amount: float, base: int, units: tuple[str, ...]) -> str:
    power = 0
    while abs(amount) >= base * 0.9995 and power < len(units) - 1:
        amount, power = amount / base, power + 1
    return f"{amount:.3g} {units[power]}".strip()
