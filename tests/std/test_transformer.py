"""std:transformer: its layers against PyTorch's, where that is installed, and its positions against their formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netdsl.elaborate import elaborate
from netdsl.ir.graph import Graph
from netdsl.ir.types import NDArrayAny
from netdsl.runtime.interpret import interpret
from netdsl.source import SourceFile
from netdsl.weights import WeightStore
from tests.autodiff.checking import as_float64, run

NAMES = "EncoderLayer, DecoderLayer, GPTBlock, PatchEmbedding, ClassToken, LearnedPositions, SinusoidalPositions"


def _graph(body: str) -> Graph:
    return elaborate(SourceFile("t.net", f'from "std:transformer" import {NAMES}\nnetwork T {{ {body} }}')).graph


INPUTS = "input x: float32[N, L, 12] input m: float32[N, S, 12] input pad: bool[N, S]"
LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "encoder": ("EncoderLayer(x, 3, 20)", {}),
    "encoder_norm_first": ("EncoderLayer(x, 3, 20, norm_first=true)", {"norm_first": True}),
    "encoder_gelu": (
        "EncoderLayer(x, 3, 20, activation=gelu, epsilon=1e-3)",
        {"activation": "gelu", "layer_norm_eps": 1e-3},
    ),
    "encoder_causal": ("EncoderLayer(x, 3, 20, causal=true)", {}),
    "decoder": ("DecoderLayer(x, m, 3, 20)", {}),
    "decoder_norm_first": ("DecoderLayer(x, m, 3, 20, norm_first=true, causal=false)", {"norm_first": True}),
    "decoder_padded": ("DecoderLayer(x, m, 3, 20, memory_mask=unsqueeze(pad, 1))", {}),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_pytorchs(name: str) -> None:
    torch: Any = pytest.importorskip("torch")
    text, options = LAYERS[name]
    kind = "EncoderLayer" if "Encoder" in text else "DecoderLayer"
    graph = as_float64(_graph(f"{INPUTS} output y = {text}"))
    layer = getattr(torch.nn, f"Transformer{kind}")(
        12, 3, 20, batch_first=True, dropout=0.0, dtype=torch.float64, **options
    )
    rng = np.random.default_rng(1)
    weights = {p.name.removeprefix(f"{kind}."): rng.normal(size=p.value.shape) for p in graph.parameters}  # type: ignore[arg-type]  # integers
    layer.load_state_dict({n: torch.tensor(a) for n, a in weights.items()})
    pad = np.array([[1, 1, 0, 1, 0], [1, 0, 0, 1, 1]], bool)
    arrays: dict[str, NDArrayAny] = {"x": rng.normal(size=(2, 4, 12)), "m": rng.normal(size=(2, 5, 12)), "pad": pad}
    x, m = (torch.tensor(arrays[n]) for n in "xm")
    later = torch.ones(4, 4, dtype=torch.bool).triu(1)
    if kind == "EncoderLayer":
        theirs = layer(x, src_mask=later if "causal" in name else None)
    else:
        hidden = torch.tensor(~pad) if "padded" in name else None
        theirs = layer(x, m, tgt_mask=None if "causal=false" in text else later, memory_key_padding_mask=hidden)
    values = {v: arrays[v.name] for v in graph.inputs}
    values |= {p.value: weights[p.name.removeprefix(f"{kind}.")] for p in graph.parameters}
    ours = run(graph.nodes, values, {"N": 2, "L": 4, "S": 5})[graph.outputs[0].value]
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-9, atol=1e-9)


def test_sinusoidal_positions() -> None:
    graph = _graph("input x: float32[N, L, 6] output y = SinusoidalPositions(x)")
    found = interpret(graph, {"x": np.zeros((1, 50, 6), np.float32)}, WeightStore(()))["y"][0]
    for position in (0, 1, 17, 49):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            np.testing.assert_allclose(found[position, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=2e-6)


def test_patches_class_token_and_positions() -> None:
    graph = _graph(
        "input i: float32[N, 3, 4*h, 8]output y = i -> PatchEmbedding(4, 6) -> ClassToken -> LearnedPositions(length=9)"
    )
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    store = WeightStore(graph.parameters).perturbed()
    found = interpret(graph, {"i": image}, store)["y"]
    weights = {p.name: store.array(p) for p in graph.parameters}
    kernel = weights["PatchEmbedding.projection.weight"].reshape(6, -1)
    patch = image[1, :, 4:8, 0:4].reshape(-1)
    expected = kernel @ patch + weights["PatchEmbedding.projection.bias"] + weights["LearnedPositions.positions"][3]
    np.testing.assert_allclose(found[1, 3], expected, rtol=1e-4, atol=1e-4)
    token = weights["ClassToken.class_token"][0, 0] + weights["LearnedPositions.positions"][0]
    np.testing.assert_allclose(found[:, 0], [token, token], rtol=1e-5, atol=1e-6)
