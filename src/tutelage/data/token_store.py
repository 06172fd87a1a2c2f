"""A store of what a language model says about each next token, written once and read by the sample's identity.

Samples lie in shards in the order of their identities' list, each as bytes of its own that only its layout can read. A
shard is there once its checksum is, which is written last; so a killed writer goes on with the first that is missing.
Nothing in a store is code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from tutelage.data.bit_coding import Array, offsets
from tutelage.data.shard_files import agree, described, intact, npy, write_checked
from tutelage.data.token_layouts import Drawn, Kept, Likely, Sections
from tutelage.data.token_projection import Coded, Hidden
from tutelage.recipe.errors import InputError, RunError
from tutelage.recipe.runfolder import atomic_write

FORMAT = 1
ABOUT = "tokens.json"
Layout = Likely | Drawn | Hidden
# Two numbers before a shard's samples: its positions, and the sum of their divergences from the model.
_HEAD = 16


@dataclass(frozen=True)
class Shard:
    """Samples ``start`` to ``stop`` of a store."""

    number: int
    start: int
    stop: int


class TokenStore:
    """A folder of next-token distributions, made or found.

    Args:
        folder: Where it lies.
        identity: What they are of: each part's name in words and its fingerprint, e.g. of teacher, tokenizer, template
            and data.
        ids: ``[samples]`` int64 distinct identities of the samples.
        layout: What is kept of each position; ``None``: what the folder holds. What it learnt from the first texts is
            that of the folder, where there is one.
        samples_per_shard: What a kill can lose.

    Raises:
        InputError: The folder holds something else, which is said, or nothing where no layout is given.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: Mapping[str, str],
        ids: Tensor,
        layout: Layout | None = None,
        samples_per_shard: int = 64,
    ) -> None:
        self.folder, self.count = Path(folder), len(ids)
        samples = hashlib.sha256(ids.numpy().tobytes()).hexdigest()
        found = described(self.folder, ABOUT, FORMAT, "tokens")
        if found is None:
            if layout is None:
                raise InputError(f"{self.folder} holds no store of tokens")
            found = {
                "format": FORMAT,
                "identity": {**identity, "samples": samples},
                "layout": layout.settings,
                "arrays": sorted(layout.arrays),
                "count": self.count,
                "samples_per_shard": samples_per_shard,
            }
            self._make(found, layout)
        asked = {**identity, "samples": samples, **({} if layout is None else layout.settings)}
        agree(self.folder, {**found["identity"], **found["layout"]}, asked, "tokens")
        self.layout = layout_of(found["layout"], self._arrays(found["arrays"]))
        self._samples = int(found["samples_per_shard"])
        self._places = {int(one): place for place, one in enumerate(ids.tolist())}
        if len(self._places) < self.count:
            raise InputError("two samples have one identity")
        self._whole: dict[int, bool] = {}
        self._opened: dict[int, tuple[Array, Array, Array]] = {}

    def _make(self, about: Mapping[str, Any], layout: Layout) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.folder} cannot be made: {error.strerror or error}") from error
        for name, array in layout.arrays.items():
            write_checked(self.folder / f".{name}.npy", npy(array))
        # Last: before it, whatever lies here is hidden and nobody's.
        atomic_write(self.folder / ABOUT, json.dumps(about, indent=1))

    def _arrays(self, names: Sequence[str]) -> dict[str, Array]:
        paths = {name: self.folder / f".{name}.npy" for name in names}
        for path in paths.values():
            if not intact(path):
                raise InputError(f"{path} is missing or does not match its checksum: remove the folder")
        return {name: numpy.load(path, allow_pickle=False) for name, path in paths.items()}

    # ------------------------------------------------------------------ what it is

    def shards(self) -> Iterator[Shard]:
        """All of them, in the order in which they are written."""
        for number, start in enumerate(range(0, self.count, self._samples)):
            yield Shard(number, start, min(start + self._samples, self.count))

    def path(self, shard: Shard) -> Path:
        """A shard's file; its checksum, as ``sha256sum -c`` reads it, lies beside."""
        return self.folder / "shards" / f"{shard.number:06d}.npy"

    def missing(self) -> list[Shard]:
        """Shards that are not there, or not as they were written."""
        return [shard for shard in self.shards() if not self.whole(shard)]

    def whole(self, shard: Shard) -> bool:
        """Whether a shard is there and matches its checksum, which is looked at once."""
        if not self._whole.get(shard.number):
            self._whole[shard.number] = intact(self.path(shard))
        return self._whole[shard.number]

    def summary(self) -> dict[str, float]:
        """What is written so far.

        Returns:
            ``tokens``: positions; ``bytes_per_token``: of the shards, their checksums left out; ``fixed_bytes``: what
            is kept once; ``kl``: mean divergence from the model to what is read, in nats, NaN where it was not given.
        """
        size, positions, total = 0, 0, 0.0
        for shard in self.shards():
            if self.whole(shard):
                head = numpy.load(self.path(shard), mmap_mode="r", allow_pickle=False)[:_HEAD].copy()
                size += self.path(shard).stat().st_size
                positions += int(head[:8].view("<i8")[0])
                total += float(head[8:].view("<f8")[0])
        fixed = sum(array.nbytes for array in self.layout.arrays.values())
        each = max(positions, 1)
        return {"tokens": positions, "bytes_per_token": size / each, "fixed_bytes": fixed, "kl": total / each}

    # ------------------------------------------------------------------ writing

    def write(
        self, shard: Shard, kept: Sequence[Kept] | Sequence[Coded], lengths: Sequence[int], kl: Tensor | None = None
    ) -> None:
        """Write a shard, given what its layout keeps.

        Args:
            shard: Which.
            kept: Of its samples' positions, one after the other, in one or several parts of whole samples.
            lengths: Positions of each sample.
            kl: ``[positions]`` divergence of what is kept from the model, see `divergence_of`.

        Raises:
            ValueError: The samples or positions are too many or too few.
            RunError: The disk is full or cannot be written.
        """
        each = numpy.asarray(lengths, numpy.int64)
        records: list[Sections] = []
        done = 0
        for part in kept:
            begin, ends = len(records), numpy.cumsum(each[len(records) :])
            size = len(part.counts) if isinstance(part, Kept) else len(part)
            stop = begin + int(numpy.searchsorted(ends, size, side="right"))
            if each[begin:stop].sum() != size:
                raise ValueError(f"{size} positions are not those of whole samples")
            records += self.layout.pack(part, each[begin:stop])  # type: ignore[arg-type]
            done += size
        if len(records) != len(each) or len(each) != shard.stop - shard.start:
            raise ValueError(
                f"shard {shard} has {shard.stop - shard.start} samples, not {len(records)} and {len(each)}"
            )
        index = numpy.array([[n, *map(len, record)] for n, record in zip(each.tolist(), records, strict=True)], "<u4")
        total = float("nan") if kl is None else float(kl.double().sum())
        head = numpy.concatenate([numpy.array([done], "<i8").view(numpy.uint8), numpy.array([total]).view(numpy.uint8)])
        blob = [numpy.ascontiguousarray(section) for record in records for section in record]
        data = numpy.concatenate([head, index.reshape(-1).view(numpy.uint8), *blob])
        write_checked(self.path(shard), npy(data))
        self._whole[shard.number] = True
        self._opened.pop(shard.number, None)

    # ------------------------------------------------------------------ reading

    def read(self, ids: Tensor) -> tuple[Kept | Coded, Tensor]:
        """What is kept of some samples.

        Args:
            ids: ``[batch]`` int64 identities, on the CPU.

        Returns:
            What the layout keeps of all their positions, one after the other, and ``[batch]`` how many are each one's.

        Raises:
            KeyError: A sample is not in the store.
            RunError: A shard is missing or damaged.
        """
        records, lengths = [], numpy.empty(len(ids), numpy.int64)
        for row, one in enumerate(ids.tolist()):
            if one not in self._places:
                raise KeyError(f"the store {self.folder} has no sample {one}")
            number, within = divmod(self._places[one], self._samples)
            data, index, begins = self._open(number)
            ends = offsets(index[within, 1:]) + begins[within]
            lengths[row] = index[within, 0]
            records.append([data[a:b] for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)])
        return self.layout.unpack(records, lengths), torch.from_numpy(lengths)

    def _open(self, number: int) -> tuple[Array, Array, Array]:
        if number not in self._opened:
            start = number * self._samples
            shard = Shard(number, start, min(start + self._samples, self.count))
            if not self.whole(shard):
                raise RunError(f"{self.path(shard)} is missing or does not match its checksum: run the recipe again")
            data = numpy.load(self.path(shard), mmap_mode="r", allow_pickle=False).view(numpy.ndarray)
            width = 1 + self.layout.sections
            size = 4 * width * (shard.stop - start)
            index = data[_HEAD : _HEAD + size].copy().view("<u4").reshape(-1, width).astype(numpy.int64)
            begins = offsets(index[:, 1:].sum(1)) + _HEAD + size
            self._opened[number] = data, index, begins
        return self._opened[number]


def layout_of(settings: Mapping[str, Any], arrays: Mapping[str, Array]) -> Layout:
    """A layout from what a store says that it holds.

    Raises:
        InputError: It is of no kind that is known here.
    """
    given = dict(settings)
    kind = given.pop("kind", None)
    if kind == Likely.name:
        background = torch.from_numpy(arrays["background"]).float() if "background" in arrays else None
        return Likely(**given, background=background)
    if kind == Drawn.name:
        return Drawn(**given)
    if kind == Hidden.name:
        return Hidden(**given, arrays=dict(arrays))
    raise InputError(f"a store of kind {kind!r} cannot be read; known are likely, drawn and hidden")
