"""Elements of an axis picked by a tensor of positions of the same rank, and the sum that undoes it: what losses and the
gradients of sorted selections are made of. They cost nothing (see `activation`), sums one per element added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive, ShapeError, same_dtype
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.precision import like, runs_in_float32, wide


@dataclass(frozen=True)
class _Along(Primitive):
    """`axis` counts from the start."""

    axis: int

    family: ClassVar[str] = "internal"

    def _check(self, x: TensorType, positions: TensorType) -> None:
        """Raises ShapeError unless the positions are integers of the same rank."""
        if positions.dtype not in (DType.int32, DType.int64) or positions.rank != x.rank or self.axis >= x.rank:
            raise ShapeError(f"{self.name}: {positions} are no positions along axis {self.axis} of {x}")

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE


@dataclass(frozen=True)
class TakeAlong(_Along):
    """`y[…, j, …] = x[…, positions[…, j, …], …]` along an axis; all other axes as those of `positions`."""

    name: ClassVar[str] = "take_along"
    reference: ClassVar[str] = "ONNX GatherElements"

    def infer(self, x: TensorType, positions: TensorType) -> TensorType:
        self._check(x, positions)
        return x.with_shape(positions.shape)

    def evaluate(self, x: NDArrayAny, positions: NDArrayAny) -> NDArrayAny:
        return np.take_along_axis(x, positions.astype(np.int64), self.axis)

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, positions: str) -> str:
        return cx.emit("GatherElements", x, positions, axis=self.axis)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        x, positions = node.inputs
        return cx.emit(AddAlong(self.axis), g.zeros_like(cx, x), positions, dy), None


@dataclass(frozen=True)
class AddAlong(_Along):
    """`x` with `values[…, j, …]` added at `positions[…, j, …]` along an axis; equal positions add up."""

    name: ClassVar[str] = "add_along"
    reference: ClassVar[str] = "ONNX ScatterElements"

    def infer(self, x: TensorType, positions: TensorType, values: TensorType) -> TensorType:
        same_dtype(self.name, x, values)
        self._check(x, positions)
        if values.shape != positions.shape:
            raise ShapeError(f"{self.name}: the values {values} do not have the shape of the positions {positions}")
        return x

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(other=inputs[2].size)

    def evaluate(self, x: NDArrayAny, positions: NDArrayAny, values: NDArrayAny) -> NDArrayAny:
        y = wide(x).copy()
        grid: list[Any] = list(np.indices(positions.shape, sparse=True))
        grid[self.axis] = positions.astype(np.int64)
        np.add.at(y, tuple(grid), wide(values))
        return like(y, x)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, positions: str, values: str) -> str:
        return cx.emit("ScatterElements", x, positions, values, axis=self.axis, reduction="add")

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        _, positions, values = node.inputs
        return dy, None, cx.emit(TakeAlong(self.axis), dy, positions) if cx.wants(values) else None
