"""Changes that are drawn, told in the change language and made: do both versions end the same?"""

from __future__ import annotations

from typing import Any

from studies.base import ROOT, RUNS, SEEDS, row
from tutelage.api import run
from tutelage.recipe.loading import load_recipe

ONTOLOGY = ROOT.parent / "shared" / "data" / "ontology" / "go-nucleus.owl.ttl"
_FOUND = {
    "told by the same type": "share_of_drawn_changes_told_by_the_same_type",
    "or a kind of it": "share_told_by_the_same_type_or_a_kind_of_it",
    "groups that could be told otherwise": "groups_that_could_be_told_otherwise",
}


def study() -> dict[str, Any]:
    """200 changes of UMLS's network, and of the Gene Ontology where the slice is there."""
    graphs: dict[str, str | None] = {"UMLS network": None}
    if ONTOLOGY.is_file():
        graphs["Gene Ontology, nucleus"] = str(ONTOLOGY)
    rows = []
    for name, before in graphs.items():
        found: dict[str, list[float]] = {}
        for seed in SEEDS:
            data = {"name": "graph-versions", "before": before, "changes": 200}
            recipe = {"name": "study-kgcl", "method": "kgcl", "data": data, "seed": seed}
            report = run(load_recipe(recipe), root=RUNS).report
            values = {
                "right before": report["arrived"]["baseline"]["value"],
                "right after": report["arrived"]["after"]["value"],
                **{metric: float(report["findings"][key]) for metric, key in _FOUND.items()},
            }
            for metric, value in values.items():
                found.setdefault(metric, []).append(value)
        rows += [row(name, metric, values) for metric, values in found.items()]
    return {
        "method": "kgcl",
        "page": "graph",
        "what": "Do changes told in controlled language make one version of the other?",
        "setup": (
            "200 changes of ten kinds are drawn and made, one after the other; then nothing but the two versions is "
            "compared, the difference written as commands, read back and made in the older. 'right' is the share of "
            "facts of either version that a graph states exactly if the newer does; what hangs together by blank nodes "
            "is one fact. 5 seeds; 95 % t-intervals over them."
        ),
        "rows": rows,
        "note": verdict(rows),
    }


def verdict(rows: list[dict[str, Any]]) -> str:
    """Whether all arrived, and how close the card's expectation is."""
    said = []
    for name in dict.fromkeys(one["name"] for one in rows):
        value = {one["metric"]: one["mean"] for one in rows if one["name"] == name}
        whole = (
            "every version is reconstructed" if value["right after"] == 1.0 else "not every version is reconstructed"
        )
        said.append(f"{name}: {whole}; {value['told by the same type']:.0%} of the changes are told by the type drawn")
    return (
        f"{'; '.join(said)}. A class with a label is told as the creation of a node, a move downwards as a deepening, "
        "two renamings of one node as one, and changes that take each other back not at all; 90 % was expected."
    )
