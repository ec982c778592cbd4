"""Losses: scalars that training makes small.

Each is the mean over all elements, as PyTorch's `reduction="mean"`, unless it says otherwise; 16-bit floats are
computed, and given back, in float32. Costs are those of the primitives that they consist of.
"""

from __future__ import annotations

from math import sqrt
from typing import Any, ClassVar

from netdsl.ir.arguments import TENSOR, ArgumentError, Float, Kind, Param
from netdsl.ir.dims import product
from netdsl.ir.graph import Value
from netdsl.ir.opdef import LayerContext, Operator, OpError, ShapeError
from netdsl.ops import gradient_tools as g
from netdsl.ops.activation import Clip
from netdsl.ops.loss_checks import FAMILY, check_pair, in_single
from netdsl.ops.reduction import Norm
from netdsl.ops.unary import Abs, Log, Sqrt


class Text(Kind):
    def convert(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        raise ArgumentError('a pattern of parameter names in quotes, such as "*.weight"')


PAIR = (Param("prediction", TENSOR), Param("target", TENSOR))
PATTERN = (Param("pattern", Text("string"), doc="fnmatch over full names; `*` crosses dots"),)


class PairLoss(Operator):
    """A loss of a prediction and a target of the same shape."""

    family: ClassVar[str] = FAMILY
    signature: ClassVar[tuple[Param, ...]] = PAIR

    @classmethod
    def call(cls, cx: LayerContext, prediction: Value, target: Value, **arguments: Any) -> Value:
        check_pair(cls.name, prediction.type, target.type)
        return cls.loss(cx, in_single(cx, prediction), in_single(cx, target), **arguments)

    @classmethod
    def loss(cls, cx: LayerContext, prediction: Value, target: Value, **arguments: Any) -> Value:
        """The scalar."""
        raise TypeError(f"{cls.name} has no formula")


class MeanSquaredError(PairLoss):
    """Mean of `(prediction - target)**2`."""

    name: ClassVar[str] = "mse"
    reference: ClassVar[str] = "PyTorch MSELoss"

    @classmethod
    def loss(cls, cx: LayerContext, prediction: Value, target: Value) -> Value:  # type: ignore[override]  # no options
        difference = g.sub(cx, prediction, target)
        return g.mean(cx, g.mul(cx, difference, difference))


class RootMeanSquaredError(PairLoss):
    """Square root of the mean of `(prediction - target)**2`; its gradient is 0 where both are equal."""

    name: ClassVar[str] = "rmse"
    reference: ClassVar[str] = "ONNX ReduceL2"

    @classmethod
    def loss(cls, cx: LayerContext, prediction: Value, target: Value) -> Value:  # type: ignore[override]  # no options
        length = cx.emit(Norm(tuple(range(prediction.rank))), g.sub(cx, prediction, target))
        number = product(prediction.shape)
        if isinstance(number, int):
            return g.mul(cx, length, 1 / sqrt(number))
        return g.div(cx, length, cx.emit(Sqrt(), cx.dimension(number, length.dtype)))


class MeanAbsoluteError(PairLoss):
    """Mean of `|prediction - target|`."""

    name: ClassVar[str] = "mae"
    reference: ClassVar[str] = "PyTorch L1Loss"

    @classmethod
    def loss(cls, cx: LayerContext, prediction: Value, target: Value) -> Value:  # type: ignore[override]  # no options
        return g.mean(cx, cx.emit(Abs(), g.sub(cx, prediction, target)))


class Huber(PairLoss):
    """Mean of `d**2 / 2` where `d = |prediction - target|` is at most delta, else of `delta * (d - delta / 2)`."""

    name: ClassVar[str] = "huber"
    reference: ClassVar[str] = "Huber 1964; PyTorch HuberLoss"
    signature: ClassVar[tuple[Param, ...]] = (*PAIR, Param("delta", Float("number above 0", above=0), 1.0))

    @classmethod
    def loss(cls, cx: LayerContext, prediction: Value, target: Value, delta: float) -> Value:  # type: ignore[override]
        difference = g.sub(cx, prediction, target)
        near = cx.emit(Clip(-delta, delta), difference)
        return g.mean(cx, g.mul(cx, near, g.sub(cx, difference, g.mul(cx, near, 0.5))))


class KlDivergence(PairLoss):
    """Kullback-Leibler divergence of log-probabilities from target probabilities of the same shape:
    `sum(target * (log(target) - prediction))` divided by the number of items on axis 0 (PyTorch's "batchmean"). The
    prediction is a `log_softmax`; a target of 0 counts 0."""

    name: ClassVar[str] = "kl_divergence"
    reference: ClassVar[str] = "Kullback & Leibler 1951; PyTorch KLDivLoss"

    @classmethod
    def loss(cls, cx: LayerContext, prediction: Value, target: Value) -> Value:  # type: ignore[override]  # no options
        if prediction.rank == 0:
            raise ShapeError(f"{cls.name} needs log-probabilities [N, …], found {prediction.type}")
        logs = cx.emit(Log(), g.add(cx, target, g.mask(cx, "==", target, 0)))
        return g.divided(cx, g.sum_all(cx, g.mul(cx, target, g.sub(cx, logs, prediction))), prediction.shape[0])


class Penalty(Operator):
    """A term of the loss that keeps parameters small."""

    family: ClassVar[str] = FAMILY
    signature: ClassVar[tuple[Param, ...]] = PATTERN

    @classmethod
    def call(cls, cx: LayerContext, pattern: str) -> Value:
        try:
            parameters = cx.parameters_matching(pattern)
        except OpError as error:
            raise OpError(f"{cls.name}: {error.message}", argument="pattern", help=error.help) from None
        terms = [g.sum_all(cx, cls.term(cx, in_single(cx, p))) for p in parameters]
        result = terms[0]
        for term in terms[1:]:
            result = g.add(cx, result, g.cast(cx, term, result.dtype))
        return result

    @classmethod
    def term(cls, cx: LayerContext, x: Value) -> Value:
        """What is summed over the elements."""
        raise TypeError(f"{cls.name} has no formula")


class L1(Penalty):
    """Sum of the absolute values of all trainable parameters whose full names match the pattern."""

    name: ClassVar[str] = "l1"
    reference: ClassVar[str] = "Tibshirani 1996"

    @classmethod
    def term(cls, cx: LayerContext, x: Value) -> Value:
        return cx.emit(Abs(), x)


class L2(Penalty):
    """Sum of the squares of all trainable parameters whose full names match the pattern."""

    name: ClassVar[str] = "l2"
    reference: ClassVar[str] = "Hoerl & Kennard 1970"

    @classmethod
    def term(cls, cx: LayerContext, x: Value) -> Value:
        return g.mul(cx, x, x)
