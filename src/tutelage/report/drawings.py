"""Pictures that a method brings itself, from data: points in a plane, a graph, lines, bars.

A picture is a mapping with ``kind``, ``name`` (of its file), ``title`` and ``caption``, and

- ``points``: ``x`` and ``y``, ``group`` (a name each), and ``labels``: pairs of a place and a text;
- ``graph``: ``nodes`` with ``name``, ``x``, ``y`` and ``weight``, ``edges`` with ``start``, ``end``, ``label`` and
  ``kind`` (``known``, ``confirmed``, ``predicted``, ``wrong``);
- ``bars``: ``bars`` with ``name``, ``group``, ``value``, ``low`` and ``high``, and the ``axis``'s name;
- ``lines``: ``lines`` with ``name``, ``x`` and ``y``, and names of both axes, ``x`` and ``y``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.report.figures import _FAINT, _INK, Figure, Palette, _canvas, _errors
from tutelage.report.store import write

_DASHES = {"known": "solid", "confirmed": (0, (5, 1)), "predicted": (0, (3, 2)), "wrong": (0, (1, 2))}


def draw(picture: Mapping[str, Any]) -> Figure | None:
    """A picture for the page; ``None`` where there is nothing in it.

    Raises:
        ValueError: Its kind is unknown.
    """
    kinds = {"points": _points, "graph": _graph, "bars": _bars, "lines": _lines}
    if picture["kind"] not in kinds:
        raise ValueError(f"a picture is of a kind among {', '.join(kinds)}, not '{picture['kind']}'")
    size = {"points": (6.4, 5.2), "graph": (7.2, 5.6), "bars": (6.4, 4.0), "lines": (6.4, 3.8)}[picture["kind"]]
    with _canvas(str(picture["name"]), *size) as (figure, svg):
        axes = figure.subplots()
        kinds[picture["kind"]](axes, picture)
    title, caption = str(picture["title"]), str(picture["caption"])
    return Figure(svg(f"{title}. {caption}"), title, caption, full=picture["kind"] == "graph")


def save_pictures(pictures: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write each picture into ``pictures/`` of a folder, as an SVG file of its own in black on white.

    Raises:
        InputError: matplotlib is not installed.
    """
    from tutelage.report.html import missing

    for picture in pictures:
        try:
            figure = draw(picture)
        except ModuleNotFoundError as error:
            raise missing(error) from error
        if figure is None:
            continue
        text = figure.svg.replace("var(--faint)", "#999999")
        alone = text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" color="#111111" ', 1)
        (folder / "pictures").mkdir(exist_ok=True)
        write(folder / "pictures" / f"{picture['name']}.svg", alone + "\n")


def _points(axes: Any, picture: Mapping[str, Any]) -> None:
    palette, groups = Palette(), list(picture["group"])
    x, y = list(picture["x"]), list(picture["y"])
    for name in dict.fromkeys(groups):
        mine = [place for place, group in enumerate(groups) if group == name]
        style = {"color": palette.colour(name), "marker": palette.marker(name)}
        axes.scatter([x[i] for i in mine], [y[i] for i in mine], s=16, linewidths=0, alpha=0.8, label=name, **style)
    for place, text in picture["labels"]:
        axes.annotate(text, (x[place], y[place]), fontsize=7, xytext=(3, 3), textcoords="offset points", color=_INK)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    if len(set(groups)) > 1:
        axes.legend(fontsize=8, loc="best")


def _graph(axes: Any, picture: Mapping[str, Any]) -> None:
    palette, nodes = Palette(tuple(_DASHES)), picture["nodes"]
    for edge in picture["edges"]:
        start, end = (nodes[edge[key]] for key in ("start", "end"))
        arrow = {
            "arrowstyle": "-|>",
            "color": palette.colour(edge["kind"]),
            "linestyle": _DASHES[edge["kind"]],
            "shrinkA": 8,
            "shrinkB": 8,
            "linewidth": 1.1,
            "connectionstyle": f"arc3,rad={edge.get('bend', 0.0)}",
        }
        axes.annotate("", (end["x"], end["y"]), (start["x"], start["y"]), arrowprops=arrow)
        middle = (0.42 * start["x"] + 0.58 * end["x"], 0.42 * start["y"] + 0.58 * end["y"])
        axes.annotate(edge["label"], middle, fontsize=6.5, ha="center", va="center", color=_INK)
    sizes = [30 + 70 * node["weight"] for node in nodes]
    axes.scatter([n["x"] for n in nodes], [n["y"] for n in nodes], s=sizes, color=_FAINT, zorder=3)
    for node in nodes:
        text = "\n".join(textwrap.wrap(node["name"].replace("_", " "), 18)) or " "
        place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "va": "bottom"}
        axes.annotate(text, (node["x"], node["y"]), fontsize=7.5, color=_INK, zorder=4, **place)
    for kind in dict.fromkeys(edge["kind"] for edge in picture["edges"]):
        axes.plot([], [], color=palette.colour(kind), linestyle=_DASHES[kind], label=kind)
    axes.legend(fontsize=8, loc="lower right")
    axes.margins(0.15)
    axes.set_axis_off()


def _bars(axes: Any, picture: Mapping[str, Any]) -> None:
    palette, bars = Palette(), picture["bars"]
    names = list(dict.fromkeys(bar["name"] for bar in bars))
    groups = list(dict.fromkeys(bar["group"] for bar in bars))
    height = 0.8 / len(groups)
    for place, group in enumerate(groups):
        mine = [bar for bar in bars if bar["group"] == group]
        at = [names.index(bar["name"]) + (place - (len(groups) - 1) / 2) * height for bar in mine]
        spread = [_errors(bar) for bar in mine]
        ends = [[e[side][0] if e else 0.0 for e in spread] for side in (0, 1)]
        values = [bar["value"] for bar in mine]
        axes.barh(at, values, height, xerr=ends, color=palette.colour(group), ecolor=_INK, label=group)
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel=picture["axis"])
    axes.invert_yaxis()
    axes.axvline(0.0, color=_INK, linewidth=0.8)
    if len(groups) > 1:
        axes.legend(fontsize=8)


def _lines(axes: Any, picture: Mapping[str, Any]) -> None:
    palette = Palette()
    for line in picture["lines"]:
        style = {"color": palette.colour(line["name"]), "marker": palette.marker(line["name"]), "markersize": 3}
        axes.plot(line["x"], line["y"], linewidth=1.2, label=line["name"], **style)
    axes.set(xlabel=picture["x"], ylabel=picture["y"])
    axes.legend(fontsize=8)
