"""What the benchmarks share: alternating measurements, a line on the terminal, a record for the results page."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "results" / "raw" / "bench"


@dataclass(frozen=True)
class Cost:
    """What a process took: CPU seconds, wall seconds, peak resident bytes, exit code."""

    cpu: float
    wall: float
    peak: int
    code: int


def alternate(sides: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Measure sides in turn, each round in the opposite order, so that what drifts meets both alike."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats):
        for name in list(sides) if turn % 2 == 0 else reversed(list(sides)):
            found[name].append(sides[name]())
    return found


def process(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end, with its children, and say what it took."""
    reading, writing = os.pipe()
    launcher = subprocess.Popen(
        [sys.executable, "-S", str(Path(__file__).with_name("launcher.py")), str(writing), *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        cwd=ROOT,
        pass_fds=(writing,),
    )
    os.close(writing)
    _, said = launcher.communicate()
    with os.fdopen(reading, encoding="utf-8") as channel:
        cost = Cost(**json.load(channel))
    if cost.code != 0:
        sys.stderr.write(said.decode("utf-8", "replace"))
    return cost


def environment(name: str, version: str, *, wanted: str, bare: str | None = None) -> Path:
    """The interpreter of a peer's environment, which is made in the user's cache folder where it is missing.

    Args:
        name: The peer.
        version: Of what is in it: another version is another environment.
        wanted: File below ``environments`` with its packages.
        bare: Likewise, of packages that are installed without what they ask for.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutelage-benchmarks"
    home = cache / f"{name}-{version}"
    python = home / "bin" / "python"
    if not (home / ".complete").exists():
        print(f"making an environment for {name} in {home}; this happens once", file=sys.stderr)
        folder = Path(__file__).resolve().parent / "environments"
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "--disable-pip-version-check",
            "install",
            "--quiet",
        ]
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
        subprocess.run([*pip, "--requirement", str(folder / wanted)], check=True)
        if bare is not None:
            subprocess.run([*pip, "--no-deps", "--requirement", str(folder / bare)], check=True)
        (home / ".complete").touch()
    return python


def compared(
    name: str,
    ours: Sequence[float],
    peer: Sequence[float],
    limit: float,
    *,
    unit: str = "s",
    least: bool = False,
    **more: Any,
) -> bool:
    """Print and keep a ratio of medians; whether it is within its limit.

    With ``least``, of the least of each side: where both do the same work every time, all that differs is what the
    machine did besides, and that only adds.
    """
    a, b = (min(one) if least else statistics.median(one) for one in (ours, peer))
    ratio = a / b
    print(f"{name} ratio {ratio:.3f} (limit {limit:g}) ours {shown(a, unit)}, peer {shown(b, unit)}", flush=True)
    keep(name, ratio=ratio, limit=limit, unit=unit, ours=list(ours), peer=list(peer), **more)
    return ratio <= limit


def bounded(name: str, values: Sequence[float], limit: float, *, unit: str = "s", **more: Any) -> bool:
    """Print and keep a median that has a limit of its own; whether it is within it."""
    value = statistics.median(values)
    print(f"{name} {shown(value, unit)} (limit {limit:g} {unit})", flush=True)
    keep(name, value=value, limit=limit, unit=unit, ours=list(values), **more)
    return value <= limit


def keep(name: str, **fields: Any) -> None:
    """Write a record for the results page."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    content = {"name": name, "machine": machine(), "versions": versions(), **fields}
    (RECORDS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """The machine, in words."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "load": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """What was measured with what."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in ("tutelage", "torch")}}


def shown(value: float, unit: str) -> str:
    """A measured value with its unit; short times in milliseconds."""
    if unit == "s" and value < 0.1:
        return f"{1000 * value:.3f} ms"
    return f"{value:.3f} s" if unit == "s" else f"{value:.0f} {unit}"
