"""Explanations of faults in the shape of statements and definitions."""

from __future__ import annotations

from collections.abc import Sequence

from netdsl.diagnostics import Diagnostic
from netdsl.source import Span
from netdsl.syntax import advice, tree
from netdsl.syntax.context import Context
from netdsl.syntax.lalr import END, Token
from netdsl.syntax.recover import is_name

_RESERVED = frozenset(
    (
        "IMPORT",
        "FROM",
        "AS",
        "FOR",
        "IN",
        "IF",
        "THEN",
        "ELSE",
        "RETURN",
        "ASSERT",
        "TRUE",
        "FALSE",
        "NONE",
        "AND",
        "OR",
        "NOT",
    )
)
_NAME_FOLLOWS = frozenset(
    (
        "AS",
        "DOT",
        "INPUT",
        "OUTPUT",
        "TARGET",
        "PARAM",
        "SHARED",
        "FROZEN",
        "METRIC",
        "BLOCK",
        "NETWORK",
        "TRAIN",
        "FOR",
        "IMPORT",
    )
)
_STATEMENT_KEYWORDS = frozenset(("INPUT", "OUTPUT", "TARGET", "METRIC", "PARAM", "SHARED", "FROZEN", "REPEAT"))


def slash_comment(context: Context) -> Diagnostic | None:
    """A comment after `//`."""
    for token in (context.token, context.before):
        found = advice.slash_comment(context.source, token.start) if token and token.type != END else None
        if found:
            place, text = found
            return context.error(advice.SLASHES_MESSAGE, place, help=f"write '# {text}'")
    return None


def foreign_word(context: Context) -> Diagnostic | None:
    """A statement or definition that starts with a word that starts none: `elif`, `def`, `ouput`."""
    statement = context.statement()
    words = [v for v in statement if not isinstance(v, list)]
    if not statement or not _word(words[0]):
        return _foreign_token(context)
    if context.token.type in ("EQUAL", "AUGMENTED", "COMMA"):
        return None
    word = _word(words[0])
    if not context.in_body and isinstance(words[0], Token) and words[0].type in _STATEMENT_KEYWORDS:
        return _outside(context, words[0])
    rest = (_word(words[1]) if len(words) > 1 else "") or (context.token.text if is_name(context.token) else "")
    rest += " =" if rest and context.after.type == "EQUAL" else ""
    place = _span(context, words[0])
    at_top = not context.in_body
    if hint := advice.foreign(word, rest or "x", at_top):
        return context.error(f"'{word}' is no word of netdsl", place, help=hint)
    near = advice.misspelt(word, advice.DEFINITIONS if at_top else advice.STATEMENTS)
    if near and not (isinstance(words[0], Token) and words[0].type != "NAME"):
        kind = "definition" if at_top else "statement"
        return context.error(f"'{word}' starts no {kind}", place, help=f"did you mean '{near}'?")
    if not at_top and word in advice.DEFINITIONS and rest:
        return context.error(
            f"a '{word}' cannot stand inside of another definition", place, help="move it to the top level"
        )
    return None


def _foreign_token(context: Context) -> Diagnostic | None:
    """The same where the word itself is refused: `else` alone, a statement's keyword at the top level."""
    token = context.token
    if context.statement():
        return None
    if token.type in ("FOR", "IF", "RETURN", "ASSERT") and not context.in_body:
        return _outside(context, token)
    if token.type == "ELSE":
        return context.error("this 'else' has no 'if' before it", help="write 'if condition { … } else { … }'")
    if token.type in ("IMPORT", "FROM") and context.in_body:
        return context.error("an import stands at the top of the file, not in a body")
    return None


def _outside(context: Context, keyword: Token) -> Diagnostic:
    message = f"'{keyword.text}' stands outside of a block or network"
    return context.error(message, keyword, help="move it into a body '{ … }'; a '}' before it may be one too many")


def _word(value: object) -> str:
    if isinstance(value, Token):
        return value.text if is_name(value) else ""
    return value.id if isinstance(value, tree.Identifier | tree.Name) else ""


def _span(context: Context, value: Token | tree.Node) -> Span:
    return context.span(value) if isinstance(value, Token) else value.span


def reserved_word(context: Context) -> Diagnostic | None:
    """A keyword where a name stands."""
    token, before = context.token, context.before
    if token.type not in _RESERVED:
        return None
    as_name = before is not None and before.type in _NAME_FOLLOWS and context.can_follow("NAME")
    if as_name and context.on_new_line(context.index):
        return context.error(f"expected a name after '{before.text if before else ''}', found '{token.text}'")
    as_argument = context.after.type == "EQUAL" and context.can_follow("NAME")
    if not (as_name or as_argument):
        return None
    return context.error(
        f"'{token.text}' is a word of the language and cannot be a name", help=f"write '{token.text}_'"
    )


def python_colon(context: Context) -> Diagnostic | None:
    """`for x in y:`."""
    if context.token.type != "COLON":
        return None
    if context.can_follow("LBRACE") or (context.can_follow("LPAR") and _is_header(context)):
        return context.error(
            "a body stands in braces, not after ':'", help="write '{' here and '}' at the end of the body"
        )
    if context.before and context.before.type == "ELSE":
        return context.error("a body stands in braces, not after ':'", help="write 'else { … }'")
    return None


