from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from tutelage.report import figures, text
from tutelage.report.html import render, save_html
from tutelage.report.store import save_report

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Reads a page; checks that tags are balanced and collects what it holds."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def self_contained(source: str) -> Page:
    page = Page(source)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset", "action"}:
                assert value is not None
                assert value.startswith(("#", "data:")), value
    assert not re.search(r"https?://|//[a-z]|@import|url\((?!#)", source.replace("http://www.w3.org/2000/svg", ""))
    return page


@pytest.fixture(scope="module")
def source(report: dict[str, Any]) -> str:
    return render(
        report, name="digits-wttm", recipe="seed: 0 # <b>&", manifest={"versions": {"torch": "2.13"}, "seeds": [0, 1]}
    )


def test_the_page_is_self_contained_and_has_the_numbers(source: str, report: dict[str, Any]) -> None:
    page = self_contained(source)
    for row in report["rows"]:
        assert row["name"] in page.words
        for group in row["measures"].values():
            for name, number in group.items():
                assert text.value(name, number) in page.words, name
                assert text.bounds(name, number) in page.words, name
    for answer in text.four_answers(report):
        assert answer.text in page.words
    for part in ("A warning.", "seed: 0 # <b>&", "versions.torch", "2.13", "0, 1", "model/"):
        assert part in page.words


def test_pictures_have_alternative_texts_and_take_the_pages_ink(source: str) -> None:
    pictures = [attributes for tag, attributes in Page(source).tags if tag == "svg"]
    assert len(pictures) == 5
    assert all(picture["role"] == "img" and len(picture["aria-label"] or "") > 10 for picture in pictures)
    assert "currentColor" in source
    assert figures._INK not in source
    assert "prefers-color-scheme: dark" in source


def test_identifiers_are_unique_across_pictures(source: str) -> None:
    found = [
        attributes["id"] for tag, attributes in Page(source).tags if "id" in attributes and tag in {"clipPath", "path"}
    ]
    assert len(found) == len(set(found))


def test_hostile_names_stay_text(report: dict[str, Any]) -> None:
    name = "<script>alert(1)</script> $\\frac{ _x"
    rows = [{**report["rows"][0], "name": name}, {**report["rows"][1], "name": "_hidden"}, report["rows"][2]]
    curves = [{**curve, "stage": name, "term": "_t"} for curve in report["figures"]["curves"]]
    diagrams = [{**d, "name": row["name"]} for d, row in zip(report["figures"]["reliability"], rows, strict=True)]
    agreement = {**report["figures"]["agreement"], "source": '"><img src=x onerror=1>'}
    hostile = {
        **report,
        "method": "<i>",
        "rows": rows,
        "warnings": ["<b>&amp;"],
        "figures": {
            "class_names": ["$", "<", *"abcdefgh"],
            "reliability": diagrams,
            "agreement": agreement,
            "curves": curves,
        },
    }
    page = self_contained(render(hostile, recipe="</pre><script>"))
    assert name in page.words
    assert "<b>&amp;" in page.words


def test_a_report_with_nothing_in_it_has_a_page(report: dict[str, Any]) -> None:
    bare = {key: report[key] for key in report if key not in {"rows", "figures"}}
    page = self_contained(render({**bare, "warnings": [], "artifacts": {}}))
    assert "svg" not in {tag for tag, _ in page.tags}


def test_the_callers_matplotlib_is_left_alone(report: dict[str, Any]) -> None:
    before = dict(mpl.rcParams)
    render(report)
    assert dict(mpl.rcParams) == before


def test_a_run_folder_gets_its_page(report: dict[str, Any], tmp_path: Path) -> None:
    save_report(report, tmp_path)
    (tmp_path / "recipe.yaml").write_text("method: wttm\n")
    (tmp_path / "manifest.json").write_text(json.dumps({"python": "3.11.2"}))
    path = save_html(tmp_path)
    assert path == tmp_path / "report.html"
    page = self_contained(path.read_text())
    assert "method: wttm" in page.words
    assert "3.11.2" in page.words
    assert save_html(tmp_path).read_text() == path.read_text()


def test_a_validation_loss_stands_with_the_losses() -> None:
    curves = [
        {"stage": "transfer", "kind": kind, "name": "", "term": term, "points": [[1, 0.9], [2, 0.5]]}
        for kind, term in (
            *(("losses", "train/task"), ("losses", "train/gradient")),
            *(("validation", "loss"), ("validation", "accuracy")),
        )
    ]
    losses, quality = (draw(curves, figures.Palette()) for draw in (figures.losses, figures.validation))
    assert losses is not None
    assert quality is not None
    assert ">validation<" in losses.svg
    assert ">task<" in losses.svg
    assert "gradient<" not in losses.svg
    assert ">accuracy<" in quality.svg
    assert ">accuracy<" not in losses.svg
    assert ">loss<" not in quality.svg


def test_many_classes_and_stages_are_drawn() -> None:
    counts = [[int(i == j) * 3 for j in range(40)] for i in range(40)]
    drawn = figures.agreement({"source": "a", "recipient": "b", "counts": counts}, None)
    assert drawn is not None
    assert "100.0 %" in drawn.svg
    curves = [
        {"stage": f"stage {i}", "kind": "losses", "name": "", "term": "task", "points": [[0, 1.0], [1, -0.5]]}
        for i in range(5)
    ]
    panels = figures.losses(curves, figures.Palette())
    assert panels is not None
    assert all(f"stage {i}" in panels.svg for i in range(5))
