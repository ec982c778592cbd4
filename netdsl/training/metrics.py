"""Metrics, finished on the host from statistics that the graph delivers batch by batch.

What the graph has to deliver for each kind stands in `netdsl.ir.recipe.METRICS`. Every value equals scikit-learn's for
the same predictions:

- `precision`, `recall`, `f1`: `average` "auto" is the score of class 1 for two classes, else the unweighted mean over
  classes ("macro"). Classes that occur neither as truth nor as prediction do not count; a score of 0/0 is 0.
- `iou`: the mean over the classes that occur, background included (jaccard_score, macro).
- `auc`: exact, ties count half. For C > 2 classes the unweighted mean of one against the rest, NaN where a class is
  missing. Rows of scores that are no distribution (non-negative, sum 1) are taken for logits and go through softmax;
  of two classes' logits the difference ranks.
- `confusion_matrix`: rows are true classes, columns predictions. `roc`: points as roc_curve gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netdsl.ir.recipe import MetricSpec
from netdsl.ir.types import NDArrayAny

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A receiver operating characteristic: rates between 0 and 1, and the scores from which on an item is positive."""

    false_positive: Floats
    true_positive: Floats
    thresholds: Floats

    def as_json(self) -> dict[str, list[float]]:
        return {
            "false_positive": self.false_positive.tolist(),
            "true_positive": self.true_positive.tolist(),
            "thresholds": self.thresholds.tolist(),
        }


MetricValue = float | Floats | Curve | tuple[Curve, ...]


def metric_json(value: MetricValue) -> Any:
    """A metric's value in JSON's types; NaN becomes null."""
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, tuple):
        return [curve.as_json() for curve in value]
    return value.as_json() if isinstance(value, Curve) else value.tolist()


class Accumulator:
    """The loss and the metrics' statistics of the batches so far."""

    def __init__(self, specs: Sequence[MetricSpec]) -> None:
        self.specs = tuple(specs)
        self.items = 0
        self._loss = 0.0
        self._sums: dict[str, Floats] = {}
        self._parts: dict[str, list[NDArrayAny]] = {}

    def add(self, loss: float, statistics: Mapping[str, NDArrayAny], items: int) -> None:
        """One batch of `items` items, whose loss is a mean over them."""
        self.items += items
        self._loss += loss * items
        for spec in self.specs:
            for name in spec.statistics:
                value = np.asarray(statistics[name])
                if spec.reduce == "concat":
                    self._parts.setdefault(name, []).append(np.array(value))  # the engine may use its buffer again
                    continue
                weight = items if spec.reduce == "mean" else 1
                self._sums[name] = self._sums.get(name, np.zeros(())) + value.astype(np.float64) * weight

    @property
    def loss(self) -> float:
        """The mean over all items; NaN before the first."""
        return self._loss / self.items if self.items else nan

    def results(self) -> dict[str, MetricValue]:
        """Every metric by name; NaN before the first batch."""
        return {spec.name: self._finished(spec) if self.items else nan for spec in self.specs}

    def scalars(self) -> dict[str, float]:
        """The metrics that are numbers."""
        return {name: value for name, value in self.results().items() if isinstance(value, float)}

    def running(self) -> dict[str, float]:
        """The numbers that are cheap enough to show while an epoch runs."""
        cheap = [spec for spec in self.specs if spec.reduce != "concat" and spec.definition.scalar and self.items]
        found = {spec.name: self._finished(spec) for spec in cheap}
        return {name: value for name, value in found.items() if isinstance(value, float)}

    def _finished(self, spec: MetricSpec) -> MetricValue:
        values = [self._joined(name, spec) for name in spec.statistics]
        return _FINISH[spec.kind](spec, *values)

    def _joined(self, name: str, spec: MetricSpec) -> NDArrayAny:
        if spec.reduce == "concat":
            self._parts[name] = [np.concatenate([np.atleast_1d(p) for p in self._parts[name]])]
            return self._parts[name][0]
        return self._sums[name] / (self.items if spec.reduce == "mean" else 1)

    def state(self) -> dict[str, NDArrayAny]:
        """What a checkpoint in the middle of an epoch keeps."""
        held: dict[str, NDArrayAny] = {
            "items": np.asarray(self.items, np.int64),
            "loss": np.asarray(self._loss, np.float64),
        }
        held |= {f"sum/{name}": np.asarray(value) for name, value in self._sums.items()}
        return held | {f"part/{name}": np.concatenate(parts) for name, parts in self._parts.items()}

    def load(self, state: Mapping[str, NDArrayAny]) -> None:
        self.items, self._loss = int(state["items"]), float(state["loss"])
        self._sums = {n.removeprefix("sum/"): v.astype(np.float64) for n, v in state.items() if n.startswith("sum/")}
        self._parts = {n.removeprefix("part/"): [v] for n, v in state.items() if n.startswith("part/")}


