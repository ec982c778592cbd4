"""Losses of classes: cross-entropy in its forms. Each is the mean over all items; see `loss` for the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import TENSOR, ArgumentError, Float, Int, Kind, Param
from netdsl.ir.dims import decide, to_text
from netdsl.ir.graph import Value
from netdsl.ir.opdef import LayerContext, Operator, ShapeError
from netdsl.ir.types import DType, TensorType, shape_text
from netdsl.ops import gradient_tools as g
from netdsl.ops.activation import Clip
from netdsl.ops.gather import Gather, as_positions
from netdsl.ops.loss_checks import FAMILY, check_ids, check_pair, class_axis, in_single
from netdsl.ops.nll import SoftmaxNll
from netdsl.ops.smooth import LogSoftmax, Sigmoid, Softplus


@dataclass(frozen=True)
class ClassWeights(Kind):
    """none, a tensor with a number for each class, or a list of such numbers."""

    def convert(self, value: Any) -> Value | tuple[float, ...] | None:
        if value is None or isinstance(value, Value):
            return value
        if isinstance(value, list | tuple) and value and all(_is_number(v) for v in value):
            return tuple(float(v) for v in value)
        raise ArgumentError("a number for each class, as a list or a tensor, or none")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e308


class CrossEntropy(Operator):
    """Cross-entropy of logits `[N, C, …]` and class ids `[N, …]` (integers from 0 to C - 1): the mean of
    `-log(softmax(logits)[id])` over all items. The classes stand on axis 1.

    `label_smoothing` s mixes the target with the uniform distribution: `1 - s` for the class, `s / C` for each.
    `weight` `[C]` weighs each item by its class; the mean is then divided by the sum of the weights. Items whose id is
    `ignore` count nothing (NaN where all are).
    """

    name: ClassVar[str] = "cross_entropy"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Szegedy et al. 2016 (arXiv:1512.00567) for smoothing; PyTorch CrossEntropyLoss"
    signature = (
        Param("logits", TENSOR),
        Param("ids", TENSOR),
        Param("label_smoothing", Float("number from 0 to 1", low=0, high=1), 0.0),
        Param("weight", ClassWeights("numbers or none"), None, doc="a weight for each class"),
        Param("ignore", Int("integer or none", optional=True), None, doc="an id that counts nothing"),
    )

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        logits: Value,
        ids: Value,
        label_smoothing: float,
        weight: Value | tuple[float, ...] | None,
        ignore: int | None,
    ) -> Value:
        axis = check_ids(cls.name, logits.type, ids.type)
        weights = None if weight is None else _weights(cx, logits.type, axis, weight)
        logits, ids = in_single(cx, logits), as_positions(cx, cls.name, "ids", ids)
        counted = None
        if ignore is not None:
            counts = g.compare(cx, "!=", ids, ignore)
            counted, ids = g.cast(cx, counts, logits.dtype), g.where(cx, counts, ids, 0)
        of_item = None if weights is None else cx.emit(Gather(0), weights, ids)
        if counted is not None:
            of_item = counted if of_item is None else g.mul(cx, of_item, counted)
        losses, logs = cx.emit_all(SoftmaxNll(axis), logits, ids)
        if of_item is not None:
            losses = g.mul(cx, losses, of_item)
        if label_smoothing:
            smooth = _smooth(cx, logs, axis, weights)
            smooth = smooth if counted is None else g.mul(cx, smooth, counted)
            losses = g.add(cx, g.mul(cx, losses, 1 - label_smoothing), g.mul(cx, smooth, label_smoothing))
        if of_item is None:
            return g.mean(cx, losses)
        return g.div(cx, g.sum_all(cx, losses), g.sum_all(cx, of_item))


def _weights(cx: LayerContext, logits: TensorType, axis: int, weight: Value | tuple[float, ...]) -> Value:
    """The class weights as a vector of the type that the loss is computed in. Raises ShapeError."""
    dtype = DType.float64 if logits.dtype is DType.float64 else DType.float32
    classes = logits.shape[axis]
    if not isinstance(weight, Value):
        weight = cx.constant(np.asarray(weight), dtype)
    if not weight.dtype.is_float or weight.rank != 1 or decide("==", weight.shape[0], classes) is not True:
        raise ShapeError(
            f"cross_entropy: the weight {weight.type} does not fit the {to_text(classes)} classes of {logits}",
            argument="weight",
            help="give a number for each class",
        )
    return g.cast(cx, weight, dtype)


def _smooth(cx: LayerContext, logs: Value, axis: int, weights: Value | None) -> Value:
    """`-mean(weight * log p)` over the classes."""
    if weights is not None:
        logs = g.mul(cx, logs, g.unsqueeze(cx, weights, range(1, logs.rank - axis)))
    return g.neg(cx, g.mean(cx, logs, [axis]))


class CategoricalCrossEntropy(Operator):
    """Cross-entropy of logits `[N, C, …]` and a distribution over the classes of the same shape (one-hot, or soft): the
    mean of `-sum(target * log_softmax(logits))` over all items. The classes stand on axis 1."""

    name: ClassVar[str] = "categorical_cross_entropy"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "PyTorch CrossEntropyLoss with probabilities"
    signature = (Param("logits", TENSOR), Param("one_hot", TENSOR))

    @classmethod
    def call(cls, cx: LayerContext, logits: Value, one_hot: Value) -> Value:
        axis = class_axis(cls.name, logits.type)
        if one_hot.rank == logits.rank - 1 and one_hot.dtype.is_integer:
            raise ShapeError(
                f"categorical_cross_entropy needs a target of the logits' shape {shape_text(logits.shape)}, "
                f"found the ids {one_hot.type}",
                argument="one_hot",
                help="cross_entropy(logits, ids) takes ids",
            )
        check_pair(cls.name, logits.type, one_hot.type)
        logs = cx.emit(LogSoftmax(axis), in_single(cx, logits))
        return g.neg(cx, g.mean(cx, g.total(cx, g.mul(cx, logs, in_single(cx, one_hot)), [axis])))


def _logistic(cx: LayerContext, x: Value, t: Value) -> Value:
    """`-t * log(sigmoid(x)) - (1 - t) * log(1 - sigmoid(x))`, for any x without overflow."""
    return g.sub(cx, cx.emit(Softplus(), x), g.mul(cx, x, t))


class BinaryCrossEntropy(Operator):
    """Cross-entropy of logits and targets from 0 to 1, of the same shape: the mean of
    `-t * log(sigmoid(x)) - (1 - t) * log(1 - sigmoid(x))`. It takes logits: put no sigmoid before it."""

    name: ClassVar[str] = "binary_cross_entropy"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "PyTorch BCEWithLogitsLoss"
    signature = (Param("logits", TENSOR), Param("target", TENSOR))

    @classmethod
    def call(cls, cx: LayerContext, logits: Value, target: Value) -> Value:
        check_pair(cls.name, logits.type, target.type)
        return g.mean(cx, _logistic(cx, in_single(cx, logits), in_single(cx, target)))


class Focal(Operator):
    """Binary cross-entropy of logits that lets easy items count less: `a * (1 - p)**gamma * -log(p)` with p the
    probability of the target and `a` = alpha for targets of 1, 1 - alpha for 0 (none: 1). The mean over all."""

    name: ClassVar[str] = "focal"
    family: ClassVar[str] = FAMILY
    reference: ClassVar[str] = "Lin et al. 2017 (arXiv:1708.02002); torchvision sigmoid_focal_loss"
    signature = (
        Param("logits", TENSOR),
        Param("target", TENSOR),
        Param("alpha", Float("number from 0 to 1, or none", low=0, high=1, optional=True), 0.25),
        Param("gamma", Float("number of 0 or more", low=0), 2.0),
    )

    @classmethod
    def call(cls, cx: LayerContext, logits: Value, target: Value, alpha: float | None, gamma: float) -> Value:
        check_pair(cls.name, logits.type, target.type)
        x, t = in_single(cx, logits), in_single(cx, target)
        loss = _logistic(cx, x, t)
        if gamma:
            p = cx.emit(Sigmoid(), x)
            wrong = g.sub(cx, g.add(cx, p, t), g.mul(cx, g.mul(cx, p, t), 2))  # 1 - the probability of the target
            if gamma < 1:
                wrong = cx.emit(Clip(1e-7), wrong)  # the power's slope is infinite at 0
            factor = wrong if gamma == 1 else g.mul(cx, wrong, wrong) if gamma == 2 else g.power(cx, wrong, gamma)
            loss = g.mul(cx, loss, factor)
        if alpha is not None:
            loss = g.mul(cx, loss, g.add(cx, g.mul(cx, t, 2 * alpha - 1), 1 - alpha))
        return g.mean(cx, loss)
