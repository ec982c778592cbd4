"""The gallery: every example's size, its cost, and what was published about it, as a Markdown table.

    python examples/gallery.py [NAME…]

`gallery.toml` holds the published figures; netdsl computes the others. A line of source is one that holds more than a
comment; seconds are those of a whole `netdsl compile`, from the start of Python to the file on disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
TABLE = FOLDER / "gallery.toml"
COLUMNS = ("network", "lines", "parameters", "published", "GMACs", "published", "by", "compiled in")


@dataclass(frozen=True)
class Example:
    """An example and what was published about it: the fields are those of gallery.toml."""

    name: str
    title: str
    parameters: int | None = None
    gmacs: Decimal | None = None
    source: str = ""
    set: Mapping[str, object] = field(default_factory=dict)
    gmacs_set: Mapping[str, object] = field(default_factory=dict)
    run: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.net"

    @property
    def lines(self) -> int:
        words = (line.split("#", 1)[0] for line in self.path.read_text(encoding="utf-8").splitlines())
        return sum(bool(line.strip()) for line in words)

    def counted_gmacs(self, macs: int) -> Decimal:
        """netdsl's count in 10^9, rounded to the digits of the published one; without one to three digits."""
        return round(Decimal(macs) / 10**9, -int((self.gmacs or Decimal("0.001")).as_tuple().exponent))


def examples(names: Iterable[str] = ()) -> list[Example]:
    """The examples of these names, or all. Raises KeyError for a name without a table in gallery.toml."""
    known = tomllib.loads(TABLE.read_text(encoding="utf-8"), parse_float=Decimal)
    return [Example(name, **known[name]) for name in names or sorted(known)]


def netdsl(*arguments: str | Path) -> str:
    """What a command prints. Raises RuntimeError with its messages if it fails."""
    command = [sys.executable, "-m", "netdsl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"netdsl {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def report(example: Example, settings: Mapping[str, object]) -> dict[str, Any]:
    """`netdsl report --format json` with these settings."""
    options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    found: dict[str, Any] = json.loads(netdsl("report", example.path, "--format", "json", *options))
    return found


def compile_seconds(example: Example) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        netdsl("compile", example.path, "-o", Path(folder) / "model.onnx", "--quiet")
        return time.perf_counter() - start


def row(example: Example) -> tuple[str, ...]:
    parameters = report(example, example.set)["totals"]["parameters"]
    macs = report(example, {**example.set, **example.gmacs_set})["totals"]["macs"]
    return (
        f"[{example.title}]({example.path.name})",
        str(example.lines),
        f"{parameters:,}",
        "" if example.parameters is None else f"{example.parameters:,}",
        str(example.counted_gmacs(macs)) if macs >= 10**6 else "< 0.001",
        str(example.gmacs or ""),
        example.source,
        f"{compile_seconds(example):.1f} s",
    )


def notes(found: Sequence[Example]) -> Iterable[str]:
    """How each figure was counted, where that takes words."""
    for example in found:
        settings = ", ".join(f"{name}={value}" for name, value in {**example.set, **example.gmacs_set}.items())
        if settings or example.note:
            yield f"- {example.title}: {'; '.join(filter(None, (example.note, settings and f'with {settings}')))}."


def main(names: Sequence[str]) -> None:
    found = examples(names)
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"| --- |{' ---: |' * 5} --- | ---: |")
    for example in found:
        print(f"| {' | '.join(row(example))} |", flush=True)
    print("\n" + "\n".join(notes(found)))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # of a reader that wanted no more, such as head; Python itself flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
