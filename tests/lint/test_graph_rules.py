"""Rules about graphs: what gets a warning, and what is near to it and gets none."""

from __future__ import annotations

import pytest

from netdsl.elaborate import check
from netdsl.source import SourceFile
from tests.lint.helpers import image, names, recipe, table, warned

NORM = "batch_norm -> relu"


@pytest.mark.parametrize(
    "text",
    [
        image(f"x = x -> conv(6, 3) -> {NORM}"),
        image(f"x = x -> depthwise_conv(3) -> {NORM}"),
        image(f"x = x -> conv_transpose(6, 3) -> {NORM}"),
        table(f"x = x -> dense(8) -> {NORM}"),
        image(f"x = (x -> conv(6, 3)) -> {NORM}"),
        image("f = conv(_, 6, 3)\nx = x -> f -> batch_norm"),
        image("shared f = conv(_, 6, 3, padding=1)\nx = (x -> f -> batch_norm) + (x -> f -> batch_norm)"),
        image("x = x -> MLP([8, 6]) -> batch_norm", 'from "std:layers" import MLP', "N, 6"),
    ],
)
def test_a_bias_before_a_batch_norm(text: str) -> None:
    assert set(names(text)) == {"bias-before-batch-norm"}


@pytest.mark.parametrize(
    "text",
    [
        image(f"x = x -> conv(6, 3, bias=false) -> {NORM}"),
        image(f"x = x -> conv(6, 3) -> relu -> {NORM}"),
        image(f"x = x -> conv(6, 3) -> instance_norm -> {NORM}"),
        # The bias reaches something else, too.
        image("y = x -> conv(6, 3)\nx = y + (y -> batch_norm)"),
        image("y = x -> conv(6, 3)\noutput y\nx = y -> batch_norm"),
        image("shared f = conv(_, 6, 3, padding=1)\nx = x -> f -> batch_norm -> f"),
        image("shared f = conv(_, 6, 3, padding=1)\ny = x -> f -> relu\nx = y + (x -> f -> batch_norm)"),
        # The last axis is not the one that a batch norm works on.
        image("x = x -> dense(5) -> batch_norm", shape="N, 6, 8"),
        # Under `frozen` the batch norm uses its running mean.
        image(
            "frozen f = Teacher(_)\nx = x -> f",
            "block Teacher(x) { return x -> conv(6, 3) -> batch_norm }",
        ),
        # The frozen convolution's bias is the checkpoint's.
        image("frozen f = conv(_, 6, 3)\nx = x -> f -> batch_norm"),
    ],
)
def test_a_bias_that_something_needs(text: str) -> None:
    assert warned(text) == []


def test_a_block_that_is_called_often_is_warned_about_once() -> None:
    text = image("repeat 20 { x = x -> Unit }", "block Unit(x) {\n return x -> conv(6, 3, padding=1) -> batch_norm }")
    assert warned(text) == ["bias-before-batch-norm 2:14"]


def test_the_librarys_layers_are_warned_about_at_the_users_call() -> None:
    text = image("x = x -> ConvBN(8, 1, stride=2) as narrow", 'from "std:layers" import ConvBN')
    assert warned(text) == ["stride-skips-pixels 4:10"]


@pytest.mark.parametrize(
    "text",
    [
        table("x = x -> dropout -> batch_norm"),
        table("x = x -> dense(4) -> dropout(0.1) -> dense(4, bias=false) -> batch_norm"),
        image("x = x -> dropout -> relu -> max_pool(2) -> conv(6, 1, bias=false) -> batch_norm"),
        image("x = x -> dropout -> flatten -> dense(6, bias=false) -> batch_norm"),
    ],
)
def test_dropout_before_a_batch_norm(text: str) -> None:
    assert names(text) == ["dropout-before-batch-norm"]


