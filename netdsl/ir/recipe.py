"""A training recipe as data: what the elaborator makes of a `train` body, and what the step builder and the trainer
read.

The tables give every optimizer, schedule and metric its arguments (names, kinds, defaults: PyTorch's), so that the
binding of arguments, the documentation and the errors share one source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from netdsl.ir.arguments import (
    ANY,
    BOOL,
    EPSILON,
    NATURAL,
    POSITIVE,
    RATE,
    ArgumentError,
    Float,
    Kind,
    Param,
    choice,
    is_int,
)
from netdsl.ir.types import TensorType
from netdsl.source import Place

Precision = Literal["float32", "float16", "bfloat16"]
Mode = Literal["min", "max"]
Average = Literal["auto", "binary", "macro", "micro", "weighted"]
Reduce = Literal["sum", "concat", "mean"]

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "bfloat16")
NOT_NEGATIVE = Float("number of 0 or more", low=0)


class _Betas(Kind):
    """Adam's two decays, as a list or tuple."""

    def convert(self, value: Any) -> tuple[float, ...]:
        if isinstance(value, list | tuple) and len(value) == 2:
            return tuple(RATE.convert(v) or 0.0 for v in value)
        raise ArgumentError("two numbers from 0 to below 1")


class _Milestones(Kind):
    """Epochs in rising order."""

    def convert(self, value: Any) -> tuple[int, ...]:
        rising = isinstance(value, list | tuple) and value and all(is_int(v) and v > 0 for v in value)
        if rising and all(a < b for a, b in pairwise(value)):
            return tuple(value)
        raise ArgumentError("a list of epochs in rising order, such as [30, 60]")


class _WarmUp(Kind):
    """A share of the run below 1, or a whole number of epochs."""

    def convert(self, value: Any) -> float | int:
        if is_int(value) and value >= 0:
            return int(value)
        if isinstance(value, float) and 0 <= value < 1:
            return value
        raise ArgumentError("a share of the run below 1, or an integer of epochs")


@dataclass(frozen=True)
class _Optional(Kind):
    """Another kind's values, or none."""

    kind: Kind = ANY

    def convert(self, value: Any) -> Any:
        return None if value is None else self.kind.convert(value)


_MODE = _Optional('"min", "max" or none', choice("min", "max"))
_MONITOR = Kind("the loss or a metric, by name")

_LR = "the learning rate"
_DECAY = "L2 penalty: the gradient grows by weight_decay * w"

#: Arguments in the order in which they may stand by position. `betas` becomes `beta1` and `beta2` in the spec.
OPTIMIZERS: Mapping[str, tuple[Param, ...]] = {
    "sgd": (
        Param("lr", NOT_NEGATIVE, 1e-3, doc=_LR),
        Param("momentum", NOT_NEGATIVE, 0.0, doc="share of the last direction that is kept"),
        Param("nesterov", BOOL, False, doc="looks ahead along the momentum; needs momentum"),
        Param("weight_decay", NOT_NEGATIVE, 0.0, doc=_DECAY),
    ),
    "adagrad": (
        Param("lr", NOT_NEGATIVE, 1e-2, doc=_LR),
        Param("lr_decay", NOT_NEGATIVE, 0.0, doc="the rate is divided by 1 + (step - 1) * lr_decay"),
        Param("weight_decay", NOT_NEGATIVE, 0.0, doc=_DECAY),
        Param("initial_accumulator_value", NOT_NEGATIVE, 0.0, doc="first value of the sum of squares"),
        Param("eps", NOT_NEGATIVE, 1e-10, doc="added to the denominator"),
    ),
    "adadelta": (
        Param("lr", NOT_NEGATIVE, 1.0, doc=_LR),
        Param("rho", Float("number from 0 to 1", low=0, high=1), 0.9, doc="share of the old averages that is kept"),
        Param("eps", NOT_NEGATIVE, 1e-6, doc="added under the roots"),
        Param("weight_decay", NOT_NEGATIVE, 0.0, doc=_DECAY),
    ),
    "rmsprop": (
        Param("lr", NOT_NEGATIVE, 1e-2, doc=_LR),
        Param("alpha", NOT_NEGATIVE, 0.99, doc="share of the old square that is kept"),
        Param("eps", NOT_NEGATIVE, 1e-8, doc="added to the denominator"),
        Param("weight_decay", NOT_NEGATIVE, 0.0, doc=_DECAY),
        Param("momentum", NOT_NEGATIVE, 0.0, doc="share of the last direction that is kept"),
        Param("centered", BOOL, False, doc="divides by the deviation instead of the root mean square"),
    ),
    "adam": (
        Param("lr", NOT_NEGATIVE, 1e-3, doc=_LR),
        Param("betas", _Betas("two numbers"), (0.9, 0.999), doc="shares of the old mean and square that are kept"),
        Param("eps", NOT_NEGATIVE, 1e-8, doc="added to the denominator"),
        Param("weight_decay", NOT_NEGATIVE, 0.0, doc=_DECAY),
    ),
    "adamw": (
        Param("lr", NOT_NEGATIVE, 1e-3, doc=_LR),
        Param("betas", _Betas("two numbers"), (0.9, 0.999), doc="shares of the old mean and square that are kept"),
        Param("eps", NOT_NEGATIVE, 1e-8, doc="added to the denominator"),
        Param("weight_decay", NOT_NEGATIVE, 1e-2, doc="the parameter shrinks by lr * weight_decay in each step"),
    ),
}

