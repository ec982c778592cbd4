"""Attention against PyTorch, where it is installed, and what it counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from netdsl.autodiff.extend import Extension
from netdsl.autodiff.training_mode import to_training
from netdsl.cost.node import node_cost
from netdsl.ir.dims import symbol
from netdsl.ir.graph import Value
from netdsl.ir.opdef import Cost
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.onnx.export import to_proto
from netdsl.ops.attention import Attention
from netdsl.runtime.interpret import interpret
from netdsl.weights import WeightStore
from tests.autodiff.checking import as_float64, gradients, run
from tests.ops.cases.attention import MASKS, THREE
from tests.ops.harness import Case, graph_of


def _case(mask: str, causal: bool) -> tuple[Case, dict[str, NDArrayAny]]:
    rng = np.random.default_rng(2)
    arrays: dict[str, NDArrayAny] = {name: rng.normal(size=shape) for name, shape in THREE.items()}
    declared = ""
    if mask:
        type, value = MASKS[mask]
        declared = f"input mask: {type}"
        arrays["mask"] = value if value.dtype == bool else value.astype(np.float64)
    text = f"attention(q, k, v, 3, {str(causal).lower()}, {'mask' if mask else 'none'})"
    source = (
        f"input q: float32[N, L, 6] input k: float32[N, S, 6] input v: float32[N, S, 9] {declared} output y = {text}"
    )
    return Case(mask, source, {}), arrays


@pytest.mark.torch
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", ["", *MASKS])
def test_attention(mask: str, causal: bool) -> None:
    torch: Any = pytest.importorskip("torch")
    case, arrays = _case(mask, causal)
    graph = as_float64(graph_of(case))
    values = {v: arrays[v.name] for v in graph.inputs}
    given = {name: torch.tensor(a, requires_grad=a.dtype != bool and name != "mask") for name, a in arrays.items()}
    q, k, v = (given[n].reshape(2, -1, 3, given[n].shape[-1] // 3).transpose(1, 2) for n in "qkv")
    bias = torch.zeros(4, 5, dtype=torch.float64)
    if mask:
        found = given["mask"] if given["mask"].ndim != 3 else given["mask"].unsqueeze(1)
        bias = torch.zeros(found.shape).double().masked_fill(~found, -torch.inf) if found.dtype == torch.bool else found
    if causal:
        bias = bias + torch.full((4, 5), -torch.inf, dtype=torch.float64).triu(1)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(2, 3, 4, 5))
    theirs = theirs.transpose(1, 2).reshape(2, 4, 9)
    ours = interpret(graph, arrays, WeightStore(graph.parameters))["y"]
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-10)
    weights = np.random.default_rng(4).normal(size=(2, 4, 9))
    theirs.backward(torch.tensor(weights))
    sources = graph.inputs[:3]
    env = {"N": 2, "L": 4, "S": 5}
    grads = gradients(graph, sources, values, env, {graph.outputs[0].value: weights})
    for source in sources:
        np.testing.assert_allclose(grads[source], given[source.name].grad.numpy(), rtol=1e-9, atol=1e-9)


LAYERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "self": ("multi_head_attention(x, 3)", {}),
    "causal": ("multi_head_attention(x, 3, causal=true)", {}),
    "cross": ("multi_head_attention(x, 3, key)", {}),
    "key_and_value": ("multi_head_attention(x, 3, key, value)", {}),
    "no_bias": ("multi_head_attention(x, 3, key, bias=false)", {"bias": False}),
    "other_sizes": ("multi_head_attention(x, 3, wide, value)", {"kdim": 9}),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", LAYERS)
def test_multi_head_attention(name: str) -> None:
    """Parameters of PyTorch's names and shapes; outputs and gradients equal."""
    torch: Any = pytest.importorskip("torch")
    text, options = LAYERS[name]
    inputs = {"x": "[N, L, 6]", "key": "[N, S, 6]", "value": "[N, S, 6]", "wide": "[N, S, 9]"}
    declared = " ".join(f"input {n}: float32{shape}" for n, shape in inputs.items())
    graph = as_float64(graph_of(Case(name, f"{declared} output y = {text}", {})))
    rng = np.random.default_rng(6)
    shapes = {"x": (2, 4, 6), "key": (2, 5, 6), "value": (2, 5, 6), "wide": (2, 5, 9)}
    arrays = {v.name: rng.normal(size=shapes[v.name]) for v in graph.inputs}
    layer = torch.nn.MultiheadAttention(6, 3, batch_first=True, dtype=torch.float64, **options)
    prefix = "multi_head_attention."
    weights = {p.name.removeprefix(prefix): rng.normal(size=p.value.shape) for p in graph.parameters}  # type: ignore[arg-type]  # integers
    layer.load_state_dict({n: torch.tensor(a) for n, a in weights.items()})
    given = {n: torch.tensor(a, requires_grad=True) for n, a in arrays.items()}
    key = given["wide" if name == "other_sizes" else "key" if "key" in text else "x"]
    value = given["value"] if "value" in text else key
    barred = torch.ones(4, 4, dtype=torch.bool).triu(1) if name == "causal" else None
    theirs, _ = layer(given["x"], key, value, attn_mask=barred, need_weights=False)
    values = {v: arrays[v.name] for v in graph.inputs} | {
        p.value: weights[p.name.removeprefix(prefix)] for p in graph.parameters
    }
    ours = run(graph.nodes, values, {"N": 2, "L": 4, "S": 5})[graph.outputs[0].value]
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-10)
    seed = rng.normal(size=(2, 4, 6))
    theirs.backward(torch.tensor(seed))
    sources = [*graph.inputs, *(p.value for p in graph.parameters)]
    grads = gradients(graph, sources, values, {"N": 2, "L": 4, "S": 5}, {graph.outputs[0].value: seed})
    expected = dict(layer.named_parameters()) | given
    for source_value in sources:
        grad = expected[source_value.name.removeprefix(prefix)].grad
        if grad is not None:
            np.testing.assert_allclose(grads[source_value], grad.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mask, added", [("", 0), ("all", 0), ("added", 1)])
def test_cost(mask: str, added: int) -> None:
    """Both products, and a scale and a softmax for each score; a mask of floats is added."""
    (node,) = graph_of(_case(mask, True)[0]).nodes
    pairs = symbol("N") * symbol("L") * symbol("S")
    assert node_cost(node) == Cost(macs=pairs * (6 + 9), other=pairs * 3 * (5 + added))


def test_dropout_draws_for_each_share() -> None:
    for text, drawn in (
        ("multi_head_attention(x, 3, dropout=0.25)", [(2, 3, 4, 4)]),
        ("multi_head_attention(x, 3)", []),
    ):
        graph = graph_of(Case("drop", f"input x: float32[2, 4, 6] output y = {text}", {}))
        extension = Extension(graph)
        to_training(extension, graph.nodes, Value("seed", TensorType(DType.int64, ())), frozenset())
        assert [n.output.shape for n in extension.nodes if n.op.name == "uniform_random"] == drawn


def test_frozen_attention_drops_nothing() -> None:
    source = "input x: float32[2, 4, 6] frozen f = multi_head_attention(_, 3, dropout=0.25) output y = f(x)"
    (op,) = (n.op for n in graph_of(Case("frozen", source, {})).nodes if isinstance(n.op, Attention))
    assert op.dropout == 0


def test_one_node_from_opset_23() -> None:
    graph = graph_of(_case("keys", True)[0])
    kinds = {opset: [n.op_type for n in to_proto(graph, WeightStore(()), opset=opset).graph.node] for opset in (22, 23)}
    assert "Attention" not in kinds[22]
    assert kinds[23].count("Attention") == 1
    assert not {"MatMul", "Softmax"} & set(kinds[23])
