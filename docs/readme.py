"""Put the quickstart recipe, and what a run of it printed, into README.md: `python docs/readme.py RUN`."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from tutelage.report import figures
from tutelage.report.store import load_report
from tutelage.report.terminal import table

ROOT = Path(__file__).resolve().parent.parent


def between(text: str, mark: str, content: str) -> str:
    """The text with what stands between two marks replaced."""
    return re.sub(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", lambda m: m[1] + content + m[2], text, flags=re.DOTALL)


def main(run: Path) -> None:
    """Rewrite README.md and its picture from a run."""
    report = load_report(run)
    out = Console(file=io.StringIO(), width=100, highlight=False)
    out.print(table(report))
    printed = "\n".join(line.rstrip() for line in out.file.getvalue().rstrip().splitlines())  # type: ignore[attr-defined]
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    recipe = (ROOT / "recipes" / "quickstart.yaml").read_text(encoding="utf-8")
    text = between(text, "recipe", f"```yaml\n{recipe}```\n")
    text = between(text, "output", f"```text\n{printed}\n```\n")
    readme.write_text(text, encoding="utf-8")
    metric = report["arrived"]["metric"]
    points = [
        (row["name"], row["measures"]["cost"]["parameters"]["value"], row["measures"]["quality"][metric])
        for row in report["rows"]
    ]
    picture = figures.quality_against_cost(points, metric, figures.Palette())
    if picture is not None:
        assets = ROOT / "docs" / "assets"
        assets.mkdir(exist_ok=True)
        # By itself, a picture has no page to take its colours from.
        svg = picture.svg.replace('style="max-width', 'style="background:#ffffff;color:#222222;max-width', 1)
        if "xmlns=" not in svg:
            svg = svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
        (assets / "quickstart.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
