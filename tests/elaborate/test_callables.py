"""Chains, holes, shared and frozen callables, networks as callables."""

from __future__ import annotations

import pytest

from tests.elaborate.helpers import graph_of, net, net_errors, parameters, paths, shapes


def test_chain_hands_its_value_to_the_first_call() -> None:
    graph = net("output a = x -> split(3)[1]\noutput b = x -> conv(4, 3, stride=2)")
    assert shapes(graph) == {"a": "float32[N, 2, 8, 8]", "b": "float32[N, 4, 3, 3]"}


def test_chain_fills_the_holes() -> None:
    graph = net("y = x -> conv(6, 1)\noutput a = x -> concat(y, _, _)\noutput b = x -> where(y > 0, _, 0)")
    assert shapes(graph)["a"] == "float32[N, 18, 8, 8]"
    concat = next(node for node in graph.nodes if node.path == "concat")
    assert [v.name for v in concat.inputs] == ["conv", "x", "x"]


def test_chain_step_may_be_any_callable_value() -> None:
    body = """
    norms = [batch_norm, group_norm(_, groups=2)]
    y = x -> norms[1] -> (conv(_, 4, 1)) -> (if x.rank == 4 then relu else gelu)
    output z = y
    """
    assert paths(net(body)) == ["group_norm", "conv", "relu"]


def test_as_binds_the_value_of_the_whole_step() -> None:
    graph = net("y = x -> split(2)[1] as part -> relu\noutput z = part\noutput w = y")
    assert shapes(graph)["z"] == "float32[N, 3, 8, 8]"
    assert paths(graph)[0] == "part"


def test_plain_values_flow_through_chains() -> None:
    assert shapes(net("n = [1, 2, 3] -> len\noutput y = x -> conv(n -> max(2), 1)"))["y"] == "float32[N, 3, 8, 8]"


def test_function_with_a_hole_takes_more_arguments_by_name() -> None:
    graph = net("norm = group_norm(_, groups=2)\noutput y = x -> norm(epsilon=1e-3) -> norm")
    assert [node.op.epsilon for node in graph.nodes] == [1e-3, 1e-5]  # type: ignore[attr-defined]


def test_hole_of_a_block_and_of_a_hole() -> None:
    before = "block Unit(x, n, k) { return x -> conv(n, k) }"
    graph = net("f = Unit(_, 4, k=3)\ng = f(_, k=1)\noutput y = x -> g\noutput z = f(x)", before)
    assert shapes(graph) == {"y": "float32[N, 4, 8, 8]", "z": "float32[N, 4, 6, 6]"}


def test_identity_does_nothing() -> None:
    graph = net("output y = x -> identity -> relu")
    assert len(graph.nodes) == 1


# --- shared and frozen ----------------------------------------------------------------------------------------------


def test_shared_makes_one_set_of_parameters() -> None:
    graph = net("shared f = conv(_, 6, 3, padding=1)\noutput y = x -> f -> relu -> f")
    assert parameters(graph) == ["f.weight", "f.bias"]
    assert paths(graph) == ["f", "relu", "f"]
    assert graph.nodes[0].inputs[1] is graph.nodes[2].inputs[1]


def test_shared_path_is_taken_where_it_is_declared() -> None:
    graph = net("y = x -> relu as f\nshared f = conv(_, 6, 1)\nrepeat 2 as stage { y = y -> f }\noutput z = y")
    assert parameters(graph) == ["f_2.weight", "f_2.bias"]


def test_shared_block_keeps_the_order_of_creation() -> None:
    before = "block Head(x) { return x -> conv(6, 1) -> batch_norm -> conv(6, 1) as last }"
    graph = net("shared head = Head(_)\noutput a = head(x)\noutput b = head(x -> relu)", before)
    assert parameters(graph)[:2] == ["head.conv.weight", "head.conv.bias"]
    assert parameters(graph)[-2:] == ["head.last.weight", "head.last.bias"]
    assert len(parameters(graph)) == 8


def test_shared_passed_to_a_block() -> None:
    before = "block Twice(x, f) { return x -> f -> f }"
    graph = net("shared f = conv(_, 6, 1)\noutput y = x -> Twice(f) -> f", before)
    assert parameters(graph) == ["f.weight", "f.bias"]


def test_shared_inside_shared() -> None:
    before = "block B(x) {\n shared g = conv(_, 6, 1)\n return x -> g -> g -> conv(6, 1) }"
    graph = net("shared f = B(_)\noutput y = x -> f -> f", before)
    assert parameters(graph) == ["f.g.weight", "f.g.bias", "f.conv.weight", "f.conv.bias"]


def test_frozen_is_never_trained() -> None:
    before = "network Teacher { input i: float32[M, 6, h, w]\n output y = i -> conv(6, 1) -> batch_norm }"
    graph = net("frozen t = Teacher(_)\noutput y = x -> t -> conv(6, 1) -> t", before)
    assert {p.name for p in graph.parameters if p.trainable} == {"conv.weight", "conv.bias"}
    assert parameters(graph)[0] == "t.conv.weight"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("shared f = conv(_, 7, 1)\noutput y = x -> f -> f", "f.weight would be float32[7, 7, 1, 1] here"),
        ("shared f = relu(x)\noutput y = x", "'shared' takes a function"),
        ("f = conv(64, 3)\noutput y = x", "expected a tensor for 'x', found 64"),
        ("f = conv(_, 6, 1)\noutput y = f()", "takes one value, found 0"),
    ],
)
def test_refusals(body: str, message: str) -> None:
    assert any(message in found for found in net_errors(body))


# --- networks as callables ------------------------------------------------------------------------------------------

TEACHER = """
network Teacher(width=4) {
    input a: float32[M, C, 2*s, 2*s]
    input b: float32[M, C]
    output wide = a -> conv(width, 1)
    output half = a -> max_pool(2)
    output sum = b + M
}
"""


def test_network_solves_its_symbols_from_the_arguments() -> None:
    graph = net(
        "t = Teacher(x, x[:, :, 0, 0], 5)\noutput u = t.wide\noutput v = t[1]\na, b, c = t\noutput w = c", TEACHER
    )
    assert shapes(graph) == {"u": "float32[N, 5, 8, 8]", "v": "float32[N, 6, 4, 4]", "w": "float32[N, 6]"}
    assert parameters(graph) == ["Teacher.conv.weight", "Teacher.conv.bias"]
    assert [v.name for v in graph.inputs] == ["x"]


def test_network_with_one_output_gives_the_tensor() -> None:
    before = "network T { input a: float32[N, C, H, H]\n output y = a -> conv(C // 2, 1) }"
    graph = graph_of(before + "\nnetwork Net { input x: float32[H, 6, N, N]\n output y = x -> T -> relu }")
    assert shapes(graph) == {"y": "float32[H, 3, N, N]"}


def test_network_refuses_other_shapes() -> None:
    before = "network T { input a: float32[M, 6, 3*s, 3*s]\n output y = a }"
    assert net_errors("output y = x -> T", before) == [
        "the input 'a' is float32[M, 6, 3*s, 3*s], but the argument is float32[N, 6, 8, 8]"
    ]
