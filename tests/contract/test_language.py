"""The language's contract, sentence by sentence: what each form means, in numbers, shapes, names and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netdsl.diagnostics import DiagnosticError, render_all
from netdsl.elaborate import UsageError, check, elaborate
from netdsl.ir.types import NDArrayAny
from netdsl.runtime.interpret import interpret
from netdsl.source import SourceFile
from netdsl.weights import WeightStore
from tests.elaborate.helpers import graph_of, net, parameters, paths, shapes

ROW = np.array([[1.0, -2.0, 3.0]], np.float32)


def numbers(body: str, **settings: object) -> NDArrayAny:
    """The first output of a network whose input `x: float32[N, 3]` is [[1, -2, 3]]."""
    graph = graph_of(f"network T {{ input x: float32[N, 3]\n{body} }}", **settings)
    return next(iter(interpret(graph, {"x": ROW}, WeightStore(graph.parameters)).values()))


# Expressions in `x` = [[1, -2, 3]] and what they are; booleans and plain values are cast where they meet `x`.
VALUES: list[tuple[str, Any]] = [
    ("x // 2", [[0, -1, 1]]),
    ("x % 2", [[1, 0, 1]]),
    ("-x ** 2", [[-1, -4, -9]]),
    ("2 ** x", [[2, 0.25, 8]]),
    ("x ** -1", [[1, -0.5, 1 / 3]]),
    ("7 % x", [[0, -1, 1]]),
    ("7 // x", [[7, -4, 2]]),
    ("1 - x", [[0, 3, -2]]),
    ("x @ transpose(x)", [[14]]),
    ("x[:, 0:2]", [[1, -2]]),
    ("x[..., 0]", [1]),
    ("x[:, -1]", [3]),
    ("x[:, ::-1]", [[3, -2, 1]]),
    ("x[0, 1]", -2),
    ("cast(x > 0, float32)", [[1, 0, 1]]),
    ("cast(x == 3, int32)", [[0, 0, 1]]),
    ("cast(x, int32) // 2", [[0, -1, 1]]),
    ("where(x >= 1, x, 0)", [[1, 0, 3]]),
    ("x * x.shape[0]", [[1, -2, 3]]),  # a symbol's value when the model runs
    ("x + 4 * N", [[5, 2, 7]]),
    ("x * x.rank", [[2, -4, 6]]),
    ("x * x.channels * x.width", [[9, -18, 27]]),
    ("cast(x, x.dtype)", [[1, -2, 3]]),
    ("max(x)", 3),
    ("max(x, axes=1, keep=true)", [[3]]),
    ("sum(x)", 2),
    ("mean(x, axes=[0, 1])", 2 / 3),
    ("prod(x, 1)", [-6]),
    ("variance(x, axes=1)", [19 / 3]),
    ("norm(x)", 14**0.5),
    ("argmax(x)", [2]),
    ("argmin(x, keep=true)", [[1]]),
    ("cumsum(x)", [[1, -1, 2]]),
    ("top_k(x, 2)[0]", [[3, 1]]),
    ("top_k(x, 2)[1]", [[2, 0]]),
    ("softmax(zeros_like(x))", [[1 / 3, 1 / 3, 1 / 3]]),
    ("add(x, 1, x)", [[3, -3, 7]]),
    ("multiply([x, x])", [[1, 4, 9]]),
    ("maximum(x, 0)", [[1, 0, 3]]),
    ("minimum(x, 0, -1)", [[-1, -2, -1]]),
    ("clip(x, 0, 1)", [[1, 0, 1]]),
    ("clip(x, max=0)", [[0, -2, 0]]),
    ("leaky_relu(x)", [[1, -0.02, 3]]),
    ("hard_sigmoid(x)", [[2 / 3, 1 / 6, 1]]),
    ("concat(x, x)", [[1, -2, 3, 1, -2, 3]]),
    ("concat([x, x], axis=0)[1]", [1, -2, 3]),
    ("split(x, [1, 2])[1]", [[-2, 3]]),
    ("split(x, 3)[1]", [[-2]]),
    ("tensor([1, 2])", [1, 2]),
    ("one_hot(tensor([2, 0], dtype=int64), 3)", [[0, 0, 1], [1, 0, 0]]),
    ("gather(x, tensor([2, 0], dtype=int64), 1)", [[3, 1]]),
    ("x * (7 // 2 + 2 ** 3 - -7 % 4)", [[10, -20, 30]]),
    ("x * (7 / 2)", [[3.5, -7, 10.5]]),
    ("x * (if 1 < 2 and not 3 in [1, 2] then 2 else 3)", [[2, -4, 6]]),
    ("x * (0 or 3)", [[3, -6, 9]]),
    ("x * len('a\\'b\\\\\\n')", [[5, -10, 15]]),
    ("x * sum([1, 2]) * min(3, 1) * max([2, 5])", [[15, -30, 45]]),
    ("x * abs(-2) * int(2.9) * round(2.5) * ceil(0.5) * floor(1.9)", [[8, -16, 24]]),
    ("x * log2(8) * sqrt(4.0) * float('0.5')", [[3, -6, 9]]),
    ("x * zip([1, 2], [3, 4])[1][1] * enumerate([5, 6])[1][0] * reversed([7, 8])[1]", [[28, -56, 84]]),
    ("x * len(range(2, 9, 3)) * len(str(12))", [[6, -12, 18]]),
    ("x * 1e1", [[10, -20, 30]]),
    ("(x + x) -> relu", [[2, 0, 6]]),
    ("2 * (x -> relu)", [[2, 0, 6]]),
    ("x -> add(1, _)", [[2, -1, 4]]),
    ("x -> add(_, _)", [[2, -4, 6]]),
    ("x -> top_k(1)[0]", [[3]]),
    ("x -> [relu, exp][0]", [[1, 0, 3]]),
    ("[x, x] -> concat", [[1, -2, 3, 1, -2, 3]]),
    ("identity(x)", [[1, -2, 3]]),
    ("l1('nothing')", None),
]


@pytest.mark.parametrize(("expression", "expected"), VALUES, ids=[v for v, _ in VALUES])
def test_value(expression: str, expected: Any) -> None:
    if expected is None:
        with pytest.raises(DiagnosticError, match="no trainable parameter"):
            numbers(f"output y = {expression}")
        return
    body = f"output y = {expression}".replace("zeros_like(x)", "(x * 0)")
    np.testing.assert_allclose(numbers(body), expected, rtol=1e-6)


# Statements, in a network with `x` = [[1, -2, 3]]; the output is the sum of what `n` or `x` became.
STATEMENTS = [
    ("a, (b, _) = (1, (2, 3)) n = a + b", 3),
    ("n = 1 n += 3 n -= 1 n *= 4", 12),
    ("n = 0 for a, (b, c) in [(1, (2, 3)), (4, (5, 6))] { n += a * b * c }", 126),
    ("n = 1 repeat 3 { n *= 2 }", 8),
    ("n = 5 repeat 0 { n = 1 } for i in [] { n = 2 }", 5),
    ("if 2 < 1 { n = 1 } else if x.rank == 2 { n = 2 } else { n = 3 }", 2),
    ("n = 0 for t in [x, x] { n += t } n = sum(n) + 0 * x", 4),
    ("target = 1 metric = 2 param = 3 shared = 4 n = target + metric + param + shared", 10),
    ("a = x -> relu as b -> add(1) n = sum(b) + 0 * x", 4),
    ("f = add(_, _) n = sum(x -> f) + 0 * x", 4),
    ("n = if N >= 1 then 2 else 3", 2),
    ("n = if x.shape == (x -> relu).shape then 2 else 3", 2),
    ("n = if [] then 1 else if 'a' then 2 else 3", 2),
]


@pytest.mark.parametrize(("body", "expected"), STATEMENTS, ids=[b for b, _ in STATEMENTS])
def test_statements(body: str, expected: float) -> None:
    np.testing.assert_allclose(numbers(f"{body} output y = x * 0 + n"), np.full((1, 3), expected))


# Bodies of a network with `x: float32[N, 6, 8, 8]` and the type of its last output.
SHAPES = [
    ("output y = x -> conv(64, 3)", "float32[N, 64, 6, 6]"),
    ("output y = x -> conv(64, 3, 2, 1, 1, 2, false)", "float32[N, 64, 4, 4]"),
    ("output y = x -> conv(4, (3, 5), padding=((1, 1), (0, 2)), stride=[2, 1])", "float32[N, 4, 4, 6]"),
    ('output y = x -> conv(4, 3, padding="same") -> conv(4, 3, stride=3, padding="same")', "float32[N, 4, 3, 3]"),
    ('output y = x -> conv(4, 3, padding="valid", dilation=2)', "float32[N, 4, 4, 4]"),
    ("output y = x -> depthwise_conv(3, 2, padding=1)", "float32[N, 12, 8, 8]"),
    ("output y = x -> conv_transpose(4, 3, stride=2, padding=1, output_padding=1)", "float32[N, 4, 16, 16]"),
    ("output y = x -> dense(5)", "float32[N, 6, 8, 5]"),
    ("output y = x -> max_pool(3, ceil=true)", "float32[N, 6, 3, 3]"),
    ("output y = x -> avg_pool(2)", "float32[N, 6, 4, 4]"),
    ("output y = x -> global_avg_pool", "float32[N, 6, 1, 1]"),
    ("output y = x -> adaptive_avg_pool((2, 3))", "float32[N, 6, 2, 3]"),
    ("v, i = x -> max_pool_indices(2) output y = v -> max_unpool(i, 2)", "float32[N, 6, 8, 8]"),
    ("output y = x -> flatten", "float32[N, 384]"),
    ("output y = x -> reshape([-1, 3, 2, 8, 8]) -> transpose([0, 2, 1, 3, 4]) -> flatten(1, 2)", "float32[N, 6, 8, 8]"),
    ("output y = x -> unsqueeze(1) -> squeeze(1) -> tile([1, 1, 2, 1])", "float32[N, 6, 16, 8]"),
    ("output y = x -> pad(1) -> crop((4, 5))", "float32[N, 6, 4, 5]"),
    ("output y = x -> resize(1.5)", "float32[N, 6, 12, 12]"),
    ('output y = x -> resize(size=(5, 7), mode="bilinear", align="corners")', "float32[N, 6, 5, 7]"),
    (
        "output y = x -> conv(8, 1) -> pixel_shuffle(2) -> space_to_depth(2) -> channel_shuffle(4)",
        "float32[N, 8, 8, 8]",
    ),
    ("output y = x -> layer_norm(axes=1) -> rms_norm -> group_norm(3) -> switchable_norm", "float32[N, 6, 8, 8]"),
    ("output y = x -> drop_path(0.1) -> dropout", "float32[N, 6, 8, 8]"),
    ("output y = x[0:1, :, 0:1, 0:1] -> expand([1, 6, 3, 4])", "float32[1, 6, 3, 4]"),
    ("norms = [group_norm(_, groups=3)] output y = x -> norms[0]", "float32[N, 6, 8, 8]"),
    ("norm = group_norm(_, groups=3) output y = x -> norm(epsilon=1e-3)", "float32[N, 6, 8, 8]"),
    ("output a = x x = x -> conv(2, 1) output b = x", "float32[N, 2, 8, 8]"),
]


@pytest.mark.parametrize(("body", "expected"), SHAPES, ids=[b for b, _ in SHAPES])
def test_shape(body: str, expected: str) -> None:
    assert list(shapes(net(body)).values())[-1] == expected


def test_formulas_of_symbols() -> None:
    graph = graph_of(
        """network T {
            input x: float32[N, 3, 32*h, W]
            a = x -> conv(4, 3, stride=2, padding=1)
            output half = a
            output quarter = x[:, :, ::2] -> avg_pool((2, 1))
            output same = x -> conv(4, 3, stride=2, padding="same")
        }"""
    )
    assert shapes(graph) == {
        "half": "float32[N, 4, 16*h, (W + 1)//2]",
        "quarter": "float32[N, 3, 8*h, W]",
        "same": "float32[N, 4, 16*h, (W + 1)//2]",
    }


# What is refused: the body, and what the message or help says.
REFUSED = [
    ("output y = x -> conv(32.0, 3)", "found the float 32.0", "//"),
    ("output y = x -> conv(true, 3)", "found true", ""),
    ("output y = conv(64, 3)", "expected a tensor", "conv(_, 64, 3)"),
    ("output y = x -> relu + 1", "without parentheses", "(x -> relu) + 1"),
    ("output y = x + x -> relu", "a chain starts", "(x + x) -> relu"),
    ("output y = -x -> relu", "a chain starts", "(-x) -> relu"),
    ("y = [x] + x output y", "does not mix a list and a tensor", "[x] + [x]"),
    ("output y = cast(x, int32) + x", "do not mix", "cast(x, int32)"),
    ("output y = cast(x, int32) / 2", "needs float tensors", "cast(x, float32)"),
    ("output y = cast(x, int32) * 1.5", "does not mix with int32", "cast"),
    ("if x > 0 { } output y = x", "a tensor is no condition", "where"),
    ("output y = if N == 3 then x else x", "N=3, not for N=1", "--set"),
    ("relu = x -> exp output y = relu(x)", "bound in line 3, and hides the operator 'relu'", "another name"),
    ("output y = x -> rel", "unknown name 'rel'", "relu"),
    ("output y = x -> conv(4, 3, paddin=1)", "no argument 'paddin'", "padding"),
    ("output y = x if true else x", "Python's conditional", "if true then x else x"),
    ("output y = x * True", "Python's spelling", "true"),
    ("l = [1] l.append(2) output y = x", "values never change", "l = l + [ … ]"),
    ("output y = relu(x);", "';' has no use", "delete"),
    ("a = 1 < 2 < 3 output y = x", "comparisons do not chain", "1 < 2 and 2 < 3"),
    ("repeat -1 { } output y = x", "0 or more", ""),
    ("repeat 2.0 { } output y = x", "an integer", "//"),
    ("output y = x output y = x", "is taken", "name of its own"),
    ("output x", "is taken", "name of its own"),
    ("output y = x -> B", "a block does not see", ""),
    ("assert 1 == 2, 'bad ' + str(3) output y = x", "bad 3", ""),
    ("shared f = conv(_, 7, 3) output y = x -> f -> f", "is shared, but f.weight would be", "two functions"),
    ("param w: float32[N] = ones output y = x", "made of integers", ""),
    ("y = relu(x) as r output y", "names the layer of a chain's step", "as r'"),
    ("output y = x -> dropout(1.5)", "below 1", ""),
    ("output a, b = split(x, 2)", "several outputs", "a, b = …"),
    ("output y = x -> reshape(-1, 6)", "2 arguments at most", "reshape(x, [-1, 6])"),
    ("f = lambda t: t output y = x", "there is no 'lambda'", "conv(_, 64, 3)"),
    ("a = x is none output y = x", "there is no 'is'", "=="),
    ("a, b = [1, 2, 3] output y = x", "expected 2 values", "_"),
    ("a = 1 // 0 output y = x", "by zero", ""),
    ("a = 2 ** 5000 output y = x", "4,096 bits", ""),
    ("a = range(1000001) output y = x", "1,000,000", ""),
    ("repeat 1000000000 { } output y = x", "100,000", ""),
]


@pytest.mark.parametrize(("body", "message", "help"), REFUSED, ids=[b for b, _, _ in REFUSED])
def test_refusal(body: str, message: str, help: str) -> None:
    block = "block B(t) { return t -> reshape([N, -1]) }" if "-> B" in body else ""
    found = check(SourceFile("t.net", f"{block}\nnetwork T {{ input x: float32[N, 6, 8, 8]\n{body}\n}}"))
    text = render_all(found)
    assert message in text
    assert help in text
    assert all(d.span is not None for d in found)


@pytest.mark.parametrize("count", [200, 201])
@pytest.mark.parametrize("brackets", ["()", "[]", "relu()"])
def test_two_hundred_nested_brackets(brackets: str, count: int) -> None:
    opening, closing = brackets[:-1], brackets[-1]
    inner = "1" if brackets == "[]" else "x"
    found = check(
        SourceFile(
            "t.net", f"network T {{ input x: float32[3] a = {opening * count}{inner}{closing * count} output y = x }}"
        )
    )
    assert [d.name for d in found] == (["unused-value"] if count == 200 else ["nesting"])


INITIALIZED = [
    "conv(4, 3, {})",
    "depthwise_conv(3, {})",
    "conv_transpose(4, 3, {})",
    "dense(4, {})",
    "batch_norm({})",
    "layer_norm({})",
    "group_norm(3, {})",
    "instance_norm(affine=true, {})",
    "switchable_norm({})",
]


@pytest.mark.parametrize("layer", INITIALIZED)
def test_layers_take_initializers(layer: str) -> None:
    graph = net(f"output y = x -> {layer.format('weight_init=constant(0.3), bias_init=normal(0, 0.1)')}")
    found = {p.name.split(".")[1]: str(p.initializer) for p in graph.parameters}
    assert found["weight"] == "constant(0.3)"
    assert found["bias"] == "normal(0, 0.1)"


@pytest.mark.parametrize("layer", ["rms_norm(weight_init=zeros)", "prelu(weight_init=zeros)"])
def test_layers_without_bias_take_one_initializer(layer: str) -> None:
    (parameter,) = net(f"output y = x -> {layer}").parameters
    assert str(parameter.initializer) == "zeros"


def test_default_initializers() -> None:
    graph = net("output y = x -> conv(4, 3) -> conv_transpose(4, 3) -> dense(5) -> batch_norm -> prelu")
    assert {p.name: p.initializer.name for p in graph.parameters} == {
        "conv.weight": "he_normal",
        "conv.bias": "zeros",
        "conv_transpose.weight": "he_normal",
        "conv_transpose.bias": "zeros",
        "dense.weight": "xavier_uniform",
        "dense.bias": "zeros",
        "batch_norm.weight": "ones",
        "batch_norm.bias": "zeros",
        "batch_norm.running_mean": "zeros",
        "batch_norm.running_var": "ones",
        "prelu.weight": "constant",
    }


def test_an_instance_norm_without_parameters_takes_no_initializer() -> None:
    with pytest.raises(DiagnosticError, match="affine=true"):
        net("output y = x -> instance_norm(weight_init=zeros)")


def test_paths() -> None:
    graph = net(
        """
        x = x -> conv(6, 1) as stem -> relu -> alias
        for i in range(2) as stage { x = x -> Unit -> Unit }
        repeat 2 { x = x -> conv(6, 1) }
        output y = x -> f -> f
        """.replace("x = x -> conv(6, 1) as stem", "alias = exp shared f = conv(_, 6, 1) x = x -> conv(6, 1) as stem"),
        "block Unit(x) { return x -> conv(6, 1) -> relu }",
    )
    assert paths(graph) == [
        *("stem", "relu", "exp"),
        *(f"stage{s}.Unit{u}.{op}" for s in ("", "_2") for u in ("", "_2") for op in ("conv", "relu")),
        *("conv", "conv_2", "f", "f"),
    ]
    assert parameters(graph)[-2:] == ["f.weight", "f.bias"]


SETTINGS: list[tuple[str, object, str]] = [
    ("n", "4", "float32[N, 4]"),
    ("n", "2 * M", "float32[N, 10]"),
    ("n", 7, "float32[N, 7]"),
    ("N", "2 * 3", "float32[6, 3]"),
]


@pytest.mark.parametrize(("name", "value", "expected"), SETTINGS)
def test_set(name: str, value: object, expected: str) -> None:
    source = "M = 5 network T(n=3) { input x: float32[N, n] output y = x }"
    assert shapes(graph_of(source, **{name: value})) == {"y": expected}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("gelu", ["gelu"]), ("group_norm(_, 3)", ["group_norm"]), ("max_pool(_, 2)", ["max_pool"])],
)
def test_set_to_a_callable(value: str, expected: list[str]) -> None:
    source = "network T(act=relu) { input x: float32[N, 3, 4, 4] output y = x -> act }"
    assert paths(graph_of(source, act=value)) == expected


def test_set_to_text() -> None:
    source = "network T(mode='a') { input x: float32[3] assert mode == 'some text' output y = x }"
    assert shapes(graph_of(source, mode="some text")) == {"y": "float32[3]"}


@pytest.mark.parametrize("value", ["-3", "0", "2.0", "true", "hello"])
def test_set_refuses_what_is_no_size(value: str) -> None:
    with pytest.raises(UsageError, match="positive integer"):
        graph_of("network T { input x: float32[N, 3] output y = x }", N=value)


def test_set_offers_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'classes'"):
        graph_of("network T(classes=3) { input x: float32[N, 3] output y = x }", clases=3)


def test_frozen() -> None:
    graph = net("frozen f = T(_) output y = x -> f", "block T(x) { return x -> conv(6, 3) -> batch_norm }")
    assert not any(p.trainable for p in graph.parameters)
    assert parameters(graph)[0] == "f.conv.weight"


def test_networks_are_callable() -> None:
    source = """
    network Inner(width=4) {
        input a: float32[B, C, 2*s]
        input b: float32[B, C, s]
        output left = a -> dense(width)
        output right = b
    }
    network Outer {
        input x: float32[N, 3, 10]
        input y: float32[N, 3, 5]
        l, r = Inner(x, y, 6)
        pair = x -> Inner(b=y) as second
        output first = l
        output last = pair.left
    }"""
    graph = graph_of(source)
    assert shapes(graph) == {"first": "float32[N, 3, 6]", "last": "float32[N, 3, 4]"}
    assert parameters(graph) == ["Inner.dense.weight", "Inner.dense.bias", "second.dense.weight", "second.dense.bias"]


SAMPLE = """
# ResNet-50, He et al. 2015 (arXiv:1512.03385)
from "std:layers" import ConvBN

