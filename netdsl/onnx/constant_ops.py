"""ONNX operators on constants alone: evaluated when the model is written, so that no such node is in the file.

A rule gives the result's shape from the operands' shapes (with the contents of small integer operands such as axes), so
that sizes are known before any weight is drawn, and the NumPy form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from onnx import helper

from netdsl.ir.types import DType, NDArrayAny, dtype_of

Attributes = Mapping[str, Any]

GROWTH = 4096  # bytes by which a conversion may make a constant larger


@dataclass(frozen=True)
class Rule:
    """`evaluate(attributes, arrays)`. `moves`: no arithmetic, and the shape is found by applying the rule to stand-ins
    that take no memory; otherwise all operands broadcast."""

    evaluate: Callable[[Attributes, Sequence[NDArrayAny]], NDArrayAny]
    moves: bool = False

    def type(self, attributes: Attributes, operands: Sequence[StandIn]) -> tuple[DType, tuple[int, ...]]:
        """Element type and shape of the result."""
        if self.moves:
            arrays = [o.array if o.array is not None else _empty(o.dtype, o.shape) for o in operands]
            result = self.evaluate(attributes, arrays)
            return dtype_of(result), result.shape
        dtype = _cast_type(attributes) if "to" in attributes else operands[0].dtype
        return dtype, np.broadcast_shapes(*(o.shape for o in operands))


@dataclass(frozen=True)
class StandIn:
    """An operand before its values are known; `array` where they are."""

    dtype: DType
    shape: tuple[int, ...]
    array: NDArrayAny | None = None


def _empty(dtype: DType, shape: tuple[int, ...]) -> NDArrayAny:
    """An array of that shape whose elements share one place in memory."""
    return np.broadcast_to(np.zeros((), dtype.numpy), shape)


def _transpose(attributes: Attributes, arrays: Sequence[NDArrayAny]) -> NDArrayAny:
    return arrays[0].transpose(attributes["perm"])


def _reshape(attributes: Attributes, arrays: Sequence[NDArrayAny]) -> NDArrayAny:
    x, target = arrays
    sizes = [int(d) for d in target]
    if not attributes.get("allowzero"):
        sizes = [x.shape[i] if d == 0 else d for i, d in enumerate(sizes)]
    return x.reshape(sizes)


def _unsqueeze(attributes: Attributes, arrays: Sequence[NDArrayAny]) -> NDArrayAny:
    return np.expand_dims(arrays[0], tuple(int(a) for a in arrays[1]))


def _squeeze(attributes: Attributes, arrays: Sequence[NDArrayAny]) -> NDArrayAny:
    return np.squeeze(arrays[0], tuple(int(a) for a in arrays[1]) if len(arrays) > 1 else None)


def _expand(attributes: Attributes, arrays: Sequence[NDArrayAny]) -> NDArrayAny:
    x, target = arrays
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(d) for d in target)))


def _tile(attributes: Attributes, arrays: Sequence[NDArrayAny]) -> NDArrayAny:
    return np.tile(arrays[0], tuple(int(r) for r in arrays[1]))


def _gather(attributes: Attributes, arrays: Sequence[NDArrayAny]) -> NDArrayAny:
    x, places = arrays
    return np.take(x, places.astype(np.int64), attributes.get("axis", 0))


def _concat(attributes: Attributes, arrays: Sequence[NDArrayAny]) -> NDArrayAny:
    return np.concatenate(arrays, axis=attributes["axis"])


def _cast(attributes: Attributes, arrays: Sequence[NDArrayAny]) -> NDArrayAny:
    with np.errstate(over="ignore", invalid="ignore"):
        return arrays[0].astype(_cast_type(attributes).numpy)


def _cast_type(attributes: Attributes) -> DType:
    return dtype_of(np.empty(0, helper.tensor_dtype_to_np_dtype(attributes["to"])))


def _arithmetic(function: Callable[..., Any]) -> Rule:
    """Floats are computed in float64 and rounded once."""

    def evaluate(attributes: Attributes, arrays: Sequence[NDArrayAny]) -> NDArrayAny:
        dtype = arrays[0].dtype
        wide = [a.astype(np.float64) if a.dtype.kind in "fV" else a for a in arrays]
        with np.errstate(all="ignore"):
            result: NDArrayAny = np.asarray(function(*wide)).astype(dtype, copy=False)
        return result

    return Rule(evaluate)


_RULES: dict[str, Rule] = {
    "Transpose": Rule(_transpose, moves=True),
    "Reshape": Rule(_reshape, moves=True),
    "Unsqueeze": Rule(_unsqueeze, moves=True),
    "Squeeze": Rule(_squeeze, moves=True),
    "Expand": Rule(_expand, moves=True),
    "Concat": Rule(_concat, moves=True),
    "Gather": Rule(_gather, moves=True),
    "Tile": Rule(_tile, moves=True),
    "Identity": Rule(lambda attributes, arrays: arrays[0], moves=True),
    "Cast": Rule(_cast),
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Neg": _arithmetic(np.negative),
    "Abs": _arithmetic(np.abs),
    "Sqrt": _arithmetic(np.sqrt),
    "Exp": _arithmetic(np.exp),
    "Reciprocal": _arithmetic(lambda x: 1 / x),
}
_DIV = _arithmetic(np.divide)


def rule_for(op_type: str, operands: Sequence[StandIn], attributes: Attributes) -> Rule | None:
    """The rule of an operator on these constants, or None where it stays a node: there is no rule, or the file would
    grow by it (a 16-bit weight that is widened for the sake of a runtime without 16-bit kernels)."""
    if op_type == "Div" and operands[0].dtype.is_float:
        return _DIV
    if op_type == "Cast" and not _folds_cast(operands[0], attributes["to"]):
        return None
    rule = _RULES.get(op_type)
    if rule is None or (op_type in _NEEDS_VALUES and any(o.array is None for o in operands[1:])):
        return None
    return rule


def _folds_cast(operand: StandIn, to: int) -> bool:
    """Types that are ONNX's alone (unsigned 32-bit integers) are left to the runtime."""
    try:
        growth = _cast_type({"to": to}).size - operand.dtype.size
    except KeyError:
        return False
    return prod(operand.shape) * growth <= GROWTH


_NEEDS_VALUES = frozenset({"Reshape", "Tile", "Unsqueeze", "Squeeze", "Expand", "Gather"})
