"""Metrics: what a recipe reports. Each gives statistics of a batch, whose roles and sums over a data set the table
`ir.recipe.METRICS` defines; so the results are exact, not means of batches.

Predictions are logits: `[N, C, …]` with classes on axis 1 and ids `[N, …]`; or one number for a yes-or-no question,
`[N]` or `[N, 1, …]`, where above 0 is yes and the target may be ids or floats (yes above 1/2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from netdsl.ir.arguments import POSITIVE, TENSOR, Int, Param, choice
from netdsl.ir.dims import Dim, decide, product, to_text
from netdsl.ir.graph import Value
from netdsl.ir.opdef import LayerContext, Operator, ShapeError, require_float
from netdsl.ir.recipe import Average
from netdsl.ir.types import DType
from netdsl.ops import gradient_tools as g
from netdsl.ops.along import AddAlong
from netdsl.ops.gather import Gather, as_positions
from netdsl.ops.loss_checks import check_ids, check_pair, in_single
from netdsl.ops.selection import ArgMax, TopK
from netdsl.ops.smooth import Softmax
from netdsl.ops.unary import Abs

IGNORE = Param("ignore", Int("integer or none", optional=True), None, doc="an id that counts nothing")
CLASSES = (Param("logits", TENSOR), Param("ids", TENSOR))
AVERAGE = Param(
    "average",
    choice("auto", "binary", "macro", "micro", "weighted"),
    "auto",
    doc="of the classes; auto: binary for two, else macro",
)


@dataclass(frozen=True)
class MetricValue:
    """A metric of a graph: its name in `ir.recipe.METRICS`, and the value of each role there."""

    kind: str
    statistics: Mapping[str, Value]
    average: Average = "auto"


class Metric(Operator):
    """A metric; `call` gives a MetricValue. Its signature is an operator's."""

    family: ClassVar[str] = "metric"

    @classmethod
    def call(cls, cx: LayerContext, *args: Any, **kwargs: Any) -> MetricValue:  # type: ignore[override]  # no tensor
        raise TypeError(f"{cls.name} has no statistics")


@dataclass(frozen=True)
class _Items:
    """Logits and their true classes, as int64 without the class axis. `axis` is None for yes-or-no questions; `counted`
    is 1 or 0 for each item (None: all count)."""

    logits: Value
    ids: Value
    axis: int | None
    counted: Value | None

    @property
    def classes(self) -> Dim:
        return 2 if self.axis is None else self.logits.shape[self.axis]

    def predicted(self, cx: LayerContext) -> Value:
        if self.axis is None:
            return g.mask(cx, ">", self.logits, 0, DType.int64)
        return cx.emit(ArgMax(self.axis), self.logits)

    def share(self, cx: LayerContext, kind: str, hits: Value) -> MetricValue:
        """The share of the hits (1 or 0 for each item)."""
        if self.counted is None:
            count = cx.dimension(self.ids.type.size, DType.int64)
            return MetricValue(kind, {"correct": g.sum_all(cx, hits), "count": count})
        correct = g.sum_all(cx, g.mul(cx, hits, self.counted))
        return MetricValue(kind, {"correct": correct, "count": g.sum_all(cx, self.counted)})


def _items(cx: LayerContext, op: str, logits: Value, ids: Value, ignore: int | None = None) -> _Items:
    """Raises ShapeError where the two do not fit."""
    require_float(op, logits.type)
    if logits.rank == 1 or (logits.rank > 1 and logits.shape[1] == 1):
        logits, ids, axis = *_answers(cx, op, logits, ids), None
    else:
        if ids.shape == logits.shape:
            raise ShapeError(
                f"{op} needs ids of classes, found {ids.type}, of the logits' own shape",
                argument="ids",
                help="argmax(target, axis=1) makes ids of a one-hot target; for questions of yes or no, flatten both: "
                "reshape(x, [-1])",
            )
        axis = check_ids(op, logits.type, ids.type)
        ids = g.cast(cx, as_positions(cx, op, "ids", ids), DType.int64)
    counted = None
    if ignore is not None:
        counts = g.compare(cx, "!=", ids, ignore)
        counted, ids = g.cast(cx, counts, DType.int64), g.where(cx, counts, ids, 0)
    return _Items(logits, ids, axis, counted)


