"""Image files to arrays of pixels."""

from __future__ import annotations

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.recipe.errors import InputError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class UnreadableError(ValueError):
    """An image cannot be decoded."""


@dataclass(frozen=True)
class Pictures:
    """Decodes images to one shape.

    Args:
        channels: 1 for grey, 3 for colour; what an image has more or less of is converted.
        size: ``(height, width)`` to resize to, without keeping proportions; ``None`` keeps each image's own.
    """

    channels: int
    size: tuple[int, int] | None

    def one(self, source: bytes | str) -> Pixels:
        """``[channels, height, width]`` uint8 of one image, given as a file's bytes or its path.

        Raises:
            UnreadableError: It is no image, damaged, or implausibly large.
        """
        Image, ImageOps = _pillow()
        try:
            with warnings.catch_warnings():
                # Pillow warns at half of what it refuses; a file of 90 million pixels is no sample either.
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
                    image = ImageOps.exif_transpose(opened)
                    if image.mode.startswith("I;16"):
                        # Conversion would clip 16-bit grey at 255 instead of scaling it.
                        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                    image = image.convert("L" if self.channels == 1 else "RGB")
                    if self.size is not None and image.size != self.size[::-1]:
                        image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
                    pixels = np.asarray(image, dtype=np.uint8)
        # Pillow's decoders raise these and, on crafted files, SyntaxError and struct.error (a ValueError's sibling).
        except (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, Warning) as error:
            raise UnreadableError(f"not a readable image ({type(error).__name__}: {str(error)[:80]})") from error
        except Image.DecompressionBombError as error:
            raise UnreadableError(str(error)) from error
        return pixels[None] if self.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def try_all(self, sources: list[bytes | str]) -> list[Pixels | UnreadableError]:
        """Each image or what is wrong with it, decoded in parallel: Pillow works outside the interpreter's lock."""

        def attempt(source: bytes | str) -> Pixels | UnreadableError:
            try:
                return self.one(source)
            except UnreadableError as error:
                return error

        with ThreadPoolExecutor() as pool:
            return list(pool.map(attempt, sources, chunksize=16))


def frame(size: int | list[int] | None) -> tuple[int, int] | None:
    """``(height, width)`` from a recipe's ``size``.

    Raises:
        InputError: It is not one or two positive numbers.
    """
    if size is None:
        return None
    both = [size, size] if isinstance(size, int) else list(size)
    if len(both) != 2 or min(both) < 1:
        raise InputError(f"data.size is {size}: expected one number of pixels, or [height, width]")
    return both[0], both[1]


def readable(path: Path) -> bool:
    """Whether a file's name is that of an image."""
    return path.suffix.lower() in SUFFIXES


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise InputError("reading images needs Pillow: pip install 'tutelage[data]'") from error
    return Image, ImageOps
