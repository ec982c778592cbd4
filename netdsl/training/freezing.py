"""Which parameters are trained in which epoch."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from netdsl.diagnostics import DiagnosticError, error, nearest
from netdsl.ir.recipe import FreezeRule, Recipe


def trainable_at(recipe: Recipe, names: Iterable[str], epoch: int) -> frozenset[str]:
    """The names that are trained once `epoch` epochs are done.

    Rules apply in the order of their epochs, at the same epoch `freeze` before `unfreeze`; the last that matches a
    name decides, so `freeze = "*"` with `unfreeze = "head.*"` trains the head alone.
    """
    trained = dict.fromkeys(names, True)
    for rule, value in _due(recipe, epoch):
        for name in trained:
            if fnmatchcase(name, rule.pattern):
                trained[name] = value
    return frozenset(name for name, value in trained.items() if value)


def trained_since(recipe: Recipe, names: Iterable[str], epoch: int) -> dict[str, int]:
    """What is trained once `epoch` epochs are done, with the epoch since when, without a break."""
    names, since = tuple(names), dict[str, int]()
    for at in sorted({0, *(rule.epoch for rule, _ in _due(recipe, epoch))}):
        trained = trainable_at(recipe, names, at)
        since = {name: since.get(name, at) for name in names if name in trained}
    return since


def _due(recipe: Recipe, epoch: int) -> list[tuple[FreezeRule, bool]]:
    rules = [(rule, False) for rule in recipe.freeze] + [(rule, True) for rule in recipe.unfreeze]
    return sorted((r for r in rules if r[0].epoch <= epoch), key=lambda r: (r[0].epoch, r[1]))


def check_patterns(recipe: Recipe, names: Iterable[str]) -> None:
    """Raises DiagnosticError for a pattern that matches nothing, with the nearest name."""
    names = tuple(names)
    wrong = [
        error(
            "unmatched-pattern",
            f"{word} = {rule.pattern!r} matches no parameter",
            recipe.place.span if recipe.place else None,
            path=recipe.place.path if recipe.place else "",
            help=f"did you mean {near!r}?" if (near := nearest(rule.pattern, names)) else (),
        )
        for word, rules in (("freeze", recipe.freeze), ("unfreeze", recipe.unfreeze))
        for rule in rules
        if not any(fnmatchcase(name, rule.pattern) for name in names)
    ]
    if wrong:
        raise DiagnosticError(wrong)