def _is_header(context: Context) -> bool:
    statement = context.statement()
    return bool(statement) and isinstance(statement[0], Token) and statement[0].type in ("BLOCK", "NETWORK", "TRAIN")


def braces_needed(context: Context) -> Diagnostic | None:
    """`if c x = 1`, `block Foo { }`."""
    statement = context.statement()
    first = statement[0] if statement and isinstance(statement[0], Token) else None
    if first is None:
        return None
    if first.type == "BLOCK" and context.token.type == "LBRACE" and len(statement) == 2:
        help = f"write 'block {statement[1].text}(x) {{ … }}'"
        return context.error("a block has its parameters in parentheses before its body", help=help)
    if context.can_follow("LBRACE") and first.type in ("IF", "FOR", "REPEAT", "NETWORK", "TRAIN", "BLOCK"):
        what = "the end of the file" if context.token.type == END else f"'{context.token.text}'"
        help = f"the body of '{first.text}' stands in braces: '{{ … }}'"
        return context.error(f"expected '{{' before {what}", help=help)
    return None


def double_equals(context: Context) -> Diagnostic | None:
    """`x == 3` as a statement, `output y == x`."""
    statement = context.statement()
    if context.token.text == "==" and context.can_follow("EQUAL") and len(statement) in (1, 2):
        return context.error("'==' compares; a name is bound by '='", help="write '='")
    joined = context.after.type == "EQUAL" and context.after.start == context.token.end
    if context.token.type in ("TIMES", "POWER") and joined and len(statement) == 1:
        name, operator = _word(statement[0]), context.token.text
        return context.error(f"there is no '{operator}='", help=f"write '{name} = {name} {operator} …'")
    if context.token.type == "COLON" and context.after.type == "EQUAL" and context.can_follow("EQUAL"):
        return context.error("a name is bound by '='", help="write '=' instead of ':='")
    return None


def item_assignment(context: Context) -> Diagnostic | None:
    """`x.a = 1`, `x[0] += 1`, `x.append(y)` as statements."""
    statement = context.statement()
    if len(statement) != 1 or not _word(statement[0]) or context.token.type not in ("DOT", "LSQB"):
        return None
    name = _word(statement[0])
    if context.token.type == "DOT" and context.after.text in ("append", "extend", "insert"):
        help = f"write '{name} = {name} + [ … ]'" if context.after.text != "extend" else f"write '{name} = {name} + …'"
        return context.error("values never change: a list cannot be appended to", context.after, help=help)
    i, depth = context.index, 0
    while not (depth == 0 and i > context.index and context.tokens[i].type not in ("DOT", "NAME", "LSQB", "RSQB")):
        depth += (context.tokens[i].type == "LSQB") - (context.tokens[i].type == "RSQB")
        if context.tokens[i].type == END:
            return None
        i += 1
    if context.tokens[i].type not in ("EQUAL", "AUGMENTED"):
        return None
    what = "an attribute" if context.token.type == "DOT" else "an item"
    place = Span(context.source, _span(context, statement[0]).start, context.tokens[i - 1].end)
    return context.error(f"values never change: {what} cannot be assigned", place, help="bind a new value to a name")


def expression_statement(context: Context) -> Diagnostic | None:
    """`relu(x)` or `x -> relu` alone."""
    statement = context.statement()
    if statement and not (len(statement) == 1 and _word(statement[0])):
        return None
    if statement and context.token.type not in (
        "LPAR",
        "ARROW",
        "DOT",
        "LSQB",
        "PLUS",
        "MINUS",
        "TIMES",
        "POWER",
        "RBRACE",
    ):
        return None
    if not statement and context.token.type not in ("LPAR", "LSQB", "NUMBER", "STRING", "MINUS", "NOT"):
        return None
    if not context.in_body and not statement:
        return None
    if found := _side_by_side(context, statement):
        return found
    start = _span(context, statement[0]).start if statement else context.token.start
    text = context.text(start, context.expression_end(context.index))
    message = "an expression alone is no statement: its value would be lost"
    return context.error(message, Span(context.source, start, context.token.end), help=f"bind it: 'y = {text}'")


def _side_by_side(context: Context, statement: Sequence[object]) -> Diagnostic | None:
    """`output y relu(x)`, `y = a b`: what reads as a statement of its own goes on in the line of the one before."""
    last = context.last_statement()
    if last is None or len(statement) != 1 or not isinstance(statement[0], Token | tree.Node):
        return None
    span = _span(context, statement[0])
    if "\n" in context.source.text[last.span.end : span.start] or not _word(statement[0]):
        return None
    lacks_value = (isinstance(last, tree.Output) and last.value is None) or (
        isinstance(last, tree.ParamDecl) and last.initializer is None
    )
    if lacks_value:
        text = context.text(last.span.start, last.span.end)
        return context.error(f"expected '=' before '{span.text}'", span, help=f"write '{text} = {span.text}…'")
    if last.span.text.split()[-1] == "lambda":
        help = "write a call with holes, 'conv(_, 64, 3)', or a block"
        return context.error("there is no 'lambda'", Span(context.source, last.span.end - 6, last.span.end), help=help)
    if isinstance(last, tree.Assign | tree.Constant | tree.Output | tree.Return | tree.AugAssign | tree.Shared):
        if span.text == "is":
            return context.error("there is no 'is'", span, help="write '==' to compare")
        help = "two values stand side by side: an operator, '->' or a bracket is missing between them"
        return context.error(f"expected the end of the statement, found '{span.text}'", span, help=help)
    return None


