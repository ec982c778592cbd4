"""What the gradients of activations share that are one operator: elementwise, in several passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Node
from netdsl.ir.opdef import Emitter, ShapeError
from netdsl.ir.types import TensorType
from netdsl.ops.elementwise import Binary
from netdsl.ops.scan import emit_blocks


@dataclass(frozen=True)
class SlopeGradient(Binary):
    """The result's gradient times a slope that follows from a tensor of the same shape; block by block where its passes
    would not find in the cache what the one before has written."""

    family: ClassVar[str] = "internal"

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        if a.shape != b.shape:
            raise ShapeError(f"{self.name}: the gradient {b} does not fit {a}")
        return super().infer(a, b)

    def lower(self, cx: Emitter, node: Node, a: str, b: str) -> str:
        whole = super().lower
        return emit_blocks(cx, node.output.type, lambda *parts: whole(cx, node, *parts), a, b)
