"""A scale of channels in front of a convolution's gradients goes into the weight."""

from __future__ import annotations

import pytest

from netdsl.ir.text import parse_graph
from netdsl.ops import PRIMITIVES
from netdsl.ops.arithmetic import Mul
from netdsl.passes.fold_gradient_scale import FoldGradientScale
from netdsl.passes.log import RewriteLog
from netdsl.passes.pipelines import TRAINING, run_passes
from tests.autodiff.stepping import step_of
from tests.passes.support import check_text, refusals

INPUTS = """
graph "g" {
  input %dy: float64[2, 4, 5, 6]
  input %s: float64[4, 1, 1]
  input %w: float64[4, 3, 3, 3]
  input %x: float64[2, 3, 5, 6]
"""
WINDOW = "stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1"
SCALED = "  %m: float64[2, 4, 5, 6] = mul(%dy, %s) @m\n"
GRADIENTS = f"""
  %dx: float64[2, 3, 5, 6] = conv_input_gradient(%m, %w) {{{WINDOW}, size=(5, 6)}} @dx
  %dw: float64[4, 3, 3, 3] = conv_weight_gradient(%x, %m) {{{WINDOW}, kernel=(3, 3)}} @dw
  output dx = %dx
  output dw = %dw
"""
FOLDED = f"""
  %dx: float64[4, 1, 1, 1] = reshape(%s) {{shape=(4, 1, 1, 1)}} @dx
  %dx#2: float64[4, 3, 3, 3] = mul(%w, %dx) @dx
  %dx#3: float64[2, 3, 5, 6] = conv_input_gradient(%dy, %dx#2) {{{WINDOW}, size=(5, 6)}} @dx
  %dw: float64[4, 1, 1, 1] = reshape(%s) {{shape=(4, 1, 1, 1)}} @dw
  %dw#2: float64[4, 3, 3, 3] = conv_weight_gradient(%x, %dy) {{{WINDOW}, kernel=(3, 3)}} @dw
  %dw#3: float64[4, 3, 3, 3] = mul(%dw#2, %dw) @dw
  output dx = %dx#3
  output dw = %dw#3
"""


def test_both_gradients() -> None:
    check_text(FoldGradientScale(), INPUTS + SCALED + GRADIENTS + "}\n", INPUTS + FOLDED + "}\n")


@pytest.mark.parametrize(
    "reader", ["  output other = %m\n", "  %e: float64[2, 4, 5, 6] = exp(%m) @e\n  output other = %e\n"]
)
def test_refuses_where_something_else_reads_it(reader: str) -> None:
    text = INPUTS + SCALED + GRADIENTS.replace("  output", f"{reader}  output", 1) + "}\n"
    graph = parse_graph(_ordered(text), PRIMITIVES)
    assert refusals(FoldGradientScale(), graph) == ["something else reads the scaled gradient too"] * 2


def _ordered(text: str) -> str:
    """Nodes before outputs."""
    lines = text.splitlines()
    return "\n".join(sorted(lines[:-1], key=lambda line: line.startswith("  output")) + lines[-1:])


def test_a_factor_that_is_no_scale_of_channels_stays() -> None:
    text = INPUTS.replace("%s: float64[4, 1, 1]", "%s: float64[5, 6]") + SCALED + GRADIENTS + "}\n"
    assert refusals(FoldGradientScale(), parse_graph(text, PRIMITIVES)) == []


def test_no_activation_is_scaled_between_a_batch_norm_and_its_convolution() -> None:
    step = step_of(
        """network T { input x: float32[N, 3, 8, 8]
        output y = x -> conv(4, 3, bias=false) -> batch_norm -> relu -> conv(5, 3, bias=false) -> batch_norm }
        train T { loss = mean(y * y * y)  optimizer = sgd(0.1) }"""
    )
    graph = run_passes(step.graph, TRAINING, RewriteLog())
    assert not [n for n in graph.nodes if isinstance(n.op, Mul) and any(v.shape[1:] == (1, 1) for v in n.inputs)]
    folded = [n for n in graph.nodes if isinstance(n.op, Mul) and n.output.shape in ((4, 3, 3, 3), (5, 4, 3, 3))]
    assert {n.output.shape for n in folded} == {(4, 3, 3, 3), (5, 4, 3, 3)}