def _answers(cx: LayerContext, op: str, logits: Value, target: Value) -> tuple[Value, Value]:
    """Logits and targets of yes-or-no questions, both flat."""
    if decide("==", logits.type.size, target.type.size) is not True or target.shape[:1] != logits.shape[:1]:
        raise ShapeError(
            f"{op}: the logits {logits.type} and the target {target.type} do not have one number for each item",
            argument="ids",
        )
    flat, size = g.reshape(cx, logits, [logits.type.size]), [target.type.size]
    if target.dtype.is_float:
        return flat, g.mask(cx, ">", g.reshape(cx, target, size), 0.5, DType.int64)
    return flat, g.cast(cx, g.reshape(cx, target, size), DType.int64)


class Accuracy(Metric):
    """Share of the items whose largest logit is that of their class."""

    name: ClassVar[str] = "accuracy"
    reference: ClassVar[str] = "ONNX ArgMax, Equal"
    signature: ClassVar[tuple[Param, ...]] = (*CLASSES, IGNORE)

    @classmethod
    def call(cls, cx: LayerContext, logits: Value, ids: Value, ignore: int | None) -> MetricValue:  # type: ignore[override]
        items = _items(cx, cls.name, logits, ids, ignore)
        return items.share(cx, cls.name, g.mask(cx, "==", items.predicted(cx), items.ids))


class TopKAccuracy(Metric):
    """Share of the items whose class is among the `k` largest logits."""

    name: ClassVar[str] = "top_k_accuracy"
    reference: ClassVar[str] = "ONNX TopK"
    signature = (*CLASSES, Param("k", POSITIVE), IGNORE)

    @classmethod
    def call(  # type: ignore[override]  # see Metric
        cls, cx: LayerContext, logits: Value, ids: Value, k: int, ignore: int | None
    ) -> MetricValue:
        items = _items(cx, cls.name, logits, ids, ignore)
        if items.axis is None:
            raise ShapeError(f"{cls.name} needs logits [N, classes, …], found {logits.type}", argument="logits")
        chosen = cx.emit_all(TopK(k, items.axis), items.logits)[1]
        hits = g.mask(cx, "==", chosen, g.unsqueeze(cx, items.ids, [items.axis]))
        return items.share(cx, cls.name, g.total(cx, hits, [items.axis]))


class OfConfusion(Metric):
    """A metric made of the confusion matrix."""

    signature: ClassVar[tuple[Param, ...]] = (*CLASSES, AVERAGE, IGNORE)

    @classmethod
    def call(  # type: ignore[override]  # see Metric
        cls, cx: LayerContext, logits: Value, ids: Value, ignore: int | None, average: Average = "auto"
    ) -> MetricValue:
        items = _items(cx, cls.name, logits, ids, ignore)
        return MetricValue(cls.name, {"confusion": _confusion(cx, cls.name, items)}, average)


def _confusion(cx: LayerContext, op: str, items: _Items) -> Value:
    """int64 `[classes, classes]`: how often items of class i were taken for class j. Counted by adding at i * C + j."""
    classes = items.classes
    if not isinstance(classes, int):
        raise ShapeError(
            f"{op} needs a known number of classes, found {to_text(classes)}", help="give the class axis a number"
        )
    places = g.add(cx, g.mul(cx, items.ids, classes), items.predicted(cx))
    flat = g.reshape(cx, places, [places.type.size])
    one = cx.constant(1, DType.int64) if items.counted is None else g.reshape(cx, items.counted, flat.shape)
    zeros = g.expand_to(cx, cx.constant(0, DType.int64), [classes * classes])
    return g.reshape(cx, cx.emit(AddAlong(0), zeros, flat, g.expand_to(cx, one, flat.shape)), [classes, classes])


class ConfusionMatrix(OfConfusion):
    """How often items of class i (row) were taken for class j (column)."""

    name: ClassVar[str] = "confusion_matrix"
    reference: ClassVar[str] = "ONNX ScatterElements"
    signature: ClassVar[tuple[Param, ...]] = (*CLASSES, IGNORE)


class Precision(OfConfusion):
    """Share of right items among those predicted as a class. Of several classes the mean of those that occur
    (`average="macro"`), weighted by their true counts, or of all items together ("micro"); of two classes, or questions
    of yes or no, that of the second ("binary")."""

    name: ClassVar[str] = "precision"
    reference: ClassVar[str] = "scikit-learn precision_score"


class Recall(OfConfusion):
    """Share of right items among those truly of a class; averaged as `precision`."""

    name: ClassVar[str] = "recall"
    reference: ClassVar[str] = "scikit-learn recall_score"


