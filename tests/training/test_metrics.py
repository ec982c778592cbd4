"""Metrics against scikit-learn's, accumulated over uneven batches."""

from __future__ import annotations

import json
from math import isnan
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from netdsl.ir.recipe import METRICS, MetricSpec
from netdsl.ir.types import NDArrayAny
from netdsl.training.metrics import Accumulator, Curve, metric_json

RNG = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def same_numbers_in_any_order() -> None:
    RNG.bit_generator.state = np.random.default_rng(7).bit_generator.state


def statistics(kind: str, scores: NDArrayAny, truth: NDArrayAny) -> dict[str, NDArrayAny]:
    """What a graph would deliver for one batch; class metrics take scores [n, C]."""
    found: dict[str, Any] = {"scores": scores, "labels": truth, "count": truth.size}
    if kind in ("mse", "rmse", "mae"):
        error = scores - truth
        return found | {"sum": (np.abs(error) if kind == "mae" else error**2).sum()}
    if kind in ("auc", "roc"):
        return found
    classes = scores.shape[1] if scores.ndim > 1 else 2
    predicted = scores.argmax(1) if scores.ndim > 1 else (scores > 0).astype(int)
    confusion = np.zeros((classes, classes), np.float32)
    np.add.at(confusion, (truth, predicted), 1)
    return found | {"correct": (predicted == truth).sum(), "confusion": confusion}


def accumulated(kind: str, scores: NDArrayAny, truth: NDArrayAny, **options: Any) -> Any:
    spec = MetricSpec.of("m", kind, **options)
    sums = Accumulator([spec])
    for part in np.split(np.arange(len(truth)), [3, 50, 51]):
        given = statistics(kind, scores[part], truth[part])
        sums.add(0.0, {f"m/{role}": np.asarray(given[role]) for role in METRICS[kind].statistics}, len(part))
        copy = Accumulator([spec])
        copy.load(sums.state())
        sums = copy
    return sums.results()["m"]


def classes(count: int, items: int = 200) -> tuple[NDArrayAny, NDArrayAny]:
    truth = RNG.integers(0, count, items)
    return (RNG.normal(size=(items, count)) + np.eye(count)[truth]).astype(np.float32), truth


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("average", ["auto", "macro", "micro", "weighted"])
@pytest.mark.parametrize("kind", ["precision", "recall", "f1"])
def test_scores_of_classes(kind: str, average: str, count: int) -> None:
    scores, truth = classes(count)
    oracle = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}[kind]
    named = ("binary" if count == 2 else "macro") if average == "auto" else average
    expected = oracle(truth, scores.argmax(1), average=named)
    assert accumulated(kind, scores, truth, average=average) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["precision", "recall", "f1", "iou"])
def test_classes_that_do_not_occur_do_not_count(kind: str) -> None:
    scores, truth = classes(4)
    wide = np.insert(scores, 2, -100, axis=1)
    truth = truth + (truth >= 2)
    oracle = {
        "precision": sk.precision_score,
        "recall": sk.recall_score,
        "f1": sk.f1_score,
        "iou": sk.jaccard_score,
    }[kind]
    assert accumulated(kind, wide, truth) == pytest.approx(oracle(truth, wide.argmax(1), average="macro"))


def test_never_predicted_is_zero() -> None:
    scores = np.tile(np.float32([1, 0]), (60, 1))
    truth = np.arange(60) % 2
    assert accumulated("precision", scores, truth) == 0.0
    assert accumulated("f1", scores, truth) == 0.0


def test_accuracy_and_confusion() -> None:
    scores, truth = classes(3)
    assert accumulated("accuracy", scores, truth) == pytest.approx(sk.accuracy_score(truth, scores.argmax(1)))
    np.testing.assert_array_equal(
        accumulated("confusion_matrix", scores, truth), sk.confusion_matrix(truth, scores.argmax(1))
    )


@pytest.mark.parametrize("kind", ["mse", "rmse", "mae"])
def test_errors(kind: str) -> None:
    predicted, truth = RNG.normal(size=200), RNG.normal(size=200)
    oracle = {
        "mse": sk.mean_squared_error,
        "rmse": sk.root_mean_squared_error,
        "mae": sk.mean_absolute_error,
    }[kind]
    assert accumulated(kind, predicted, truth) == pytest.approx(oracle(truth, predicted))


@pytest.mark.parametrize("decimals", [0, 1, 6])
@pytest.mark.parametrize("shape", [(200,), (200, 1)])
def test_auc_of_two_classes_with_ties(shape: tuple[int, ...], decimals: int) -> None:
    truth = RNG.integers(0, 2, 200)
    scores = np.round(RNG.normal(size=200) + truth, decimals)
    assert accumulated("auc", scores.reshape(shape), truth) == pytest.approx(sk.roc_auc_score(truth, scores))


def softmax(x: NDArrayAny) -> NDArrayAny:
    e = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


@pytest.mark.parametrize("given", ["logits", "probabilities"])
@pytest.mark.parametrize("count", [2, 4])
def test_auc_of_logits_and_probabilities(count: int, given: str) -> None:
    logits, truth = classes(count)
    shares = softmax(logits.astype(np.float64))
    expected = sk.roc_auc_score(truth, shares[:, 1] if count == 2 else shares, multi_class="ovr")
    assert accumulated("auc", logits if given == "logits" else shares, truth) == pytest.approx(expected)


def test_auc_of_one_class_is_no_number() -> None:
    value = accumulated("auc", RNG.normal(size=60), np.zeros(60, int))
    assert isnan(value)
    assert metric_json(value) is None


@pytest.mark.parametrize("decimals", [1, 6])
def test_roc(decimals: int) -> None:
    truth = RNG.integers(0, 2, 200)
    scores = np.round(RNG.normal(size=200) + truth, decimals)
    curve = accumulated("roc", scores, truth)
    assert isinstance(curve, Curve)
    expected = sk.roc_curve(truth, scores)
    for ours, theirs in zip((curve.false_positive, curve.true_positive, curve.thresholds), expected, strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_roc_of_classes_is_a_curve_for_each() -> None:
    logits, truth = classes(3)
    curves = accumulated("roc", logits, truth)
    shares = softmax(logits.astype(np.float64))
    for number, curve in enumerate(curves):
        np.testing.assert_allclose(curve.true_positive, sk.roc_curve(truth == number, shares[:, number])[1])
    json.dumps(metric_json(curves[0].false_positive))


def test_a_scalar_is_weighted_by_items() -> None:
    sums = Accumulator([MetricSpec("s", "scalar", ("s",))])
    sums.add(1.0, {"s": np.float32(2)}, 3)
    sums.add(5.0, {"s": np.float32(4)}, 1)
    assert sums.loss == 2.0
    assert sums.results() == {"s": 2.5}
    assert sums.running() == {"s": 2.5}


def test_buffers_of_the_engine_may_change() -> None:
    sums = Accumulator([MetricSpec.of("a", "auc")])
    scores, labels = np.zeros(4), np.asarray([0, 0, 1, 1])
    for values in ([0.1, 0.2, 0.8, 0.9], [0.4, 0.3, 0.6, 0.7]):
        scores[:] = values
        sums.add(0.0, {"a/scores": scores, "a/labels": labels}, 4)
    assert sums.results()["a"] == 1.0
