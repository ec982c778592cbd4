"""Tree → graph: evaluates a program's blocks, loops and conditions, infers shapes, names layers and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from netdsl.diagnostics import Diagnostic
from netdsl.elaborate.faults import UsageError
from netdsl.elaborate.recipe_session import ElaboratedRecipe, RecipeSession
from netdsl.elaborate.session import Elaborated
from netdsl.elaborate.stack import with_deep_stack
from netdsl.source import SourceFile

__all__ = ["Elaborated", "ElaboratedRecipe", "UsageError", "check", "elaborate", "elaborate_recipe"]


def elaborate(
    source: SourceFile,
    *,
    network: str | None = None,
    settings: Mapping[str, object | str] = MappingProxyType({}),
) -> Elaborated:
    """The graph of a network of the file, by default of the last one.

    `settings` gives parameters of the network and symbols their values: Python values, or text that is read as an
    expression of the language where it is one. Raises DiagnosticError with every error of the file, then its warnings;
    UsageError for a network or a setting that the file does not have.
    """
    return with_deep_stack(lambda: RecipeSession(source).elaborate(network, settings))


def elaborate_recipe(
    source: SourceFile,
    *,
    label: str | None = None,
    network: str | None = None,
    settings: Mapping[str, object | str] = MappingProxyType({}),
) -> ElaboratedRecipe:
    """A recipe of the file, by default the one without a label, else the last, with its network's graph.

    `settings` sets parameters of the network, of the recipe, and symbols. Raises DiagnosticError and UsageError as
    `elaborate` does.
    """
    return with_deep_stack(lambda: RecipeSession(source).elaborate_recipe(label, network, settings))


def check(source: SourceFile) -> tuple[Diagnostic, ...]:
    """Every diagnostic of a file and its imports, in the order of the text; names also in what never runs."""
    return with_deep_stack(lambda: RecipeSession(source).check())
