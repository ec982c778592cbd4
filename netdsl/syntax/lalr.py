"""lark's LALR(1) tables, and the machine that runs them.

lark reads the grammar and computes the tables. The machine here differs from lark's own in what it knows: every
reduction gets its span, and after an error its stack tells what was read and what could follow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from lark import Lark
from lark.grammar import Rule as LarkRule
from lark.lexer import PatternStr

from netdsl.resources import grammar_text

END = "$END"


class Token:
    """A word of the source: its terminal's name in the grammar, its text, its offsets."""

    __slots__ = ("end", "start", "text", "type")

    def __init__(self, type: str, text: str, start: int, end: int) -> None:
        self.type = type
        self.text = text
        self.start = start
        self.end = end

    def __repr__(self) -> str:
        return f"Token({self.type}, {self.text!r}, {self.start})"


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One production. `method` makes its value: None passes an only child on, "" collects a list."""

    origin: str
    size: int
    method: str | None
    spread: tuple[int, ...]  # the places of children that are lists to be spliced in


Row = dict[str, "int | Rule"]


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """What the machine and the lexer need of a grammar. A state's row gives the state to go to or the rule to apply."""

    rows: Mapping[int, Row]
    start: int
    patterns: tuple[tuple[str, str], ...]  # (terminal, regular expression), in the order in which they are tried
    keywords: Mapping[str, str]  # reserved spelling → terminal
    climbs: dict[tuple[int, int, str], int] = field(default_factory=dict)  # what Machine._climb found


@cache
def load(name: str) -> Tables:
    """The tables of a grammar file."""
    grammar = Lark(grammar_text(name), parser="lalr", lexer="basic", keep_all_tokens=True, maybe_placeholders=False)
    conf = grammar.parse_interactive().parser_state.parse_conf
    rules = {rule: _rule(rule) for rule in grammar.rules}
    rows: dict[int, Row] = {
        state: {symbol: rules[arg] if isinstance(arg, LarkRule) else arg for symbol, (_, arg) in row.items()}
        for state, row in conf.states.items()
    }
    terminals = sorted(grammar.terminals, key=lambda t: -t.priority)  # a stable sort: ties stand as in the grammar
    word = re.compile(r"[A-Za-z_]+")
    reserved = [t for t in terminals if isinstance(t.pattern, PatternStr) and word.fullmatch(t.pattern.value)]
    return Tables(
        rows,
        conf.start_state,
        tuple((t.name, t.pattern.to_regexp()) for t in terminals if t not in reserved),
        {t.pattern.value: t.name for t in reserved},
    )


def _rule(rule: LarkRule) -> Rule:
    name = rule.origin.name
    method: str | None = rule.alias or name
    if name.startswith("_"):
        method = ""
    elif rule.options.expand1 and len(rule.expansion) == 1 and not rule.alias:
        method = None
    spread = tuple(i for i, s in enumerate(rule.expansion) if not s.is_term and s.name.startswith("_"))
    return Rule(name, len(rule.expansion), method, spread)


Action = Callable[[int, int, list[Any]], Any]


class Machine:
    """One parse. `builder` has a method per rule, called with the rule's start and end offsets and its children."""

    def __init__(self, tables: Tables, builder: object) -> None:
        self.rows = tables.rows
        self.climbs = tables.climbs
        self.states = [tables.start]
        self.values: list[Any] = []
        self.starts: list[int] = []
        self.end = 0
        methods = {r.method for row in tables.rows.values() for r in row.values() if isinstance(r, Rule) and r.method}
        self.actions: dict[str, Action] = {method: getattr(builder, method) for method in methods}

    def feed(self, token: Token) -> bool:
        """Reads one token: False if it cannot stand here (it is not consumed then)."""
        rows, states, kind = self.rows, self.states, token.type
        while True:
            action = rows[states[-1]].get(kind)
            if type(action) is int:
                states.append(action)
                self.values.append(token)
                self.starts.append(token.start)
                self.end = token.end
                return True
            if action is None:
                return False
            assert isinstance(action, Rule)
            if action.method is None:
                key = (states[-2], states[-1], kind)
                state = self.climbs.get(key)
                states[-1] = self._climb(key) if state is None else state
            elif self._reduce(action):
                return True

    def _climb(self, key: tuple[int, int, str]) -> int:
        """The state after all rules with an only child that apply in a row: from an atom to a whole expression, say.

        They keep the value and depend on two states and the token alone. The most frequent steps by far: remembered.
        """
        below, state, kind = key
        while isinstance(rule := self.rows[state].get(kind), Rule) and rule.method is None:
            state = self.rows[below][rule.origin]  # type: ignore[assignment]  # a rule's column holds states
        self.climbs[key] = state
        return state

    def _reduce(self, rule: Rule) -> bool:
        """Applies a rule; True at the very end, when the start rule is complete."""
        states, size = self.states, rule.size
        if size == 0:
            self.starts.append(self.end)
            self.values.append(self._value(rule, self.end, []))
        else:
            children = self.values[-size:]
            start = self.starts[-size]
            value = self._value(rule, start, children)
            del states[-size:], self.values[-size:], self.starts[-size:]
            self.values.append(value)
            self.starts.append(start)
        target = self.rows[states[-1]].get(rule.origin)
        if target is None:
            return True
        assert type(target) is int
        states.append(target)
        return rule.origin == "start"

    def _value(self, rule: Rule, start: int, children: list[Any]) -> Any:
        if rule.spread:
            # A repetition's list is the first child of its own rule and grows in place: linear however long it is.
            flat: list[Any] = children[0] if rule.spread[0] == 0 else []
            for i, child in enumerate(children):
                if i in rule.spread:
                    if child is not flat:
                        flat.extend(child)
                else:
                    flat.append(child)
            children = flat
        return self.actions[rule.method](start, self.end, children) if rule.method else children

    def could_follow(self, kinds: Iterable[str]) -> set[str]:
        """Those of the terminals that could be read next, found by trying each on a copy of the state stack."""
        return {kind for kind in kinds if self._accepts(kind)}

    def _accepts(self, kind: str) -> bool:
        states = self.states.copy()
        while True:
            action = self.rows[states[-1]].get(kind)
            if not isinstance(action, Rule):
                return action is not None
            if action.size:
                del states[-action.size :]
            target = self.rows[states[-1]].get(action.origin)
            if action.origin == "start" or not isinstance(target, int):
                return kind == END
            states.append(target)

    def restart(self) -> None:
        """Forgets an unfinished definition; those before it stay."""
        keep = 1 if self.values and isinstance(self.values[0], list) else 0
        del self.states[keep + 1 :], self.values[keep:], self.starts[keep:]

    def settle(self) -> None:
        """Completes the last definition where nothing but the refused token kept it open."""
        if not self._accepts(END):
            return
        while isinstance(rule := self.rows[self.states[-1]].get(END), Rule) and rule.origin != "start":
            if rule.method is None:
                self.states[-1] = self._climb((self.states[-2], self.states[-1], END))
            else:
                self._reduce(rule)
