"""Classifiers on top of convolutions: what their global pooling averages over, and how many weights they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from netdsl.cost import ReceptiveField, receptive_fields
from netdsl.diagnostics import Diagnostic
from netdsl.ir.graph import Node, Value
from netdsl.lint.rule import Rule, note_at
from netdsl.lint.subject import Subject, span_of
from netdsl.ops.batch_norm import BatchNorm
from netdsl.ops.convolution import Conv
from netdsl.ops.dense import Dense
from netdsl.ops.elementwise import Elementwise
from netdsl.ops.global_pooling import GlobalPool
from netdsl.ops.reduction import Max, Mean
from netdsl.ops.regularisation import Dropout
from netdsl.ops.shape import Flatten, Reshape, Squeeze

FIELD = Rule(
    name="small-receptive-field",
    title="A receptive field smaller than the classifier's input",
    what="A network ends in global pooling and a classifier, and the positions that the pooling averages see only a "
    "part of the picture, whose size is known.",
    why="Pooling forgets where things were. Where each position sees 11×11 of 32×32 pixels, the classifier knows which "
    "textures of that size occur, and not how they are arranged: shapes larger than that do not exist for it "
    "([Brendel & Bethge 2019](https://arxiv.org/abs/1904.00760)). With `flatten` and a dense layer in place of the "
    "pooling every output sees everything, and there is no warning.",
    mend="Let convolutions or pooling have strides, add layers, or dilate them. `netdsl report` lists each layer's "
    "receptive field. A network that is meant to see textures alone says so: `# netdsl: allow small-receptive-field`.",
    example="""\
network Net {
    input image: float32[N, 3, 32, 32]

    x = image -> conv(16, 3, padding=1) -> relu -> conv(32, 3, padding=1) -> relu
    output logits = x -> global_avg_pool -> flatten -> dense(10)
}
""",
    mended="""\
network Net {
    input image: float32[N, 3, 32, 32]

    x = image -> conv(16, 3, padding=1) -> relu -> max_pool(4) -> conv(32, 3, padding=1) -> relu -> max_pool(4)
    x = x -> conv(64, 3, padding=1) -> relu
    output logits = x -> global_avg_pool -> flatten -> dense(10)
}
""",
)

DENSE = Rule(
    name="heavy-dense-layers",
    title="Dense layers that hold most of the parameters",
    what="A network flattens the maps of its convolutions, and its dense layers hold over 80 % of all parameters and "
    "10,000 of them or more.",
    why="The first dense layer has a weight for each position of each map, and learns the same thing anew at each: the "
    "file is large and slow to load, and the network overfits. Of VGG-16's 138 million parameters 124 million are "
    "those of its three dense layers, which do under 1 % of its arithmetic.",
    mend="Average each map over its positions before the classifier, `global_avg_pool -> flatten -> dense(classes)` "
    "([Lin et al. 2013](https://arxiv.org/abs/1312.4400)), or make the maps smaller with strides. Where the published "
    "network is like that (AlexNet, VGG), allow it.",
    example="""\
network Net {
    input image: float32[N, 1, 28, 28]

    x = image -> conv(16, 5, padding=2) -> relu -> max_pool(2) -> conv(32, 3, padding=1) -> relu
    output logits = x -> flatten -> dense(128) -> relu -> dense(10)
}
""",
    mended="""\