_WARMUP = Param("warmup", _WarmUp("share below 1, or epochs"), 0, doc="linear rise at the start")
_FACTOR = Float("number from 0 to 1", low=0, high=1)

#: Every schedule's arguments; `warmup` may only be given by name where others stand before it.
SCHEDULES: Mapping[str, tuple[Param, ...]] = {
    "constant": (_WARMUP,),
    "step": (
        Param("step_size", POSITIVE, doc="epochs between two falls"),
        Param("gamma", NOT_NEGATIVE, 0.1, doc="factor of each fall"),
        _WARMUP,
    ),
    "multi_step": (
        Param("milestones", _Milestones("list of epochs"), doc="epochs after which the rate falls"),
        Param("gamma", NOT_NEGATIVE, 0.1, doc="factor of each fall"),
        _WARMUP,
    ),
    "exponential": (Param("gamma", NOT_NEGATIVE, doc="factor of each epoch"), _WARMUP),
    "cosine": (Param("eta_min", NOT_NEGATIVE, 0.0, doc="the rate at the end of the run"), _WARMUP),
    "one_cycle": (
        Param(
            "max_lr", _Optional("number above 0 or none", EPSILON), None, doc="the highest rate; none: the optimizer's"
        ),
        Param("pct_start", _FACTOR, 0.3, doc="share of the run that rises"),
        Param("anneal_strategy", choice("cos", "linear"), "cos", doc="the shape of both halves"),
        Param("div_factor", EPSILON, 25.0, doc="the first rate is max_lr / div_factor"),
        Param("final_div_factor", EPSILON, 1e4, doc="the last rate is the first one / final_div_factor"),
        _WARMUP,
    ),
    "plateau": (
        Param("factor", Float("number from 0 to below 1", low=0, below=1), 0.1, doc="factor of each fall"),
        Param("patience", NATURAL, 10, doc="epochs without progress before a fall"),
        Param("threshold", NOT_NEGATIVE, 1e-4, doc="what counts as progress, relative to the best"),
        Param("cooldown", NATURAL, 0, doc="epochs after a fall that do not count"),
        Param("min_lr", NOT_NEGATIVE, 0.0, doc="the lowest rate"),
        Param("monitor", _MONITOR, "loss", doc="the loss or a metric; of the validation data where there are any"),
        Param("mode", _MODE, None, doc='"min" or "max"; none: max for accuracies and the like'),
        _WARMUP,
    ),
}

EARLY_STOP: tuple[Param, ...] = (
    Param("monitor", _MONITOR, "loss", doc="the loss or a metric; of the validation data where there are any"),
    Param("patience", POSITIVE, 5, doc="epochs without progress before the end"),
    Param("min_delta", NOT_NEGATIVE, 0.0, doc="the least change that counts as progress"),
    Param("mode", _MODE, None, doc='"min" or "max"; none: max for accuracies and the like'),
)


@dataclass(frozen=True)
class MetricDefinition:
    """What the graph has to deliver for a metric, and how the parts of several batches are joined.

    `statistics` are the roles of graph outputs. "sum": added up in float64; "concat": put one after the other along
    axis 0; "mean": averaged, each batch by its number of items.
    """

    statistics: tuple[str, ...]
    reduce: Reduce
    mode: Mode = "max"
    scalar: bool = True  #: false: a matrix or a curve, which no schedule can watch


_COUNTED = MetricDefinition(("correct", "count"), "sum")
_CONFUSION = MetricDefinition(("confusion",), "sum")
_RANKED = MetricDefinition(("scores", "labels"), "concat")
_ERROR = MetricDefinition(("sum", "count"), "sum", "min")

#: | role | graph output |
#: | --- | --- |
#: | `correct` | scalar: items predicted right (for top_k_accuracy: among the k best) |
#: | `count` | scalar: items, or elements for the errors mse, rmse (squares) and mae (absolutes) |
#: | `confusion` | `[C, C]`: items by true class (row) and predicted class (column); C = 2 for a single logit |
#: | `scores` | `[n]` or `[n, 1]`: the positive class's score; `[n, C]`: logits or probabilities of C classes |
#: | `labels` | `[n]` class ids; for `scores` of one class 0 and 1, of the same number of elements |
#: | `value` | the scalar itself, for a metric that is an expression of the user's own |
METRICS: Mapping[str, MetricDefinition] = {
    "accuracy": _COUNTED,
    "top_k_accuracy": _COUNTED,
    "precision": _CONFUSION,
    "recall": _CONFUSION,
    "f1": _CONFUSION,
    "iou": _CONFUSION,
    "confusion_matrix": MetricDefinition(("confusion",), "sum", scalar=False),
    "auc": _RANKED,
    "roc": MetricDefinition(("scores", "labels"), "concat", scalar=False),
    "mse": _ERROR,
    "rmse": _ERROR,
    "mae": _ERROR,
    "scalar": MetricDefinition(("value",), "mean", "min"),
}


