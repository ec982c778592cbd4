"""Checkpoints: names and arrays in a `.safetensors`, `.npz` or `.onnx` file. Arrays are read when they are asked for;
nothing is ever unpickled."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from netdsl.diagnostics import DiagnosticError, error
from netdsl.ir.types import DType, NDArrayAny


@dataclass(frozen=True, slots=True)
class Entry:
    """One array of a checkpoint; `dtype` None: an element type that the language does not have, called `text`."""

    dtype: DType | None
    shape: tuple[int, ...]
    text: str = ""

    def __str__(self) -> str:
        return f"{self.dtype or self.text}[{', '.join(map(str, self.shape))}]"


class Checkpoint(ABC):
    """An open checkpoint: what it holds, and arrays by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def entries(self) -> Mapping[str, Entry]:
        """What the file holds, in its own order."""

    @abstractmethod
    def read(self, name: str) -> NDArrayAny:
        """The array of that name, of its entry's type. Raises DiagnosticError where the file is damaged."""


def damaged(path: Path, what: str) -> NoReturn:
    """Raises the DiagnosticError of a file that is no whole checkpoint."""
    raise DiagnosticError([error("damaged-checkpoint", f"the checkpoint cannot be read: {what}", path=str(path))])


def unsupported(path: Path) -> NoReturn:
    """Raises the DiagnosticError of a kind of file that is no checkpoint."""
    suffix = path.suffix or "no ending"
    pickled = path.suffix in {".pt", ".pth", ".bin", ".ckpt", ".pkl"}
    help = (
        "such files can run code when they are read; convert it once in PyTorch: "
        "safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')"
        if pickled
        else "a checkpoint is a .safetensors, .npz or .onnx file"
    )
    raise DiagnosticError(
        [error("unknown-checkpoint", f"{suffix} is no checkpoint that netdsl reads", path=str(path), help=help)]
    )


def require_file(path: Path) -> None:
    """Raises OSError unless the file can be opened."""
    with path.open("rb") as stream:
        os.fstat(stream.fileno())
