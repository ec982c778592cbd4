"""Element types in the rules of operators: what NumPy computes in, and what ONNX Runtime has kernels for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Emitter, Primitive
from netdsl.ir.types import DType, NDArrayAny, dtype_of

_NARROW = frozenset({DType.float16, DType.bfloat16})


def wide(x: NDArrayAny) -> Any:
    """`x` as NumPy computes with it: 16-bit floats as float32, as a device accumulates them, all others as they are."""
    return x.astype(np.float32) if dtype_of(x) in _NARROW else x


def like(y: Any, x: NDArrayAny) -> NDArrayAny:
    """`y` in the element type of `x`."""
    return np.asarray(y).astype(x.dtype, copy=False)


Lower = TypeVar("Lower", bound=Callable[..., Any])


def runs_in_float32(*types: DType) -> Callable[[Lower], Lower]:
    """For a `lower` whose ONNX operators have no kernel for some element types in ONNX Runtime: tensors of these types
    are converted to float32 before and back behind. The wrapped rule sees a node of float32 tensors."""

    def decorate(lower: Lower) -> Lower:
        @wraps(lower)
        def lowered(self: Primitive, cx: Emitter, node: Node, *inputs: str) -> Any:
            dtype = node.inputs[0].dtype
            if dtype not in types:
                return lower(self, cx, node, *inputs)
            operands = zip(node.inputs, inputs, strict=True)
            converted = [_cast(cx, name, DType.float32) if v.dtype is dtype else name for v, name in operands]
            sources, results = (tuple(_retyped(v, dtype) for v in values) for values in (node.inputs, node.outputs))
            found = lower(self, cx, Node(node.op, sources, results, node.path, node.place), *converted)
            names = found if isinstance(found, tuple) else (found,)
            back = tuple(
                _cast(cx, n, dtype) if v.dtype is dtype else n for v, n in zip(node.outputs, names, strict=True)
            )
            return back if isinstance(found, tuple) else back[0]

        return cast(Lower, lowered)

    return decorate


def _cast(cx: Emitter, name: str, dtype: DType) -> str:
    return cx.emit("Cast", name, to=cx.onnx_type(dtype))


def _retyped(value: Value, dtype: DType) -> Value:
    return Value(value.name, value.type.with_dtype(DType.float32)) if value.dtype is dtype else value
