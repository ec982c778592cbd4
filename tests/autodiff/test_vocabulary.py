"""Projected vocabularies: the same step by fewer products, where the vocabulary is small."""

from __future__ import annotations

import numpy as np
import pytest

from netdsl.autodiff import vocabulary
from netdsl.cost import node_cost
from netdsl.ir.dims import evaluate
from netdsl.ops.gather import AddRows
from tests.autodiff.stepping import Arrays, Runner, recipe, step_of

PROGRAMS = {
    "lstm": "y = ids -> embedding(VOCABULARY, 5) as e -> lstm(4)[0]",
    "dense": "v = ids -> embedding(VOCABULARY, 5) as e  y = (v -> dense(4) as d -> tanh) + (v -> dense(4, bias=false))",
}
IDS = {"ids": np.random.default_rng(0).integers(0, 6, (3, 8)), "t": np.random.default_rng(1).integers(0, 4, (3, 8))}


def program(body: str, size: int) -> str:
    return f"""
    network T {{ input ids: int64[N, 8] {body.replace("VOCABULARY", str(size))} output logits = y }}
    train T {{
        target t: int64[N, 8]
        loss = cross_entropy(logits -> flatten(0, 1), t -> flatten(0))
        optimizer = sgd(0.1, momentum=0.9)
    }}
    """


def macs(source: str) -> int:
    recipe.cache_clear()
    return sum(evaluate(node_cost(n).macs, {"N": 3}) for n in step_of(source).graph.nodes)


def trained(source: str) -> Arrays:
    runner = Runner(runtime=True)
    step = step_of(source)
    for _ in range(3):
        found = runner.run(step, IDS)
    return {**runner.state, **found}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_step_by_fewer_products(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = program(PROGRAMS[name], 6)
    rewritten, least = trained(source), macs(source)
    (scatter,) = [n for n in step_of(source).graph.nodes if isinstance(n.op, AddRows)][:1]
    assert scatter.output.shape[1] != 5  # of projected vectors
    monkeypatch.setattr(vocabulary, "WORTH", 10**9)
    plain = trained(source)
    assert least < macs(source)
    assert plain.keys() == rewritten.keys()
    for key, array in plain.items():
        np.testing.assert_allclose(rewritten[key], array, rtol=1e-4, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_large_vocabulary_is_left_alone(name: str) -> None:
    step = step_of(program(PROGRAMS[name], 100))
    (scatter,) = [n for n in step.graph.nodes if isinstance(n.op, AddRows)]
    assert scatter.output.shape == (100, 5)
