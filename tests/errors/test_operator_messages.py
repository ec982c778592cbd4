"""What every operator says about wrong operands and arguments: wrong ranks and types, impossible sizes, negative
and fractional numbers, symbols where an integer is needed.

The calls are made from the operators' signatures, one mistake at a time. `operators.txt` holds each message as it is
printed below its place, and `ok` where the call is a right one; NETDSL_UPDATE_ERRORS=1 writes it anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netdsl.diagnostics import Severity
from netdsl.elaborate import check
from netdsl.ir.opdef import Operator
from netdsl.ops import OPERATORS
from netdsl.source import SourceFile

GOLDEN = Path(__file__).with_name("operators.txt")
INPUTS = """
    input x: float32[N, 4, 8, 8]
    input y: float32[N, 4, 8, 8]
    input rows: float32[N, 6, 8]
    input vector: float32[8]
    input scalar: float32[]
    input flags: bool[N, 4, 8, 8]
    input ids: int64[N, 4, 8, 8]
    input classes: int64[N]
    input numbers: int64[5]
    input boxes: float32[K, 4]
    input scores: float32[N, 3, K]
    input corners: float32[N, K, 4]
    input pictures: int64[K]
    param trained: float32[4]
"""
#: Tensors and arguments of a right call, where those of `USUAL` would be wrong: texts by the arguments' names.
RIGHT: dict[str, dict[str, str]] = {
    "attention": {"q": "rows", "k": "rows", "v": "rows", "heads": "2"},
    "categorical_cross_entropy": {"one_hot": "y"},
    "clip": {"min": "0"},
    "cross_entropy": {"logits": "flatten(x)", "ids": "classes"},
    "crop": {"size": "(4, 4)"},
    "einsum": {"equation": '"nchw->nc"', "operands": "x"},
    "embedding": {"ids": "ids"},
    "expand": {"shape": "(x.shape[0], 4, 8, 8)"},
    "gather": {"indices": "numbers"},
    "gru": {"x": "rows"},
    "l1": {"pattern": '"*"'},
    "l2": {"pattern": '"*"'},
    "lstm": {"x": "rows"},
    "matmul": {"a": "x", "b": "y"},
    "max_unpool": {"x": "x", "indices": "ids"},
    "multi_head_attention": {"x": "rows", "heads": "2"},
    "non_max_suppression": {"boxes": "corners", "scores": "scores"},
    "one_hot": {"ids": "classes"},
    "reshape": {"shape": "(x.shape[0], 256)"},
    "resize": {"scale": "2"},
    "rnn": {"x": "rows"},
    "roi_align": {"boxes": "boxes", "size": "2", "batch_indices": "pictures"},
    "roi_pool": {"boxes": "boxes", "size": "2", "batch_indices": "pictures"},
    "tensor": {"list": "[1, 2]"},
    "tile": {"repeats": "(1, 2, 1, 1)"},
    "where": {"condition": "flags", "a": "x", "b": "y"},
}
#: An argument of a right call by what it takes.
USUAL = {
    "tensor": "x",
    "tensor or number": "x",
    "tensors or numbers": "x, y",
    "tensors": "[x, y]",
    "positive integer": "2",
    "integer or one per axis": "2",
    "axis, axes or none": "1",
    "number of parts or list of sizes": "2",
    "number from 0 to below 1": "0.5",
    "element type": "float16",
    'integer, pairs, "same" or "valid"': "1",
    "equation in quotes": '"nchw->nc"',
}
#: Mistakes by what an argument takes: any kind that names one of the words gets those behind it.
MISTAKES = {
    "tensor": ("scalar", "vector", "flags", "ids", "3", "[x, y]", "none"),
    "integer": ("0", "-1", "2.5", "true", "x.shape[0]", "1000000", '"two"'),
    "number": ("-1", "2", '"two"', "x.shape[0]"),
    "float": ('"two"', "true", "x"),
    "axis": ("9", "1.5", '"two"'),
    "dimension": ("-1", "2.5", "(0, 0)", '"two"'),
    "one of": ('"other"', "1"),
    "true or false": ("1", '"yes"'),
    "initializer": ("1", "zeros(2)"),
    "element type": ("float8", '"float32"'),
    "equation": ('"nchw"', '"nc->"', '"nchw->z"', "1"),
    "string": ("1",),
    "parts": ("0", "3", "[1, 1]"),
}


def right_call(op: type[Operator]) -> dict[str, str]:
    """The required arguments of a right call, and those that `RIGHT` gives."""
    special = RIGHT.get(op.name, {})
    return {
        p.name: special[p.name] if p.name in special else USUAL[p.kind.text]
        for p in op.signature
        if p.required or p.name in special
    }


def calls(op: type[Operator]) -> Iterator[str]:
    right = right_call(op)
    yield written(op, right)
    for param in op.signature:
        wrong = dict.fromkeys(m for word, found in MISTAKES.items() if word in param.kind.text for m in found)
        for mistake in wrong:
            yield written(op, {**right, param.name: mistake})


def written(op: type[Operator], arguments: dict[str, str]) -> str:
    """Required arguments by position, the others by name."""
    required = {p.name for p in op.signature if p.required}
    parts = [text if name in required else f"{name}={text}" for name, text in arguments.items()]
    return f"{op.name}({', '.join(parts)})"


def message(call: str) -> str:
    """What is printed about a call, without its place; `ok` where it is a right one."""
    source = SourceFile("t.net", f"network T {{{INPUTS}    result = {call}\n    output z = x + 1\n}}\n")
    line = INPUTS.count("\n") + 1
    found = [d for d in check(source) if d.severity is Severity.ERROR]
    if not found:
        return "ok"
    (first,) = found
    assert first.place.line == line, f"{call}: {first}"
    return "\n    ".join([first.message, *(f"help: {h}" for h in first.help)])


def table() -> str:
    blocks = []
    for name in sorted(OPERATORS):
        blocks += [f"{call}\n    {message(call)}" for call in dict.fromkeys(calls(OPERATORS[name]))]
    return "\n".join(blocks) + "\n"


def test_every_message_is_as_it_was_reviewed() -> None:
    found = table()
    if os.environ.get("NETDSL_UPDATE_ERRORS") == "1":
        GOLDEN.write_text(found, encoding="utf-8")
    assert found == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_the_right_call_is_right(name: str) -> None:
    op = OPERATORS[name]
    assert message(written(op, right_call(op))) == "ok"
