"""The check of names: in all bodies, those that never run included.

Follows the text in the order of evaluation and keeps the set of names that may hold a value by then: after an `if`
those of all branches, in a loop those of the whole body. What only a value can tell is left to the evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from netdsl.diagnostics import Note, error
from netdsl.elaborate.builtins import BUILTINS
from netdsl.elaborate.core import Reporter
from netdsl.elaborate.files import Module, unknown_member_help
from netdsl.elaborate.suggest import did_you_mean, suggest
from netdsl.elaborate.tensors import ATTRIBUTES
from netdsl.elaborate.types import dim_names
from netdsl.elaborate.values import ModuleValue
from netdsl.lint.evaluation import UNREACHABLE
from netdsl.source import Span
from netdsl.syntax import tree
from netdsl.syntax.bindings import bindings_of, bound_in, children, target_names

_ALIEN = frozenset(("True", "False", "None"))  # the parser said so
_HELP = {
    "input": "inputs belong to networks; a block takes tensors as parameters: block Name(x) { … }",
    "output": "outputs belong to networks; a block ends with 'return value'",
    "return": "a network's results are its outputs: output name = value",
    "target": "targets belong to a recipe: train Name { target label: int64[N] … }",
    "metric": "metrics belong to a recipe: train Name { metric name = … }",
}


def check_names(module: Module, reporter: Reporter) -> None:
    """Reports unknown names, statements out of place and blocks without a result in one file."""
    for definition in module.file.definitions:
        if isinstance(definition, tree.Train):
            _check_recipe(module, definition, reporter)
            continue
        checker = _Checker(module, definition, reporter)
        if isinstance(definition, tree.Constant):
            checker.expression(definition.value)
        elif isinstance(definition, tree.Block | tree.Network):
            checker.definition(definition)
    _check_labels(module, reporter)


def _check_recipe(module: Module, recipe: tree.Train, reporter: Reporter) -> None:
    """The network that a recipe is for. Its body is checked with the recipe's own names, when it is evaluated."""
    node = recipe.network
    if isinstance(node, tree.Attribute):
        _Checker(module, recipe, reporter).expression(node)
    elif isinstance(node, tree.Name) and node.id not in module.entries and node.id not in module.lost:
        otherwise = "a recipe is for a network of this file, or r.Name of an imported one"
        help = did_you_mean(node.id, [n.name.id for n in module.networks], otherwise)
        reporter.report(error("unknown-name", f"unknown network '{node.id}'", node.span, help=help))


def check_recipe_names(module: Module, recipe: tree.Train, known: Iterable[str], reporter: Reporter) -> None:
    """Reports unknown names in a recipe's body; `known` are those of its network and of the settings' tables."""
    checker = _Checker(module, recipe, reporter)
    checker.known.update(known)
    checker.everything = dict(bindings_of(recipe.body).names)
    for parameter in recipe.parameters:
        if parameter.default is not None:
            checker.expression(parameter.default)
        checker.known.add(parameter.name.id)
    checker.body(recipe.body)


def _check_labels(module: Module, reporter: Reporter) -> None:
    seen: dict[tuple[str, str | None], Span] = {}
    for recipe in module.recipes:
        key = (recipe.network.span.text, recipe.label)
        if key in seen:
            what = f'labelled "{recipe.label}"' if recipe.label else "without a label"
            note = Note("the other one", seen[key])
            message = f"two recipes for '{key[0]}' {what}"
            help = f'give each a label of its own: train {key[0]} "name" {{ … }}'
            reporter.report(error("duplicate", message, recipe.network.span, notes=[note], help=help))
        seen.setdefault(key, recipe.network.span)


