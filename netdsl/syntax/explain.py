"""Syntax errors in words: why the parser refused a token, and what to write instead.

`explain` asks each explanation in turn, the most specific first; the last one always answers.
"""

from __future__ import annotations

from netdsl.diagnostics import Diagnostic, Note
from netdsl.syntax import explain_expressions, explain_statements
from netdsl.syntax.context import OPERATORS, Context
from netdsl.syntax.lalr import END, Token
from netdsl.syntax.recover import CLOSER, SYMBOL, is_name

_WORDS = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a string",
    "ELLIPSIS": "'...'",
    "ARROW": "'->'",
    "COMMA": "','",
    "EQUAL": "'='",
    "COLON": "':'",
    "DOT": "'.'",
    **{kind: f"'{symbol}'" for kind, symbol in SYMBOL.items()},
    **{kind: f"'{kind.lower()}'" for kind in ("IMPORT", "AS", "IN", "THEN", "ELSE")},
}


def explain(context: Context) -> Diagnostic:
    """The error for the token that cannot stand where it does."""
    for explanation in _EXPLANATIONS:
        if found := explanation(context):
            return found
    return _expected(context)


def found_text(context: Context, token: Token | None = None) -> str:
    """The refused token in words."""
    token = token or context.token
    if token.type == END:
        return "the end of the file"
    if token.type == "STRING":
        return "a string"
    text = token.text if len(token.text) <= 40 else token.text[:38] + "…"
    return f"'{text}'"


# --- brackets --------------------------------------------------------------------------------------------------------


def _missing_brace(context: Context) -> Diagnostic | None:
    """The next definition, or the end of the file, inside a body."""
    at_end = context.token.type == END or context.index >= context.next_definition
    if not at_end:
        return None
    braces = [i for i in context.brackets.unclosed if context.tokens[i].type == "LBRACE"]
    if not braces or _open_bracket(context) is not None:
        return None
    opener = context.brackets.suspect
    if opener is None or opener < min(braces):
        opener = max(braces)
    place = context.tokens[min(context.next_definition, len(context.tokens) - 1)]
    where = "at the end of the file" if place.type == END else f"before '{place.text}', which starts a new definition"
    note = Note("this '{' is not closed", context.span(context.tokens[opener]))
    return context.error(f"expected '}}' {where}", place, notes=[note])


def _open_bracket(context: Context) -> int | None:
    """The bracket of an expression that is open at the fault and is never closed."""
    opener = context.brackets.enclosing(context.index)
    if opener is None or context.tokens[opener].type == "LBRACE" or opener not in context.brackets.unclosed:
        return None
    return opener


def _missing_bracket(context: Context) -> Diagnostic | None:
    opener = _open_bracket(context)
    if opener is None:
        return None
    closes = context.token.type in ("RPAR", "RSQB", "LBRACE", "RBRACE", END)
    new = context.on_new_line(context.index) or context.on_new_line(context.index - 1)
    if not (closes or new or context.starts_binding(context.index)):
        return None
    symbol = context.tokens[opener]
    closer = SYMBOL[CLOSER[symbol.type]]
    token = context.token
    if (
        context.index > opener + 1
        and context.starts_binding(context.index - 1)
        and is_name(context.tokens[context.index - 1])
    ):
        token = context.tokens[context.index - 1]  # the name of the next statement, read as one more argument
    note = Note(f"this '{symbol.text}' is not closed", context.span(symbol))
    return context.error(f"expected '{closer}' before {found_text(context, token)}", token, notes=[note])


def _stray_closer(context: Context) -> Diagnostic | None:
    token = context.token
    if token.type not in ("RPAR", "RSQB", "RBRACE"):
        return None
    opener = context.brackets.enclosing(context.index)
    if opener is None or (context.tokens[opener].type == "LBRACE" and token.type != "RBRACE"):
        return context.error(f"'{token.text}' closes nothing: no bracket is open here", help="delete it")
    symbol = context.tokens[opener]
    if CLOSER[symbol.type] != token.type:
        closer = SYMBOL[CLOSER[symbol.type]]
        note = Note(f"this '{symbol.text}' is open", context.span(symbol))
        return context.error(f"expected '{closer}', found '{token.text}'", notes=[note])
    return None


def _missing_comma(context: Context) -> Diagnostic | None:
    """Two arguments, items or parameters side by side."""
    opener = context.brackets.enclosing(context.index)
    if opener is None or context.tokens[opener].type == "LBRACE" or not context.before:
        return None
    starts = is_name(context.token) or context.token.type in (
        "NUMBER",
        "STRING",
        "TRUE",
        "FALSE",
        "NONE",
        "HOLE",
        "LSQB",
    )
    if not starts or not context.can_follow("COMMA"):
        return None
    start = context.operand_start()
    if start is None or (context.operand() and isinstance(context.operand()[-1], Token)):
        start = context.before.start
    left = context.text(start, context.before.end)
    right = context.text(context.token.start, context.expression_end(context.index))
    what = {"LPAR": "arguments", "LSQB": "items"}[context.tokens[opener].type]
    return context.error(f"expected ',' between {what}, found {found_text(context)}", help=f"write '{left}, {right}'")


# --- what is left ----------------------------------------------------------------------------------------------------


def _expected(context: Context) -> Diagnostic:
    """Names what could stand here."""
    found = found_text(context)
    after = f" after '{context.before.text}'" if context.before and len(context.before.text) <= 40 else ""
    if context.can_follow("LPAR") and context.can_follow("NUMBER"):
        return context.error(f"expected an expression{after}, found {found}")
    possible = context.machine.could_follow([kind for kind in _WORDS if kind not in ("ARROW", "DOT")])
    if context.can_follow("TIMES"):  # after an expression: only what would end it is worth saying
        possible -= {"LPAR", "LSQB", "IN", "NAME"} | OPERATORS
    words = [word for kind, word in _WORDS.items() if kind in possible]
    if not context.in_body and context.can_follow(END):
        words = ["'block'", "'network'", "'train'", "'import'", "'from'", "'name = value'"]
    if not words:
        return context.error(f"expected the next statement or '}}'{after}, found {found}")
    return context.error(f"expected {_alternatives(words)}{after}, found {found}")


def _alternatives(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


_EXPLANATIONS = (
    _missing_brace,
    explain_statements.slash_comment,
    explain_expressions.python_conditional,
    explain_expressions.comprehension,
    explain_statements.foreign_word,
    explain_statements.reserved_word,
    _missing_bracket,
    _stray_closer,
    explain_expressions.conditional_parts,
    explain_expressions.conditional_operand,
    explain_expressions.comparison_chain,
    explain_expressions.chain_in_header,
    explain_expressions.chain_operand,
    explain_expressions.after_chain,
    explain_expressions.star_argument,
    explain_expressions.equals_in_expression,
    explain_expressions.lambda_,
    _missing_comma,
    explain_statements.python_colon,
    explain_statements.braces_needed,
    explain_statements.double_equals,
    explain_statements.item_assignment,
    explain_statements.expression_statement,
    explain_statements.name_of_no_step,
    explain_statements.output_list,
    explain_statements.header,
    explain_statements.type_brackets,
    explain_statements.missing_equals,
)