def bind_defaults(params: Sequence[Param], given: Mapping[str, Any]) -> dict[str, Any]:
    """The canonical values of all parameters. Raises ArgumentError (for the first value that does not fit) and
    KeyError (an unknown or missing name)."""
    unknown = given.keys() - {p.name for p in params}
    if unknown:
        raise KeyError(min(unknown))
    values = {}
    for p in params:
        if p.name not in given and p.required:
            raise KeyError(p.name)
        values[p.name] = p.kind.convert(given[p.name]) if p.name in given else p.default
    return values


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer with all of its arguments, numbers and booleans; `lr` is among them."""

    name: str
    arguments: Mapping[str, float | bool]

    @classmethod
    def of(cls, name: str, given: Mapping[str, Any]) -> OptimizerSpec:
        """From bound arguments; the others get their defaults. Raises ArgumentError, KeyError."""
        values = bind_defaults(OPTIMIZERS[name], given)
        if "betas" in values:
            values["beta1"], values["beta2"] = values.pop("betas")
        if values.get("nesterov") and not values["momentum"]:
            raise ArgumentError("a momentum above 0 with nesterov=true")
        return cls(name, values)

    @property
    def lr(self) -> float:
        return float(self.arguments["lr"])


@dataclass(frozen=True)
class ScheduleSpec:
    """A schedule with all of its arguments but `warmup`, which stands apart: a float is a share of the run, an int a
    number of epochs."""

    name: str = "constant"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    warmup: float | int = 0

    @classmethod
    def of(cls, name: str, given: Mapping[str, Any]) -> ScheduleSpec:
        """From bound arguments; the others get their defaults. Raises ArgumentError, KeyError."""
        values = bind_defaults(SCHEDULES[name], given)
        warmup = values.pop("warmup")
        return cls(name, values, warmup)


@dataclass(frozen=True)
class EarlyStop:
    """The run ends after `patience` epochs in which `monitor` did not improve by more than `min_delta`."""

    monitor: str = "loss"
    patience: int = 5
    min_delta: float = 0.0
    mode: Mode | None = None  #: None: by the metric's definition


@dataclass(frozen=True)
class MetricSpec:
    """A metric of the recipe. `kind` is a name of `METRICS`; `statistics` are the names of the graph outputs that
    deliver its roles, in their order."""

    name: str
    kind: str
    statistics: tuple[str, ...]
    average: Average = "auto"  #: precision, recall, f1: "auto" is binary for two classes, else macro

    @classmethod
    def of(cls, name: str, kind: str, *, average: Average = "auto") -> MetricSpec:
        """With the usual names of outputs: `NAME/ROLE`."""
        return cls(name, kind, tuple(f"{name}/{role}" for role in METRICS[kind].statistics), average)

    @property
    def definition(self) -> MetricDefinition:
        return METRICS[self.kind]

    @property
    def reduce(self) -> Reduce:
        return self.definition.reduce


@dataclass(frozen=True)
class InitialWeights:
    """A checkpoint to start from: names that match `pattern` (fnmatch, over full names) are read from `file`."""

    file: str
    pattern: str = "*"


@dataclass(frozen=True)
class FreezeRule:
    """Parameters that match `pattern` change between trained and not trained when `epoch` epochs are done."""

    pattern: str
    epoch: int = 0


@dataclass(frozen=True)
class Recipe:
    """Everything that a `train` body says. `loss` and the metrics' statistics are outputs of the recipe's graph.

    `classes` gives, for an input or target of ids, their number, so that data are checked before the run; `ignore` an
    id that may lie outside of them. `text` is the body's source, for the run folder. Batches have `batch` items; an
    update takes `accumulate` of them.
    """

    network: str
    targets: Mapping[str, TensorType]
    optimizer: OptimizerSpec
    label: str = ""
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    metrics: tuple[MetricSpec, ...] = ()
    epochs: int = 1
    batch: int = 32
    seed: int = 0
    clip_norm: float | None = None
    accumulate: int = 1
    precision: Precision = "float32"
    early_stop: EarlyStop | None = None
    weights: tuple[InitialWeights, ...] = ()
    freeze: tuple[FreezeRule, ...] = ()
    unfreeze: tuple[FreezeRule, ...] = ()
    recompute: tuple[str, ...] | Literal["auto"] = ()
    classes: Mapping[str, int] = field(default_factory=dict)
    ignore: Mapping[str, int] = field(default_factory=dict)
    text: str = ""
    place: Place | None = None
