"""What has changed between a checkpoint and the run that goes on from it: why the result will not be that of a run that
was never stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from netdsl.ir.recipe import FreezeRule, Recipe
from netdsl.training.checkpoint import Progress, Saved, versions

_TEXT = "text"


def settings_of(recipe: Recipe) -> dict[str, str]:
    """The settings that decide a run's weights, by name; and the recipe's text, which also says the loss."""
    schedule = recipe.schedule
    found = {
        "optimizer": _call(recipe.optimizer.name, recipe.optimizer.arguments),
        "schedule": _call(schedule.name, {**schedule.arguments, "warmup": schedule.warmup}),
        "batch": str(recipe.batch),
        "accumulate": str(recipe.accumulate),
        "clip_norm": str(recipe.clip_norm).lower(),
        "precision": recipe.precision,
        "freeze": _rules(recipe.freeze),
        "unfreeze": _rules(recipe.unfreeze),
        _TEXT: recipe.text,
    }
    if schedule.name in ("cosine", "one_cycle") or isinstance(schedule.warmup, float):
        found["number of epochs"] = str(recipe.epochs)  # the rate depends on how many there are in all
    return found


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{n}={value}' for n, value in arguments.items())})"


def _rules(rules: tuple[FreezeRule, ...]) -> str:
    return ", ".join(f'"{rule.pattern}" in epoch {rule.epoch}' for rule in rules) or "none"


def same_optimizer(old: Progress, now: Progress) -> bool:
    """Whether the optimizer's state of a checkpoint is of use. One that does not say its optimizer is trusted."""
    names = [progress.settings.get("optimizer", "").partition("(")[0] for progress in (old, now)]
    return not names[0] or names[0] == names[1]


def changes(saved: Saved, now: Progress, engine: str) -> Iterator[str]:
    """A sentence for each change, the cause of others first."""
    old = saved.progress
    pairs: list[tuple[str, object, object]] = [("seed", old.seed, now.seed), ("number of items", old.items, now.items)]
    pairs += [(name, old.settings.get(name, value), value) for name, value in now.settings.items() if name != _TEXT]
    if (old.items, old.settings.get("batch")) == (now.items, now.settings.get("batch")):
        pairs.append(("number of batches", old.batches, now.batches))
    pairs.append(("engine", saved.engine, engine))
    pairs += [(f"version of {name}", version, versions().get(name)) for name, version in saved.versions.items()]
    found = [f"note: the {what} was {a} when the run began and is {b} now" for what, a, b in pairs if a != b]
    text = now.settings.get(_TEXT)
    if not found and old.settings.get(_TEXT, text) != text:
        found.append("note: the text of the recipe was another when the run began")
    return iter(found)