@pytest.mark.parametrize(
    "text",
    [
        table("x = x -> batch_norm -> dropout -> dense(4)"),
        table("x = x -> dropout(0) -> batch_norm"),
        table("x = x -> dropout -> layer_norm -> dense(8, bias=false) -> batch_norm"),
        image("x = x -> drop_path(0.1) -> batch_norm"),
        image("y = x -> dropout\nx = (x + y) -> batch_norm"),
        table("frozen f = Old(_)\nx = x -> dropout -> f", "block Old(x) { return x -> batch_norm }"),
    ],
)
def test_dropout_elsewhere(text: str) -> None:
    assert warned(text) == []


@pytest.mark.parametrize(
    ("network", "loss", "target"),
    [
        (table("x = x -> dense(3) -> softmax"), "cross_entropy(out, t)", "int64[N]"),
        (table("x = x -> dense(3) -> softmax"), "cross_entropy(out, t, label_smoothing=0.1)", "int64[N]"),
        (
            table("x = x -> dense(3) -> softmax"),
            "0.5 * cross_entropy((out -> cast(float64)) -> cast(float32), t)",
            "int64[N]",
        ),
        (table("x = x -> dense(3) -> softmax"), "categorical_cross_entropy(out, t)", "float32[N, 3]"),
        (image("x = x -> softmax(axis=1)"), "cross_entropy(out, t)", "int64[N, 32, 32]"),
        (image("x = x -> softmax(axis=1) -> flatten(2)"), "cross_entropy(out, t)", "int64[N, 1024]"),
    ],
)
def test_softmax_before_cross_entropy(network: str, loss: str, target: str) -> None:
    assert names(recipe(network, loss, target)) == ["softmax-before-cross-entropy"]


@pytest.mark.parametrize(
    ("network", "loss", "target"),
    [
        (table("x = x -> dense(3)"), "cross_entropy(out, t)", "int64[N]"),
        (table("x = x -> dense(3) -> softmax -> dense(3)"), "cross_entropy(out, t)", "int64[N]"),
        (table("x = x -> dense(3) -> log_softmax"), "cross_entropy(out, t)", "int64[N]"),
        (table("x = x -> dense(3) -> softmax"), "mse(out, t)", "float32[N, 3]"),
        (image("x = x -> softmax(axis=-1)"), "cross_entropy(out, t)", "int64[N, 32, 32]"),
        (table("x = x -> dense(3)"), "binary_cross_entropy(out, t)", "float32[N, 3]"),
        (table("x = x -> dense(3) -> tanh"), "binary_cross_entropy(out, t)", "float32[N, 3]"),
        (table("x = x -> dense(3) -> sigmoid"), "mse(out, t)", "float32[N, 3]"),
        (table("x = x -> dense(3) -> sigmoid"), "mean(softplus(out) - t)", "float32[N, 3]"),
    ],
)
def test_losses_of_logits(network: str, loss: str, target: str) -> None:
    assert warned(recipe(network, loss, target)) == []


@pytest.mark.parametrize("loss", ["binary_cross_entropy(out, t)", "focal(out, t)", "focal(out, t, gamma=0)"])
def test_sigmoid_before_a_loss_that_applies_it(loss: str) -> None:
    network = table("x = x -> dense(3) -> sigmoid")
    assert names(recipe(network, loss, "float32[N, 3]")) == ["sigmoid-before-binary-cross-entropy"]


@pytest.mark.parametrize(
    "body",
    [
        "x = x -> conv(8, 1, stride=2)",
        "x = x -> conv(8, 3, stride=4)",
        "x = x -> conv(8, (1, 3), stride=2)",
        "x = x -> conv(8, 2, stride=2, dilation=2)",
        "x = x -> max_pool(1, stride=2)",
        "x = x -> avg_pool(2, stride=3)",
        "x = x -> conv_transpose(8, 1, stride=2)",
        "x = (x -> conv(8, 1, stride=2)) + (x -> max_pool(1, stride=2) -> conv(8, 1))",
    ],
)
def test_a_stride_that_skips_pixels(body: str) -> None:
    assert set(names(image(body))) == {"stride-skips-pixels"}


