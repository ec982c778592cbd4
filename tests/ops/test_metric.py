"""Metrics: their statistics by the NumPy rules and by ONNX Runtime, against scikit-learn and NumPy; refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from netdsl.ir.build import GraphBuilder
from netdsl.ir.opdef import OpError
from netdsl.ir.recipe import METRICS as DEFINITIONS
from netdsl.ir.types import NDArrayAny, TensorType
from netdsl.onnx.export import to_proto
from netdsl.ops.layer import Layer
from netdsl.ops.metric import METRICS, MetricValue
from netdsl.runtime.interpret import interpret
from netdsl.runtime.session import Session
from netdsl.weights import WeightStore
from tests.ops.building import tensor

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(size=(23, 4)).astype(np.float32)
IDS = RNG.integers(0, 4, 23)
MAP = RNG.normal(size=(2, 4, 3, 5)).astype(np.float32)
MAP_IDS = RNG.integers(0, 4, (2, 3, 5)).astype(np.int32)
YES = RNG.normal(size=23).astype(np.float32)
ANSWERS = RNG.integers(0, 2, 23)


def metric(name: str, *types: TensorType, **arguments: Any) -> tuple[GraphBuilder, MetricValue]:
    """A graph whose inputs `x0`, `x1` have the types, and its metric; other arguments have their defaults."""
    builder = GraphBuilder("bench")
    inputs = iter(builder.input(f"x{i}", t) for i, t in enumerate(types))
    op = METRICS[name]
    given = {
        p.name: next(inputs) if p.kind.is_tensor else p.kind.convert(arguments.get(p.name, p.default))
        for p in op.signature
    }
    return builder, op.call(Layer(builder, name), **given)


def statistics(name: str, *arrays: NDArrayAny, **arguments: Any) -> dict[str, NDArrayAny]:
    """The statistics of a batch by the NumPy rules; ONNX Runtime's are the same. Axis 0 is the symbol N."""
    types = [tensor(str(a.dtype), "N", *a.shape[1:]) for a in arrays]
    builder, found = metric(name, *types, **arguments)
    assert found.kind == name
    assert tuple(found.statistics) == DEFINITIONS[name].statistics
    for role, value in found.statistics.items():
        builder.output(role, value)
    graph = builder.finish()
    inputs = {f"x{i}": a for i, a in enumerate(arrays)}
    store = WeightStore(graph.parameters)
    expected = interpret(graph, inputs, store)
    for opset in (17, 26):
        outputs = Session(to_proto(graph, store, opset=opset).SerializeToString(), "cpu").run(inputs)
        for role, array in expected.items():
            np.testing.assert_allclose(outputs[role], array, rtol=1e-5)
            assert outputs[role].dtype == array.dtype
    return expected


@pytest.mark.parametrize(("logits", "ids"), [(LOGITS, IDS), (MAP, MAP_IDS)])
def test_accuracy(logits: NDArrayAny, ids: NDArrayAny) -> None:
    right = np.argmax(logits, 1) == ids
    assert statistics("accuracy", logits, ids) == {"correct": right.sum(), "count": right.size}
    found = statistics("accuracy", logits, ids, ignore=2)
    assert found == {"correct": right[ids != 2].sum(), "count": (ids != 2).sum()}


@pytest.mark.parametrize(
    "target", [ANSWERS, ANSWERS.astype(np.float32), ANSWERS.astype(bool)], ids=["ids", "floats", "booleans"]
)
@pytest.mark.parametrize("logits", [YES, YES[:, None]], ids=["flat", "column"])
def test_accuracy_of_yes_or_no(logits: NDArrayAny, target: NDArrayAny) -> None:
    right = (YES > 0) == ANSWERS.astype(bool)
    assert statistics("accuracy", logits, target) == {"correct": right.sum(), "count": 23}


@pytest.mark.parametrize(("logits", "ids"), [(LOGITS, IDS), (MAP, MAP_IDS)])
def test_top_k_accuracy(logits: NDArrayAny, ids: NDArrayAny) -> None:
    best = np.argsort(-logits, 1)[:, :2]
    right = (best == np.expand_dims(ids, 1)).any(1)
    assert statistics("top_k_accuracy", logits, ids, k=2) == {"correct": right.sum(), "count": right.size}


