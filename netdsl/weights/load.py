"""Opens a checkpoint of any kind."""

from __future__ import annotations

from pathlib import Path

from netdsl.weights.checkpoint import Checkpoint, require_file, unsupported
from netdsl.weights.npz import NpzCheckpoint
from netdsl.weights.onnx_file import OnnxCheckpoint
from netdsl.weights.safetensors import SafetensorsCheckpoint

_KINDS: dict[str, type[Checkpoint]] = {
    ".safetensors": SafetensorsCheckpoint,
    ".npz": NpzCheckpoint,
    ".onnx": OnnxCheckpoint,
}


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint of a `.safetensors`, `.npz` or `.onnx` file; its arrays are read when they are asked for.

    Raises OSError where the file cannot be opened, DiagnosticError where it is of another kind, damaged or cut short.
    """
    require_file(path)
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        unsupported(path)
    return kind(path)
