"""One run over a file: loads it, checks names, evaluates constants and networks, and collects what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netdsl.diagnostics import Diagnostic, DiagnosticError, Severity, error, nearest
from netdsl.elaborate.budget import Budget
from netdsl.elaborate.core import Reporter
from netdsl.elaborate.faults import Abort, Fault, Refusal, UsageError
from netdsl.elaborate.files import Loader, Module
from netdsl.elaborate.layers import NewParameters
from netdsl.elaborate.lints import Lints
from netdsl.elaborate.names import check_names
from netdsl.elaborate.recipes import Recipes
from netdsl.elaborate.scope import Frame, LayerScope, NetworkRun
from netdsl.elaborate.statements import Statements
from netdsl.elaborate.types import dim_names
from netdsl.elaborate.values import POISON, escaped
from netdsl.ir.build import GraphBuilder
from netdsl.ir.graph import Graph
from netdsl.source import SourceFile, Span
from netdsl.syntax import tree
from netdsl.syntax.bindings import bindings_of
from netdsl.syntax.parse import parse


@dataclass(frozen=True)
class Elaborated:
    """A network as a graph. `networks` are the file's, in order; `file` is its tree, recipes included."""

    graph: Graph
    warnings: tuple[Diagnostic, ...]
    networks: tuple[str, ...]
    file: tree.File