@pytest.mark.parametrize("name", ["confusion_matrix", "precision", "recall", "f1", "iou"])
def test_confusion(name: str) -> None:
    expected = confusion_matrix(IDS, LOGITS.argmax(1))
    np.testing.assert_array_equal(statistics(name, LOGITS, IDS)["confusion"], expected)


def test_confusion_of_maps_leaves_ignored_ones_out() -> None:
    ids = np.where(MAP_IDS == 3, 255, MAP_IDS).astype(np.int32)
    expected = confusion_matrix(MAP_IDS.ravel(), MAP.argmax(1).ravel(), labels=range(4))
    expected[3] = 0
    np.testing.assert_array_equal(statistics("confusion_matrix", MAP, ids, ignore=255)["confusion"], expected)


def test_confusion_of_yes_or_no() -> None:
    np.testing.assert_array_equal(statistics("f1", YES, ANSWERS)["confusion"], confusion_matrix(ANSWERS, YES > 0))


def test_average_is_kept() -> None:
    assert metric("f1", tensor("float32", "N", 3), tensor("int64", "N"), average="micro")[1].average == "micro"


def _softmax(x: NDArrayAny) -> NDArrayAny:
    powers = np.exp(x.astype(np.float64))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def test_scores() -> None:
    found = statistics("auc", LOGITS, IDS)
    np.testing.assert_allclose(found["scores"], _softmax(LOGITS), rtol=1e-5)
    np.testing.assert_array_equal(found["labels"], IDS)
    found = statistics("roc", LOGITS[:, :2], ANSWERS)
    np.testing.assert_allclose(found["scores"], _softmax(LOGITS[:, :2])[:, 1], rtol=1e-5)
    found = statistics("auc", YES[:, None], ANSWERS)
    np.testing.assert_array_equal(found["scores"], YES)
    found = statistics("auc", MAP, MAP_IDS)
    np.testing.assert_allclose(found["scores"], np.moveaxis(_softmax(MAP), 1, -1).reshape(30, 4), rtol=1e-5)
    np.testing.assert_array_equal(found["labels"], MAP_IDS.ravel())


def test_errors() -> None:
    target = LOGITS[::-1].copy()
    squares, absolutes = ((LOGITS - target) ** 2).sum(), np.abs(LOGITS - target).sum()
    for name, total in {"mse": squares, "rmse": squares, "mae": absolutes}.items():
        found = statistics(name, LOGITS, target)
        np.testing.assert_allclose(found["sum"], total, rtol=1e-5)
        assert found["count"] == LOGITS.size


@pytest.mark.parametrize(
    ("name", "types", "words"),
    [
        (
            "accuracy",
            [("float32", "N", 4), ("float32", "N")],
            "accuracy needs integer ids of classes, found float32[N]",
        ),
        ("accuracy", [("float32", "N", 4), ("float32", "N", 4)], "of the logits' own shape"),
        ("accuracy", [("float32", "N"), ("int64", "M")], "do not have one number for each item"),
        ("accuracy", [("int64", "N", 4), ("int64", "N")], "accuracy needs a float tensor"),
        ("top_k_accuracy", [("float32", "N"), ("int64", "N")], "needs logits [N, classes, …]"),
        ("f1", [("float32", "N", "C"), ("int64", "N")], "f1 needs a known number of classes, found C"),
        ("roc", [("float32", "N", 4), ("int64", "N")], "roc is a curve of two classes, found 4"),
        ("mse", [("float32", "N", 1), ("float32", "N")], "differ in shape"),
    ],
)
def test_refusals(name: str, types: list[tuple[Any, ...]], words: str) -> None:
    with pytest.raises(OpError) as caught:
        metric(name, *(tensor(*t) for t in types), k=1)
    assert words in caught.value.message


def test_every_metric_has_a_definition_and_words() -> None:
    assert set(METRICS) | {"scalar"} == set(DEFINITIONS)
    for name, op in METRICS.items():
        assert op.name == name and op.__doc__ and op.reference
