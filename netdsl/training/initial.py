"""The weights that a run begins with: drawn from the seed, or read from the checkpoints that the recipe names."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

import numpy as np

from netdsl.diagnostics import DiagnosticError, error
from netdsl.ir.graph import Graph, Parameter
from netdsl.ir.recipe import InitialWeights, Recipe
from netdsl.ir.types import NDArrayAny
from netdsl.weights import Checkpoint, Entry, WeightStore, load_checkpoint


def initial_weights(recipe: Recipe, graph: Graph, folder: Path) -> dict[str, NDArrayAny]:
    """An array for every parameter and buffer. Files are relative to `folder`; of several that have a name the last one
    counts.

    Raises DiagnosticError where a file is missing, damaged or does not fit.
    """
    store = WeightStore(graph.parameters, seed=recipe.seed)
    weights = {p.name: np.array(store.array(p)) for p in graph.parameters}
    for rule in recipe.weights:
        chosen = [p for p in graph.parameters if fnmatchcase(p.name, rule.pattern)]
        weights |= _read(rule, chosen, folder / rule.file, recipe)
    return weights


def _read(rule: InitialWeights, chosen: list[Parameter], path: Path, recipe: Recipe) -> dict[str, NDArrayAny]:
    try:
        checkpoint = load_checkpoint(path)
    except OSError as reason:
        what = f"weights: '{rule.file}' cannot be read: {reason.strerror or reason}"
        span, at = (recipe.place.span, recipe.place.path) if recipe.place else (None, str(path))
        help = "the path is relative to the .net file"
        raise DiagnosticError([error("initial-weights", what, span, path=at, help=help)]) from None
    store = WeightStore(chosen, checkpoint=_fitting(checkpoint, rule.pattern, chosen))
    return {p.name: np.array(store.array(p)) for p in chosen}


def _fitting(checkpoint: Checkpoint, pattern: str, chosen: list[Parameter]) -> Checkpoint:
    """The checkpoint, or one of a part of the network alone: "teacher.*" may be read from a file of the teacher's."""
    prefix = pattern.partition("*")[0]
    prefix = prefix[: prefix.rfind(".") + 1]
    entries = checkpoint.entries
    if prefix and all(p.name not in entries and p.name.removeprefix(prefix) in entries for p in chosen):
        return _Part(checkpoint, prefix)
    return checkpoint


class _Part(Checkpoint):
    """A checkpoint whose names stand under a prefix."""

    def __init__(self, whole: Checkpoint, prefix: str) -> None:
        super().__init__(whole.path)
        self._whole, self._prefix = whole, prefix

    @property
    def entries(self) -> Mapping[str, Entry]:
        return MappingProxyType({self._prefix + name: entry for name, entry in self._whole.entries.items()})

    def read(self, name: str) -> NDArrayAny:
        return self._whole.read(name.removeprefix(self._prefix))


def saved_weights(graph: Graph, path: Path) -> dict[str, NDArrayAny]:
    """An array for every parameter and buffer from a checkpoint. Raises OSError, and DiagnosticError where it is
    damaged or does not fit."""
    store = WeightStore(graph.parameters, checkpoint=load_checkpoint(path))
    return {p.name: np.array(store.array(p)) for p in graph.parameters}
