"""The table of warnings: every rule by its name, in the order of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from netdsl.lint import (
    allow,
    batch_norm,
    case,
    classifier,
    dilation,
    evaluation,
    losses,
    saturation,
    strides,
    unused,
)
from netdsl.lint.rule import Rule

#: Rules about the graph that a network becomes: they need it to be evaluated.
GRAPH_RULES = (
    batch_norm.BIAS,
    batch_norm.DROPOUT,
    losses.SOFTMAX,
    losses.SIGMOID,
    classifier.FIELD,
    classifier.DENSE,
    strides.STRIDE,
    dilation.GRIDDING,
    saturation.SATURATION,
    evaluation.NEW_SYMBOL,
)

#: Rules about the text alone.
TEXT_RULES = (
    unused.VALUE,
    unused.INPUT,
    unused.PARAMETER,
    unused.IMPORT,
    evaluation.UNREACHABLE,
    case.CASE,
    allow.UNKNOWN,
    allow.UNUSED,
)

RULES: Mapping[str, Rule] = MappingProxyType({rule.name: rule for rule in (*GRAPH_RULES, *TEXT_RULES)})