network Net {
    input image: float32[N, 1, 28, 28]

    x = image -> conv(16, 5, padding=2) -> relu -> max_pool(2) -> conv(32, 3, padding=1) -> relu
    x = x -> max_pool(2) -> conv(64, 5, padding=2) -> relu
    output logits = x -> global_avg_pool -> flatten -> dense(10)
}
""",
)

SHARE = 0.8  # of all parameters, above which dense layers are too heavy
ENOUGH = 10_000  # parameters, below which nobody cares

#: What may stand between the pooling and the output: one position goes in, one comes out.
_HEAD = Dense | Conv | Elementwise | Dropout | BatchNorm | Flatten | Reshape | Squeeze


def check(subject: Subject) -> Iterator[Diagnostic]:
    yield from _fields(subject)
    yield from _shares(subject)


# --- receptive fields ------------------------------------------------------------------------------------------------


def _fields(subject: Subject) -> Iterator[Diagnostic]:
    sized = any(isinstance(size, int) for image in subject.graph.inputs for size in image.shape[2:])
    pools = [pool for output in subject.graph.outputs if sized and (pool := _pooling(subject, output.value))]
    fields = receptive_fields(subject.graph) if pools else {}
    for pool in dict.fromkeys(pools):
        span, field = span_of(pool), fields.get(pool.inputs[0])
        image = next((v for v in subject.graph.inputs if field and v.rank - 2 == len(field.size)), None)
        if span is None or field is None or image is None or not _is_smaller(field, image):
            continue
        seen, whole = (_size(size) for size in (field.size, image.shape[2:]))
        yield FIELD.warn(
            f"small receptive field: each position that this pooling puts together sees {seen} "
            f"of the {whole} pixels of '{image.name}'",
            span,
            notes=note_at(f"'{image.name}' is {image.type}", subject.origins.get(image), span),
            help="use strides, pooling or more layers in front of it: what is larger than that cannot be told apart",
        )


def _pooling(subject: Subject, value: Value) -> Node | None:
    """The global pooling that an output is computed from by a classifier alone."""
    if value.rank != 2:
        return None
    node = subject.producer(value)
    while node is not None and not _pools_all(node):
        if not isinstance(node.op, _HEAD) or any(size != 1 for size in node.inputs[0].shape[2:]):
            return None
        node = subject.producer(node.inputs[0])
    return node


def _pools_all(node: Node) -> bool:
    """Whether a node makes one number of each map."""
    axes = tuple(range(2, node.inputs[0].rank)) if node.inputs else ()
    if isinstance(node.op, Mean | Max):
        return bool(axes) and tuple(sorted(node.op.axes)) == axes
    return isinstance(node.op, GlobalPool)


def _is_smaller(field: ReceptiveField, image: Value) -> bool:
    """Whether a field is smaller than the image on an axis whose size is known; positions outside aside."""
    return any(
        isinstance(size, int) and seen is not None and seen < size
        for seen, size in zip(field.size, image.shape[2:], strict=True)
    )


def _size(sizes: Sequence[object]) -> str:
    return "×".join(map(str, sizes))


# --- shares of parameters --------------------------------------------------------------------------------------------


def _shares(subject: Subject) -> Iterator[Diagnostic]:
    graph = subject.graph
    dense = {node.inputs[1]: node for node in graph.nodes if isinstance(node.op, Dense) and node.inputs[0].rank == 2}
    if not dense or not any(isinstance(node.op, Conv) for node in graph.nodes):
        return
    sizes = {p.value: _count(p.value) for p in graph.parameters if p.kind == "parameter"}
    of_layer = {node: sum(sizes.get(v, 0) for v in node.inputs[1:]) for node in dense.values()}
    total, held = sum(sizes.values()), sum(of_layer.values())
    largest = max(of_layer, key=lambda node: of_layer[node])
    maps, span = _flattened(subject, largest), span_of(largest)
    if held < ENOUGH or held <= SHARE * total or maps is None or span is None:
        return
    own = of_layer[largest]
    alone = f"; '{largest.path}' alone has {own:,} ({own / total:.1%})" if len(of_layer) > 1 else ""
    units, channels = largest.inputs[1].shape[0], maps.shape[1]
    assert isinstance(units, int) and isinstance(channels, int)
    pooled = units * channels + own - _count(largest.inputs[1])
    yield DENSE.warn(
        f"dense layers hold {held / total:.1%} of the network's {total:,} parameters{alone}",
        span,
        help=f"average the {_size(maps.shape[2:])} positions of each map first, global_avg_pool -> flatten: "
        f"this layer would have {pooled:,} parameters",
    )


def _count(value: Value) -> int:
    size = value.type.size
    return size if isinstance(size, int) else 0


def _flattened(subject: Subject, dense: Node) -> Value | None:
    """The maps of more than one position that a dense layer reads all at once; None where it does not."""
    node = subject.producer(dense.inputs[0])
    while node is not None and isinstance(node.op, Elementwise | Dropout):
        node = subject.producer(node.inputs[0])
    if node is None or not isinstance(node.op, Flatten | Reshape):
        return None
    maps = node.inputs[0]
    known = maps.rank > 2 and all(isinstance(size, int) for size in maps.shape[1:])
    return maps if known and any(size != 1 for size in maps.shape[2:]) else None
