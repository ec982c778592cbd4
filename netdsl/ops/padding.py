"""Padding of spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import FLOAT, PADDING, TENSOR, PaddingValue, Pads, Param, choice
from netdsl.ir.dims import Dim, decide, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Emitter, GradientContext, LayerContext, OpError, Primitive, ShapeError
from netdsl.ir.reach import Axis, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.indexing import Slice, Unslice
from netdsl.ops.precision import runs_in_float32
from netdsl.ops.spatial import explicit_pads, spatial_rank

_NUMPY_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


@dataclass(frozen=True)
class Pad(Primitive):
    """Adds positions around the spatial axes: a constant `value`, the border mirrored without repeating it ("reflect"),
    or the border repeated ("replicate"). `padding` is an integer, one per axis, or a (begin, end) pair per axis."""

    padding: Pads
    mode: str = "constant"
    value: float = 0.0

    name: ClassVar[str] = "pad"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "ONNX Pad"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("padding", PADDING),
        Param("mode", choice(*_NUMPY_MODES), "constant"),
        Param("value", FLOAT, 0.0),
    )

    @classmethod
    def call(cls, cx: LayerContext, x: Value, padding: PaddingValue, mode: str, value: float) -> Value:
        rank = spatial_rank("pad", x.type)
        if isinstance(padding, str):
            raise OpError(f'pad: "{padding}" has no meaning here; give the amounts', argument="padding")
        if not x.dtype.is_float and value != int(value):
            raise OpError(
                f"pad: {value:g} is no value for {x.type}", argument="value", help="convert x first: cast(x, float32)"
            )
        ones = (1,) * rank
        pads = explicit_pads("pad", padding, x.type, ones, ones, ones)
        assert pads != "same"
        return x if not any(map(any, pads)) else cx.emit(cls(pads, mode, value if mode == "constant" else 0.0), x)

    def infer(self, x: TensorType) -> TensorType:
        if self.mode == "reflect":
            for axis, (size, pair) in enumerate(zip(x.shape[2:], self.padding, strict=True), start=2):
                if decide("<", max(pair), size) is not True:
                    sure = decide(">=", max(pair), size) is True
                    raise ShapeError(
                        f"pad: a reflection of {max(pair)} needs more than that in axis {axis} of {x}, "
                        f"which {'is' if sure else 'may be'} {to_text(size) if sure else 'smaller'}",
                        argument="padding",
                    )
        return x.with_shape((*x.shape[:2], *(d + sum(p) for d, p in zip(x.shape[2:], self.padding, strict=True))))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return Reach(tuple(Axis(1, Fraction(1), Fraction(-begin)) for begin, _ in self.padding))

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        pads = [(0, 0), (0, 0), *self.padding]
        if self.mode == "constant":
            return np.pad(x, pads, constant_values=np.asarray(self.value).astype(x.dtype))
        return np.asarray(np.pad(x, pads, mode=_NUMPY_MODES[self.mode]))  # type: ignore[call-overload]  # one of NumPy's modes

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        pads = cx.ints([0, 0, *(p[0] for p in self.padding), 0, 0, *(p[1] for p in self.padding)])
        if self.mode == "constant":
            return cx.emit("Pad", x, pads, cx.scalar(self.value, node.inputs[0].dtype), mode="constant")
        return cx.emit("Pad", x, pads, mode=_NUMPY_MODES[self.mode])

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        for axis, pair in enumerate(self.padding, start=2):
            if any(pair):
                dy = self._folded(cx, dy, axis, *pair)
        return (dy,)

    def _folded(self, cx: GradientContext, dy: Value, axis: int, begin: int, end: int) -> Value:
        """The gradient of what was inside an axis, with that of the border added where its values came from."""
        size = dy.shape[axis] - begin - end
        total = _part(cx, dy, axis, begin, begin + size)
        if self.mode == "constant":
            return total
        borders: list[tuple[Dim, int, Dim]] = [(0, begin, 1), (begin + size, end, size - 1 - end)]
        if self.mode == "replicate":
            borders = [(0, begin, 0), (begin + size, end, size - 1)]
        for start, count, at in borders:
            if not count:
                continue
            border = _part(cx, dy, axis, start, start + count)
            if self.mode == "reflect":
                border = cx.emit(Slice((count - 1,), (-1,), (axis,), (-1,)), border)
            else:
                border, count = g.total(cx, border, (axis,), keep=True), 1
            total = g.add(cx, total, cx.emit(Unslice((at,), (at + count,), (axis,), (1,), (size,)), border))
        return total


def _part(cx: GradientContext, x: Value, axis: int, start: Dim, end: Dim) -> Value:
    return cx.emit(Slice((start,), (end,), (axis,), (1,)), x)