class F1(OfConfusion):
    """Harmonic mean of precision and recall of each class; averaged as `precision`."""

    name: ClassVar[str] = "f1"
    reference: ClassVar[str] = "scikit-learn f1_score"


class IoU(OfConfusion):
    """Intersection over union of the predicted and the true items of each class; averaged as `precision`."""

    name: ClassVar[str] = "iou"
    reference: ClassVar[str] = "Jaccard 1912; scikit-learn jaccard_score"


class OfScores(Metric):
    """A metric that needs every item's score at the end."""

    signature = CLASSES

    @classmethod
    def call(cls, cx: LayerContext, logits: Value, ids: Value) -> MetricValue:  # type: ignore[override]  # see Metric
        items = _items(cx, cls.name, logits, ids)
        scores, labels = in_single(cx, items.logits), g.reshape(cx, items.ids, [items.ids.type.size])
        if items.axis is not None:
            scores = cls._of_classes(cx, items, scores)
        return MetricValue(cls.name, {"scores": scores, "labels": labels})

    @classmethod
    def _of_classes(cls, cx: LayerContext, items: _Items, scores: Value) -> Value:
        """`[items, classes]` of probabilities, `[items]` for two classes."""
        assert items.axis is not None
        others = [i for i in range(scores.rank) if i != items.axis]
        last = g.transpose(cx, cx.emit(Softmax(items.axis), scores), [*others, items.axis])
        rows = g.reshape(cx, last, [product(last.shape[:-1]), items.classes])
        if decide("==", items.classes, 2) is not True:
            return rows
        second = cx.constant(1, DType.int64)
        return cx.emit(Gather(1), rows, second)


class Auc(OfScores):
    """Area under the ROC curve, exact. Of more than two classes the mean over all of them, each against the rest."""

    name: ClassVar[str] = "auc"
    reference: ClassVar[str] = "Fawcett 2006; scikit-learn roc_auc_score"


class Roc(OfScores):
    """The ROC curve of a question of yes or no, or of two classes: rows (false positive rate, true positive rate,
    threshold)."""

    name: ClassVar[str] = "roc"
    reference: ClassVar[str] = "Fawcett 2006; scikit-learn roc_curve"

    @classmethod
    def _of_classes(cls, cx: LayerContext, items: _Items, scores: Value) -> Value:
        if decide("==", items.classes, 2) is not True:
            raise ShapeError(
                f"roc is a curve of two classes, found {to_text(items.classes)} in {items.logits.type}",
                argument="logits",
            )
        return super()._of_classes(cx, items, scores)


class OfPair(Metric):
    """A metric of a prediction and a target of the same shape."""

    signature = (Param("prediction", TENSOR), Param("target", TENSOR))

    @classmethod
    def call(cls, cx: LayerContext, prediction: Value, target: Value) -> MetricValue:  # type: ignore[override]
        check_pair(cls.name, prediction.type, target.type)
        difference = g.sub(cx, in_single(cx, prediction), in_single(cx, target))
        count = cx.dimension(difference.type.size, DType.int64)
        return MetricValue(cls.name, {"sum": g.sum_all(cx, cls.term(cx, difference)), "count": count})

    @classmethod
    def term(cls, cx: LayerContext, difference: Value) -> Value:
        return g.mul(cx, difference, difference)


class MeanSquaredError(OfPair):
    """Mean of `(prediction - target)**2`."""

    name: ClassVar[str] = "mse"
    reference: ClassVar[str] = "scikit-learn mean_squared_error"


class RootMeanSquaredError(OfPair):
    """Square root of the mean of `(prediction - target)**2`, over the whole data set."""

    name: ClassVar[str] = "rmse"
    reference: ClassVar[str] = "scikit-learn root_mean_squared_error"


class MeanAbsoluteError(OfPair):
    """Mean of `|prediction - target|`."""

    name: ClassVar[str] = "mae"
    reference: ClassVar[str] = "scikit-learn mean_absolute_error"

    @classmethod
    def term(cls, cx: LayerContext, difference: Value) -> Value:
        return cx.emit(Abs(), difference)


#: The metrics of recipes by name, apart from `OPERATORS`: mse, rmse and mae are losses there.
METRICS: MappingProxyType[str, type[Metric]] = MappingProxyType(
    {
        m.name: m
        for m in (
            Accuracy,
            TopKAccuracy,
            Auc,
            Roc,
            ConfusionMatrix,
            Precision,
            Recall,
            F1,
            IoU,
            MeanSquaredError,
            RootMeanSquaredError,
            MeanAbsoluteError,
        )
    }
)
