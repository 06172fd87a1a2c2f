"""A store of logits on disk: what a model made of each view of each sample, written once and read by identity.

A view is a number v: the views of epoch v. Its rows lie in the order in which epoch v loads the samples, which is a
function of (seed, v), in shards that are memory-mapped ``.npy`` files. A shard is there once its checksum is, which is
written last; so a killed writer goes on with the first that is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from torch import Tensor

from tutelage.data.seeds import shuffle
from tutelage.data.shard_files import agree, described, intact, npy, write_checked
from tutelage.losses import truncate
from tutelage.recipe.errors import InputError, RunError
from tutelage.recipe.runfolder import atomic_write

FORMAT = 1
ABOUT = "store.json"
# A shard is what a kill can lose, and what is held in memory until it is written.
_SHARD_BYTES = 4 << 20
_FLOATS = {"fp16": "<f2", "fp32": "<f4"}


@dataclass(frozen=True)
class Shard:
    """Rows ``start`` to ``stop`` of a view's order."""

    view: int
    number: int
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """What is kept of each view of a sample.

    Args:
        classes: How many classes the model names.
        top_k: How many of the largest logits are kept; ``None`` for all.
        dtype: Precision of the logits.

    Raises:
        InputError: ``top_k`` is more than the classes.
    """

    classes: int
    top_k: int | None
    dtype: Literal["fp16", "fp32"]

    def __post_init__(self) -> None:
        if self.top_k is not None and not 1 <= self.top_k <= self.classes:
            raise InputError(f"top_k {self.top_k} is not in 1..{self.classes}: the model names {self.classes} classes")

    @property
    def dense(self) -> bool:
        """Whether every class is kept, so that none needs a number."""
        return self.top_k is None or self.top_k == self.classes

    @property
    def row(self) -> numpy.dtype[Any]:
        """One view of one sample."""
        number = _FLOATS[self.dtype]
        if self.dense:
            return numpy.dtype([("values", number, (self.classes,))])
        place = next(code for code in ("<u2", "<u4") if self.classes <= numpy.iinfo(code).max + 1)
        k = (self.top_k,)
        return numpy.dtype([("values", number, k), ("indices", place, k), ("tail", "<f4")])

    def pack(self, logits: Tensor) -> numpy.ndarray[Any, Any]:
        """Rows of ``[batch, classes]`` logits.

        Raises:
            RunError: A logit is not a number, or outside the range of half precision.
        """
        logits = logits.detach().float().cpu()
        if bool(logits.isnan().any()):
            raise RunError("the model to be stored gives logits that are no numbers")
        rows = numpy.empty(len(logits), self.row)
        values = logits
        if not self.dense:
            assert self.top_k is not None
            values, indices, tail = truncate(logits, self.top_k)
            rows["indices"], rows["tail"] = indices.numpy(), tail.numpy()
        with numpy.errstate(over="ignore"):
            rows["values"] = values.numpy()
        if not numpy.array_equal(numpy.isinf(rows["values"]), values.isinf().numpy()):
            raise RunError("logits beyond 65504 do not fit into half precision: use `dtype: fp32`")
        return rows


