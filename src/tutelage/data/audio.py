"""Recordings: WAV files in folders, one a class, or in a Parquet table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt

from tutelage.data.arrow import identity, order_names
from tutelage.data.domains import Domains, held_out
from tutelage.data.faults import Faults
from tutelage.data.files import check_labels
from tutelage.data.pool import Pool
from tutelage.data.sounds import Sound, UnreadableError, decode, fitted, one_rate
from tutelage.data.spectra import log_mel
from tutelage.data.splits import Splits
from tutelage.data.tabular import blocks, declared_classes, heading, is_parquet, locate
from tutelage.recipe.errors import InputError, nearest
from tutelage.recipe.registry import component

# Where a recording is, itself or its file, its label and its domain.
_Found = tuple[str, bytes | str, str | None, str | None]


@component("data", "audio")
@dataclass(frozen=True, kw_only=True)
class Audio(Pool):
    """Recordings of one rate and length: waveforms ``[1, samples]`` in [-1, 1), or log-mel ``[1, bins, frames]``.

    Either WAV files in one folder for each class, ``root/class/*.wav`` (in subfolders too), or Parquet files whose
    column of recordings holds a WAV file's bytes, or ``{bytes, path}`` as Hugging Face ``datasets`` writes it. Samples
    are 16-bit PCM; several channels are averaged. All recordings are held in memory.

    Args:
        path: The folder of classes; or a Parquet file, or a pattern such as ``parts/*.parquet``.
        label: The column of labels (Parquet).
        audio: The column of recordings (Parquet).
        rate: Samples a second; ``null`` for that of the first recording.
        resample: Convert recordings of another rate, by scipy, instead of refusing them.
        seconds: Length that all are brought to; longer ones are cut, shorter ones end in silence.
        place: Keep the ``start`` of a recording, or its ``centre``, with the silence on both sides.
        features: ``waveform``, or its ``log-mel`` spectrogram: 0 is silence, a full-scale tone about 1, 10 dB are 0.1.
        bins: Mel bands of a spectrogram.
        frames: Steps in time of a spectrogram.
        domain: The column of domains, such as speakers (Parquet); ``null`` for none.
        hold_out: Domains that only testing hears, by name or place; ``null`` to test on a fraction of all.
        on_bad: What to do with recordings that cannot be used: ``refuse`` the data and name them, or ``skip`` them and
            record it.
    """

    path: str
    label: str = "label"
    audio: str = "audio"
    rate: Annotated[int, Ge(1)] | None = None
    resample: bool = False
    seconds: Annotated[float, Gt(0)] = 1.0
    place: Literal["start", "centre"] = "start"
    features: Literal["waveform", "log-mel"] = "waveform"
    bins: Annotated[int, Ge(1)] = 28
    frames: Annotated[int, Ge(1)] = 28
    domain: str | None = None
    hold_out: list[int | str] | int | str | None = None
    on_bad: Literal["refuse", "skip"] = "refuse"

    def load(self, seed: int) -> Splits:
        """Read, bring to one length and divide the recordings.

        Args:
            seed: The run's seed, used only when ``split_seed`` is ``None``.

        Raises:
            InputError: Nothing is there, recordings cannot be read or differ in rate, or there is one class only.
        """
        faults = Faults(self.on_bad)
        root = Path(self.path).expanduser()
        table = not (root.is_dir() and any(f.is_dir() for f in root.iterdir()))
        files = self._tables() if table else _listing(root)
        if self.domain is not None and not table:
            raise InputError("data.domain names a column, and folders have none; give a Parquet file")
        if self.hold_out is not None and self.domain is None:
            raise InputError("data.hold_out holds out domains; say with data.domain which column has them")
        sounds: dict[str, Sound] = {}
        labels: list[str] = []
        domains: list[str] = []
        for where, source, label, domain in self._parquet(files) if table else _in_folders(root, files):
            try:
                if label is None or domain is None:
                    raise UnreadableError(f"it has no {'label' if label is None else 'domain'}")
                sounds[where] = decode(source)
                labels.append(label)
                domains.append(domain)
            except UnreadableError as error:
                faults.add(where, str(error))
        warnings = faults.settle(len(sounds))
        if not sounds:
            raise InputError(f"{self.path} has no recordings: expected {root.name}/yes/1.wav, or a Parquet file")
        even, rate = one_rate(sounds, self.rate, self.resample)
        length = max(1, round(self.seconds * rate))
        waveforms = torch.stack([fitted(sound.samples, length, self.place) for sound in even.values()])[:, None]
        names = (list(declared_classes(files[0], self.label)) if table else []) or order_names(set(labels))
        check_labels(len(labels), len(names), self.label, ())
        about: dict[str, Any] = {
            "data": "audio",
            "rate": rate,
            "seconds": self.seconds,
            "place": self.place,
            "features": self.features,
            "files": identity(files, {}),
        }
        if self.features == "log-mel":
            about |= {"bins": self.bins, "frames": self.frames}
            try:
                waveforms = log_mel(waveforms, rate=rate, bins=self.bins, frames=self.frames)
            except ValueError as error:
                raise InputError(f"data.bins {self.bins} and data.frames {self.frames}: {error}") from error
        codes = torch.tensor([names.index(label) for label in labels])
        of: Domains | None = None
        if self.domain is not None:
            whose = order_names(set(domains))
            of = Domains(
                tuple(whose), torch.tensor([whose.index(one) for one in domains]), held_out(whose, self.hold_out)
            )
        return self.divide(waveforms, codes, names=names, seed=seed, about=about, warnings=warnings, domains=of)

    def _tables(self) -> list[Path]:
        files = locate(self.path, "path")
        text = next((file for file in files if not is_parquet(file)), None)
        if text is not None:
            raise InputError(f"data.path: {text} is no Parquet file, and text holds no recordings")
        for file in files:
            for key, name in (("label", self.label), ("audio", self.audio), ("domain", self.domain)):
                if name is not None and name not in heading(file):
                    hint = nearest(name, heading(file))
                    raise InputError(f"data.{key}: {file} has no column '{name}'. {hint}")
        return files

    def _parquet(self, files: list[Path]) -> Iterator[_Found]:
        for file in files:
            names = declared_classes(file, self.label)
            columns = [self.label, self.audio, *([self.domain] if self.domain is not None else [])]
            for block in blocks(file, columns, Faults("refuse")):
                values = [block.columns[name].to_pylist() for name in columns]
                domains = values[2] if self.domain is not None else [""] * len(block.rows)
                for row, label, held, domain in zip(block.rows, *values[:2], domains, strict=True):
                    source = (held.get("bytes") or held.get("path")) if isinstance(held, dict) else held
                    told = names[label] if names and isinstance(label, int) else label
                    yield f"{file.name} row {row}", source or b"", _text(told), _text(domain)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _listing(root: Path) -> list[Path]:
    """The WAV files below the folders of classes, sorted."""
    folders = sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith((".", "__")))
    files = [f for folder in folders for f in sorted(folder.rglob("*")) if f.suffix.lower() == ".wav"]
    if not files:
        raise InputError(f"{root} has no .wav files in folders of classes: expected {root.name}/yes/1.wav")
    return files


def _in_folders(root: Path, files: list[Path]) -> Iterator[_Found]:
    for file in files:
        where = file.relative_to(root)
        yield str(where), str(file), where.parts[0], ""