class Session:
    """Evaluates one file."""

    def __init__(self, source: SourceFile) -> None:
        self.reporter = Reporter()
        self.budget = Budget()
        self.source = source
        self.called: set[int] = set()  # ids of the networks that others called
        loader = Loader()
        self.module = loader.load(source)
        self.modules = loader.modules
        self.lints = Lints(self.modules, self.reporter)
        for diagnostic in loader.diagnostics:
            self.reporter.report(diagnostic)
        for module in self.modules:
            check_names(module, self.reporter)

    # --- what the two entries do ------------------------------------------------------------------------------------

    def check(self) -> tuple[Diagnostic, ...]:
        """Every diagnostic of the file: errors and warnings in the order of the text."""
        module = self.module
        if not module.file.definitions and not self.reporter.failed:
            self._report_empty("the file defines nothing")
        try:
            self.constants()
            for network in reversed(module.networks):
                # One that another network calls was checked there, with the symbols of its inputs solved.
                if id(network) not in self.called and all(p.default is not None for p in network.parameters):
                    self._network(network, {})
            self.check_recipes(None, {})
        except Abort:
            pass
        self.lints.files()
        return self.sorted(*self.lints.unused_allowances(self._looked_at))

    def _looked_at(self, definition: tree.Definition) -> bool:
        """Whether a check of the file evaluates all of a definition: not one that lacks values, nor a network's symbols
        where another network calls it."""
        match definition:
            case tree.Network():
                return id(definition) not in self.called and all(p.default is not None for p in definition.parameters)
            case tree.Train():
                return all(p.default is not None for p in definition.parameters)
            case _:
                return True

    def elaborate(self, name: str | None, settings: Mapping[str, object]) -> Elaborated:
        network = self._choose(name)
        if network is None:
            raise DiagnosticError(self.errors_first())
        values = self.settings(network, settings)
        graph = None
        try:
            self.constants()
            self.require_values(f"the network '{network.name.id}'", network.parameters, values)
            graph = self._network(network, values)
            if graph is not None:
                self.check_recipes(network.name.id, values)
        except Abort:
            pass
        if graph is None or self.reporter.failed:
            raise DiagnosticError(self.errors_first())
        self.lints.files()
        names = tuple(n.name.id for n in self.module.networks)
        return Elaborated(graph, self.sorted(), names, self.module.file)

    def check_recipes(self, network: str | None, settings: dict[str, Any]) -> None:
        """Reports what is wrong with the recipes for a network, or with all; the subclass knows recipes."""

    # --- parts ------------------------------------------------------------------------------------------------------

    def _choose(self, name: str | None) -> tree.Network | None:
        networks = {n.name.id: n for n in self.module.networks}
        if name is not None and name not in networks:
            if name in self.module.lost:
                return None
            raise self.no_network(name, networks)
        if name is None and "network" in self.module.lost:
            return None  # the parser gave a network up: it may have been the last one
        if networks:
            return networks[name] if name is not None else list(networks.values())[-1]
        if not self.reporter.failed:
            what = "the file is empty" if not self.module.file.definitions else "there is no network in this file"
            self._report_empty(what)
        return None

    def _report_empty(self, message: str) -> None:
        span = Span(self.source, 0, 0)
        help = "a model is written: network Name { input x: float32[N, 3, 224, 224]  …  output y = … }"
        self.reporter.report(error("no-network", message, span, help=help))

    def evaluator(self) -> Recipes:
        self.budget.next_network()
        return Recipes(self.reporter, GraphBuilder(""), self.budget)

    def constants(self) -> None:
        evaluator = self.evaluator()
        for name, entry in self.module.entries.items():
            if isinstance(entry, tree.Constant):
                try:
                    evaluator.definition(self.module, name, entry.name.span)
                except Fault as fault:
                    evaluator.report(fault)

    def no_network(self, name: str, networks: Iterable[str]) -> UsageError:
        known = list(dict.fromkeys(networks))
        near = nearest(name, known)
        hint = f"did you mean '{near}'?" if near else f"it has {', '.join(known) or 'none'}"
        return UsageError(f"{self.source.path} has no network '{escaped(name)}'; {hint}")

    def require_values(self, owner: str, parameters: Iterable[tree.Parameter], settings: Mapping[str, object]) -> None:
        """Reports parameters that have no default and are not set."""
        for parameter in parameters:
            name = parameter.name
            if parameter.default is None and name.id not in settings:
                message = f"{owner} needs a value for '{name.id}'"
                help = f"set one (--set {name.id}=…) or give it a default: {name.id}=…"
                self.reporter.report(error("argument", message, name.span, help=help))

    def _network(self, network: tree.Network, settings: dict[str, Any]) -> Graph | None:
        """The graph of a network; None where it has errors."""
        if id(network) in self.module.faulty:
            return None
        evaluator = self.evaluator()
        run = self.run_network(evaluator, self.module, network, settings).network
        assert run is not None
        builder = evaluator.builder
        if not run.outputs:
            found = bindings_of(network.body)
            if not found.outputs and not found.returns:
                self.reporter.report(_no_output(network))
            elif not self.reporter.failed:
                message = f"the network '{network.name.id}' has no output: the parts that declare one did not run"
                self.reporter.report(error("no-output", message, network.name.span))
        self._check_used(network, settings, run)
        if self.reporter.failed:
            return None
        for name, value in run.outputs.items():
            builder.output(name, value)
        graph = builder.finish()
        self.lints.graph(graph, evaluator.origins)
        return graph

    def run_network(
        self, evaluator: Statements, module: Module, network: tree.Network, settings: dict[str, Any]
    ) -> Frame:
        """Runs a network's body in a new graph; the frame holds its names, and its inputs and outputs."""
        evaluator.builder = GraphBuilder(network.name.id)
        frame = Frame(module, LayerScope(), NewParameters(), network, network=NetworkRun(None, settings))
        self.bind_parameters(evaluator, network.parameters, settings, frame)
        evaluator.run(network.body, frame)
        self.called |= evaluator.called
        return frame

    def bind_parameters(
        self, evaluator: Statements, parameters: Sequence[tree.Parameter], settings: dict[str, Any], frame: Frame
    ) -> None:
        """Gives a network's or a recipe's parameters their values: those that are set, else the defaults."""
        for parameter in parameters:
            _bind_parameter(evaluator, parameter, settings, frame)

    def _check_used(self, network: tree.Network, settings: Mapping[str, object], run: NetworkRun) -> None:
        """A setting that named a possible symbol which the inputs turned out not to have."""
        if self.reporter.failed:
            return
        parameters = {p.name.id for p in network.parameters}
        for name in settings:
            if name not in parameters and name not in run.symbols and name not in self._recipe_parameters(network):
                raise _unknown_setting(name, network, [*parameters, *run.symbols])

    def _recipe_parameters(self, network: tree.Network) -> set[str]:
        recipes = [r for r in self.module.recipes if r.network.span.text == network.name.id]
        return {p.name.id for r in recipes for p in r.parameters}

    # --- settings ---------------------------------------------------------------------------------------------------

    def settings(
        self, network: tree.Network, settings: Mapping[str, object], recipe: tree.Train | None = None
    ) -> dict[str, Any]:
        """The settings' values. Raises UsageError for a name that is neither a parameter nor, possibly, a symbol."""
        known = {p.name.id: None for p in network.parameters}
        for statement in _inputs(network):
            known.update({name.id: None for name in dim_names(statement.type)})
        known.update(dict.fromkeys(sorted(self._recipe_parameters(network))))
        known.update({p.name.id: None for p in (recipe.parameters if recipe else ())})
        values = {}
        for name, value in settings.items():
            if name not in known:
                raise _unknown_setting(name, network, list(known))
            values[name] = self._setting(name, value) if isinstance(value, str) else _converted(name, value)
        return values

    def _setting(self, name: str, text: str) -> Any:
        """A setting's text as an expression of the language, else as text."""
        file, problems = parse(SourceFile(f"--set {name}", f"value = {text}"))
        match file.definitions:
            case (tree.Constant(name=target, value=expression),) if not problems and target.id == "value":
                pass
            case _:
                return text
        evaluator = Statements(Reporter(), GraphBuilder(""), self.budget)
        try:
            value = evaluator.eval(expression, Frame(self.module, None, None, None))
        except (Fault, Refusal, Abort):
            return text
        return text if value is POISON else value

    # --- results ----------------------------------------------------------------------------------------------------

    def sorted(self, *more: Diagnostic) -> tuple[Diagnostic, ...]:
        """In the order of the text, the file itself first; warnings that a comment allows left out."""
        order = {id(m.file.source): i for i, m in enumerate(self.modules)}

        def place(d: Diagnostic) -> tuple[int, int]:
            return (order.get(id(d.span.file), -1), d.span.start) if d.span else (-1, 0)

        return tuple(sorted(self.lints.shown([*self.reporter.diagnostics, *more]), key=place))

    def errors_first(self) -> tuple[Diagnostic, ...]:
        return tuple(sorted(self.sorted(), key=lambda d: d.severity is Severity.WARNING))