def name_of_no_step(context: Context) -> Diagnostic | None:
    """`y = f(x) as name`: only a step of a chain has a name of its own."""
    if context.token.type != "AS" or not context.can_follow("ARROW"):
        return None
    name = context.after.text if is_name(context.after) else "name"
    message = "'as' names the layer of a chain's step, and there is no '->' before it"
    return context.error(message, help=f"write 'x -> f(…) as {name}'")


def output_list(context: Context) -> Diagnostic | None:
    """`output a, b = f(x)`."""
    statement = context.statement()
    first = statement[0] if statement and isinstance(statement[0], Token) else None
    if first is None or first.type != "OUTPUT" or context.token.type != "EQUAL" or context.can_follow("EQUAL"):
        return None
    names = context.text(first.end, context.before.end).strip() if context.before else ""
    help = f"write '{names} = …' and then 'output {names}'"
    return context.error("several outputs are named without a value", help=help)


def header(context: Context) -> Diagnostic | None:
    """A definition's or loop's header that lacks a part."""
    statement, token = context.statement(), context.token
    first = statement[0] if statement and isinstance(statement[0], Token) else None
    if first is None:
        return None
    shown = "the end of the file" if token.type == END else f"'{token.text}'"
    if first.type in ("BLOCK", "NETWORK", "TRAIN") and len(statement) == 1:
        return context.error(
            f"expected a name after '{first.text}', found {shown}", help=f"write '{_FORMS[first.type]}'"
        )
    if first.type in _FORMS and not isinstance(statement[-1], list) and context.before is not None:
        missing = next((k for k in ("STRING", "AS", "IMPORT", "IN", "COLON") if context.can_follow(k)), None)
        if missing and not context.can_follow("NUMBER") and not context.can_follow("TIMES"):
            symbol = {"STRING": "a file's path in quotes", "COLON": "':'"}.get(missing, f"'{missing.lower()}'")
            message = f"expected {symbol} after '{context.before.text}', found {shown}"
            return context.error(message, help=f"write '{_FORMS[first.type]}'")
    return None


_FORMS = {
    "BLOCK": "block Name(x) { … }",
    "NETWORK": "network Name { … }",
    "TRAIN": "train Network { … }",
    "IMPORT": 'import "file.net" as name',
    "FROM": 'from "file.net" import Name',
    "FOR": "for name in list { … }",
    "INPUT": "input name: float32[N, 3, 224, 224]",
    "TARGET": "target name: int64[N]",
    "PARAM": "param name: float32[64] = zeros",
}


def type_brackets(context: Context) -> Diagnostic | None:
    """`input x: float32`, `input x: 3`."""
    statement = context.statement()
    first = statement[0] if statement and isinstance(statement[0], Token) else None
    if first is None or first.type not in ("INPUT", "TARGET", "PARAM") or context.before is None:
        return None
    if context.before.type == "NAME" and context.can_follow("LSQB") and not context.can_follow("TIMES"):
        name = context.before.text
        help = f"write '{name}[N, 3, 224, 224]'; a scalar is '{name}[]'"
        return context.error(f"expected the shape of '{name}' in brackets", context.before, help=help)
    if context.before.type == "COLON" and context.can_follow("NAME") and not context.can_follow("NUMBER"):
        return context.error(
            f"expected an element type after ':', found '{context.token.text}'", help=f"write '{_FORMS[first.type]}'"
        )
    return None


def missing_equals(context: Context) -> Diagnostic | None:
    """`x 3`, `shared f conv(_)`, a name that stands alone."""
    statement, token = context.statement(), context.token
    if len(statement) == 2 and all(_word(v) for v in statement) and token.type in ("LPAR", "ARROW", "DOT", "LSQB"):
        first, second = (_word(v) for v in statement)  # `y conv(x)`, read as far as `augment image`
        message = f"expected '=' after '{first}', found '{second}'"
        return context.error(message, context.before, help=f"write '{first} = {second}…'")
    if not context.can_follow("EQUAL") or context.can_follow("TIMES") or not statement or context.before is None:
        return None
    if isinstance(statement[-1], list) or not is_name(context.before):
        return None
    if found := _side_by_side(context, statement):
        return found
    name = context.before.text
    shown = "the end of the file" if token.type == END else f"'{token.text}'"
    help = "a statement is 'name = value' or starts with a keyword: input, output, return, for, if, …"
    if len(statement) > 1:
        help = f"write '{context.text(_span(context, statement[0]).start, context.before.end)} = …'"
    return context.error(f"expected '=' after '{name}', found {shown}", help=help)
