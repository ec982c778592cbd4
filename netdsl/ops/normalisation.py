"""Normalisation of one item by its own statistics over chosen axes: layer norm and RMS norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import AXES, EPSILON, INITIALIZERS, TENSOR, Param
from netdsl.ir.graph import Node, Value
from netdsl.ir.initializer import ONES, ZEROS, Initializer
from netdsl.ir.opdef import (
    Cost,
    Emitter,
    GradientContext,
    LayerContext,
    Primitive,
    ShapeError,
    TrainingContext,
    normal_axis,
    require_float,
    same_dtype,
)
from netdsl.ir.reach import POINTWISE, WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.precision import like, runs_in_float32, wide


def emit_mean(cx: Emitter, x: str, axes: Sequence[int]) -> str:
    """ONNX ReduceMean, the axes kept with size 1."""
    if cx.opset < 18:
        return cx.emit("ReduceMean", x, axes=list(axes), keepdims=1)
    return cx.emit("ReduceMean", x, cx.ints(axes), keepdims=1)


@dataclass(frozen=True)
class AxesNorm(Primitive):
    """What norms over chosen axes share; `weight` and `bias` have the sizes of those axes."""

    axes: tuple[int, ...]
    epsilon: float = 1e-5

    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("axes", AXES, (-1,), doc="the axes that are normalised"),
        Param("epsilon", EPSILON, 1e-5),
    )
    operations: ClassVar[int]  #: arithmetic operations per element

    @classmethod
    def layer(
        cls, cx: LayerContext, x: Value, axes: tuple[int, ...] | None, epsilon: float, **initial: Initializer
    ) -> Value:
        """A layer with a parameter for each name of `initial`."""
        require_float(cls.name, x.type)
        given = range(1, x.rank) if axes is None else axes
        order = tuple(sorted({normal_axis(cls.name, a, x.rank, "axes") for a in given}))
        if not order:
            raise ShapeError(f"{cls.name} needs at least one axis, found {x.type}", argument="axes")
        shape = tuple(x.shape[a] for a in order)
        for axis, dim in zip(order, shape, strict=True):
            if not isinstance(dim, int):
                raise ShapeError(
                    f"{cls.name}: axis {axis} of {x.type} is symbolic, and 'weight' needs integers",
                    argument="axes",
                    help="normalise the channels alone (axes=1), or give the symbol a value with --set",
                )
        made = [cx.parameter(name, shape, init, dtype=x.dtype) for name, init in initial.items()]
        return cx.emit(cls(order, epsilon), x, *made)

    def infer(self, x: TensorType, *parameters: TensorType) -> TensorType:
        same_dtype(self.name, x, *parameters)
        sizes = tuple(x.shape[a] for a in self.axes)
        for parameter in parameters:
            if parameter.shape != sizes:
                raise ShapeError(f"{self.name}: {parameter} does not fit axes {list(self.axes)} of {x}")
        return x

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(other=self.operations * outputs[0].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return POINTWISE if all(a < 2 for a in self.axes) and inputs[0].rank > 2 else WHOLE

    def spread(self, parameter: NDArrayAny, rank: int) -> Any:
        """A parameter in the shape in which it broadcasts over the input."""
        sizes = iter(parameter.shape)
        return wide(parameter).reshape([next(sizes) if a in self.axes else 1 for a in range(rank)])

    def placed(self, cx: GradientContext, parameter: Value, rank: int) -> Value:
        """A parameter in the shape in which it broadcasts over the input, as a graph value."""
        sizes = iter(parameter.shape)
        return g.reshape(cx, parameter, [next(sizes) if a in self.axes else 1 for a in range(rank)])

    def lower(self, cx: Emitter, node: Node, x: str, *parameters: str) -> str:
        rank = node.inputs[0].rank
        first = rank - len(self.axes)
        if self.axes == tuple(range(first, rank)):
            return self.emit_last(cx, node, x, first, *parameters)
        perm = [*(a for a in range(rank) if a not in self.axes), *self.axes]
        y = self.emit_last(cx, node, cx.emit("Transpose", x, perm=perm), first, *parameters)
        return cx.emit("Transpose", y, perm=[perm.index(a) for a in range(rank)])

    def emit_last(self, cx: Emitter, node: Node, x: str, first: int, *parameters: str) -> str:
        """The ONNX form for the axes from `first` on."""
        raise TypeError(f"{self.name} has no ONNX form")


@dataclass(frozen=True)
class LayerNorm(AxesNorm):
    """`weight * (x - mean) / sqrt(var + epsilon) + bias`, mean and variance taken over `axes`.

    `weight` and `bias` have the sizes of `axes`: `[C]` for `axes=1`, `[C, H, W]` for `axes=[1, 2, 3]`.
    """

    name: ClassVar[str] = "layer_norm"
    family: ClassVar[str] = "normalisation"
    reference: ClassVar[str] = "Ba et al. 2016 (arXiv:1607.06450); ONNX LayerNormalization"
    signature: ClassVar[tuple[Param, ...]] = (*AxesNorm.signature, *INITIALIZERS)
    operations: ClassVar[int] = 7  # the mean; centre, square, mean of squares; scale, weight, bias

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        axes: tuple[int, ...] | None,
        epsilon: float,
        weight_init: Initializer | None,
        bias_init: Initializer | None,
    ) -> Value:
        return cls.layer(cx, x, axes, epsilon, weight=weight_init or ONES, bias=bias_init or ZEROS)

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, bias: NDArrayAny) -> NDArrayAny:
        centred = wide(x) - wide(x).mean(axis=self.axes, keepdims=True)
        variance = np.square(centred).mean(axis=self.axes, keepdims=True)
        normal = centred / np.sqrt(variance + centred.dtype.type(self.epsilon))
        return like(normal * self.spread(weight, x.ndim) + self.spread(bias, x.ndim), x)

    def emit_last(self, cx: Emitter, node: Node, x: str, first: int, *parameters: str) -> str:
        return cx.emit("LayerNormalization", x, *parameters, axis=first, epsilon=self.epsilon)

    def training(self, cx: TrainingContext, node: Node) -> tuple[Value, ...] | None:
        """Keeps the statistics for the gradient."""
        x = node.inputs[0]
        last = self.axes == tuple(range(x.rank - len(self.axes), x.rank))
        if x.dtype is not DType.float32 or not last:
            return None
        return cx.emit_all(LayerNormTraining(self.axes, self.epsilon), *node.inputs)[:1]

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return self.affine_gradient(cx, node, dy, *normalised(cx, node.inputs[0], self.axes, self.epsilon))

    def affine_gradient(
        self, cx: GradientContext, node: Node, dy: Value, normal: Value, root: Value
    ) -> Sequence[Value | None]:
        """The gradients from what `normalised` makes of the input."""
        x, weight, bias = node.inputs
        others = [a for a in range(x.rank) if a not in self.axes]
        scaled = g.mul(cx, dy, self.placed(cx, weight, x.rank))
        dx = normal_gradient(cx, scaled, normal, root, self.axes) if cx.wants(x) else None
        dweight = g.total(cx, g.mul(cx, dy, normal), others) if cx.wants(weight) else None
        return dx, dweight, g.total(cx, dy, others) if cx.wants(bias) else None


@dataclass(frozen=True)
class LayerNormTraining(LayerNorm):
    """`layer_norm` over the last axes, its mean, and `1 / sqrt(var + epsilon)`, the axes of these kept with size 1."""

    name: ClassVar[str] = "layer_norm_training"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX LayerNormalization"

    def infer(self, x: TensorType, *parameters: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]  # more outputs
        kept = x.with_shape([1 if a in self.axes else d for a, d in enumerate(x.shape)])
        return super().infer(x, *parameters), kept, kept

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, bias: NDArrayAny) -> tuple[NDArrayAny, ...]:  # type: ignore[override]  # more outputs
        mean = wide(x).mean(axis=self.axes, keepdims=True)
        variance = wide(x).var(axis=self.axes, keepdims=True)
        root = 1 / np.sqrt(variance + variance.dtype.type(self.epsilon))
        return super().evaluate(x, weight, bias), like(mean, x), like(root, x)

    def lower(self, cx: Emitter, node: Node, x: str, *parameters: str) -> tuple[str, ...]:  # type: ignore[override]  # more outputs
        return cx.emit_all("LayerNormalization", 3, x, *parameters, axis=self.axes[0], epsilon=self.epsilon)

    def training(self, cx: TrainingContext, node: Node) -> tuple[Value, ...] | None:
        return None

    def gradient(self, cx: GradientContext, node: Node, dy: Value, *unused: None) -> Sequence[Value | None]:
        """Of the first output; nothing else reads the others."""
        _, mean, root = node.outputs
        normal = g.mul(cx, g.sub(cx, node.inputs[0], mean), root)
        return self.affine_gradient(cx, node, dy, normal, root)


def normalised(cx: GradientContext, x: Value, axes: Sequence[int], epsilon: float) -> tuple[Value, Value]:
    """`x` with mean 0 and variance 1 over `axes`, and `1 / sqrt(var + epsilon)`."""
    centred = g.sub(cx, x, g.mean(cx, x, axes, keep=True))
    var = g.mean(cx, g.mul(cx, centred, centred), axes, keep=True)
    root = g.power(cx, g.add(cx, var, epsilon), -0.5)
    return g.mul(cx, centred, root), root


def normal_gradient(cx: GradientContext, dy: Value, normal: Value, root: Value, axes: Sequence[int]) -> Value:
    """The gradient for what `normalised` was given, from that for its first result."""
    along = g.mul(cx, normal, g.mean(cx, g.mul(cx, dy, normal), axes, keep=True))
    return g.mul(cx, root, g.sub(cx, g.sub(cx, dy, g.mean(cx, dy, axes, keep=True)), along))


@dataclass(frozen=True)
class RmsNorm(AxesNorm):
    """`weight * x / sqrt(mean(x**2) + epsilon)`, the mean taken over `axes`; `weight` has their sizes."""

    name: ClassVar[str] = "rms_norm"
    family: ClassVar[str] = "normalisation"
    reference: ClassVar[str] = "Zhang & Sennrich 2019 (arXiv:1910.07467); ONNX RMSNormalization"
    signature: ClassVar[tuple[Param, ...]] = (*AxesNorm.signature, INITIALIZERS[0])
    operations: ClassVar[int] = 4  # square, mean, scale, weight

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        axes: tuple[int, ...] | None,
        epsilon: float,
        weight_init: Initializer | None,
    ) -> Value:
        return cls.layer(cx, x, axes, epsilon, weight=weight_init or ONES)

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny) -> NDArrayAny:
        numbers = wide(x)
        mean = np.square(numbers).mean(axis=self.axes, keepdims=True)
        return like(numbers / np.sqrt(mean + numbers.dtype.type(self.epsilon)) * self.spread(weight, x.ndim), x)

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, *parameters: str) -> str:
        return super().lower(cx, node, x, *parameters)

    def emit_last(self, cx: Emitter, node: Node, x: str, first: int, *parameters: str) -> str:
        if cx.opset >= 23:
            return cx.emit("RMSNormalization", x, *parameters, axis=first, epsilon=self.epsilon)
        dtype = node.inputs[0].dtype
        inner = DType.float32 if dtype is DType.float16 else dtype  # squares leave the range of 16 bits early
        numbers = x if inner is dtype else cx.emit("Cast", x, to=cx.onnx_type(inner))
        mean = emit_mean(cx, cx.emit("Mul", numbers, numbers), range(first, node.inputs[0].rank))
        root = cx.emit("Sqrt", cx.emit("Add", mean, cx.scalar(self.epsilon, inner)))
        normal = cx.emit("Div", numbers, root)
        return cx.emit(
            "Mul", normal if inner is dtype else cx.emit("Cast", normal, to=cx.onnx_type(dtype)), *parameters
        )

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        x, weight = node.inputs
        others = [a for a in range(x.rank) if a not in self.axes]
        mean = g.mean(cx, g.mul(cx, x, x), self.axes, keep=True)
        root = g.power(cx, g.add(cx, mean, self.epsilon), -0.5)
        normal = g.mul(cx, x, root)
        dx = None
        if cx.wants(x):
            scaled = g.mul(cx, dy, self.placed(cx, weight, x.rank))
            along = g.mul(cx, normal, g.mean(cx, g.mul(cx, scaled, normal), self.axes, keep=True))
            dx = g.mul(cx, root, g.sub(cx, scaled, along))
        return dx, g.total(cx, g.mul(cx, dy, normal), others) if cx.wants(weight) else None