block Bottleneck(x, channels, stride=1) {
    y = x -> ConvBN(channels, 1)         -> relu
          -> ConvBN(channels, 3, stride) -> relu
          -> ConvBN(4 * channels, 1)
    shortcut = if x.shape == y.shape then x else x -> ConvBN(4 * channels, 1, stride)
    return relu(y + shortcut)
}

network ResNet50(classes=1000) {
    input image: float32[N, 3, 224, 224]

    x = image -> ConvBN(64, 7, stride=2) as stem -> relu -> max_pool(3, stride=2, padding=1)
    for channels, depth, stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)] as stage {
        x = x -> Bottleneck(channels, stride)
        repeat depth - 1 { x = x -> Bottleneck(channels) }
    }
    output logits = x -> global_avg_pool -> flatten -> dense(classes)
}

train ResNet50(lr=0.1) {
    target label: int64[N]
    loss      = cross_entropy(logits, label, label_smoothing=0.1)
    metric top1 = accuracy(logits, label)
    optimizer = sgd(lr=lr, momentum=0.9, weight_decay=1e-4)
    schedule  = cosine(warmup=0.05)
    epochs    = 90
    batch     = 256
}
"""


def test_the_sample() -> None:
    assert check(SourceFile("resnet50.net", SAMPLE)) == ()
    graph = elaborate(SourceFile("resnet50.net", SAMPLE)).graph
    names = parameters(graph)
    assert "stem.conv.weight" in names
    assert "stage_2.Bottleneck_3.ConvBN.batch_norm.running_mean" in names
    sizes = [p.value.type.size for p in graph.parameters if p.kind == "parameter"]
    assert sum(int(str(s)) for s in sizes) == 25_557_032


def test_the_sample_of_chains() -> None:
    source = """
    block DoubleConv(x, channels) {
        repeat 2 { x = x -> conv(channels, 3, padding=1) -> relu }
        return x
    }
    network U {
        input image: float32[N, 3, 4*h, 4*w]
        d = image -> DoubleConv(8) as skip1 -> max_pool(2) -> DoubleConv(16) as skip2 -> max_pool(2) -> DoubleConv(32)
        u = concat(d -> conv_transpose(16, 2, stride=2), skip2) -> DoubleConv(16)
        output y = u
        output z = skip1
    }"""
    graph = graph_of(source)
    assert shapes(graph) == {"y": "float32[N, 16, 2*h, 2*w]", "z": "float32[N, 8, 4*h, 4*w]"}
    assert {p.split(".")[0] for p in parameters(graph)} == {
        *("skip1", "skip2", "DoubleConv", "conv_transpose", "DoubleConv_2")
    }
