"""What training a network takes: the memory of the step that its recipe begins with."""

from __future__ import annotations

from collections.abc import Mapping

from netdsl.autodiff.memory import step_peak_bytes
from netdsl.autodiff.step import build_step
from netdsl.diagnostics import DiagnosticError
from netdsl.elaborate import Elaborated, UsageError, elaborate_recipe
from netdsl.source import SourceFile
from netdsl.syntax import tree
from netdsl.training.freezing import trained_since
from netdsl.training.models import RecipeModels, trainable_names


def training_peak(source: SourceFile, made: Elaborated, settings: Mapping[str, object]) -> int | None:
    """Bytes for one item; None without a recipe that can be trained."""
    if not any(isinstance(d, tree.Train) for d in made.file.definitions):
        return None
    try:
        trained = elaborate_recipe(source, network=made.graph.name, settings=settings)
        models = RecipeModels(trained.recipe, trained.graph)
        options = models.options(trained_since(trained.recipe, trainable_names(trained.graph), 0))
        return step_peak_bytes(build_step(trained.graph, options, models.results))
    except (DiagnosticError, UsageError):  # `check` and `train` say what is wrong with a recipe
        return None
