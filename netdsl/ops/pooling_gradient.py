"""The gradient of max pools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.dims import product
from netdsl.ir.graph import Node
from netdsl.ir.opdef import Cost, Emitter, ShapeError, same_dtype
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops.pool import Pool, lowest, no_pads
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.shape import emit_reshape
from netdsl.ops.spatial import emit_spatial_pad, onnx_window, pad_spatial, padded_type, windows


@dataclass(frozen=True)
class MaxPoolGradient(Pool):
    """The gradient of `max_pool` for `x`, from `x`, the pool's result and its gradient: each goes to the first of the
    largest elements of its window, as in PyTorch. Counts an addition per window."""

    name: ClassVar[str] = "max_pool_gradient"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX MaxPool, Resize, ScatterElements"
    differentiable: ClassVar[bool] = False

    def infer(self, x: TensorType, y: TensorType, dy: TensorType) -> TensorType:  # type: ignore[override]  # its operands
        same_dtype(self.name, x, y, dy)
        if y.shape != dy.shape:
            raise ShapeError(f"{self.name}: the gradient {dy} does not fit {y}")
        return x

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(other=inputs[2].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, x: NDArrayAny, y: NDArrayAny, dy: NDArrayAny) -> NDArrayAny:
        _, full = self.frame(TensorType(DType.float32, x.shape))
        seen = self.view(wide(x), full, -np.inf)
        plane = np.arange(np.prod(x.shape[2:], dtype=np.int64)).reshape(1, 1, *x.shape[2:])
        places: Any = windows(pad_spatial(plane, full, -1), self.kernel, self.stride, self.dilation)
        places = places[(slice(None), slice(None), *(slice(0, s) for s in dy.shape[2:]))]
        first = seen.reshape(*dy.shape, -1).argmax(axis=-1)[..., None]
        flat: Any = np.broadcast_to(places, seen.shape).reshape(*dy.shape, -1)
        at: Any = np.take_along_axis(flat, first, axis=-1).reshape(*dy.shape[:2], -1)
        grads = wide(dy).reshape(at.shape)
        dx = np.zeros((*x.shape[:2], plane.size), grads.dtype)
        batch, channel = np.ogrid[: x.shape[0], : x.shape[1]]
        np.add.at(dx, (batch[..., None], channel[..., None], at), grads)
        return like(dx.reshape(x.shape), x)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, y: str, dy: str) -> str:
        if self._tiles and node.inputs[0].dtype is DType.float32:
            return self._tiled(cx, node, x, y, dy)
        return self._scattered(cx, node, x, dy)

    @property
    def _tiles(self) -> bool:
        """Whether the windows touch but neither overlap nor reach beyond the input."""
        plain = not self.ceil and all(d == 1 for d in self.dilation)
        return plain and self.kernel == self.stride and self.padding == no_pads(self.kernel)

    def _tiled(self, cx: Emitter, node: Node, x: str, y: str, dy: str) -> str:
        """Where each element meets the largest of its window. ONNX Runtime's positions take five to twenty times as
        long as the pool itself, so that a second pool breaks ties: over ranks that fall within the window, of the
        elements that are largest."""
        input, grad = node.inputs[0].type, node.inputs[2].type
        inside = tuple(n * k for n, k in zip(grad.shape[2:], self.kernel, strict=True))
        axes = range(2, input.rank)
        whole = inside == input.shape[2:]
        if not whole:
            x = cx.emit("Slice", x, cx.ints([0] * len(inside)), cx.shape(inside), cx.ints(axes))
        ranks = self._ranks(cx, grad)
        largest = cx.emit("Cast", cx.emit("Equal", x, self._spread(cx, y)), to=cx.onnx_type(DType.float32))
        window = onnx_window(self.kernel, self.stride, no_pads(self.kernel), None)
        highest = cx.emit("MaxPool", cx.emit("Mul", largest, ranks), **window)
        first = cx.emit("Equal", self._spread(cx, highest), ranks)
        dx = cx.emit("Mul", cx.emit("Cast", first, to=cx.onnx_type(DType.float32)), self._spread(cx, dy))
        if whole:
            return dx
        rest = [n - m for n, m in zip(input.shape[2:], inside, strict=True)]
        return cx.emit("Pad", dx, cx.shape([0] * (2 + input.rank) + rest), mode="constant")

    def _ranks(self, cx: Emitter, grad: TensorType) -> str:
        """`[*inside]`: the taps of a window count down to 1."""
        count = int(np.prod(self.kernel))
        window = cx.array(np.arange(count, 0, -1, dtype=np.float32).reshape(self.kernel))
        return cx.emit("Tile", window, cx.shape(grad.shape[2:]))

    def _spread(self, cx: Emitter, name: str) -> str:
        """Every element over its window."""
        scales = cx.array(np.array([1, 1, *self.kernel], np.float32))
        floor = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return cx.emit("Resize", name, "", scales, **floor)

    def _scattered(self, cx: Emitter, node: Node, x: str, dy: str) -> str:
        """Any geometry: positions by MaxPool, sums by ScatterElements over the whole tensor."""
        input, grad = node.inputs[0].type, node.inputs[2].type
        amounts = None
        if self.fits or (self.padding == "same" and not any(d > 1 for d in self.dilation)):
            attributes = self.onnx(input)
            if self.padding == "same":
                del attributes["dilations"]
        else:
            amounts = self.frame(input)[1]
            x = emit_spatial_pad(cx, x, input, amounts, lowest(input.dtype))
            input = padded_type(input, amounts)
            attributes = onnx_window(self.kernel, self.stride, no_pads(self.kernel), self.dilation)
        _, places = cx.emit_all("MaxPool", 2, x, **attributes)
        zeros = cx.emit("Expand", cx.scalar(0, input.dtype), cx.shape([product(input.shape)]))
        lines = [emit_reshape(cx, v, grad.shape, (product(grad.shape),)) for v in (places, dy)]
        flat = cx.emit("ScatterElements", zeros, *lines, axis=0, reduction="add")
        dx = emit_reshape(cx, flat, (product(input.shape),), input.shape)
        if amounts is None:
            return dx
        inside = node.inputs[0].shape[2:]
        begins = cx.shape([a for a, _ in amounts])
        ends = cx.shape([a + d for (a, _), d in zip(amounts, inside, strict=True)])
        return cx.emit("Slice", dx, begins, ends, cx.ints(range(2, 2 + len(inside))))