@pytest.mark.parametrize(
    "body",
    [
        "x = x -> conv(8, 2, stride=2)",
        "x = x -> conv(8, 3, stride=2, dilation=3)",
        "x = x -> conv(8, (1, 3), stride=(1, 2))",
        "x = x -> max_pool(2)",
        "x = x -> conv_transpose(8, 2, stride=2)",
        # The other branch reads every pixel.
        "x = (x -> conv(8, 1, stride=2)) + (x -> conv(8, 3, stride=2, padding=1))",
        "x = (x -> conv(8, 1, stride=2)) + (x -> conv(8, 1) -> max_pool(2))",
        "x = x -> conv(8, 1)\noutput fine = x\nx = x -> max_pool(1, stride=2)",
        # There is one window.
        "x = x -> conv(8, 32, stride=64)",
        "x = x -> global_avg_pool -> conv(8, 1, stride=2)",
    ],
)
def test_strides_that_skip_nothing(body: str) -> None:
    assert warned(image(body)) == []


def test_the_share_that_is_read() -> None:
    (found,) = check(SourceFile("t.net", image("x = x -> conv(8, (2, 3), stride=(3, 3))")))
    assert "reads 2 of 3 positions of its input: its kernel is 2 × 3, its stride 3 × 3" in found.message


@pytest.mark.parametrize(
    "body",
    [
        "x = x -> global_avg_pool -> flatten -> dense(10)",
        "x = x -> conv(8, 3) -> mean(axes=[2, 3]) -> dense(10)",
        "x = x -> conv(8, 3) -> relu -> global_max_pool -> conv(10, 1) -> flatten",
        "x = x -> conv(10, 31) -> global_avg_pool -> flatten -> dropout -> dense(4) -> softmax",
        "x = x -> conv(10, (32, 31)) -> adaptive_avg_pool(1) -> flatten",
    ],
)
def test_a_small_receptive_field(body: str) -> None:
    assert names(image(body)) == ["small-receptive-field"]


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("x = x -> conv(10, 32) -> global_avg_pool -> flatten", "N, 6, 32, 32"),
        ("x = x -> conv(10, 3) -> global_avg_pool -> flatten", "N, 6, H, W"),
        ("x = x -> conv(10, 3, stride=3) -> adaptive_avg_pool(4) -> flatten -> dense(8)", "N, 6, 32, 32"),
        ("x = x -> conv(10, 3) -> global_avg_pool", "N, 6, 32, 32"),  # no classifier: a gate, a feature
        (
            "y = x * (x -> global_avg_pool -> conv(6, 1))\nx = y -> global_avg_pool -> flatten",
            "N, 6, 32, 32",
        ),  # it saw all
        ("x = x -> mean(axes=1) -> flatten -> dense(8)", "N, 6, 32, 32"),
    ],
)
def test_receptive_fields_that_are_no_classifiers_matter(body: str, shape: str) -> None:
    assert warned(image(body, shape=shape)) == []


def test_a_receptive_field_in_inputs_of_several_ranks() -> None:
    """What is pooled has fewer axes than the input that it comes from, and as many as the other one."""
    body = "input small: float32[N, 10, 8, 8]\ny = (x -> conv(10, 3) -> mean(axes=2)) + mean(small)\n"
    assert warned(image(body + "x = y -> global_avg_pool -> flatten", shape="N, 6, 32, 32, 32")) == []


