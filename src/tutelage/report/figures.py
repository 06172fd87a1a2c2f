"""Pictures as inline SVG that takes its ink from the page, so that one drawing serves light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from typing import Any

# Okabe and Ito's palette (the blue a little lighter), told apart with any colour vision and legible on white and on
# black; a marker goes with each.
_COLOURS = ("#1f83c4", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
# Stand-ins that are replaced by the page's own colours in the finished SVG.
_INK, _FAINT = "#010203", "#040506"
_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.5,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "legend.labelcolor": _INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class Figure:
    """A picture for a page.

    Args:
        svg: The ``<svg>`` element, without links or scripts.
        title: What it shows.
        caption: How to read it.
        full: Whether it takes the page's whole width.
    """

    svg: str
    title: str
    caption: str
    full: bool = False


class Palette:
    """One colour and marker a name, in order of first use and the same in every picture of a page.

    Args:
        names: The names whose places are fixed from the start.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._place: dict[str, int] = {name: place for place, name in enumerate(dict.fromkeys(names))}

    def colour(self, name: str) -> str:
        """Its colour."""
        return _COLOURS[self._of(name) % len(_COLOURS)]

    def marker(self, name: str) -> str:
        """Its marker."""
        return _MARKERS[self._of(name) % len(_MARKERS)]

    def _of(self, name: str) -> int:
        return self._place.setdefault(name, len(self._place))


def losses(curves: Sequence[Mapping[str, Any]], palette: Palette) -> Figure | None:
    """Loss terms over steps, and the loss on the validation split where it was taken, one panel a stage."""
    # The gradient's norm is logged beside the terms, but it is no loss and has another scale.
    chosen = [c for c in curves if c["kind"] == "losses" and c["term"].rpartition("/")[2] != "gradient"]
    stages = {curve["stage"] for curve in chosen}
    held_out = [curve for curve in curves if curve["kind"] == "validation" and curve["term"] == "loss"]
    chosen += [{**curve, "term": "validation", "dashed": True} for curve in held_out if curve["stage"] in stages]
    caption = "Each loss term, unweighted, averaged over neighbouring steps; dashed: on the validation split."
    return _panels("losses", "Loss", caption, chosen, palette)


def validation(curves: Sequence[Mapping[str, Any]], palette: Palette) -> Figure | None:
    """Validation quality over steps, one panel a stage; a loss stands with the other losses, whose scale it has."""
    chosen = [curve for curve in curves if curve["kind"] == "validation" and curve["term"] != "loss"]
    return _panels("validation", "Quality on the validation split", "Measured as training went on.", chosen, palette)


def reliability(diagrams: Sequence[Mapping[str, Any]], palette: Palette) -> Figure | None:
    """Accuracy against confidence, with the diagonal of perfect calibration."""
    drawn = [diagram for diagram in diagrams if diagram["count"]]
    if not drawn:
        return None
    title = "Reliability"
    alt = "Reliability diagram of " + ", ".join(diagram["name"] for diagram in drawn)
    with _canvas("reliability", 4.6, 4.5) as (figure, svg):
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle=(0, (4, 3)), label="perfect")
        for diagram in drawn:
            name, total = diagram["name"], sum(diagram["count"])
            style = {"color": palette.colour(name), "marker": palette.marker(name)}
            axes.plot(
                diagram["confidence"], diagram["accuracy"], linewidth=1.2, markersize=0, **(style | {"marker": ""})
            )
            sizes = [8 + 120 * count / total for count in diagram["count"]]
            axes.scatter(
                diagram["confidence"],
                diagram["accuracy"],
                s=sizes,
                alpha=0.85,
                linewidths=0,
                label=_said(name),
                **style,
            )
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
        legend = figure.legend(loc="outside lower center", ncols=2)
        for handle in legend.legend_handles[1:]:
            handle.set_sizes([28])
    caption = "Below the diagonal a model is surer than it is right. A mark's area is the share of samples in its bin."
    return Figure(svg(alt), title, caption)


