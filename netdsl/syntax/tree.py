"""The syntax tree: frozen dataclasses, each with the span of its text.

Expressions keep parentheses (`Paren`): the formatter prints them back, and a parenthesised chain step is a value of its
own. Left-leaning spines that may be of any length are flat: `a + b + c` is one `Operation` with three operands,
`x -> f -> g` one `Chain` with two steps, `if … else if … else` one `If` with its branches.
"""

from __future__ import annotations

from dataclasses import dataclass

from netdsl.source import SourceFile, Span


@dataclass(frozen=True, slots=True)
class Node:
    span: Span


# --- expressions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expr(Node):
    pass


@dataclass(frozen=True, slots=True)
class Name(Expr):
    id: str


@dataclass(frozen=True, slots=True)
class Literal(Expr):
    """An integer, float, string, `true`, `false` or `none`."""

    value: int | float | str | bool | None


@dataclass(frozen=True, slots=True)
class Hole(Expr):
    """`_` as an argument."""


@dataclass(frozen=True, slots=True)
class Paren(Expr):
    value: Expr


@dataclass(frozen=True, slots=True)
class Tuple(Expr):
    """`(a, b)`, or the unparenthesised `a, b` of an assignment or return."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class List(Expr):
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Operation(Expr):
    """Operands joined by left-associative binary operators of one precedence: `first op1 rest1 op2 rest2 …`.

    `ops` holds `+ - * / // % @` (arithmetic) or `and` / `or`; `op_spans` the operators' own spans.
    """

    first: Expr
    rest: tuple[Expr, ...]
    ops: tuple[str, ...]
    op_spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Power(Expr):
    base: Expr
    exponent: Expr


@dataclass(frozen=True, slots=True)
class Unary(Expr):
    """`-x` or `not x`."""

    op: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Compare(Expr):
    """`a op b` with op one of `== != < <= > >= in`, and `not in`."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Conditional(Expr):
    """`if condition then value else otherwise`."""

    condition: Expr
    value: Expr
    otherwise: Expr


@dataclass(frozen=True, slots=True)
class Argument(Node):
    """A call's argument; `name` is None for one by position."""

    name: str | None
    name_span: Span | None
    value: Expr


@dataclass(frozen=True, slots=True)
class Call(Expr):
    function: Expr
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Attribute(Expr):
    value: Expr
    name: str
    name_span: Span


@dataclass(frozen=True, slots=True)
class Slice(Node):
    """`start:stop:step` inside an index, each part optional."""

    start: Expr | None
    stop: Expr | None
    step: Expr | None


@dataclass(frozen=True, slots=True)
class Ellipsis(Node):
    """`...` inside an index."""


@dataclass(frozen=True, slots=True)
class Index(Expr):
    value: Expr
    items: tuple[Expr | Slice | Ellipsis, ...]


@dataclass(frozen=True, slots=True)
class Step(Node):
    """One `-> function as label` of a chain."""

    function: Expr
    label: Identifier | None


@dataclass(frozen=True, slots=True)
class Chain(Expr):
    """`value -> step -> step`."""

    value: Expr
    steps: tuple[Step, ...]


# --- statements ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identifier(Node):
    """A name being bound."""

    id: str


@dataclass(frozen=True, slots=True)
class Discard(Node):
    """`_` as a target."""


@dataclass(frozen=True, slots=True)
class TargetTuple(Node):
    """`a, (b, c)` as a loop's target."""

    items: tuple[Target, ...]


Target = Identifier | Discard | TargetTuple


@dataclass(frozen=True, slots=True)
class TypeExpr(Node):
    """`float32[N, 3, 224, 224]`."""

    dtype: Identifier
    dims: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Statement(Node):
    pass


@dataclass(frozen=True, slots=True)
class Assign(Statement):
    """`a, b = value`; one target binds the whole value."""

    targets: tuple[Target, ...]
    value: Expr


