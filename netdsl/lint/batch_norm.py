"""What stands in front of a batch norm and should not: a bias, dropout."""

from __future__ import annotations

from collections.abc import Iterator

from netdsl.diagnostics import Diagnostic
from netdsl.ir.graph import Node, Value
from netdsl.lint.rule import Rule, note_at
from netdsl.lint.subject import Subject, span_of
from netdsl.ops.activation import PRelu
from netdsl.ops.batch_norm import BatchNorm
from netdsl.ops.constant import Cast
from netdsl.ops.convolution import Conv
from netdsl.ops.dense import Dense
from netdsl.ops.elementwise import Elementwise
from netdsl.ops.global_pooling import AdaptiveAvgPool, GlobalPool
from netdsl.ops.pool import Pool
from netdsl.ops.regularisation import Dropout
from netdsl.ops.shape import Flatten, Reshape
from netdsl.ops.transposed import ConvTranspose

BIAS = Rule(
    name="bias-before-batch-norm",
    title="A bias right before a batch norm",
    what="A convolution or a dense layer has a bias, and its result goes to a batch norm and nowhere else.",
    why="The batch norm subtracts each channel's mean, and the bias with it: whatever its value, the result is the "
    "same. Its gradient is zero up to rounding, so it is stored, moved by weight decay, and never learns. The batch "
    "norm's own bias takes its place.",
    mend="Write `bias=false`. `ConvBN` of `std:layers` is a convolution without bias and its batch norm. A bias that "
    "other uses of a `shared` layer need, and one under `frozen`, is not warned about.",
    example="""\
network Net {
    input image: float32[N, 3, 32, 32]

    x = image -> conv(16, 3, padding=1) -> batch_norm -> relu
    output y = x -> conv(4, 1)
}
""",
    mended="""\
network Net {
    input image: float32[N, 3, 32, 32]

    x = image -> conv(16, 3, padding=1, bias=false) -> batch_norm -> relu
    output y = x -> conv(4, 1)
}
""",
)

DROPOUT = Rule(
    name="dropout-before-batch-norm",
    title="Dropout before a batch norm",
    what="Dropout stands in front of a batch norm that is trained, with only layers, activations and pooling between "
    "them.",
    why="In training dropout makes the variance larger than it is when the model runs, and the batch norm's running "
    "statistics keep the larger one. When the model runs, the batch norm divides by a deviation that its input no "
    "longer has ([Li et al. 2018](https://arxiv.org/abs/1801.05134) call it variance shift).",
    mend="Put dropout behind the last batch norm, before the classifier. Where a published network has it in front "
    "(Wide ResNet), allow it.",
    example="""\
network Net {
    input features: float32[N, 64]

    x = features -> dense(32) -> relu -> dropout(0.3)
    x = x -> dense(32, bias=false) -> batch_norm -> relu
    output y = x -> dense(4)
}
""",
    mended="""\
network Net {
    input features: float32[N, 64]

    x = features -> dense(32) -> relu
    x = x -> dense(32, bias=false) -> batch_norm -> relu
    output y = x -> dropout(0.3) -> dense(4)
}
""",
)

#: Operators of one tensor through which dropout's variance passes.
_LAYERS = Conv | ConvTranspose | Dense
_THROUGH = _LAYERS | Elementwise | PRelu | Cast | Pool | GlobalPool | AdaptiveAvgPool | Flatten | Reshape


def check(subject: Subject) -> Iterator[Diagnostic]:
    dropped: dict[Value, Node] = {}  # values that a dropout reaches, with it
    biases: dict[Value, Node] = {}  # with the first layer that adds each, and a batch norm behind it
    for node in subject.graph.nodes:
        before = dropped.get(node.inputs[0]) if node.inputs else None
        if isinstance(node.op, Dropout) and node.op.rate > 0:
            dropped[node.output] = node
        elif isinstance(node.op, BatchNorm):
            if subject.trains(node.inputs[1]):
                yield from _dropout(before, node)
                layer = subject.graph.producers.get(node.inputs[0])
                if layer is not None and _has_bias(layer):
                    biases.setdefault(layer.inputs[2], layer)
        elif before is not None and isinstance(node.op, _THROUGH):
            dropped[node.output] = before
    for bias, layer in biases.items():
        yield from _bias(subject, bias, layer)


def _dropout(dropout: Node | None, norm: Node) -> Iterator[Diagnostic]:
    span = span_of(dropout) if dropout else None
    if span is not None:
        yield DROPOUT.warn(
            "dropout before a batch norm: the running variance is that of training, with dropout, and too large "
            "when the model runs",
            span,
            notes=note_at("this batch norm keeps that variance", span_of(norm), span),
            help="put the dropout behind the last batch norm",
        )


def _bias(subject: Subject, bias: Value, layer: Node) -> Iterator[Diagnostic]:
    span = span_of(layer)
    users = subject.graph.users[bias]
    if span is None or not subject.trains(bias) or not all(_only_normalised(subject, user, bias) for user in users):
        return
    (norm, *_) = subject.graph.users[layer.output]
    yield BIAS.warn(
        f"the bias of this {layer.op.name} does nothing: the batch norm behind it subtracts it again",
        span,
        notes=note_at("this batch norm takes each channel's mean away", span_of(norm), span),
        help=f"write bias=false: {bias.shape[0]} parameters less",
    )


def _has_bias(node: Node) -> bool:
    """Whether it is a layer whose bias is one number for each entry of axis 1, which a batch norm works on."""
    channels_on_axis_1 = isinstance(node.op, Conv | ConvTranspose) or (
        isinstance(node.op, Dense) and node.output.rank == 2
    )
    return channels_on_axis_1 and len(node.inputs) > 2


def _only_normalised(subject: Subject, node: Node, bias: Value) -> bool:
    """Whether nothing but batch norms reads what a layer adds its bias to."""
    if not _has_bias(node) or node.inputs[2] is not bias or node.output in subject.graph.output_values:
        return False
    users = subject.graph.users.get(node.output, ())
    return bool(users) and all(
        isinstance(user.op, BatchNorm) and user.inputs[0] is node.output and subject.trains(user.inputs[1])
        for user in users
    )
