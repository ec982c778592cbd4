"""Moves between channels and positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import POSITIVE, TENSOR, Param
from netdsl.ir.dims import Dim, exact_div, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Emitter, GradientContext, Primitive, ShapeError, require_rank
from netdsl.ir.reach import Axis, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops.precision import runs_in_float32
from netdsl.ops.shape import emit_reshape
from netdsl.ops.spatial import input_channels

_NATIVE = frozenset({DType.float16, DType.float32, DType.float64, DType.int8, DType.uint8})


def _divided(op: str, x: TensorType, axis: int, by: int) -> Dim:
    size = exact_div(x.shape[axis], by)
    if size is None:
        raise ShapeError(
            f"{op}: axis {axis} of {x} has {to_text(x.shape[axis])}, which {by} does not divide", argument="factor"
        )
    return size


@dataclass(frozen=True)
class PixelShuffle(Primitive):
    """Moves channels to positions: `[N, C*r*r, H, W]` becomes `[N, C, H*r, W*r]`. Channel `c*r*r + i*r + j` gives the
    position `(i, j)` of each block of channel `c`."""

    factor: int

    name: ClassVar[str] = "pixel_shuffle"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "Shi et al. 2016 (arXiv:1609.05158); ONNX DepthToSpace (CRD)"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("factor", POSITIVE))

    def infer(self, x: TensorType) -> TensorType:
        require_rank("pixel_shuffle", x, 4, 4)
        batch, _, height, width = x.shape
        channels = _divided("pixel_shuffle", x, 1, self.factor**2)
        return x.with_shape((batch, channels, height * self.factor, width * self.factor))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return Reach((Axis(1, Fraction(1, self.factor)),) * 2)

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        batch, channels, height, width = x.shape
        r = self.factor
        cut = x.reshape(batch, channels // r**2, r, r, height, width).transpose(0, 1, 4, 2, 5, 3)
        return cut.reshape(batch, channels // r**2, height * r, width * r)

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        before, after = node.inputs[0].type, node.output.shape
        if before.dtype in _NATIVE:
            return cx.emit("DepthToSpace", x, blocksize=self.factor, mode="CRD")
        r = self.factor
        cut = (before.shape[0], after[1], r, r, *before.shape[2:])
        moved = cx.emit("Transpose", emit_reshape(cx, x, before.shape, cut), perm=[0, 1, 4, 2, 5, 3])
        return emit_reshape(cx, moved, [cut[i] for i in (0, 1, 4, 2, 5, 3)], after)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (cx.emit(SpaceToDepth(self.factor), dy),)


@dataclass(frozen=True)
class SpaceToDepth(Primitive):
    """Moves positions to channels, the inverse of `pixel_shuffle`: `[N, C, H*r, W*r]` becomes `[N, C*r*r, H, W]`."""

    factor: int

    name: ClassVar[str] = "space_to_depth"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "PyTorch PixelUnshuffle; ONNX SpaceToDepth with its channels reordered"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("factor", POSITIVE))

    def infer(self, x: TensorType) -> TensorType:
        require_rank("space_to_depth", x, 4, 4)
        height, width = (_divided("space_to_depth", x, axis, self.factor) for axis in (2, 3))
        return x.with_shape((x.shape[0], x.shape[1] * self.factor**2, height, width))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return Reach((Axis(self.factor, Fraction(self.factor)),) * 2)

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        batch, channels, height, width = x.shape
        r = self.factor
        cut = x.reshape(batch, channels, height // r, r, width // r, r).transpose(0, 1, 3, 5, 2, 4)
        return cut.reshape(batch, channels * r**2, height // r, width // r)

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        before, after = node.inputs[0].type, node.output.shape
        r, channels = self.factor, before.shape[1]
        if before.dtype in _NATIVE and isinstance(channels, int):
            y = cx.emit("SpaceToDepth", x, blocksize=r)  # its channels are in the order i, j, c
            order = np.arange(channels * r * r).reshape(r * r, channels).T.reshape(-1)
            return y if channels == 1 or r == 1 else cx.emit("Gather", y, cx.ints(order.tolist()), axis=1)
        cut = (*before.shape[:2], after[2], r, after[3], r)
        moved = cx.emit("Transpose", emit_reshape(cx, x, before.shape, cut), perm=[0, 1, 3, 5, 2, 4])
        return emit_reshape(cx, moved, [cut[i] for i in (0, 1, 3, 5, 2, 4)], after)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (cx.emit(PixelShuffle(self.factor), dy),)


@dataclass(frozen=True)
class ChannelShuffle(Primitive):
    """Interleaves the channels of groups: channel `i` of group `g` becomes channel `g` of `i`'s row of all groups."""

    groups: int

    name: ClassVar[str] = "channel_shuffle"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "Zhang et al. 2017 (arXiv:1707.01083); ONNX Gather"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR), Param("groups", POSITIVE))

    def infer(self, x: TensorType) -> TensorType:
        require_rank("channel_shuffle", x, 2)
        channels = input_channels("channel_shuffle", x)
        if channels % self.groups:
            raise ShapeError(
                f"channel_shuffle: groups={self.groups} must divide the {channels} channels of {x}", argument="groups"
            )
        return x

    def order(self, channels: int) -> list[int]:
        """The channel that each place takes."""
        order: list[int] = np.arange(channels).reshape(self.groups, -1).T.reshape(-1).tolist()
        return order

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        return x[:, self.order(x.shape[1])]

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        return cx.emit("Gather", x, cx.ints(self.order(input_channels(self.name, node.inputs[0].type))), axis=1)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        channels = input_channels(self.name, node.inputs[0].type)
        return (cx.emit(ChannelShuffle(channels // self.groups), dy),)
