"""Files that tests read, written by them."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tutelage.data.splits import Splits

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TUTELAGE_CACHE", str(folder))
    return folder


def _picture(label: int, number: int, size: tuple[int, int] = (6, 6)) -> np.ndarray:
    """A colour image [height, width, 3] that its label can be told from."""
    pixels = np.random.default_rng(label * 10_000 + number).integers(0, 40, (*size, 3), dtype=np.uint8)
    pixels[..., label % 3] += 120
    return pixels


def _encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Write:
    def write(layout: dict[str, int], size: tuple[int, int] = (6, 6), root: str = "photos") -> Path:
        """Folders such as ``{"cat": 10, "train/dog": 4}`` with so many images."""
        for place, (folder, count) in enumerate(layout.items()):
            (tmp_path / root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                (tmp_path / root / folder / f"{number}.png").write_bytes(_encoded(_picture(place, number, size)))
        return tmp_path / root

    return write


@pytest.fixture
def flowers(tmp_path: Path) -> Write:
    def write(name: str = "flowers.csv", rows: int = 60, start: int = 0, separator: str = ",") -> Path:
        """A table of three features and the label 'kind'."""
        lines = [separator.join(("length", "width", "note", "kind"))]
        for i in range(start, start + rows):
            kind = ("rose", "iris", "aster")[i % 3]
            lines.append(separator.join((str(i % 3 + i / 100), str(50 - i), f"seen {i}", kind)))
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def _everything(splits: Splits) -> dict[int, tuple[list[float], int]]:
    """Inputs and label by id, over all parts."""
    out = {}
    for part in (splits.train, splits.validation, splits.test):
        if part is not None:
            batch = part.fetch(range(len(part)))
            rows = zip(batch.ids.tolist(), batch.inputs.flatten(1).tolist(), batch.labels.tolist(), strict=True)
            out.update({key: (inputs, label) for key, inputs, label in rows})
    return out


def _images_table(path: Path, labels: list, images: list | None = None, **columns) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = images or [{"bytes": _encoded(_picture(i % 3, i)), "path": None} for i in range(len(labels))]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"img": pa.array(images, kind), "label": labels, **columns}), path)
    return path


@pytest.fixture
def picture() -> Callable:
    return _picture


@pytest.fixture
def encoded() -> Callable:
    return _encoded


@pytest.fixture
def everything() -> Callable:
    return _everything


@pytest.fixture
def images_table() -> Callable:
    return _images_table


ONTOLOGY = Path(__file__).resolve().parents[2].parent / "shared/data/ontology/go-nucleus.owl.ttl"


@pytest.fixture
def ontology() -> Path:
    """A slice of the Gene Ontology."""
    if not ONTOLOGY.is_file():
        pytest.skip("the slice of the Gene Ontology is not at ../shared/data/ontology")
    return ONTOLOGY


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A real Oxigraph server with an empty store in memory."""
    program = shutil.which("oxigraph", path=sysconfig.get_path("scripts")) or shutil.which("oxigraph")
    if program is None:
        pytest.skip("no Oxigraph server is installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([program, "serve", "--bind", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{url}/query?query=ASK%7B%7D", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.05)
        yield url
    finally:
        server.kill()
        server.wait()
