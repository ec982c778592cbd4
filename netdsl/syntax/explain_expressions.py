"""Explanations of faults inside expressions."""

from __future__ import annotations

from netdsl.diagnostics import Diagnostic, Note
from netdsl.source import Span
from netdsl.syntax import tree
from netdsl.syntax.context import OPERATORS, Context
from netdsl.syntax.lalr import END, Token
from netdsl.syntax.recover import is_name

_ENDS = frozenset(("RPAR", "RSQB", "NUMBER", "STRING", "TRUE", "FALSE", "NONE", "HOLE"))


def _ends_expression(token: Token | None) -> bool:
    return token is not None and (is_name(token) or token.type in _ENDS)


def _find(context: Context, kind: str, start: int) -> int | None:
    """The index of the next token of a kind at the same depth, within the same bracket."""
    depth = 0
    for i in range(start, context.next_definition):
        token = context.tokens[i]
        depth += (token.type in ("LPAR", "LSQB")) - (token.type in ("RPAR", "RSQB"))
        if depth < 0 or token.type in ("LBRACE", "RBRACE", END):
            return None
        if token.type == kind and depth == 0:
            return i
    return None


def python_conditional(context: Context) -> Diagnostic | None:
    """`x if c else y`: inside brackets refused at `if`, in a statement (where `if` starts the next one) at `else`."""
    if context.token.type == "IF" and _ends_expression(context.before):
        otherwise, start, at_if = _find(context, "ELSE", context.index + 1), context.operand_start(), context.index
    elif context.token.type == "ELSE":
        statement, last = context.statement(), context.last_statement()
        if not statement or not isinstance(statement[0], Token) or statement[0].type != "IF":
            return None
        at_if = next(i for i in range(context.index, -1, -1) if context.tokens[i] is statement[0])
        if context.on_new_line(at_if) or last is None:
            return None
        value = getattr(last, "value", None)
        start, otherwise = (value.span.start if isinstance(value, tree.Expr) else None), context.index
    else:
        return None
    if otherwise is None or start is None:
        return None
    end = context.expression_end(otherwise + 1)
    value_text = context.text(start, context.tokens[at_if - 1].end)
    condition = context.text(context.tokens[at_if].end, context.tokens[otherwise].start).strip()
    help = f"write 'if {condition} then {value_text} else {context.text(context.tokens[otherwise].end, end).strip()}'"
    message = "'x if c else y' is Python's conditional"
    return context.error(message, Span(context.source, start, max(end, context.tokens[otherwise].end)), help=help)


def comprehension(context: Context) -> Diagnostic | None:
    """`[f(x) for x in xs]`."""
    opener = context.brackets.enclosing(context.index)
    if context.token.type != "FOR" or opener is None or context.tokens[opener].type == "LBRACE":
        return None
    if context.on_new_line(context.index) and opener in context.brackets.unclosed:
        return None
    help = "start with 'items = []' and write 'for x in … { items = items + [ … ] }'"
    return context.error("there are no comprehensions", help=help)


def conditional_parts(context: Context) -> Diagnostic | None:
    """A conditional expression without its `then` or `else`."""
    opened = [v for v in context.machine.values if isinstance(v, Token) and v.type in ("IF", "THEN", "ELSE")]
    if not opened or not _ends_expression(context.before):
        return None
    token, shape = context.token, "a conditional expression is written 'if condition then value else other'"
    if context.can_follow("ELSE") and opened[-1].type == "THEN":
        note = Note("the 'then' that it belongs to", context.span(opened[-1]))
        return context.error(f"expected 'else' {_before(token)}", notes=[note], help=shape)
    if context.can_follow("THEN") and not context.can_follow("LBRACE") and opened[-1].type == "IF":
        note = Note("the 'if' that it belongs to", context.span(opened[-1]))
        return context.error(f"expected 'then' {_before(token)}", notes=[note], help=shape)
    if token.type == "THEN" and context.can_follow("LBRACE"):
        return context.error(
            "expected '{' before 'then'", help="an 'if' statement is written 'if condition { … } else { … }'"
        )
    return None


def _before(token: Token) -> str:
    return "before the end of the file" if token.type == END else f"before '{token.text}'"


def conditional_operand(context: Context) -> Diagnostic | None:
    """`1 + if c then a else b`."""
    before = context.before
    if context.token.type != "IF" or before is None or before.type not in OPERATORS | {"ARROW"}:
        return None
    end = context.expression_end(context.index)
    otherwise = _find(context, "ELSE", context.index)
    if otherwise is not None:
        end = context.expression_end(otherwise + 1)
    text = context.text(context.token.start, end)
    message = f"a conditional after '{before.text}' stands in parentheses"
    return context.error(message, help=f"write '{before.text} ({text})'")


def comparison_chain(context: Context) -> Diagnostic | None:
    """`a < b < c`."""
    if context.token.type not in ("COMPARE", "IN"):
        return None
    operand = context.operand()
    at = next((i for i in range(len(operand) - 1, -1, -1) if _is_token(operand[i], ("COMPARE", "IN"))), None)
    start = context.operand_start()
    if at is None or start is None or at == 0 or at == len(operand) - 1:
        return None
    first = operand[at]
    values = context.machine.values
    begin = context.machine.starts[len(values) - len(operand) + at - 1]
    middle = context.text(first.end, context.token.start).strip()
    right = context.text(context.token.start, context.expression_end(context.index + 1))
    left = context.text(begin, first.end)
    return context.error("comparisons do not chain", help=f"write '{left} {middle} and {middle} {right}'")