class Store:
    """A folder of kept logits, made or found.

    Args:
        folder: Where it lies.
        identity: What the logits are of: each part's name in words and its fingerprint.
        ids: ``[count]`` int64 identities of the samples, in the split's own order.
        seed: Seed of the order and of the views.
        views: How many views are kept.
        layout: What is kept of each.
        batch: Shards hold whole batches of this many samples, so that writing goes on between two of them.

    Raises:
        InputError: The folder holds something else; says what differs.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: Mapping[str, str],
        ids: Tensor,
        seed: int,
        views: int,
        layout: Layout,
        batch: int = 1,
    ) -> None:
        self.folder, self.layout, self.views, self.seed = Path(folder), layout, views, seed
        self.count, self._row = len(ids), layout.row
        about: dict[str, Any] = {
            "format": FORMAT,
            "identity": {**identity, "samples": hashlib.sha256(ids.numpy().tobytes()).hexdigest()},
            "seed": seed,
            "views": views,
            "layout": asdict(layout),
            "count": self.count,
            "rows_per_shard": max(_SHARD_BYTES // self.bytes_per_sample // batch, 1) * batch,
            "bytes_per_sample": self.bytes_per_sample,
        }
        found = described(self.folder, ABOUT, FORMAT, "logits")
        if found is None:
            self._make(about, ids)
            found = about
        else:
            self._agree(found, about)
        # A store that another batch size has begun goes on in its own shards.
        self._rows = int(found["rows_per_shard"])
        self._places = torch.full((int(ids.max()) + 1,), -1, dtype=torch.int64)
        self._places[ids] = torch.arange(self.count)
        self._whole: dict[tuple[int, int], bool] = {}
        self._opened: dict[tuple[int, int], Any] = {}
        self._inverse: dict[int, Tensor] = {}

    # ------------------------------------------------------------------ what it is

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of one view of one sample."""
        return int(self._row.itemsize)

    def size(self) -> int:
        """Bytes of all views of all samples."""
        return self.bytes_per_sample * self.views * self.count

    def shards(self) -> Iterator[Shard]:
        """All of them, in the order in which they are written."""
        for view in range(self.views):
            for number, start in enumerate(range(0, self.count, self._rows)):
                yield Shard(view, number, start, min(start + self._rows, self.count))

    def _make(self, about: Mapping[str, Any], ids: Tensor) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.folder} cannot be made: {error.strerror or error}") from error
        atomic_write(self.folder / ABOUT, json.dumps(about, indent=1))
        atomic_write(self.folder / "ids.npy", npy(ids.numpy()))

    def _agree(self, found: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        own = {**found["identity"], **_flat(found)}
        asked = {**about["identity"], **_flat(about)}
        agree(self.folder, own, asked, "logits")

    # ------------------------------------------------------------------ writing

    def missing(self) -> list[Shard]:
        """Shards that are not there, or not as they were written."""
        return [shard for shard in self.shards() if not self.whole(shard)]

    def whole(self, shard: Shard) -> bool:
        """Whether a shard is there and matches its checksum, which is looked at once."""
        key = (shard.view, shard.number)
        if not self._whole.get(key):
            self._whole[key] = intact(self.path(shard))
        return self._whole[key]

    def write(self, shard: Shard, rows: Sequence[numpy.ndarray[Any, Any]]) -> None:
        """Write a shard's rows, given in the view's order.

        Raises:
            ValueError: They are too many or too few.
            RunError: The disk is full or cannot be written.
        """
        whole = numpy.concatenate(list(rows))
        if len(whole) != shard.stop - shard.start:
            raise ValueError(f"shard {shard} has {shard.stop - shard.start} rows, not {len(whole)}")
        write_checked(self.path(shard), npy(whole))
        self._whole[shard.view, shard.number] = True
        self._opened.pop((shard.view, shard.number), None)

    def path(self, shard: Shard) -> Path:
        """A shard's file; its checksum, as ``sha256sum -c`` reads it, lies beside."""
        return self.folder / f"view-{shard.view:04d}" / f"{shard.number:06d}.npy"

    # ------------------------------------------------------------------ reading

    def read(self, view: int, ids: Tensor) -> dict[str, Tensor]:
        """What is kept of one view of some samples.

        Args:
            view: In [0, views).
            ids: ``[batch]`` int64 identities, on the CPU.

        Returns:
            ``values`` ``[batch, k]`` float32; where not every class is kept also ``indices`` ``[batch, k]`` int64 and
            ``tail`` ``[batch]`` float32.

        Raises:
            KeyError: A sample is not in the store.
            RunError: A shard is missing or damaged.
        """
        places = self._places[ids.clamp(max=len(self._places) - 1)]
        unknown = (places < 0) | (ids >= len(self._places)) | (ids < 0)
        if bool(unknown.any()):
            raise KeyError(f"the store {self.folder} has no sample {int(ids[unknown][0])}")
        at = self._order(view)[places].numpy()
        numbers = at // self._rows
        rows = numpy.empty(len(at), self._row)
        for number in numpy.unique(numbers).tolist():
            mine = numbers == number
            rows[mine] = self._open(view, number)[at[mine] - number * self._rows]
        found = {"values": torch.from_numpy(rows["values"].astype(numpy.float32))}
        if not self.layout.dense:
            found["indices"] = torch.from_numpy(rows["indices"].astype(numpy.int64))
            found["tail"] = torch.from_numpy(rows["tail"].copy())
        return found

    def _order(self, view: int) -> Tensor:
        """``[count]``: the row of each position."""
        if view not in self._inverse:
            order = shuffle(self.count, self.seed, view)
            # Training goes from view to view; the last two cover what is read around an epoch's end.
            self._inverse = dict(list(self._inverse.items())[-1:])
            self._inverse[view] = torch.empty_like(order).scatter_(0, order, torch.arange(self.count))
        return self._inverse[view]

    def _open(self, view: int, number: int) -> Any:
        if (view, number) not in self._opened:
            start = number * self._rows
            shard = Shard(view, number, start, min(start + self._rows, self.count))
            if not self.whole(shard):
                raise RunError(f"{self.path(shard)} is missing or does not match its checksum: run the recipe again")
            self._opened[view, number] = numpy.load(self.path(shard), mmap_mode="r", allow_pickle=False)
        return self._opened[view, number]


def _flat(about: Mapping[str, Any]) -> dict[str, Any]:
    return {"seed": about["seed"], "views": about["views"], **about["layout"]}
