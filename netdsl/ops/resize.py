"""Resampling of spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor, prod
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import FRACTIONS, TENSOR, Param, choice
from netdsl.ir.dims import Dim, bounds, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, LayerContext, OpError, Primitive, ShapeError
from netdsl.ir.reach import WHOLE, Axis, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops import pooling
from netdsl.ops.axis_matrix import AxisMatrix, transposed_along
from netdsl.ops.optional import SIZES_OR_NONE, spatial_dims
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.spatial import spatial_rank

_TAPS = {"nearest": 1, "bilinear": 2, "bicubic": 4}
_ONNX_MODES = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}
_ONNX_ALIGN = {"half_pixel": "half_pixel", "corners": "align_corners", "asymmetric": "asymmetric"}
_CUBIC = -0.75  # PyTorch's and OpenCV's


@dataclass(frozen=True)
class Resize(Primitive):
    """Resamples the spatial axes to `floor(in * scale)`, or to `size`; `bilinear` is linear over 1 to 3 axes.

    `align` says where output position `i` looks, with `s` for out / in: "half_pixel" at `(i + 0.5)/s - 0.5`,
    "corners" at `i*(in - 1)/(out - 1)`, "asymmetric" at `i/s`. "nearest" takes the nearest position, the lower of two
    ("asymmetric": the one below, PyTorch's `nearest`). Positions outside are those of the border; `bicubic` uses
    a = -0.75.
    """

    scale: tuple[tuple[int, int], ...]  #: (numerator, denominator) per spatial axis; empty: `size` is given
    size: tuple[Dim, ...]
    mode: str = "nearest"
    align: str = "half_pixel"

    name: ClassVar[str] = "resize"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "PyTorch interpolate; ONNX Resize"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("scale", FRACTIONS, None, doc="factor, or one per spatial axis"),
        Param("size", SIZES_OR_NONE, (), doc="size, or one per spatial axis"),
        Param("mode", choice(*_TAPS), "nearest"),
        Param("align", choice(*_ONNX_ALIGN), "half_pixel"),
    )

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        scale: Fraction | tuple[Fraction, ...] | None,
        size: tuple[Dim, ...],
        mode: str,
        align: str,
    ) -> Value:
        rank = spatial_rank("resize", x.type)
        if (scale is None) == (not size):
            raise OpError(
                "resize needs either 'scale' or 'size'",
                argument="scale",
                help="resize(x, scale=2) doubles every spatial axis",
            )
        if scale is None:
            return cx.emit(cls((), spatial_dims("resize", size, rank, "size"), mode, align), x)
        factors = scale if isinstance(scale, tuple) else (scale,) * rank
        if len(factors) != rank:
            raise OpError(f"resize: 'scale' has {len(factors)} values for {rank} spatial axes", argument="scale")
        return cx.emit(cls(tuple((f.numerator, f.denominator) for f in factors), (), mode, align), x)

    def infer(self, x: TensorType) -> TensorType:
        rank = spatial_rank("resize", x)
        if self.mode != "nearest" and not x.dtype.is_float:
            raise ShapeError(
                f'resize: "{self.mode}" needs a float tensor, found {x}', help="convert it first: cast(x, float32)"
            )
        if self.mode == "bicubic" and rank > 2:
            raise ShapeError(f'resize: "bicubic" takes one or two spatial axes, found {x}', argument="mode")
        sizes = self.sizes(x)
        for axis, size in enumerate(sizes, start=2):
            high = bounds(size)[1]
            if high is not None and high < 1:
                raise OpError(
                    f"resize: axis {axis} of {x} would have the size {to_text(size)}",
                    argument="scale" if self.scale else "size",
                )
        return x.with_shape((*x.shape[:2], *sizes))

    def sizes(self, x: TensorType) -> tuple[Dim, ...]:
        """The output's spatial sizes."""
        if not self.scale:
            return self.size
        return tuple(d * n // m for d, (n, m) in zip(x.shape[2:], self.scale, strict=True))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """Multiplications and additions of the taps, axis by axis; "nearest" copies."""
        taps = _TAPS[self.mode]
        return Cost(other=0 if taps == 1 else (2 * taps - 1) * (inputs[0].rank - 2) * outputs[0].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        steps = self._steps(inputs[0].shape[2:], outputs[0].shape[2:])
        if steps is None:
            return WHOLE
        half = Fraction(1, 2) if self.align == "half_pixel" else Fraction(0)
        taps = _TAPS[self.mode]
        return Reach(tuple(Axis(taps, s, Fraction(floor(half * s - half)) - (taps - 1) // 2) for s in steps))

    def _steps(self, before: Sequence[Dim], after: Sequence[Dim]) -> list[Fraction] | None:
        """in / out per axis, None where it is not known."""
        if self.scale:
            return [Fraction(m, n) for n, m in self.scale]
        if all(isinstance(d, int) for d in (*before, *after)):
            return [Fraction(int(a), int(b)) for a, b in zip(before, after, strict=True)]  # type: ignore[arg-type]
        return None

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        sizes: Any = self.sizes(TensorType(DType.float32, x.shape))
        steps = self._steps(x.shape[2:], sizes) or []
        y: Any = x if self.mode == "nearest" else wide(x)
        for axis, (size, step) in enumerate(zip(sizes, steps, strict=True), start=2):
            places = _places(x.shape[axis], size, step, self.align)
            if self.mode == "nearest":
                y = np.take(y, _nearest(places, x.shape[axis], self.align), axis=axis)
            else:
                y = _blended(y, axis, places, self.mode)
        return like(y, x)

    @runs_in_float32(DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        input = node.inputs[0].type
        attributes: dict[str, Any] = {
            "mode": _ONNX_MODES[self.mode],
            "coordinate_transformation_mode": _ONNX_ALIGN[self.align],
        }
        if self.mode == "nearest":
            attributes["nearest_mode"] = "floor" if self.align == "asymmetric" else "round_prefer_floor"
        if self.mode == "bicubic":
            attributes["cubic_coeff_a"] = _CUBIC
        lone = self.mode == "bicubic" and input.rank == 3  # ONNX Runtime has cubic for pictures alone
        if lone:
            x = cx.emit("Unsqueeze", x, cx.ints([2]))
        y = self._emit(cx, node, x, lone, attributes)
        return cx.emit("Squeeze", y, cx.ints([2])) if lone else y

    def _emit(self, cx: Emitter, node: Node, x: str, lone: bool, attributes: dict[str, Any]) -> str:
        input, after = node.inputs[0].type, node.output.shape
        ones = 3 if lone else 2
        inexact = self.scale and any((n * d % m) != 0 for d, (n, m) in zip(input.shape[2:], self.scale, strict=True))
        static = all(isinstance(d, int) for d in input.shape[2:])
        operands: tuple[str, ...]
        if self.scale and (inexact or not static):
            scales = np.array([*[1] * ones, *(_rounded_up(n, m) for n, m in self.scale)], np.float32)
            operands = ("", cx.array(scales))
        elif cx.opset < 18:  # axes were not to be chosen: the lead sizes are the input's own
            operands = ("", "", cx.shape((*input.shape[:2], *([1] if lone else []), *after[2:])))
        else:
            operands = ("", "", cx.shape(after[2:]))
            attributes["axes"] = list(range(ones, ones + input.rank - 2))
        return _emit_typed(cx, input.dtype, x, operands, attributes)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        (x,) = node.inputs
        if self.mode == "nearest" and self.align != "corners" and all(m == 1 for _, m in self.scale) and self.scale:
            factors = tuple(n for n, _ in self.scale)
            blocks = pooling.AvgPool(factors, factors, ((0, 0),) * len(factors), (1,) * len(factors))
            return (g.mul(cx, cx.emit(blocks, dy), prod(factors)),)
        for i in range(x.rank - 2):
            if self._changes(x.type, i):
                scale, size = (self.scale[i : i + 1], ()) if self.scale else ((), self.size[i : i + 1])
                matrix = ResizeMatrix(x.shape[2 + i], x.dtype, scale, size, self.mode, self.align)
                dy = transposed_along(cx, dy, 2 + i, cx.emit(matrix))
        return (dy,)

    def _changes(self, x: TensorType, index: int) -> bool:
        """Whether a spatial axis is resampled at all."""
        return self.scale[index] != (1, 1) if self.scale else self.size[index] != x.shape[2 + index]


@dataclass(frozen=True)
class ResizeMatrix(AxisMatrix):
    """What `resize` multiplies one spatial axis with, `[out, in]`."""

    scale: tuple[tuple[int, int], ...]
    size: tuple[Dim, ...]
    mode: str
    align: str

    name: ClassVar[str] = "resize_matrix"
    reference: ClassVar[str] = "ONNX Resize, EyeLike"

    @property
    def operator(self) -> Primitive:
        return Resize(self.scale, self.size, self.mode, self.align)


def _emit_typed(cx: Emitter, dtype: DType, x: str, operands: Sequence[str], attributes: dict[str, Any]) -> str:
    if dtype.is_float:
        return cx.emit("Resize", x, *operands, **attributes)
    if dtype in (DType.int8, DType.uint8, DType.int32):
        return cx.emit("Resize", x, *operands, **attributes)
    # No kernel takes these: labels and masks fit into 32 bits.
    narrow = cx.emit("Cast", x, to=cx.onnx_type(DType.int32))
    return cx.emit("Cast", cx.emit("Resize", narrow, *operands, **attributes), to=cx.onnx_type(dtype))


def _rounded_up(numerator: int, denominator: int) -> Any:
    """The least float32 that is not below the fraction: a runtime multiplies by it and rounds down."""
    value = np.float32(numerator / denominator)
    return (
        value if Fraction(float(value)) >= Fraction(numerator, denominator) else np.nextafter(value, np.float32(np.inf))
    )


def _places(before: int, after: int, step: Fraction, align: str) -> list[Fraction]:
    """Where each output position looks, exactly."""
    if align == "corners":
        step = Fraction(before - 1, after - 1) if after > 1 else Fraction(0)
        return [i * step for i in range(after)]
    half = Fraction(1, 2) if align == "half_pixel" else Fraction(0)
    return [(i + half) * step - half for i in range(after)]


def _nearest(places: Sequence[Fraction], size: int, align: str) -> list[int]:
    half = Fraction(0) if align == "asymmetric" else Fraction(1, 2)
    rounded = [floor(p) if align == "asymmetric" else -floor(half - p) for p in places]
    return [min(max(p, 0), size - 1) for p in rounded]


def _blended(y: Any, axis: int, places: Sequence[Fraction], mode: str) -> Any:
    """One axis as weighted sums of its 2 or 4 nearest positions."""
    size = y.shape[axis]
    if mode == "bilinear":  # positions outside are the border's
        places = [min(max(p, Fraction(0)), Fraction(size - 1)) for p in places]
    low = np.array([floor(p) for p in places])
    rest = np.array([float(p - floor(p)) for p in places])
    taps = (1 - rest, rest) if mode == "bilinear" else _cubic_weights(rest)
    shape = [-1 if a == axis else 1 for a in range(y.ndim)]
    total = 0
    for i, weight in enumerate(taps):
        at = np.clip(low + i - (len(taps) // 2 - 1), 0, size - 1)
        total = total + np.take(y, at, axis=axis) * weight.astype(y.dtype).reshape(shape)
    return total


def _cubic_weights(rest: Any) -> tuple[Any, ...]:
    """Keys' kernel (1981) at the distances 1 + t, t, 1 - t, 2 - t."""

    def near(d: Any) -> Any:
        return ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC

    return far(1 + rest), near(rest), near(1 - rest), far(2 - rest)