class _Checker:
    """Checks one definition. `known`: the names that may hold a value at this point."""

    def __init__(self, module: Module, owner: tree.Definition, reporter: Reporter) -> None:
        self.module = module
        self.owner = owner
        self.reporter = reporter
        self.known: set[str] = set()
        self.everything: dict[str, Span] = {}
        self.quiet = id(owner) in module.faulty  # what a syntax error broke says no more

    def definition(self, node: tree.Block | tree.Network) -> None:
        found = bindings_of(node.body)
        self.everything = {**found.names, **{p.name.id: p.name.span for p in node.parameters}}
        for parameter in node.parameters:
            if parameter.default is not None:
                self.expression(parameter.default)
            self.known.add(parameter.name.id)
        self.body(node.body)
        if isinstance(node, tree.Block) and not found.returns:
            self._report(
                "no-return",
                f"the block '{node.name.id}' ends without 'return'",
                node.name.span,
                "end it with 'return value'",
            )

    def _report(
        self, name: str, message: str, span: Span, help: str | Sequence[str] = (), notes: Sequence[Note] = ()
    ) -> None:
        if not self.quiet:
            self.reporter.report(error(name, message, span, help=help, notes=notes))

    # --- statements -------------------------------------------------------------------------------------------------

    def body(self, node: tree.Body) -> None:
        returned = False
        for statement in node.statements:
            if returned and not self.quiet:
                self.reporter.report(UNREACHABLE.warn("nothing after 'return' runs", statement.span, help="delete it"))
                returned = False
            self.statement(statement)
            returned = returned or isinstance(statement, tree.Return)

    def statement(self, node: tree.Statement) -> None:
        self._check_place(node)
        match node:
            case tree.Assign():
                self.expression(node.value)
                for target in node.targets:
                    self._bind(target)
            case tree.AugAssign():
                if node.target.id in self.everything and node.target.id not in self.known:
                    self._name(node.target.id, node.target.span)
                self.expression(node.value)
                self.known.add(node.target.id)
            case tree.Input() | tree.ParamDecl():
                self._type(node)
            case tree.Output():
                self._output(node)
            case tree.For():
                self.expression(node.iterable)
                self._bind(node.target)
                self._loop(node.body)
            case tree.Repeat():
                self.expression(node.count)
                self._loop(node.body)
            case tree.If():
                self._if(node)
            case tree.Assert():
                self.expression(node.condition)
                if node.message is not None:
                    self.expression(node.message)
            case tree.Return():
                self.expression(node.value)
            case tree.Shared() | tree.Metric():
                self.expression(node.value)
                self.known.add(node.name.id)

    def _bind(self, target: tree.Target) -> None:
        self.known.update(name.id for name in target_names(target))

    def _loop(self, body: tree.Body) -> None:
        self.known.update(bindings_of(body).names)
        self.body(body)

    def _if(self, node: tree.If) -> None:
        # What one branch binds counts as known in the next, too: keeping them apart would cost time with the square of
        # the program, and the evaluation finds the rest.
        for branch in node.branches:
            self.expression(branch.condition)
            self.body(branch.body)
        if node.otherwise:
            self.body(node.otherwise)

    def _type(self, node: tree.Input | tree.ParamDecl) -> None:
        if isinstance(node, tree.Input):  # names that nothing binds become symbols
            self.known.update(name.id for name in dim_names(node.type))
        for dim in node.type.dims:
            self.expression(dim)
        if isinstance(node, tree.ParamDecl) and node.initializer is not None:
            self.expression(node.initializer)
        self.known.add(node.name.id)

    def _output(self, node: tree.Output) -> None:
        if node.value is not None:
            self.expression(node.value)
            self.known.update(name.id for name in node.names)
        else:
            for name in node.names:
                self._name(name.id, name.span)

    def _check_place(self, node: tree.Statement) -> None:
        """Refuses statements that belong into another kind of body."""
        word = _KEYWORD.get(type(node), "")
        if isinstance(node, tree.Input):
            word = node.kind
        if isinstance(node, tree.Labelled):
            word = "metric"
        where, misplaced = _MISPLACED[type(self.owner)]
        if word in misplaced:
            shown = node.setting.id if isinstance(node, tree.Labelled) else word
            length = len(shown)
            span = Span(node.span.file, node.span.start, node.span.start + length)
            help = (
                self._place_help(word) if shown == word else "settings of training belong to a recipe: train Name { … }"
            )
            self._report("misplaced", f"'{shown}' does not stand in {where}", span, help)

    def _place_help(self, word: str) -> str:
        if isinstance(self.owner, tree.Train):
            return "it belongs to the network; a recipe has targets, a loss, metrics and settings"
        return _HELP[word]

    # --- expressions ------------------------------------------------------------------------------------------------

    def expression(self, node: tree.Node) -> None:
        match node:
            case tree.Name():
                self._name(node.id, node.span)
            case tree.Chain():
                self.expression(node.value)
                for step in node.steps:
                    self.expression(step.function)
                    if step.label:
                        self.known.add(step.label.id)
            case tree.Attribute(value=tree.Name() as base):
                self.expression(base)
                self._imported_name(node, base)
            case tree.Literal() | tree.Hole():
                pass
            case _:
                for child in children(node):
                    if isinstance(child, tree.Expr | tree.Argument | tree.Slice):
                        self.expression(child)

    def _name(self, name: str, span: Span) -> None:
        module = self.module
        if name in self.known or name in module.entries or name in BUILTINS or name in module.lost or name in _ALIEN:
            return
        later = self.everything.get(name)
        if later is not None:
            help = "bind it before this place"
            self._report(
                "unbound-name", f"'{name}' has no value here", span, help, [Note("it is bound only below", later)]
            )
            return
        self._report("unknown-name", f"unknown name '{name}'", span, self._unknown_help(name))

    def _unknown_help(self, name: str) -> Sequence[str]:
        if self.reporter.full:
            return ()
        if isinstance(self.owner, tree.Block) and self._callers_name(name):
            return (f"a block does not see the names of its caller: make '{name}' a parameter",)
        if isinstance(self.owner, tree.Block) and self._callers_symbol(name):
            return ("a block does not see the symbols of its caller; a size of its own is x.shape[i]",)
        attribute = suggest(name, ATTRIBUTES)
        known = [*self.known, *self.everything, *self.module.entries]
        if attribute and not suggest(name, known):
            return (f"did you mean 'x.{attribute}'?",)
        return did_you_mean(name, known, builtins=True)

    def _callers_name(self, name: str) -> bool:
        return any(name in bound_in(n) or any(name == p.name.id for p in n.parameters) for n in self.module.networks)

    def _callers_symbol(self, name: str) -> bool:
        return any(
            name == d.id for n in self.module.networks for i in bindings_of(n.body).inputs for d in dim_names(i.type)
        )

    def _imported_name(self, node: tree.Attribute, base: tree.Name) -> None:
        value: Any = self.module.entries.get(base.id)
        if base.id in self.known or not isinstance(value, ModuleValue):
            return
        names = value.module.names()
        if node.name in names or node.name in value.module.lost:
            return
        help = unknown_member_help(value.module, node.name)
        self._report("unknown-name", f"the file '{base.id}' defines no '{node.name}'", node.name_span, help)


_MISPLACED: dict[type[tree.Definition], tuple[str, tuple[str, ...]]] = {
    tree.Block: ("a block", ("input", "output", "target", "metric")),
    tree.Network: ("a network", ("return", "target", "metric")),
    tree.Train: ("a recipe", ("input", "output", "return", "param")),
}

_KEYWORD: dict[type[tree.Statement], str] = {
    tree.Output: "output",
    tree.Return: "return",
    tree.Metric: "metric",
    tree.ParamDecl: "param",
}
