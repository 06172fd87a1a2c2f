"""What of a text model's score on UMLS is memory of names, and what it infers."""

from __future__ import annotations

from typing import Any

from studies.base import ROOT, RUNS, row
from tutelage.api import run
from tutelage.recipe.loading import load_recipe

SEEDS = (0, 1, 2)


def study() -> dict[str, Any]:
    """The shipped recipe with a real encoder, trained and untrained, in three worlds."""
    found: dict[tuple[str, str], list[float]] = {}
    for seed in SEEDS:
        changes = ["method.encoder=minilm", f"seed={seed}", "name=study-plm-kgc-inference"]
        report = run(load_recipe(ROOT / "recipes/graph/plm-kgc-inference.yaml", changes), root=RUNS).report
        for world in report["findings"]["worlds"]:
            name = f"{world['world']}, {world['encoder']}"
            for metric in ("mrr", "hits@1", "hits@10"):
                found.setdefault((name, metric), []).append(world[metric]["value"])
        for share in report["findings"]["shares_of_mrr"]:
            found.setdefault((f"share: {share['share']}", "mrr"), []).append(share["mrr"]["value"])
    rows = [row(name, metric, values) for (name, metric), values in found.items()]
    return {
        "method": "plm-kgc-inference",
        "page": "graph",
        "what": "How much of a text model's score is memory of names?",
        "setup": (
            "UMLS, whose entities are real terms, without descriptions; entities are a linear image of MiniLM's frozen "
            "vectors of their names (`trained`), or of the same encoder with random weights (`random`); ComplEx of "
            "width 32 on top, against all entities, 20 epochs. `graph alone` is ComplEx with free rows. Virtual world: "
            "names permuted; anonymised: random strings. Filtered, both sides; 3 seeds, 95 % t-intervals over seeds."
        ),
        "rows": rows,
        "note": verdict(rows),
    }


def verdict(rows: list[dict[str, Any]]) -> str:
    """Which shares are apart from nothing."""
    shares = [one for one in rows if one["name"].startswith("share: ")]
    sure = [one for one in shares if one["low"] > 0 or one["high"] < 0]
    said = ", ".join(f"{one['name'].removeprefix('share: ')} ({one['mean']:+.3f})" for one in sure)
    return f"Shares whose interval leaves out 0: {said or 'none'}."