def _is_token(value: object, kinds: tuple[str, ...]) -> bool:
    return isinstance(value, Token) and value.type in kinds


def chain_in_header(context: Context) -> Diagnostic | None:
    """`for c in x -> f {`."""
    statement = context.statement()
    if context.token.type not in ("ARROW", "IF") or not statement or not _is_token(statement[0], ("FOR", "REPEAT")):
        return None
    is_chain = context.token.type == "ARROW"
    start = context.operand_start() if is_chain else context.token.start
    if start is None:
        return None
    i = context.index
    while context.tokens[i].type not in ("LBRACE", "AS", END):
        i += 1
    text = context.text(start, context.tokens[i - 1].end)
    what = "a chain" if is_chain else "a conditional"
    return context.error(f"{what} in the header of a loop stands in parentheses", help=f"write '({text})'")


def chain_operand(context: Context) -> Diagnostic | None:
    """`a + b -> f`, `-x -> f`."""
    operand, start = context.operand(), context.operand_start()
    if context.token.type != "ARROW" or start is None or not _ends_expression(context.before):
        return None
    if len(operand) == 1 and not isinstance(operand[0], tree.Unary | tree.Operation | tree.Power | tree.Compare):
        return None
    assert context.before is not None
    left = context.text(start, context.before.end)
    step = context.text(context.token.start, _chain_end(context))
    helps = [f"write '({left}) {step}' to pass the whole on"]
    last = context.machine.starts[-1]
    if len(operand) > 1 and isinstance(operand[-1], tree.Expr) and _is_token(operand[-2], tuple(OPERATORS)):
        head, tail = context.text(start, last).strip(), context.text(last, context.before.end)
        space = "" if len(operand) == 2 and head == "-" else " "
        helps.append(f"or '{head}{space}({tail} {step})' to pass on '{tail}' alone")
    message = f"a chain starts at a name, a call or a parenthesis, not at '{left}'"
    return context.error(message, Span(context.source, start, context.before.end), help=helps)


def _chain_end(context: Context) -> int:
    """The end of the chain whose first arrow is at the fault."""
    i, depth = context.index, 0
    while context.tokens[i].type != END:
        kind = context.tokens[i].type
        goes_on = kind in ("ARROW", "DOT", "AS", "LPAR", "LSQB") or context.tokens[i - 1].type in ("ARROW", "DOT", "AS")
        if depth == 0 and i > context.index + 1 and not goes_on:
            break
        if kind in ("RPAR", "RSQB") and depth == 0:
            break
        depth += (kind in ("LPAR", "LSQB")) - (kind in ("RPAR", "RSQB"))
        i += 1
    return context.tokens[i - 1].end


def after_chain(context: Context) -> Diagnostic | None:
    """`x -> f + 1`."""
    token, before = context.token, context.before
    if token.type not in OPERATORS or before is None or not _ends_expression(before):
        return None
    operand, start = context.operand(), context.operand_start()
    in_chain = any(_is_token(v, ("ARROW",)) or isinstance(v, tree.Step | tree.Chain) for v in operand) or any(
        isinstance(step, tree.Step) for v in operand if isinstance(v, list) for step in v
    )
    if not in_chain or start is None:
        return None
    left = context.text(start, before.end)
    right = context.text(token.start, context.expression_end(context.index + 1))
    message = f"'{token.text}' cannot follow a chain without parentheses"
    return context.error(message, help=f"write '({left}) {right}'")


def star_argument(context: Context) -> Diagnostic | None:
    """`f(*xs)`, `f(**options)`."""
    if context.token.type not in ("TIMES", "POWER") or context.before is None or context.token.text not in ("*", "**"):
        return None
    if context.before.type not in ("LPAR", "LSQB", "COMMA"):
        return None
    help = "'concat' and the other joining operators take a list as it is" if context.token.text == "*" else ()
    return context.error(f"'{context.token.text}' cannot spread a list over arguments", help=help)


def equals_in_expression(context: Context) -> Diagnostic | None:
    """`if a = b {`, `(a = b)`, `f(a.b = c)`."""
    statement = context.statement()
    if context.token.type != "EQUAL" or not _ends_expression(context.before):
        return None
    opener = context.brackets.enclosing(context.index)
    in_bracket = opener is not None and context.tokens[opener].type != "LBRACE"
    header = bool(statement) and _is_token(statement[0], ("IF", "ASSERT", "REPEAT", "FOR", "RETURN"))
    binding = any(_is_token(v, ("EQUAL", "AUGMENTED")) for v in statement)
    name, lead = context.before, context.tokens[max(context.index - 2, 0)]
    if (
        name is not None
        and lead.type in OPERATORS | {"ARROW", "COMMA", "EQUAL"}
        and context.on_new_line(context.index - 1)
    ):
        return context.error(f"expected an expression after '{lead.text}', found the next statement", name)
    if in_bracket or header:
        return context.error("'=' binds a name and is no comparison", help="write '==' to compare")
    if binding:
        return context.error("'=' stands once in a statement", help="bind each name in a statement of its own")
    return None


def lambda_(context: Context) -> Diagnostic | None:
    before = context.before
    if before is None or before.text != "lambda":
        return None
    help = "write a call with holes, 'conv(_, 64, 3)', or a block"
    return context.error("there is no 'lambda'", before, help=help)