def agreement(matrix: Mapping[str, Any] | None, class_names: Sequence[str] | None) -> Figure | None:
    """Predicted classes of the source against those of the recipient."""
    if matrix is None:
        return None
    counts = matrix["counts"]
    size = len(counts)
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    names = (
        [str(name) for name in class_names]
        if class_names and len(class_names) == size
        else [str(i) for i in range(size)]
    )
    together = sum(counts[i][i] for i in range(size)) / max(1, sum(map(sum, counts)))
    pair = f"{matrix['source']} and {matrix['recipient']}"
    alt = f"Agreement matrix: {pair} name the same class in {100 * together:.1f} % of samples"
    with _canvas("agreement", 4.6, 4.5) as (figure, svg):
        from matplotlib.colors import LinearSegmentedColormap

        axes = figure.subplots()
        # From nothing to the hue, so that the page's own background shows where nobody is.
        shades = LinearSegmentedColormap.from_list("shades", [(0.122, 0.514, 0.769, 0.0), (0.122, 0.514, 0.769, 0.75)])
        axes.pcolormesh(shares, cmap=shades, vmin=0, vmax=1, edgecolors=_FAINT, linewidth=0.3 if size <= 30 else 0)
        if size <= 12:
            for i, row in enumerate(counts):
                for j, count in enumerate(row):
                    if count:
                        axes.text(j + 0.5, i + 0.5, str(count), ha="center", va="center", fontsize=8)
        step = max(1, size // 12)
        places = [place + 0.5 for place in range(0, size, step)]
        long = max(map(len, names)) > 3
        axes.set_xticks(places, names[::step], rotation=90 if long else 0)
        axes.set_yticks(places, names[::step])
        axes.tick_params(length=0, labelsize=8)
        axes.grid(False)
        axes.set(xlabel=f"class by {_said(matrix['recipient'])}", ylabel=f"class by {_said(matrix['source'])}")
        axes.invert_yaxis()
        axes.set_aspect("equal")
    caption = "Samples by both models' predicted class. Off the diagonal they disagree; shading is the share of a row."
    return Figure(svg(alt), "Agreement", caption)


def quality_against_cost(
    points: Sequence[tuple[str, float, Mapping[str, Any]]], metric: str, palette: Palette
) -> Figure | None:
    """Quality against the number of parameters, with intervals.

    Args:
        points: Name, parameters and quality of each model.
        metric: What the quality is called.
        palette: Colours.
    """
    if not points:
        return None
    alt = f"{metric} against parameters of " + ", ".join(name for name, _, _ in points)
    with _canvas("cost", 4.6, 4.0) as (figure, svg):
        axes = figure.subplots()
        for name, parameters, number in points:
            style: dict[str, Any] = {
                "color": palette.colour(name),
                "marker": palette.marker(name),
                "label": _said(name),
            }
            axes.errorbar(
                [parameters], [number["value"]], yerr=_errors(number), markersize=7, capsize=3, ls="none", **style
            )
        axes.set_xscale("log")
        axes.margins(x=0.25, y=0.2)
        axes.set(xlabel="parameters (logarithmic)", ylabel=metric)
        figure.legend(loc="outside lower center", ncols=2)
    return Figure(svg(alt), "Quality against cost", "Bars are 95 % intervals. Further left is smaller.")


def variants(rows: Sequence[Mapping[str, Any]], metric: str, reference: str) -> Figure | None:
    """Variants of a comparison: every seed, their mean and its interval.

    Args:
        rows: ``name``, ``value`` (a number or ``None``) and ``runs`` (each with ``value``) of each variant.
        metric: What is compared.
        reference: The variant whose mean is drawn as a line.
    """
    drawn = [row for row in rows if row["value"] is not None]
    if not drawn:
        return None
    alt = f"{metric} of " + ", ".join(f"{row['name']} {row['value']['value']:.3f}" for row in drawn)
    with _canvas("variants", 7.2, 1.1 + 0.36 * len(drawn)) as (figure, svg):
        axes = figure.subplots()
        for place, row in enumerate(drawn):
            seeds = [run["value"]["value"] for run in row["runs"] if run["value"] is not None]
            chosen = row["name"] == reference
            colour = _COLOURS[1] if row.get("negative_transfer") else _COLOURS[0]
            axes.scatter(seeds, [place + 0.24] * len(seeds), s=14, color=colour, alpha=0.45, linewidths=0)
            axes.errorbar(
                [row["value"]["value"]], [place], xerr=_errors(row["value"]), color=colour, capsize=3, markersize=7,
                marker="D" if chosen else "o",
            )  # fmt: skip
            if chosen:
                axes.axvline(row["value"]["value"], color=_INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        axes.set_yticks(range(len(drawn)), [_said(row["name"]) for row in drawn])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlabel=metric)
    caption = (
        "Small dots are seeds, large ones their mean with the 95 % t interval. The dashed line and the diamond are the "
        "reference; orange marks negative transfer."
    )
    return Figure(svg(alt), "Variants", caption, full=True)


def _panels(
    salt: str, title: str, caption: str, curves: Sequence[Mapping[str, Any]], palette: Palette
) -> Figure | None:
    stages = list(dict.fromkeys(curve["stage"] for curve in curves))
    if not stages:
        return None
    across = min(3, len(stages))
    down = -(-len(stages) // across)
    alt = f"{title} over steps in " + ", ".join(f"stage {stage}" for stage in stages)
    with _canvas(salt, 3.3 * across + 0.6, 3.0 * down) as (figure, svg):
        grid = figure.subplots(down, across, squeeze=False)
        for stage, axes in zip(stages, grid.flat, strict=False):
            chosen = [curve for curve in curves if curve["stage"] == stage]
            several = len({curve["name"] for curve in chosen}) > 1
            turns = {curve["term"].rpartition("/")[0] for curve in chosen if not curve.get("dashed")}
            for curve in chosen:
                # Terms are logged as turn/term; the only turn of a stage goes without saying.
                term = curve["term"] if len(turns) > 1 else curve["term"].rpartition("/")[2]
                label = f"{curve['name']} {term}" if several and curve["name"] else term
                marker = "o" if len(curve["points"]) <= 30 else ""
                steps, values = zip(*curve["points"], strict=True)
                axes.plot(
                    steps,
                    values,
                    linewidth=1.3,
                    marker=marker,
                    markersize=3,
                    linestyle="--" if curve.get("dashed") else "-",
                    label=_said(label),
                    color=palette.colour(label),
                )
            if salt == "losses" and min(value for curve in chosen for _, value in curve["points"]) > 0:
                axes.set_yscale("log")
            axes.set(title=_said(stage), xlabel="step")
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=8)
        for axes in list(grid.flat)[len(stages) :]:
            axes.set_visible(False)
    return Figure(svg(alt), title, caption, full=across > 1)


def _said(name: str) -> str:
    """A name as text: without this, dollars start a formula and a leading underscore hides a line from the legend."""
    escaped = name.replace("$", r"\$")
    return f"\u200b{escaped}" if escaped.startswith("_") else escaped


def _errors(number: Mapping[str, Any]) -> list[list[float]] | None:
    if number.get("low") is None or number.get("high") is None:
        return None
    # An interval may leave its estimate outside by a rounding error; a bar cannot be negative.
    return [[max(0.0, number["value"] - number["low"])], [max(0.0, number["high"] - number["value"])]]


@contextmanager
def _canvas(salt: str, width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure of this size in inches, and what gives its SVG with an alternative text once it is drawn."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Drawing

    # Neither pyplot nor the global style: a caller's own figures and settings stay as they are.
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}):
        drawing = Drawing(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(drawing)
        text: list[str] = []

        def svg(alt: str) -> str:
            return _inline(text[0], alt)

        yield drawing, svg
        buffer = StringIO()
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        text.append(buffer.getvalue())


def _inline(svg: str, alt: str) -> str:
    """The ``<svg>`` element alone, scaling with the page, in the page's ink and without metadata."""
    from html import escape

    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head, body = svg.split(">", 1)
    size = re.search(r'viewBox="([^"]*)"', head)
    box = size[1] if size else "0 0 100 100"
    # HTML knows SVG's elements by themselves; href without a prefix is SVG 2 and needs no namespace either.
    body = body.replace("xlink:href", "href").replace(_INK, "currentColor").replace(_FAINT, "var(--faint)")
    width = 1.25 * float(box.split()[2])
    style = f'style="max-width:{width:.0f}px"'
    return f'<svg viewBox="{box}" {style} role="img" aria-label="{escape(alt)}">{body}'.strip()
