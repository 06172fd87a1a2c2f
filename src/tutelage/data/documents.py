"""Documents: pages of eight kinds, set in real fonts, with the regions of their layout and their words."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Le, MinLen
from torch import Tensor

from tutelage.data.layout import Region, Word
from tutelage.data.pool import Pool
from tutelage.data.seeds import mix, normal
from tutelage.data.splits import Splits
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.registry import component

# fmt: off
_WORDS = (
    "account", "address", "amount", "balance", "board", "client", "contract", "cost", "date", "delivery",
    "department", "director", "draft", "early", "estimate", "figure", "fund", "general", "group", "house",
    "invoice", "item", "letter", "limit", "line", "market", "meeting", "method", "number", "office", "order",
    "page", "paper", "part", "payment", "period", "plan", "point", "price", "product", "project", "quality",
    "quarter", "rate", "report", "result", "review", "sale", "service", "share", "stock", "supply", "system",
    "table", "tax", "term", "test", "total", "trade", "unit", "value", "water", "week", "work", "year",
)
# fmt: on
# Pages are set on this many units and sampled down to the size asked for.
_PAGE = 192


class Pages(NamedTuple):
    """Pages and what is on them.

    Args:
        images: ``[count, 1, size, size]`` in [0, 1], white is 1.
        labels: ``[count]`` int64 kinds of document.
        regions: Of each page, in pixels of ``images``.
        words: Of each page, in reading order, in pixels of ``images``.
    """

    images: Tensor
    labels: Tensor
    regions: list[list[Region]]
    words: list[list[Word]]


@dataclass
class _Sheet:
    """A page that is being set.

    Args:
        pen: Draws.
        font: By size.
        chance: Of this page alone.
    """

    pen: Any
    font: Callable[[int], Any]
    chance: random.Random
    regions: list[Region] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)

    def line(self, x: int, y: int, width: int, size: int = 7, count: int | None = None) -> int:
        """Words from a place on, as many as fit or as said; where the next line begins."""
        face, left = self.font(size), x
        for _ in range(count or 40):
            text = self.chance.choice(_WORDS)
            if self.chance.random() < 0.15:
                text = str(self.chance.randint(1, 9999))
            right = left + round(self.pen.textlength(text, font=face))
            if right > x + width and left > x:
                break
            self.pen.text((left, y), text, font=face, fill=0)
            self.words.append(Word(text, (left, y, right, y + size)))
            left = right + size // 2
        return y + round(1.4 * size)

    def block(self, label: str, x: int, y: int, width: int, lines: int, size: int = 7, count: int | None = None) -> int:
        """Lines that belong together, as a region; where the next may begin."""
        top = y
        for _ in range(lines):
            y = self.line(x, y, width, size, count)
        self.regions.append(Region(label, (x, top, x + width, y)))
        return y + size // 2

    def figure(self, x: int, y: int, width: int, height: int) -> int:
        """A picture: a grey area with a line through it."""
        self.pen.rectangle((x, y, x + width, y + height), fill=self.chance.randint(120, 200))
        places = [(x + i * width // 5, y + self.chance.randint(0, height)) for i in range(6)]
        self.pen.line(places, fill=20, width=3)
        self.regions.append(Region("Picture", (x, y, x + width, y + height)))
        return y + height + 6

    def table(self, x: int, y: int, width: int, rows: int, columns: int) -> int:
        """Ruled cells with a word in each."""
        top, cell = y, width // columns
        for _ in range(rows):
            self.pen.line((x, y - 1, x + width, y - 1), fill=0)
            for column in range(columns):
                below = self.line(x + column * cell + 2, y, cell - 4, 6, 1)
            y = below + 2
        self.pen.line((x, y - 1, x + width, y - 1), fill=0)
        self.regions.append(Region("Table", (x, top, x + width, y)))
        return y + 4


def _letter(page: _Sheet) -> None:
    y = page.block("Text", 120, 14, 60, 3, count=2)
    y = page.block("Text", 16, y + 6, 60, 3, count=2)
    for _ in range(page.chance.randint(2, 3)):
        y = page.block("Text", 16, y + 4, 160, page.chance.randint(2, 4))
    page.block("Text", 110, min(y + 6, 170), 60, 1, count=2)


def _memo(page: _Sheet) -> None:
    y = page.block("Title", 16, 12, 120, 1, size=14, count=1)
    y = page.block("List-item", 16, y, 110, 4, count=3)
    page.pen.line((16, y, 176, y), fill=0, width=2)
    for _ in range(page.chance.randint(1, 2)):
        y = page.block("Text", 16, y + 6, 160, page.chance.randint(3, 5))


def _form(page: _Sheet) -> None:
    y = page.block("Title", 50, 10, 110, 1, size=10, count=2) + 2
    for _ in range(page.chance.randint(7, 9)):
        page.line(16, y + 3, 50, 6, 1)
        page.pen.rectangle((72, y, 176, y + 11), outline=0)
        y += 18
    page.regions.append(Region("Form", (16, 24, 176, y)))


def _invoice(page: _Sheet) -> None:
    page.block("Title", 110, 10, 70, 1, size=12, count=1)
    y = page.block("Text", 16, 10, 60, 4, count=2)
    y = page.table(16, y + 10, 160, page.chance.randint(5, 8), 4)
    page.block("Text", 126, y + 4, 50, 2, count=2)


def _report(page: _Sheet) -> None:
    y = page.block("Title", 30, 10, 140, 1, size=11)
    page.block("Text", 16, y, 76, page.chance.randint(10, 13), size=6)
    y = page.block("Text", 100, y, 76, page.chance.randint(3, 5), size=6)
    page.block("Text", 100, page.figure(100, y, 76, 40), 76, 3, size=6)


def _advertisement(page: _Sheet) -> None:
    y = page.figure(14, 14, 164, page.chance.randint(80, 105))
    y = page.block("Title", 20, y + 4, 160, 2, size=18, count=2)
    page.block("Text", 50, y, 110, 1, count=3)


def _resume(page: _Sheet) -> None:
    y = page.block("Title", 60, 8, 100, 1, size=12, count=2) + 4
    for _ in range(3):
        page.block("Section-header", 14, y, 40, 1, count=1)
        y = page.block("List-item", 64, y, 112, page.chance.randint(3, 4), count=5) + 6


def _slides(page: _Sheet) -> None:
    y = page.block("Title", 20, 20, 160, 1, size=17, count=2) + 14
    for _ in range(page.chance.randint(3, 5)):
        page.pen.ellipse((22, y + 3, 28, y + 9), fill=0)
        y = page.block("List-item", 36, y, 140, 1, size=11, count=3) + 8


KINDS: Mapping[str, Callable[[_Sheet], None]] = {
    "letter": _letter,
    "memo": _memo,
    "form": _form,
    "invoice": _invoice,
    "report": _report,
    "advertisement": _advertisement,
    "resume": _resume,
    "slides": _slides,
}


@component("data", "documents")
@dataclass(frozen=True, kw_only=True)
class Documents(Pool):
    """Pages of eight kinds of document, ``[1, size, size]`` in [0, 1], set here in the fonts that matplotlib brings.

    Another font, noise, blur or a tilt make the same kinds of document under another condition: a covariate shift.

    Args:
        count: Pages.
        size: Pixels of a page's side.
        fonts: Names of matplotlib's fonts; each page is set in one of them.
        noise: Standard deviation of noise on the page.
        tilt: Largest rotation, in degrees.
        invert: Share of pages that are dark with light text.
        draw_seed: Seed of the pages, which are the same in every run.
    """

    count: Annotated[int, Ge(16)] = 800
    size: Annotated[int, Ge(16), Le(_PAGE)] = 48
    fonts: Annotated[tuple[str, ...], MinLen(1)] = ("DejaVuSans",)
    noise: Annotated[float, Ge(0)] = 0.03
    tilt: Annotated[float, Ge(0), Le(45)] = 0.0
    invert: Annotated[float, Ge(0), Le(1)] = 0.0
    draw_seed: Annotated[int, Ge(0)] = 0

    def load(self, seed: int) -> Splits:
        """Set and divide the pages.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: Pillow or matplotlib is missing, or there is no such font.
        """
        pages = self.pages()
        about = {key: value for key, value in vars(self).items() if key in self.__annotations__}
        return self.divide(
            pages.images, pages.labels, names=list(KINDS), seed=seed, about={"data": "documents", **about}
        )

    def pages(self) -> Pages:
        """The pages with their regions and words, kinds in turn.

        Raises:
            InputError: Pillow or matplotlib is missing, or there is no such font.
        """
        from tutelage.data.glyphs import bundled_fonts

        try:
            from PIL import Image, ImageDraw, ImageFont
        except ImportError as error:
            raise InputError("setting pages needs Pillow: pip install 'tutelage[data]'") from error
        brought = bundled_fonts()
        for font in self.fonts:
            if font not in brought:
                raise InputError(f"data.fonts: no font is called '{font}'. {nearest(font, list(brought))}")
        faces: dict[tuple[str, int], Any] = {}

        def face(font: str, size: int) -> Any:
            if (font, size) not in faces:
                faces[font, size] = ImageFont.truetype(str(brought[font]), size)
            return faces[font, size]

        drawn, regions, words = [], [], []
        setters, scale = list(KINDS.values()), self.size / _PAGE
        for i in range(self.count):
            # A page's chance is its own, so that more pages leave the first ones as they are.
            chance = random.Random(f"{self.draw_seed}/{i}")
            image = Image.new("L", (_PAGE, _PAGE), 255)
            font = chance.choice(self.fonts)
            sheet = _Sheet(ImageDraw.Draw(image), lambda size, font=font: face(font, size), chance)  # type: ignore[misc]
            setters[i % len(setters)](sheet)
            if self.tilt:
                image = image.rotate(chance.uniform(-self.tilt, self.tilt), fillcolor=255)
            dark = chance.random() < self.invert
            small = np.asarray(image.resize((self.size, self.size), Image.Resampling.BOX), dtype=np.float32) / 255
            drawn.append(1 - small if dark else small)
            regions.append([Region(label, _scaled(box, scale)) for label, box in sheet.regions])
            words.append([Word(text, _scaled(box, scale)) for text, box in sheet.words])
        images = torch.from_numpy(np.stack(drawn))[:, None]
        if self.noise:
            ids = torch.arange(self.count)
            images = images + self.noise * normal(mix(self.draw_seed, 0, ids), 0, (1, self.size, self.size))
        return Pages(images.clamp(0, 1), torch.arange(self.count) % len(setters), regions, words)


def _scaled(box: tuple[float, float, float, float], by: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = (by * edge for edge in box)
    return left, top, right, bottom
