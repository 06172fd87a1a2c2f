"""Recordings: layouts, lengths, rates, damage; and their spectrograms."""

from __future__ import annotations

import io
import math
import wave
from pathlib import Path

import pytest
import torch

from tutelage.data.audio import Audio
from tutelage.data.sounds import Sound, UnreadableError, decode, fitted, resampled
from tutelage.data.spectra import log_mel, mel_filters
from tutelage.recipe.errors import InputError

SPOKEN = Path(__file__).resolve().parents[2].parent / "shared/data/spoken-digits/recordings.parquet"
RATE = 4000


def tone(hertz: float, seconds: float = 0.5, rate: int = RATE, height: float = 1.0) -> torch.Tensor:
    return height * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


def wav(samples: torch.Tensor, rate: int = RATE, width: int = 2) -> bytes:
    """A WAV file; ``[samples]`` or ``[samples, channels]``."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes((samples.clamp(-1, 1) * 32767).round().to(torch.int16).numpy().tobytes())
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, hertz in (("low", 200.0), ("high", 1200.0)):
        (tmp_path / "tones" / name).mkdir(parents=True)
        for i in range(10):
            (tmp_path / "tones" / name / f"{i}.wav").write_bytes(wav(tone(hertz + 10 * i)))
    return tmp_path / "tones"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    recordings = [{"bytes": wav(tone(200.0 + 100 * (i % 2) + i)), "path": None} for i in range(20)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"label": [i % 2 for i in range(20)], "speaker": ["ann", "bo", "cy", "di", "bo"] * 4}
    pq.write_table(pa.table({"audio": pa.array(recordings, kind), **columns}), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def test_what_was_written_is_read() -> None:
    samples = tone(440.0)
    sound = decode(wav(samples))
    assert sound.rate == RATE
    torch.testing.assert_close(sound.samples, samples, atol=1e-4, rtol=0)
    both = decode(wav(torch.stack([samples, torch.zeros_like(samples)], 1)))
    torch.testing.assert_close(both.samples, samples / 2, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (b"RIFF nothing", "not a WAV file"),
        (b"", "not a WAV file"),
        (wav(tone(100.0), width=1), "8-bit samples, expected 16-bit"),
        (wav(torch.zeros(0)), "empty"),
    ],
)
def test_what_is_no_recording_is_told(source: bytes, why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        decode(source)


def test_all_are_brought_to_one_length() -> None:
    count = torch.arange(1.0, 6.0)
    assert fitted(count, 7, "start").tolist() == [1, 2, 3, 4, 5, 0, 0]
    assert fitted(count, 7, "centre").tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert fitted(count, 3, "start").tolist() == [1, 2, 3]
    assert fitted(count, 3, "centre").tolist() == [2, 3, 4]
    assert fitted(count, 5, "centre").tolist() == count.tolist()


def test_resampling_keeps_the_tone() -> None:
    slow = resampled(Sound(tone(300.0, rate=8000), 8000), RATE)
    assert slow.rate == RATE
    torch.testing.assert_close(slow.samples[200:-200], tone(300.0)[200:-200], atol=5e-3, rtol=0)


def test_a_folder_of_classes(folder: Path) -> None:
    splits = Audio(path=str(folder), seconds=0.6).load(0)
    assert splits.info.class_names == ("high", "low")
    assert splits.info.input_shape == (1, 2400)
    assert splits.record["sizes"] == {"train": 14, "validation": 2, "test": 4}
    batch = splits.test.fetch(range(4))
    assert bool((batch.inputs[:, 0, 2000:] == 0).all())
    strongest = torch.fft.rfft(batch.inputs[:, 0, :2000]).abs().argmax(-1) * RATE / 2000
    assert bool(((strongest > 700) == (batch.labels == 0)).all())


def test_a_table_and_its_spectrograms(table: Path) -> None:
    splits = Audio(path=str(table), seconds=0.5, features="log-mel", bins=16, frames=10).load(0)
    assert splits.info.class_names == ("0", "1")
    assert splits.info.input_shape == (1, 16, 10)
    images = splits.train.fetch(range(14)).inputs
    assert 0.9 < float(images.max()) < 1.05
    assert float(images.min()) >= 0
    other = Audio(path=str(table), seconds=0.5, features="log-mel", bins=16, frames=12).load(0)
    assert other.info.fingerprint != splits.info.fingerprint


def test_a_speaker_is_held_out(table: Path, folder: Path) -> None:
    splits = Audio(path=str(table), domain="speaker", hold_out="bo", validation_fraction=0.0).load(0)
    assert splits.domains is not None
    assert splits.domains.names == ("ann", "bo", "cy", "di")
    assert sorted(splits.test.ids.tolist()) == [i for i in range(20) if i % 5 in (1, 4)]
    assert not set(splits.domains.of(splits.train.ids).tolist()) & {1}
    with pytest.raises(InputError, match="no domain 'bob'"):
        Audio(path=str(table), domain="speaker", hold_out="bob").load(0)
    with pytest.raises(InputError, match=r"say with data\.domain which column"):
        Audio(path=str(table), hold_out="bo").load(0)
    with pytest.raises(InputError, match="folders have none"):
        Audio(path=str(folder), domain="speaker").load(0)


@pytest.mark.parametrize("hertz", [150.0, 700.0, 1500.0])
@pytest.mark.parametrize("frames", [8, 28])
def test_a_tone_lights_up_its_band_at_the_height_of_its_level(hertz: float, frames: int) -> None:
    loud = log_mel(tone(hertz, 1.0), rate=RATE, bins=20, frames=frames)
    assert loud.shape == (20, frames)
    mel = 2595 * math.log10(1 + hertz / 700) / (2595 * math.log10(1 + RATE / 2 / 700)) * 21 - 1
    inner = loud[:, 1:-1]
    assert bool(((inner.argmax(0) - mel).abs() < 1).all())
    quiet = log_mel(tone(hertz, 1.0, height=0.1), rate=RATE, bins=20, frames=frames)[:, 1:-1]
    torch.testing.assert_close(inner.amax(0) - quiet.amax(0), torch.full((frames - 2,), 0.2), atol=1e-3, rtol=0)
    assert not log_mel(torch.zeros(RATE), rate=RATE, bins=20, frames=frames).any()


def test_filters_overlap_to_one() -> None:
    filters = mel_filters(8000, 20, 1024)
    peaks = filters.argmax(1)
    between = filters[:, int(peaks[0]) : int(peaks[-1])]
    torch.testing.assert_close(between.sum(0), torch.ones(between.shape[1]), atol=1e-4, rtol=0)


def test_a_mistake_is_named(folder: Path, table: Path, tmp_path: Path) -> None:
    (folder / "low" / "0.wav").write_bytes(wav(tone(200.0, rate=8000), rate=8000))
    with pytest.raises(InputError, match=r"low/0\.wav has 8000 samples a second, expected 4000.*data\.resample=true"):
        Audio(path=str(folder)).load(0)
    assert Audio(path=str(folder), resample=True).load(0).record["rate"] == RATE
    (folder / "low" / "1.wav").write_bytes(b"noise")
    with pytest.raises(InputError, match=r"1 of 20 samples cannot be used: low/1\.wav: not a WAV file"):
        Audio(path=str(folder), resample=True).load(0)
    kept = Audio(path=str(folder), resample=True, on_bad="skip").load(0)
    assert "1 of 20 samples were left out" in kept.warnings[0]
    with pytest.raises(InputError, match=r"no column 'lable'\. Did you mean 'label'"):
        Audio(path=str(table), label="lable").load(0)
    with pytest.raises(InputError, match="too narrow"):
        Audio(path=str(table), features="log-mel", bins=400).load(0)
    with pytest.raises(InputError, match="there is no CSV or Parquet file"):
        Audio(path=str(tmp_path / "nowhere.parquet")).load(0)
    (tmp_path / "empty" / "a").mkdir(parents=True)
    with pytest.raises(InputError, match=r"has no \.wav files in folders of classes"):
        Audio(path=str(tmp_path / "empty")).load(0)


def test_real_recordings() -> None:
    if not SPOKEN.is_file():
        pytest.skip(f"the spoken digits are not at {SPOKEN}")
    splits = Audio(path=str(SPOKEN), features="log-mel", seconds=0.6).load(0)
    assert splits.info.input_shape == (1, 28, 28)
    assert splits.record["sizes"] == {"train": 2100, "validation": 300, "test": 600}
    nearest = torch.cdist(splits.test.inputs.flatten(1), splits.train.inputs.flatten(1)).argmin(1)
    assert float((splits.train.labels[nearest] == splits.test.labels).float().mean()) > 0.8
