"""Saturating activations, one layer after the other, with nothing that keeps them in their steep part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netdsl.diagnostics import Diagnostic
from netdsl.ir.graph import Node, Value
from netdsl.lint.rule import Rule, note_at
from netdsl.lint.subject import Subject, span_of
from netdsl.ops.activation import HardSigmoid
from netdsl.ops.constant import Cast
from netdsl.ops.convolution import Conv
from netdsl.ops.dense import Dense
from netdsl.ops.global_pooling import AdaptiveAvgPool, GlobalPool
from netdsl.ops.padding import Pad
from netdsl.ops.pool import Pool
from netdsl.ops.regularisation import Dropout
from netdsl.ops.shape import Flatten, Reshape, Squeeze, Transpose, Unsqueeze
from netdsl.ops.smooth import Sigmoid, Softsign, Tanh
from netdsl.ops.transposed import ConvTranspose

SATURATION = Rule(
    name="saturating-activations",
    title="Saturating activations in a deep stack",
    what="Five or more trained layers in a row have sigmoid, tanh, softsign or hard_sigmoid as activation, without "
    "normalisation, and without a sum or a concatenation that leads past them.",
    why="Far from 0 these functions are flat, and gradients pass through each on their way down. Sigmoid's slope is at "
    "most 1/4: behind five of them less than a thousandth of the gradient is left, and the first layers do not learn "
    "([Glorot & Bengio 2010](https://proceedings.mlr.press/v9/glorot10a.html)).",
    mend="Use relu, gelu or silu, put a normalisation in front of the activations, or residual connections around "
    "them. A sigmoid at the end, or as a gate, is fine.",
    example="""\
network Net {
    input features: float32[N, 64]

    x = features
    repeat 6 { x = x -> dense(64) -> sigmoid }
    output y = x -> dense(4)
}
""",
    mended="""\
network Net {
    input features: float32[N, 64]

    x = features
    repeat 6 { x = x -> dense(64) -> relu }
    output y = x -> dense(4)
}
""",
)

MANY = 5  # LeNet-5, with four, trained well

_SATURATING = Sigmoid | Tanh | Softsign | HardSigmoid
_LAYERS = Conv | ConvTranspose | Dense
_NEUTRAL = (
    Cast | Dropout | Pool | GlobalPool | AdaptiveAvgPool | Pad | Flatten | Reshape | Squeeze | Transpose | Unsqueeze
)


@dataclass(frozen=True, slots=True)
class _Run:
    """Saturating activations in a row; `layer`: a trained layer came after the last."""

    first: Node | None = None
    count: int = 0
    layer: bool = False


def check(subject: Subject) -> Iterator[Diagnostic]:
    """At most one warning for a network: the first stack that is deep enough."""
    runs: dict[Value, _Run] = {}
    for node in subject.graph.nodes:
        before = runs.get(node.inputs[0], _Run()) if node.inputs else _Run()
        if isinstance(node.op, _LAYERS):
            runs[node.output] = _Run(before.first, before.count, subject.trains(node.inputs[1]))
        elif isinstance(node.op, _NEUTRAL):
            runs.update(dict.fromkeys(node.outputs, before))
        elif isinstance(node.op, _SATURATING) and before.layer:
            run = runs[node.output] = _Run(before.first or node, before.count + 1)
            if run.count == MANY:
                yield from _warning(node, run)
                return


def _warning(node: Node, run: _Run) -> Iterator[Diagnostic]:
    span = span_of(node)
    if span is not None and run.first is not None:
        yield SATURATION.warn(
            f"{MANY} layers in a row end in an activation that saturates, and nothing normalises between them: "
            "gradients vanish",
            span,
            notes=note_at("the first of them", span_of(run.first), span),
            help="use relu or gelu, put batch_norm in front of the activations, or residual connections around them",
        )
