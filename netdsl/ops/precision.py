"""Element types in the rules of operators: what NumPy computes in, and what ONNX Runtime has kernels for."""

from __future__ import annotations

from typing import Any

import numpy as np

from netdsl.ir.opdef import Emitter
from netdsl.ir.types import DType, NDArrayAny, dtype_of

_NARROW = frozenset({DType.float16, DType.bfloat16})


def wide(x: NDArrayAny) -> Any:
    """`x` as NumPy computes with it: 16-bit floats as float32, as a device accumulates them, all others as they are."""
    return x.astype(np.float32) if dtype_of(x) in _NARROW else x


def like(y: Any, x: NDArrayAny) -> NDArrayAny:
    """`y` in the element type of `x`."""
    return np.asarray(y).astype(x.dtype, copy=False)


def emit_without_float64(cx: Emitter, dtype: DType, op_type: str, *inputs: str, **attributes: Any) -> str:
    """A node of an operator that ONNX Runtime has no float64 kernel for: float64 tensors go through float32."""
    if dtype is not DType.float64:
        return cx.emit(op_type, *inputs, **attributes)
    narrowed = [cx.emit("Cast", name, to=cx.onnx_type(DType.float32)) if name else "" for name in inputs]
    return cx.emit("Cast", cx.emit(op_type, *narrowed, **attributes), to=cx.onnx_type(DType.float64))
