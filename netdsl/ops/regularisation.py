"""Regularisation: what training draws at random and inference leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from netdsl.ir.arguments import RATE, TENSOR, Param
from netdsl.ir.dims import Dim
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import (
    Emitter,
    GradientContext,
    LayerContext,
    Primitive,
    TrainingContext,
    require_float,
    require_rank,
)
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g


def dropped(cx: TrainingContext, x: Value, rate: float, drawn: Sequence[Dim] | None = None) -> Value:
    """`x` with a share `rate` of it set to 0 at random and the rest divided by `1 - rate`. `drawn` is the shape of the
    random numbers: each decides over the elements that it broadcasts to (None: over one)."""
    if rate == 0:
        return x
    random = cx.random(TensorType(DType.float32, x.shape if drawn is None else tuple(drawn)))
    return g.mul(cx, x, g.mul(cx, g.mask(cx, ">=", random, rate, x.dtype), 1 / (1 - rate)))


@dataclass(frozen=True)
class Regularisation(Primitive):
    """Passes `x` through at inference."""

    rate: float

    family: ClassVar[str] = "regularisation"
    repeatable: ClassVar[bool] = False

    @classmethod
    def call(cls, cx: LayerContext, x: Value, **arguments: Any) -> Value:
        made = cls(**arguments)
        made.infer(x.type)
        return x if cx.frozen else cx.emit(made, x)  # a frozen layer is in inference mode while the rest trains

    def infer(self, x: TensorType) -> TensorType:
        require_float(self.name, x)
        return x

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        return x

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        return cx.emit("Identity", x)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (dy,)

    def training(self, cx: TrainingContext, node: Node) -> tuple[Value, ...] | None:
        (x,) = node.inputs
        return (dropped(cx, x, self.rate, self.drawn(x.type)),)

    def drawn(self, x: TensorType) -> tuple[Dim, ...]:
        """The shape of the random numbers: one for what is kept or dropped together."""
        return x.shape


@dataclass(frozen=True)
class Dropout(Regularisation):
    """In training sets each element to 0 with probability `rate` and divides the others by `1 - rate`; else the
    identity."""

    rate: float = 0.5

    name: ClassVar[str] = "dropout"
    reference: ClassVar[str] = "Srivastava et al. 2014; ONNX Dropout"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("rate", RATE, 0.5, doc="share of the elements that is dropped"),
    )


@dataclass(frozen=True)
class DropPath(Regularisation):
    """In training sets whole items (along axis 0) to 0 with probability `rate` and divides the others by `1 -
    rate`; else the identity. Put on a residual branch it is stochastic depth."""

    name: ClassVar[str] = "drop_path"
    reference: ClassVar[str] = "Huang et al. 2016 (arXiv:1603.09382)"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("rate", RATE, doc="share of the items that is dropped"),
    )

    def infer(self, x: TensorType) -> TensorType:
        require_rank(self.name, x, 1)
        return super().infer(x)

    def drawn(self, x: TensorType) -> tuple[Dim, ...]:
        return (x.shape[0], *[1] * (x.rank - 1))