@dataclass(frozen=True, slots=True)
class AugAssign(Statement):
    """`a += value`; `op` is `+`, `-` or `*`."""

    target: Identifier
    op: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Input(Statement):
    """`input name: type`, or `target name: type` of a recipe when `kind` is "target"."""

    kind: str
    name: Identifier
    type: TypeExpr


@dataclass(frozen=True, slots=True)
class Output(Statement):
    """`output name = value`, or `output a, b` (value is None)."""

    names: tuple[Identifier, ...]
    value: Expr | None


@dataclass(frozen=True, slots=True)
class Return(Statement):
    value: Expr


@dataclass(frozen=True, slots=True)
class Body(Node):
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class For(Statement):
    target: Target
    iterable: Expr
    label: Identifier | None
    body: Body


@dataclass(frozen=True, slots=True)
class Repeat(Statement):
    count: Expr
    label: Identifier | None
    body: Body


@dataclass(frozen=True, slots=True)
class Branch(Node):
    condition: Expr
    body: Body


@dataclass(frozen=True, slots=True)
class If(Statement):
    """`if c {…} else if c {…} else {…}`."""

    branches: tuple[Branch, ...]
    otherwise: Body | None


@dataclass(frozen=True, slots=True)
class Assert(Statement):
    condition: Expr
    message: Expr | None


@dataclass(frozen=True, slots=True)
class ParamDecl(Statement):
    """`param name: type = initializer`."""

    name: Identifier
    type: TypeExpr
    initializer: Expr | None


@dataclass(frozen=True, slots=True)
class Shared(Statement):
    """`shared f = callable`, or `frozen f = callable` when `frozen` is true."""

    frozen: bool
    name: Identifier
    value: Expr


@dataclass(frozen=True, slots=True)
class Metric(Statement):
    """`metric name = value` in a recipe."""

    name: Identifier
    value: Expr


@dataclass(frozen=True, slots=True)
class Labelled(Statement):
    """`augment name = value` in a recipe: a setting that belongs to one input."""

    setting: Identifier
    name: Identifier
    value: Expr


# --- definitions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter(Node):
    """A parameter of a block, network or recipe."""

    name: Identifier
    default: Expr | None


@dataclass(frozen=True, slots=True)
class Definition(Node):
    pass


@dataclass(frozen=True, slots=True)
class Import(Definition):
    """`import "path" as alias`."""

    path: str
    path_span: Span
    alias: Identifier


@dataclass(frozen=True, slots=True)
class ImportedName(Node):
    name: Identifier
    alias: Identifier | None


@dataclass(frozen=True, slots=True)
class FromImport(Definition):
    """`from "path" import A, B as C`."""

    path: str
    path_span: Span
    names: tuple[ImportedName, ...]


@dataclass(frozen=True, slots=True)
class Constant(Definition):
    name: Identifier
    value: Expr


@dataclass(frozen=True, slots=True)
class Block(Definition):
    name: Identifier
    parameters: tuple[Parameter, ...]
    body: Body


@dataclass(frozen=True, slots=True)
class Network(Definition):
    name: Identifier
    parameters: tuple[Parameter, ...]
    body: Body


@dataclass(frozen=True, slots=True)
class Train(Definition):
    """`train Name "label" (…) {…}`; `network` is a `Name` or an `Attribute` (`r.Name`)."""

    network: Expr
    label: str | None
    parameters: tuple[Parameter, ...]
    body: Body


@dataclass(frozen=True, slots=True)
class Comment(Node):
    """A `#` comment; `text` includes the `#`. `own_line` says that nothing but white space stands before it."""

    text: str
    own_line: bool


@dataclass(frozen=True, slots=True)
class File:
    """A parsed file: definitions in order, and the comments that the formatter and `netdsl: allow` need."""

    source: SourceFile
    definitions: tuple[Definition, ...]
    comments: tuple[Comment, ...]
