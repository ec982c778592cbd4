"""The settings of a recipe: what each takes, and the tables in which its values are looked up first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from netdsl.elaborate.values import OperatorValue, SettingFunction
from netdsl.ir.arguments import POSITIVE, ArgumentError, Float, Int, Param, choice, is_int
from netdsl.ir.recipe import (
    EARLY_STOP,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    EarlyStop,
    FreezeRule,
    InitialWeights,
    OptimizerSpec,
    ScheduleSpec,
)
from netdsl.ir.types import DType
from netdsl.ops.metric import METRICS

CHECKPOINTS = (".safetensors", ".npz", ".onnx")


def _functions(
    table: Mapping[str, tuple[Param, ...]], make: Callable[[str, Mapping[str, Any]], Any]
) -> Mapping[str, Any]:
    return {name: SettingFunction(name, params, partial(make, name)) for name, params in table.items()}


#: The functions that a setting's value is looked up in first.
TABLES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "optimizer": _functions(OPTIMIZERS, OptimizerSpec.of),
        "schedule": _functions(SCHEDULES, ScheduleSpec.of),
        "early_stop": _functions({"early_stop": EARLY_STOP}, lambda name, given: EarlyStop(**given)),
        "metric": {name: OperatorValue(op) for name, op in METRICS.items()},
    }
)


def _of_type(kind: type, expected: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        raise ArgumentError(expected)

    return convert


def _none_or(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else convert(value)


def _weights(value: Any) -> tuple[InitialWeights, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (InitialWeights(_checkpoint(value)),)
    pairs = isinstance(value, list) and all(
        isinstance(v, tuple | list) and len(v) == 2 and all(isinstance(s, str) for s in v) for v in value
    )
    if pairs:
        return tuple(InitialWeights(_checkpoint(file), pattern) for pattern, file in value)
    raise ArgumentError('a file in quotes, or a list of patterns and files: [("teacher.*", "file")]')


def _checkpoint(file: str) -> str:
    if file.lower().endswith(CHECKPOINTS):
        return file
    raise ArgumentError(f"a checkpoint ({', '.join(CHECKPOINTS)})")


def _precision(value: Any) -> Any:
    if isinstance(value, DType) and str(value) in PRECISIONS:
        raise ArgumentError("a string", f'write "{value}"')
    return choice(*PRECISIONS).convert(value)


def _rules(value: Any) -> tuple[FreezeRule, ...]:
    items = [value] if isinstance(value, str) else value
    if isinstance(items, list | tuple) and all(map(_is_rule, items)):
        return tuple(FreezeRule(v) if isinstance(v, str) else FreezeRule(*v) for v in items)
    raise ArgumentError('a pattern, a list of patterns, or patterns with integers of epochs: [("stem.*", 5)]')


def _is_rule(value: Any) -> bool:
    if isinstance(value, tuple | list) and len(value) == 2:
        return isinstance(value[0], str) and is_int(value[1]) and value[1] >= 0
    return isinstance(value, str)


def _recompute(value: Any) -> Any:
    if value == "auto":
        return value
    items = [value] if isinstance(value, str) else value
    if isinstance(items, list | tuple) and all(isinstance(v, str) for v in items):
        return tuple(items)
    raise ArgumentError('"auto", a pattern of layers, or a list of patterns')


#: Settings other than `loss`: from the value of their expression to the field of the recipe. They raise ArgumentError.
SETTINGS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "optimizer": _of_type(OptimizerSpec, "an optimizer: " + ", ".join(OPTIMIZERS)),
        "schedule": _of_type(ScheduleSpec, "a schedule: " + ", ".join(SCHEDULES)),
        "early_stop": _none_or(_of_type(EarlyStop, 'early_stop(monitor="loss", patience=5), or none')),
        "epochs": POSITIVE.convert,
        "batch": POSITIVE.convert,
        "seed": Int("integer of 0 or more", low=0, high=2**63 - 1).convert,
        "clip_norm": _none_or(Float("number above 0", above=0).convert),
        "accumulate": POSITIVE.convert,
        "precision": _precision,
        "weights": _weights,
        "freeze": _rules,
        "unfreeze": _rules,
        "recompute": _recompute,
    }
)
NAMES = ("loss", *SETTINGS)