def _ratio(spec: MetricSpec, part: NDArrayAny, whole: NDArrayAny) -> float:
    return float(part) / float(whole) if float(whole) else nan


def _root_ratio(spec: MetricSpec, part: NDArrayAny, whole: NDArrayAny) -> float:
    return float(np.sqrt(_ratio(spec, part, whole)))


def _divided(part: Floats, whole: Floats) -> Floats:
    """0/0 is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)


@dataclass(frozen=True)
class _Counts:
    """Per class: predicted and true, predicted, true."""

    hits: Floats
    predicted: Floats
    true: Floats


def _precision(c: _Counts) -> Floats:
    return _divided(c.hits, c.predicted)


def _recall(c: _Counts) -> Floats:
    return _divided(c.hits, c.true)


def _f1(c: _Counts) -> Floats:
    return _divided(2 * c.hits, c.predicted + c.true)


def _scored(score: Callable[[_Counts], Floats]) -> Callable[..., MetricValue]:
    """A score per class, averaged as the metric says."""

    def finish(spec: MetricSpec, matrix: Floats) -> float:
        counts = _Counts(np.diag(matrix).copy(), matrix.sum(0), matrix.sum(1))
        average = spec.average
        if average == "auto":
            average = "binary" if len(matrix) == 2 else "macro"
        if average == "micro":
            return float(
                score(_Counts(*(x.sum(keepdims=True) for x in (counts.hits, counts.predicted, counts.true))))[0]
            )
        values = score(counts)
        if average == "binary":
            return float(values[1])
        if average == "weighted":
            return float(_divided(values @ counts.true, counts.true.sum()))
        return float(values[counts.predicted + counts.true > 0].mean())

    return finish


def _iou(spec: MetricSpec, matrix: Floats) -> float:
    hits = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    return float((hits[union > 0] / union[union > 0]).mean())


def _are_distributions(scores: Floats) -> bool:
    return bool((scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-3))


def _distributions(scores: Floats) -> Floats:
    if _are_distributions(scores):
        return scores
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def _problems(scores: NDArrayAny, labels: NDArrayAny) -> Iterator[tuple[NDArray[np.bool_], Floats]]:
    """The two-class problems in a set of scores: whether each item is positive, and its score."""
    wide = scores.astype(np.float64)
    if wide.ndim < 2 or wide.shape[1] == 1 or wide.size == labels.size:
        yield labels.reshape(-1).astype(np.float64) > 0.5, wide.reshape(-1)
    elif wide.shape[1] == 2:
        distributions = _are_distributions(wide)
        yield labels.reshape(-1) == 1, wide[:, 1] if distributions else wide[:, 1] - wide[:, 0]
    else:
        shares = _distributions(wide)
        for number in range(shares.shape[1]):
            yield labels.reshape(-1) == number, shares[:, number]


def _auc(spec: MetricSpec, scores: NDArrayAny, labels: NDArrayAny) -> float:
    return float(np.mean([_area(positive, score) for positive, score in _problems(scores, labels)]))


def _area(positive: NDArray[np.bool_], scores: Floats) -> float:
    """The share of pairs (positive, negative) in the right order: Mann and Whitney's U, with mean ranks for ties."""
    positives = int(positive.sum())
    negatives = positive.size - positives
    if not positives or not negatives:
        return nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2)[inverse.reshape(-1)]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _roc(spec: MetricSpec, scores: NDArrayAny, labels: NDArrayAny) -> Curve | tuple[Curve, ...]:
    curves = tuple(_curve(positive, score) for positive, score in _problems(scores, labels))
    return curves[0] if len(curves) == 1 else curves


def _curve(positive: NDArray[np.bool_], scores: Floats) -> Curve:
    """The corners of the curve: points on a straight line between two others are left out."""
    order = np.argsort(-scores, kind="stable")
    falling, hit = scores[order], positive[order]
    ends = np.append(np.flatnonzero(np.diff(falling)), falling.size - 1)
    true = np.cumsum(hit)[ends].astype(np.float64)
    false = ends + 1 - true
    if ends.size > 2:
        bent = np.append(np.append(True, (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0)), True)
        true, false, ends = true[bent], false[bent], ends[bent]
    true, false = np.append(0.0, true), np.append(0.0, false)
    thresholds = np.append(np.inf, falling[ends])
    rates = [part / part[-1] if part[-1] else np.full_like(part, nan) for part in (false, true)]
    return Curve(rates[0], rates[1], thresholds)


_FINISH: Mapping[str, Callable[..., MetricValue]] = {
    "accuracy": _ratio,
    "top_k_accuracy": _ratio,
    "precision": _scored(_precision),
    "recall": _scored(_recall),
    "f1": _scored(_f1),
    "iou": _iou,
    "confusion_matrix": lambda spec, matrix: np.asarray(matrix, np.float64),
    "auc": _auc,
    "roc": _roc,
    "mse": _ratio,
    "rmse": _root_ratio,
    "mae": _ratio,
    "scalar": lambda spec, value: float(value),
}
