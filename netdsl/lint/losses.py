"""Losses that apply softmax or sigmoid themselves, and are given its result."""

from __future__ import annotations

from collections.abc import Iterator

from netdsl.diagnostics import Diagnostic
from netdsl.ir.graph import Node, Value
from netdsl.lint.rule import Rule, note_at
from netdsl.lint.subject import Subject, span_of
from netdsl.ops.arithmetic import Mul, Sub
from netdsl.ops.nll import SoftmaxNll
from netdsl.ops.shape import Flatten, Reshape, Squeeze, Transpose, Unsqueeze
from netdsl.ops.smooth import LogSoftmax, Sigmoid, Softmax, Softplus

SOFTMAX = Rule(
    name="softmax-before-cross-entropy",
    title="Softmax before cross_entropy",
    what="`cross_entropy` or `categorical_cross_entropy` is given the result of a softmax.",
    why="They take logits and apply softmax themselves. A softmax of probabilities is nearly flat: for 10 classes the "
    "loss stays above 1.46 however sure and right the network is, gradients are small, and training is slow without "
    "saying why.",
    mend="Hand the logits to the loss. For probabilities when the model runs, give the network a second output: "
    "`output probabilities = logits -> softmax(axis=1)`.",
    example="""\
network Net(classes=10) {
    input features: float32[N, 64]

    output scores = features -> dense(classes) -> softmax
}

train Net {
    target label: int64[N]
    loss = cross_entropy(scores, label)
    optimizer = adam(lr=1e-3)
}
""",
    mended="""\
network Net(classes=10) {
    input features: float32[N, 64]

    output logits = features -> dense(classes)
    output scores = logits -> softmax
}

train Net {
    target label: int64[N]
    loss = cross_entropy(logits, label)
    optimizer = adam(lr=1e-3)
}
""",
)

SIGMOID = Rule(
    name="sigmoid-before-binary-cross-entropy",
    title="Sigmoid before binary_cross_entropy",
    what="`binary_cross_entropy` or `focal` is given the result of a sigmoid.",
    why="They take logits and apply the sigmoid themselves. A sigmoid of a probability lies between 0.5 and 0.73: the "
    "loss of a target of 0 never falls below 0.69, and training drives the logits to infinity.",
    mend="Hand the logits to the loss. For probabilities when the model runs, give the network a second output: "
    "`output probability = logit -> sigmoid`.",
    example="""\
network Net {
    input features: float32[N, 64]

    output score = features -> dense(1) -> sigmoid
}

train Net {
    target spam: float32[N, 1]
    loss = binary_cross_entropy(score, spam)
    optimizer = adam(lr=1e-3)
}
""",
    mended="""\
network Net {
    input features: float32[N, 64]

    output logit = features -> dense(1)
    output score = logit -> sigmoid
}

train Net {
    target spam: float32[N, 1]
    loss = binary_cross_entropy(logit, spam)
    optimizer = adam(lr=1e-3)
}
""",
)

_MOVES = Flatten | Reshape | Squeeze | Transpose | Unsqueeze


def check(subject: Subject) -> Iterator[Diagnostic]:
    for node, span in subject.placed():
        if isinstance(node.op, SoftmaxNll | LogSoftmax):
            activation = _behind(subject, node.inputs[0])
            if activation and type(activation.op) is Softmax and _same_classes(activation, node):
                yield SOFTMAX.warn(
                    "this loss takes logits and applies softmax itself, but is given the result of a softmax",
                    span,
                    notes=note_at("the softmax is here", span_of(activation), span),
                    help="hand it what stands in front of that softmax",
                )
        elif logits := _logistic(subject, node):
            activation = _behind(subject, logits)
            if activation and isinstance(activation.op, Sigmoid):
                yield SIGMOID.warn(
                    "this loss takes logits and applies the sigmoid itself, but is given the result of a sigmoid",
                    span,
                    notes=note_at("the sigmoid is here", span_of(activation), span),
                    help="hand it what stands in front of that sigmoid",
                )


def _behind(subject: Subject, value: Value) -> Node | None:
    """The node that computed a value, seen through what only moves elements."""
    node = subject.producer(value)
    while node is not None and isinstance(node.op, _MOVES):
        node = subject.producer(node.inputs[0])
    return node


def _same_classes(softmax: Node, loss: Node) -> bool:
    """Whether both are over axes of one size: a softmax over positions is another matter."""
    assert isinstance(softmax.op, Softmax) and isinstance(loss.op, SoftmaxNll | LogSoftmax)
    return softmax.output.shape[softmax.op.axis] == loss.inputs[0].shape[loss.op.axis]


def _logistic(subject: Subject, node: Node) -> Value | None:
    """`x` of `softplus(x) - x * t`, which is how binary cross-entropy of logits is computed without overflow."""
    if not isinstance(node.op, Sub):
        return None
    positive, product = (subject.graph.producers.get(value) for value in node.inputs)
    if positive and product and isinstance(positive.op, Softplus) and isinstance(product.op, Mul):
        x = positive.inputs[0]
        return x if x in product.inputs else None
    return None
