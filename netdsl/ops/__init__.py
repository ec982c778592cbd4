"""The operator table: every operator by the name that programs use, and every primitive by its name in graphs.

A family is one module; adding an operator adds one class to one of them, and this table finds it.
"""

from __future__ import annotations

from types import MappingProxyType

from netdsl.ir.opdef import Operator, Primitive
from netdsl.ops import (
    activation,
    along,
    arithmetic,
    attention,
    batch_norm,
    batch_statistics,
    comparison,
    constant,
    convolution,
    convolution_gradient,
    cross_entropy,
    dense,
    einsum,
    embedding,
    gather,
    gelu_gradient,
    global_pooling,
    group_norm,
    gru,
    indexing,
    joining,
    loss,
    lstm,
    masked_softmax,
    multi_head_attention,
    nll,
    normalisation,
    onnx_node,
    ordering,
    padding,
    pooling,
    pooling_gradient,
    random,
    rearrange,
    rectifier,
    reduction,
    regularisation,
    resize,
    rnn,
    roi,
    roi_gradient,
    selection,
    shape,
    smooth,
    suppression,
    switchable_norm,
    transposed,
    unary,
    unpooling,
)

_FAMILIES = (
    constant,
    convolution,
    convolution_gradient,
    activation,
    along,
    nll,
    cross_entropy,
    loss,
    arithmetic,
    comparison,
    rectifier,
    smooth,
    reduction,
    regularisation,
    selection,
    unary,
    batch_norm,
    batch_statistics,
    dense,
    embedding,
    einsum,
    masked_softmax,
    attention,
    multi_head_attention,
    global_pooling,
    joining,
    pooling,
    pooling_gradient,
    shape,
    transposed,
    unpooling,
    normalisation,
    group_norm,
    switchable_norm,
    indexing,
    gather,
    gelu_gradient,
    onnx_node,
    ordering,
    padding,
    random,
    rearrange,
    resize,
    rnn,
    lstm,
    gru,
    roi,
    roi_gradient,
    suppression,
)

_DEFINED = [
    definition
    for module in _FAMILIES
    for definition in vars(module).values()
    if isinstance(definition, type)
    and issubclass(definition, Operator)
    and definition.__module__ == module.__name__
    and "name" in vars(definition)
]

#: What programs call, by name. Internal primitives are not among them.
OPERATORS = MappingProxyType({d.name: d for d in _DEFINED if d.family != "internal"})

#: What stands in graphs, by name.
PRIMITIVES: MappingProxyType[str, type[Primitive]] = MappingProxyType(
    {d.name: d for d in _DEFINED if issubclass(d, Primitive)}
)
