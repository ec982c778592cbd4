"""Recipes of a file: which one is meant, its network's run, its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netdsl.diagnostics import Diagnostic, DiagnosticError, error, nearest
from netdsl.elaborate.faults import Abort, Fault, UsageError
from netdsl.elaborate.layers import NewParameters
from netdsl.elaborate.names import check_recipe_names
from netdsl.elaborate.scope import Frame, LayerScope, NetworkRun
from netdsl.elaborate.session import Session
from netdsl.elaborate.settings import TABLES
from netdsl.elaborate.values import NetworkValue, describe, escaped
from netdsl.ir.graph import Graph
from netdsl.ir.recipe import Recipe
from netdsl.source import Span
from netdsl.syntax import tree


@dataclass(frozen=True)
class ElaboratedRecipe:
    """A recipe, and the graph of its network with the targets among its inputs, the loss (`loss`) and the metrics'
    statistics among its outputs."""

    recipe: Recipe
    graph: Graph
    warnings: tuple[Diagnostic, ...]
    file: tree.File


class RecipeSession(Session):
    """Evaluates one file, its recipes included."""

    def check_recipes(self, network: str | None, settings: dict[str, Any]) -> None:
        for recipe in self.module.recipes:
            if network is None or recipe.network.span.text == network:
                self._recipe(recipe, settings)

    def elaborate_recipe(
        self, label: str | None, network: str | None, settings: Mapping[str, object]
    ) -> ElaboratedRecipe:
        node = self._choose_recipe(label, network)
        if node is None:
            raise DiagnosticError(self.errors_first())
        found = None
        try:
            self.constants()
            values = self._recipe_settings(node, settings)
            self._require_all(node, values)
            found = self._recipe(node, values)
        except Abort:
            pass
        if found is None or self.reporter.failed:
            raise DiagnosticError(self.errors_first())
        self.lints.files()
        return ElaboratedRecipe(*found, self.sorted(), self.module.file)

    def _choose_recipe(self, label: str | None, network: str | None) -> tree.Train | None:
        """The labelled one, or without a label the one that has none, else the last."""
        names = [n.name.id for n in self.module.networks] + [r.network.span.text for r in self.module.recipes]
        if network is not None and network not in names and not self.module.lost:
            raise self.no_network(network, names)
        recipes = [r for r in self.module.recipes if network is None or r.network.span.text == network]
        if label is not None and not any(r.label == label for r in recipes):
            labels = [r.label for r in recipes if r.label]
            near = nearest(label, labels)
            hint = f'did you mean "{near}"?' if near else _held(labels, unlabelled=len(recipes) > len(labels))
            raise UsageError(f'{self.source.path} has no recipe "{escaped(label)}"; {hint}')
        chosen = [r for r in recipes if r.label == label] or recipes
        if not chosen and not self.reporter.failed:
            of = f" for the network '{network}'" if network else ""
            help = "write one: train Name { target …  loss = …  optimizer = … }"
            span = Span(self.source, 0, 0)
            self.reporter.report(error("no-recipe", f"there is no recipe{of} in this file", span, help=help))
        return chosen[-1] if chosen else None

    def _recipe_network(self, node: tree.Train) -> NetworkValue | None:
        """The network that a recipe is for; None where it has none, which is reported."""
        evaluator = self.evaluator()
        try:
            value = evaluator.eval(node.network, Frame(self.module, None, None, None))
            if not isinstance(value, NetworkValue):
                raise evaluator.fault(
                    "unknown-name", f"a recipe is for a network, found {describe(value)}", node.network.span
                )
        except Fault as fault:
            evaluator.report(fault)
            return None
        return value

    def _recipe_settings(self, node: tree.Train, settings: Mapping[str, object]) -> dict[str, Any]:
        value = self._recipe_network(node)
        return self.settings(value.network, settings, node) if value is not None else {}

    def _require_all(self, node: tree.Train, settings: dict[str, Any]) -> None:
        """Reports parameters of the recipe and its network that have no value."""
        value = self._recipe_network(node)
        if value is not None:
            self.require_values(f"the network '{value.network.name.id}'", value.network.parameters, settings)
            self.require_values("the recipe", node.parameters, settings)

    def _recipe(self, node: tree.Train, settings: dict[str, Any]) -> tuple[Recipe, Graph] | None:
        """A recipe and its graph; None where it, or its network, has errors."""
        value = self._recipe_network(node)
        if value is None or self.reporter.failed or id(node) in self.module.faulty:
            return None
        if not self._all_given(value.network, node, settings):
            return None
        evaluator = self.evaluator()
        inner = self.run_network(evaluator, value.module, value.network, settings)
        run = inner.network
        assert run is not None
        if evaluator.reporter.failed:
            return None
        names = {**{v.name: v for v in evaluator.builder.inputs}, **run.symbols, **run.outputs}
        names |= {p.name.id: inner.names[p.name.id] for p in value.network.parameters}
        tables = {name for table in TABLES.values() for name in table}
        check_recipe_names(self.module, node, {*names, *tables}, self.reporter)
        frame = Frame(self.module, LayerScope("train"), NewParameters(), node, network=NetworkRun(None, settings))
        frame.names |= names
        frame.bound |= dict.fromkeys(names, node.network.span)
        self.bind_parameters(evaluator, node.parameters, settings, frame)
        found = evaluator.finish_recipe(evaluator.run_recipe(node, frame, inner))
        if found is not None:
            self.lints.graph(found[1], evaluator.origins)
        return found

    def _all_given(self, network: tree.Network, node: tree.Train, settings: Mapping[str, object]) -> bool:
        """Whether all parameters have values: a check of the file does without those that have no default."""
        parameters = (*network.parameters, *node.parameters)
        return all(p.default is not None or p.name.id in settings for p in parameters)


def _held(labels: Sequence[str], *, unlabelled: bool) -> str:
    """What recipes a file has, for the message on one that it does not have."""
    if not labels:
        return "the one that it has is without a label" if unlabelled else "it has none"
    return f"it has {', '.join(labels)}" + (" and one without a label" if unlabelled else "")
