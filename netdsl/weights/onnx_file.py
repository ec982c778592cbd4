"""Initializers of an ONNX model as a checkpoint, external data included."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from math import prod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from netdsl.ir.types import DType, NDArrayAny
from netdsl.weights.checkpoint import Checkpoint, Entry, damaged

if TYPE_CHECKING:
    from onnx import TensorProto


class OnnxCheckpoint(Checkpoint):
    """An `.onnx` file. Raises DiagnosticError for one that is damaged or whose data file is missing."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types

        try:
            model = onnx.load_model(path, load_external_data=False)
        except DecodeError:
            damaged(path, "it is no ONNX model, or it is cut short")
        if not model.graph.node and not model.graph.initializer:
            damaged(path, "it is an ONNX model without a graph")
        self._tensors: dict[str, TensorProto] = {t.name: t for t in model.graph.initializer}

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        return {name: _entry(t) for name, t in self._tensors.items()}

    def read(self, name: str) -> NDArrayAny:
        from onnx import TensorProto, numpy_helper

        tensor = self._tensors[name]
        if tensor.data_location == TensorProto.EXTERNAL:
            return self._external(name, tensor)
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            damaged(self.path, f"{name} is damaged ({error})")

    def _external(self, name: str, tensor: TensorProto) -> NDArrayAny:
        entry = self.entries[name]
        fields = {e.key: e.value for e in tensor.external_data}
        file = self._beside(name, fields.get("location", ""))
        if entry.dtype is None:
            damaged(self.path, f"{name} has the element type {entry.text}, which netdsl does not have")
        data = np.empty(prod(entry.shape) * entry.dtype.size, np.uint8)
        try:
            offset, length = int(fields.get("offset", 0)), int(fields.get("length", data.size))
            with file.open("rb") as stream:
                stream.seek(offset)
                read = stream.readinto(data.data)
        except ValueError:
            damaged(self.path, f"{name} says no proper place in {file.name}")
        except FileNotFoundError:
            damaged(self.path, f"{name} lies in {file.name}, which is missing beside it")
        if read != data.size or length != data.size:
            damaged(self.path, f"{file.name} ends within {name}, or holds another array there")
        return data.view(entry.dtype.numpy).reshape(entry.shape)

    def _beside(self, name: str, location: str) -> Path:
        """The data file, which must lie in the model's own folder: a model must not name any file of the machine."""
        inside = PurePosixPath(location)
        if not location or inside.is_absolute() or ".." in inside.parts or "\\" in location or ":" in location:
            damaged(self.path, f"{name} lies in {location!r}, outside of the model's folder")
        folder = self.path.resolve().parent
        file = (folder / inside).resolve()
        if not file.is_relative_to(folder):
            damaged(self.path, f"{name} lies in {location!r}, outside of the model's folder")
        return file


def _entry(tensor: TensorProto) -> Entry:
    from onnx import TensorProto

    text = TensorProto.DataType.Name(tensor.data_type)
    return Entry(_DTYPES.get(text), tuple(tensor.dims), text.lower())


_DTYPES = {
    "FLOAT": DType.float32,
    "FLOAT16": DType.float16,
    "BFLOAT16": DType.bfloat16,
    "DOUBLE": DType.float64,
    "INT8": DType.int8,
    "UINT8": DType.uint8,
    "INT32": DType.int32,
    "INT64": DType.int64,
    "BOOL": DType.bool,
}