def _bind_parameter(evaluator: Statements, parameter: tree.Parameter, settings: dict[str, Any], frame: Frame) -> None:
    name = parameter.name
    value: Any = POISON
    if name.id in settings:
        value = settings[name.id]
    elif parameter.default is not None:
        try:
            value = evaluator.eval(parameter.default, frame)
        except Fault as fault:
            evaluator.report(fault)
        except Refusal as refusal:
            evaluator.report(evaluator.refused(refusal, parameter.default.span))
    frame.bind(name.id, value, name.span)


def _inputs(network: tree.Network) -> list[tree.Input]:
    return [node for node in bindings_of(network.body).inputs if node.kind == "input"]


def _no_output(network: tree.Network) -> Diagnostic:
    message = f"the network '{network.name.id}' has no output"
    return error("no-output", message, network.name.span, help="say what it computes: output name = value")


def _unknown_setting(name: str, network: tree.Network, known: list[str]) -> UsageError:
    near = nearest(name, known)
    shown = ", ".join(dict.fromkeys(known))
    hint = f"did you mean '{near}'?" if near else f"it has {shown}" if known else "it has none"
    return UsageError(f"the network '{network.name.id}' has no parameter or symbol '{escaped(name)}'; {hint}")


def _converted(name: str, value: object) -> Any:
    """A Python value as one of the language. Raises UsageError for one that it does not have."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return type(value)(v if isinstance(v, str) else _converted(name, v) for v in value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", 0) == 0:
        return _converted(name, item())
    raise UsageError(f"the setting '{name}' is a {type(value).__name__}, which the language does not have")
