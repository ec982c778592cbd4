"""What a run watches: early stopping, the best epoch, Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from math import inf, isnan
from types import FrameType, TracebackType
from typing import Any

from netdsl.diagnostics import DiagnosticError, error, nearest
from netdsl.ir.recipe import Mode, Recipe


def mode_of(recipe: Recipe, monitor: str, given: Mode | None) -> Mode:
    """Whether less or more is better of what is watched: as given, else by the metric; of the loss less.

    Raises DiagnosticError where the recipe has no such metric, or it is no number.
    """
    numbers = {spec.name: spec.definition.mode for spec in recipe.metrics if spec.definition.scalar}
    numbers["loss"] = "min"
    if monitor not in numbers:
        close = nearest(monitor, numbers)
        help = f"did you mean '{close}'?" if close else f"what can be watched: {', '.join(sorted(numbers))}"
        span = recipe.place.span if recipe.place else None
        raise DiagnosticError([error("unknown-monitor", f"there is no loss or metric '{monitor}'", span, help=help)])
    return given or numbers[monitor]


class Stopper:
    """Counts the epochs without progress. Without early stopping in the recipe it only remembers the best epoch, by
    the loss."""

    def __init__(self, recipe: Recipe) -> None:
        stop = recipe.early_stop
        self.monitor = stop.monitor if stop else "loss"
        self.mode = mode_of(recipe, self.monitor, stop.mode if stop else None)
        self._patience = stop.patience if stop else None
        self._delta = stop.min_delta if stop else 0.0
        self.best = inf if self.mode == "min" else -inf
        self.best_epoch = 0
        self._bad = 0

    def see(self, values: Mapping[str, float], epoch: int) -> bool:
        """Takes the numbers of an epoch, counted from 1. True where it is the best so far."""
        value = values[self.monitor]
        gain = self.best - value if self.mode == "min" else value - self.best
        better = not isnan(value) and gain > self._delta
        if better:
            self.best, self.best_epoch, self._bad = value, epoch, 0
        else:
            self._bad += 1
        return better

    @property
    def stop(self) -> bool:
        return self._patience is not None and self._bad >= self._patience

    @property
    def state(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "best": self.best, "best_epoch": self.best_epoch, "bad": self._bad}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave, unless that watched something else."""
        if state.get("monitor") == self.monitor:
            self.best, self.best_epoch = float(state["best"]), int(state["best_epoch"])
            self._bad = int(state["bad"])


class Interrupts:
    """While it is entered, the first SIGINT or SIGTERM only sets `asked`, so that the run ends in order; the second
    raises KeyboardInterrupt. Outside of the main thread signals stay as they are."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        return self.asked

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
