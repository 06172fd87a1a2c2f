"""Glyphs: characters as classes, fonts as domains, drawn here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le, Lt, MinLen
from torch import Tensor

from tutelage.data.domains import Domains, held_out
from tutelage.data.pool import Pool
from tutelage.data.seeds import mix, uniform
from tutelage.data.splits import Splits
from tutelage.data.warping import warped
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.registry import component

# Drawn this large, and sampled down from there.
_CANVAS = 64
# Their tables of characters name letters, but what is drawn is symbols, or a box for anything.
_SYMBOLS = ("cmex10", "cmsy10", "LastResort*")


@component("data", "glyphs")
@dataclass(frozen=True, kw_only=True)
class Glyphs(Pool):
    """Characters drawn in many fonts, ``[1, size, size]`` in [0, 1]: each character a class, each font a domain.

    The fonts are those that matplotlib brings (DejaVu, STIX, Computer Modern), or your own files. Each character of
    each font is drawn several times, a little turned, scaled and moved.

    Args:
        characters: The classes.
        fonts: Names of fonts or patterns such as ``DejaVu*``, or paths of TTF and OTF files. A font that a pattern
            finds is left out if it lacks a character; one that is named must have them all.
        views: Images of each character in each font.
        size: Pixels of an image's side.
        turn: Largest turn, in degrees.
        zoom: Largest change of scale, as a share.
        move: Largest movement along each axis, as a share of the side.
        hold_out: Fonts that only testing sees, by name or place; ``null`` to test on a fraction of all.
        test_fraction: Fraction of the images of each character and font kept for testing, where no font is held out.
        validation_fraction: Fraction of those of the fonts that are trained on, kept for validation.
    """

    characters: Annotated[str, MinLen(2)] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    fonts: Annotated[tuple[str, ...], MinLen(1)] = ("*",)
    views: Annotated[int, Ge(1)] = 8
    size: Annotated[int, Ge(4), Le(64)] = 28
    turn: Annotated[float, Ge(0), Le(180)] = 10.0
    zoom: Annotated[float, Ge(0), Lt(1)] = 0.1
    move: Annotated[float, Ge(0), Lt(1)] = 0.05
    hold_out: list[int | str] | int | str | None = None

    def load(self, seed: int) -> Splits:
        """Draw and divide the images.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: matplotlib or Pillow is missing, a font is not found or lacks a character, or a character is
                named twice or draws nothing.
        """
        if len(set(self.characters)) < len(self.characters):
            raise InputError(f"data.characters '{self.characters}' names a character twice")
        files = self._files()
        drawn = torch.stack([_draw(file, self.characters) for file in files.values()])
        fonts, classes = len(files), len(self.characters)
        count = fonts * classes * self.views
        ids = torch.arange(count)
        font, label = ids // (classes * self.views), ids // self.views % classes
        turned = self._varied(drawn.flatten(0, 1).repeat_interleave(self.views, 0), mix(0, 0, ids))
        names = tuple(files)
        return self.divide(
            turned,
            label,
            names=list(self.characters),
            seed=seed,
            about={"data": "glyphs", "characters": self.characters, "fonts": list(names), "views": self.views},
            domains=Domains(names, font, held_out(names, self.hold_out)),
        )

    def _varied(self, images: Tensor, seeds: Tensor) -> Tensor:
        """``[count, 1, size, size]`` from large drawings: a function of each image's seed."""
        angle = (2 * uniform(seeds, 0) - 1) * self.turn
        scale = 1 + (2 * uniform(seeds, 1) - 1) * self.zoom
        move = (2 * uniform(seeds, 2, (2,)) - 1) * 2 * self.move
        pieces = torch.arange(len(images)).split(2048)
        return torch.cat(
            [
                torch.nn.functional.interpolate(
                    warped(images[at], angle[at], scale=scale[at], move=move[at]), self.size, mode="area"
                )
                for at in pieces
            ]
        )

    def _files(self) -> dict[str, Path]:
        """The fonts' files by name."""
        brought = bundled_fonts()
        files: dict[str, Path] = {}
        for wanted in self.fonts:
            if Path(wanted).suffix.lower() in (".ttf", ".otf"):
                own = Path(wanted).expanduser()
                if not own.is_file():
                    raise InputError(f"data.fonts: there is no file {own}")
                found = {own.stem: own}
            else:
                symbols = [name for name in brought if any(fnmatch(name, pattern) for pattern in _SYMBOLS)]
                found = {n: f for n, f in brought.items() if n == wanted or (fnmatch(n, wanted) and n not in symbols)}
            if not found:
                raise InputError(f"data.fonts: no font is called '{wanted}'. {nearest(wanted, list(brought))}")
            for name, file in found.items():
                lacking = _lacking(file, self.characters)
                if not lacking:
                    files[name] = file
                elif len(found) == 1:
                    raise InputError(f"data.fonts: '{name}' has no character '{lacking}'")
        if not files:
            raise InputError(f"data.fonts: none of {', '.join(self.fonts)} has all of '{self.characters}'")
        return files


def bundled_fonts() -> dict[str, Path]:
    """The fonts that matplotlib brings, by name.

    Raises:
        InputError: It is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise InputError("drawing glyphs needs the fonts of matplotlib: pip install 'tutelage[report]'") from error
    return {file.stem: file for file in sorted((Path(matplotlib.get_data_path()) / "fonts/ttf").glob("*.ttf"))}


def _lacking(file: Path, characters: str) -> str:
    """The first character that a font's table lacks; empty where it has all."""
    from matplotlib.ft2font import FT2Font

    try:
        known = FT2Font(str(file)).get_charmap()
    except RuntimeError as error:
        raise InputError(f"data.fonts: {file} is no font that can be read: {error}") from error
    return next((character for character in characters if ord(character) not in known), "")


def _draw(file: Path, characters: Sequence[str]) -> Tensor:
    """``[characters, 1, 64, 64]`` float32: each character in the middle, all of one font at one size."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise InputError("drawing glyphs needs Pillow: pip install 'tutelage[data]'") from error
    font: Any = ImageFont.truetype(str(file), round(0.7 * _CANVAS))
    images = []
    for character in characters:
        left, top, right, bottom = font.getbbox(character)
        image = Image.new("L", (_CANVAS, _CANVAS))
        at = ((_CANVAS - left - right) / 2, (_CANVAS - top - bottom) / 2)
        ImageDraw.Draw(image).text(at, character, fill=255, font=font)
        pixels = torch.from_numpy(np.array(image, dtype=np.float32) / 255.0)
        if not bool(pixels.any()):
            raise InputError(f"data.characters: '{character}' draws nothing in the font '{file.stem}'")
        images.append(pixels[None])
    return torch.stack(images)
