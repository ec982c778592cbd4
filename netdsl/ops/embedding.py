"""Vectors for ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import INITIALIZER, POSITIVE, TENSOR, Param
from netdsl.ir.graph import Node, Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.opdef import Cost, Emitter, GradientContext, LayerContext, Primitive, ShapeError
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops.gather import AddRows, as_positions

NORMAL = Initializer("normal", (0.0, 1.0))  #: PyTorch's first vectors


@dataclass(frozen=True)
class Embedding(Primitive):
    """A learnt vector for each id: `ids` `[…]` of integers from 0 to `vocabulary - 1`, `weight` `[vocabulary, dim]`.

    The output is `[…, dim]`. First vectors are normal with deviation 1.
    """

    name: ClassVar[str] = "embedding"
    family: ClassVar[str] = "dense"
    reference: ClassVar[str] = "Bengio et al. 2003; ONNX Gather"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("ids", TENSOR),
        Param("vocabulary", POSITIVE, doc="number of ids"),
        Param("dim", POSITIVE, doc="size of a vector"),
        Param("weight_init", INITIALIZER, None),
    )

    @classmethod
    def call(cls, cx: LayerContext, ids: Value, vocabulary: int, dim: int, weight_init: Initializer | None) -> Value:
        positions = as_positions(cx, "embedding", "ids", ids)
        weights = (weight_init or NORMAL).with_fans(vocabulary, dim)
        return cx.emit(cls(), positions, cx.parameter("weight", (vocabulary, dim), weights, dtype=DType.float32))

    def infer(self, ids: TensorType, weight: TensorType) -> TensorType:
        if weight.rank != 2 or ids.dtype not in (DType.int32, DType.int64):
            raise ShapeError(f"embedding: {ids} does not select from {weight}")
        return weight.with_shape((*ids.shape, weight.shape[1]))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """Nothing is computed."""
        return Cost()

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, ids: NDArrayAny, weight: NDArrayAny) -> NDArrayAny:
        positions: Any = ids
        return np.asarray(np.take(weight, positions, axis=0))

    def lower(self, cx: Emitter, node: Node, ids: str, weight: str) -> str:
        return cx.emit("Gather", weight, ids, axis=0)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        """An id that stands in several places gets the sum of their gradients."""
        ids, weight = node.inputs
        return None, cx.emit(AddRows(0, weight.shape[0]), ids, dy)
