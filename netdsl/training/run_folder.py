"""The folder of a run, beside its checkpoint: what was trained, how, and how it went.

| file | content |
| --- | --- |
| `recipe.net` | the source, as it was |
| `settings.json` | the recipe's values, overrides, data, versions, seed, engine, device |
| `metrics.jsonl` | a line per epoch: `{"epoch": 1, "step": …, "rate": …, "seconds": …, "train": {…}, "val": {…}}` |
| `evaluation.json` | loss and all metrics, curves and matrices too, of the last validation |
| `curve.svg`, `curve.png` | the loss and the metrics over epochs |
| `best.safetensors` | the weights of the best epoch by the validation data |
| `classes.txt`, `vocabulary.json` | the names of pictures' classes, the characters of a text |
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from netdsl.files import atomic_write
from netdsl.training.curve import draw, to_png, to_svg
from netdsl.training.data import Dataset
from netdsl.training.data.faults import fault

if sys.platform != "win32":
    import fcntl

BETWEEN_CURVES = 10.0  # seconds


class RunFolder:
    """Made at the start of a run. Raises OSError where the folder cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: list[dict[str, Any]] = []
        self._drawn = 0.0
        path.mkdir(parents=True, exist_ok=True)

    @classmethod
    def beside(cls, checkpoint: Path) -> RunFolder:
        """`lenet.safetensors` has its run in `lenet.run`."""
        return cls(checkpoint.with_suffix(".run"))

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Keeps the folder for this process until the block ends, or the process. Raises DiagnosticError where another
        training has it."""
        with ExitStack() as stack:
            if sys.platform != "win32":
                folder = os.open(self.path, os.O_RDONLY)
                stack.callback(os.close, folder)
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    help = "wait until it ends, or give this one a checkpoint of its own: -o other.safetensors"
                    raise fault("run-in-use", "another training writes to this folder", self.path, help=help) from None
                except OSError:  # a file system without locks: then nobody is warned
                    stack.close()
            yield

    def begin(self, source: str, settings: Mapping[str, Any], *, epochs_done: int = 0) -> None:
        """Writes what is known before the first step. A resumed run keeps the lines of the epochs that its checkpoint
        holds; a new one starts without any."""
        self._records = [r for r in self._read() if r["epoch"] <= epochs_done] if epochs_done else []
        self._write("metrics.jsonl", "".join(_line(record) for record in self._records))
        self._write("recipe.net", source)
        self._write("settings.json", json.dumps(settings, indent=2, ensure_ascii=False, default=str) + "\n")

    def describe(self, dataset: Dataset) -> None:
        """Keeps the names that ids stand for."""
        if dataset.class_names:
            self._write("classes.txt", "".join(f"{name}\n" for name in dataset.class_names))
        if dataset.vocabulary:
            self._write("vocabulary.json", json.dumps(dataset.vocabulary, ensure_ascii=False) + "\n")

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Appends one epoch's line, and draws the curve anew if the last drawing is some time ago."""
        self._records.append(dict(record))
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(_line(record))
        if monotonic() - self._drawn > BETWEEN_CURVES:
            self.draw()

    def evaluation(self, values: Mapping[str, Any]) -> None:
        self._write("evaluation.json", json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def draw(self) -> None:
        """Writes the curve in both formats."""
        if self._records:
            drawing = draw(self._records)
            self._write("curve.svg", to_svg(drawing))
            with atomic_write(self.path / "curve.png") as stream:
                stream.write(to_png(drawing))
            self._drawn = monotonic()

    def _read(self) -> Sequence[dict[str, Any]]:
        """The whole lines of an earlier run; a kill may have cut the last one."""
        try:
            lines = (self.path / "metrics.jsonl").read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return []
        found = []
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                break
            if isinstance(record, dict) and isinstance(record.get("epoch"), int):
                found.append(record)
        return found

    def _write(self, name: str, text: str) -> None:
        with atomic_write(self.path / name) as stream:
            stream.write(text.encode())


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