@pytest.mark.parametrize(
    "body",
    [
        "x = x -> conv(8, 3, stride=2) -> flatten -> dense(10)",
        "x = x -> conv(8, 3, stride=2) -> reshape([-1, 1800]) -> relu -> dropout -> dense(10) -> relu -> dense(10)",
    ],
)
def test_dense_layers_that_hold_most_parameters(body: str) -> None:
    assert names(image(body)) == ["heavy-dense-layers"]


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("x = x -> conv(8, 3, stride=2) -> flatten -> dense(5)", "N, 6, 32, 32"),  # 9,005 of them
        ("x = x -> conv(64, 9, stride=8) -> flatten -> dense(20)", "N, 6, 32, 32"),  # 60 %
        ("x = x -> flatten -> dense(100)", "N, 6, 32, 32"),  # no convolutions
        ("x = x -> conv(8, 31) -> global_avg_pool -> flatten -> dense(9000)", "N, 6, 31, 31"),  # nothing to pool
        ("x = x -> conv(6, 1) -> dense(500)", "N, 6, 32, 32"),  # no classifier: a matrix for each row
    ],
)
def test_dense_layers_that_are_light_or_alone(body: str, shape: str) -> None:
    assert warned(image(body, shape=shape)) == []


def dilated(*dilations: int, kernel: int = 3) -> str:
    layers = (f'conv(6, {kernel}, padding="same", dilation={d}) -> relu' for d in dilations)
    return f"x = x -> {' -> '.join(layers)}"


@pytest.mark.parametrize(
    "body",
    [
        dilated(2, 2),
        dilated(4, 2),
        dilated(3, 6, 9),
        dilated(1, 6, 12),  # three pixels wide, six apart
        dilated(2, 2, kernel=5),
        "repeat 3 { x = x + (x -> conv(6, 3, padding=2, dilation=2)) }",
        dilated(2) + " -> conv(6, 1) -> layer_norm\n" + dilated(2),
        dilated(2, 2) + " -> max_pool(2) -> conv(6, 3)",
    ],
)
def test_dilation_gridding(body: str) -> None:
    assert names(image(body)) == ["dilation-gridding"]


@pytest.mark.parametrize(
    "body",
    [
        dilated(1, 2, 4, 8, 16, 1),
        dilated(2, 2, 1),
        dilated(2, 3),
        dilated(1, 2, 5),
        dilated(2),
        dilated(1, 2, 4, kernel=2),
        dilated(1, 1, 1, 6, 6),
        # One after the other resolution changed, or next to each other.
        dilated(2) + " -> max_pool(2)\n" + dilated(2),
        "x = concat(x -> conv(6, 3, padding=6, dilation=6), x -> conv(6, 3, padding=12, dilation=12))",
        "x = x -> conv(6, (1, 3), padding=(0, 2), dilation=2) -> conv(6, (3, 1), padding=(2, 0), dilation=2)",
    ],
)
def test_dilations_without_holes(body: str) -> None:
    assert warned(image(body)) == []


@pytest.mark.parametrize(
    "body",
    [
        "repeat 5 { x = x -> dense(8) -> tanh }",
        "repeat 3 { x = x -> dense(8) -> sigmoid -> dropout(0.1) -> dense(8) -> softsign }",
    ],
)
def test_saturating_activations(body: str) -> None:
    assert names(table(body)) == ["saturating-activations"]


@pytest.mark.parametrize(
    "body",
    [
        "repeat 4 { x = x -> dense(8) -> tanh }",
        "repeat 9 { x = x -> dense(8, bias=false) -> batch_norm -> tanh }",
        "repeat 9 { x = x -> dense(8) -> tanh -> layer_norm }",
        "repeat 9 { x = x + (x -> dense(8) -> tanh) }",
        "repeat 9 { x = x * (x -> dense(8) -> sigmoid) }",
        "repeat 9 { x = x -> dense(8) -> relu -> dense(8) -> tanh }",
        "repeat 9 { x = x -> tanh }",
        "frozen f = Deep(_)\nx = x -> f",
    ],
)
def test_saturating_activations_that_are_few_or_kept_in_check(body: str) -> None:
    assert warned(table(body, "block Deep(x) {\n repeat 9 { x = x -> dense(8) -> tanh }\n return x\n}")) == []


def test_a_file_with_errors_gets_none_of_them() -> None:
    found = check(SourceFile("t.net", image("y = x\nx = x -> conv(6, 3) -> batch_norm -> rleu")))
    assert [d.name for d in found] == ["unknown-name"]
