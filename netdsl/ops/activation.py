"""Activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import TENSOR, Param
from netdsl.ir.graph import Node
from netdsl.ir.opdef import Emitter, Primitive
from netdsl.ir.types import NDArrayAny


@dataclass(frozen=True)
class Relu(Primitive):
    """Rectified linear unit, `max(x, 0)`."""

    name: ClassVar[str] = "relu"
    family: ClassVar[str] = "activation"
    reference: ClassVar[str] = "Nair & Hinton 2010; ONNX Relu"
    signature: ClassVar[tuple[Param, ...]] = (Param("x", TENSOR),)
    flops_per_element: ClassVar[int] = 1

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        return np.maximum(x, 0)

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        return cx.emit("Relu", x)
