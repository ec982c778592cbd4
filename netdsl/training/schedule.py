"""Learning rates: every schedule as a pure function of the step, except `plateau`, which has a state.

A step is one update of the weights. The definitions are those of torch.optim.lr_scheduler: `step`, `multi_step`,
`exponential` and `plateau` change the rate between epochs, `cosine` and `one_cycle` with every step, over the whole
run.

Warm-up: in step s of W warm-up steps the rate is (s + 1) / (W + 1) times the schedule's; that is LinearLR(1 / (W + 1),
total_iters=W). The epochs of `step`, `multi_step` and `exponential` count from the start of the run. `cosine` and
`one_cycle` begin where the warm-up ends and last for what is left of the run (SequentialLR).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, inf, isnan, pi
from typing import Any

from netdsl.ir.recipe import Mode, ScheduleSpec


@dataclass(frozen=True)
class Run:
    """The length of a run. `steps` is the number of updates per epoch."""

    epochs: int
    steps: int

    @property
    def total(self) -> int:
        return self.epochs * self.steps


class Schedule:
    """The rate of every step. Make one with `make_schedule`.

    `state` is what a checkpoint keeps, of JSON's types; it is empty for all but `plateau`.
    """

    def __init__(self, spec: ScheduleSpec, lr: float, run: Run) -> None:
        self.spec, self.lr, self.run = spec, lr, run
        warmup = spec.warmup
        self.warmup = warmup * run.steps if isinstance(warmup, int) else round(warmup * run.total)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self._rate(self.warmup if self._after_warmup else step) * (step + 1) / (self.warmup + 1)
        return self._rate(step)

    def _rate(self, step: int) -> float:
        """Without the warm-up's factor."""
        rule = _RULES[self.spec.name]
        if self._after_warmup:
            left = max(self.run.total - self.warmup, 1)
            return rule(self.lr, self.spec.arguments, step - self.warmup, left)
        return rule(self.lr, self.spec.arguments, step // self.run.steps, self.run.epochs)

    @property
    def _after_warmup(self) -> bool:
        return self.spec.name in _PER_STEP

    def epoch_end(self, value: float) -> None:
        """Tells the schedule what it watches, once after every epoch."""

    @property
    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that `state` gave."""


class Plateau(Schedule):
    """ReduceLROnPlateau with a relative threshold."""

    def __init__(self, spec: ScheduleSpec, lr: float, run: Run, mode: Mode) -> None:
        super().__init__(spec, lr, run)
        self.mode = mode
        self.current = lr
        self.best = inf if mode == "min" else -inf
        self.bad = self.cooling = 0

    def _rate(self, step: int) -> float:
        return self.current

    @property
    def _after_warmup(self) -> bool:
        return False

    def epoch_end(self, value: float) -> None:
        arguments = self.spec.arguments
        if self._better(value, arguments["threshold"]):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.cooling > 0:
            self.cooling -= 1
            self.bad = 0
        if self.bad > arguments["patience"]:
            lowered = max(self.current * arguments["factor"], arguments["min_lr"])
            if self.current - lowered > 1e-8:  # PyTorch's eps: a smaller change is none
                self.current = lowered
            self.cooling, self.bad = arguments["cooldown"], 0

    def _better(self, value: float, threshold: float) -> bool:
        if isnan(value):
            return False
        if self.mode == "min":
            return value < (self.best if self.best == inf else self.best * (1 - threshold))
        return value > (self.best if self.best == -inf else self.best * (1 + threshold))

    @property
    def state(self) -> dict[str, Any]:
        return {"current": self.current, "best": self.best, "bad": self.bad, "cooling": self.cooling}

    def load(self, state: Mapping[str, Any]) -> None:
        self.current, self.best = float(state["current"]), float(state["best"])
        self.bad, self.cooling = int(state["bad"]), int(state["cooling"])


def make_schedule(spec: ScheduleSpec, lr: float, run: Run, mode: Mode = "min") -> Schedule:
    """The schedule of a run; `lr` is the optimizer's, `mode` the direction of what `plateau` watches."""
    return Plateau(spec, lr, run, mode) if spec.name == "plateau" else Schedule(spec, lr, run)


Rule = Callable[[float, Mapping[str, Any], int, int], float]


def _constant(lr: float, arguments: Mapping[str, Any], at: int, total: int) -> float:
    return lr


def _step(lr: float, arguments: Mapping[str, Any], epoch: int, total: int) -> float:
    return float(lr * arguments["gamma"] ** (epoch // arguments["step_size"]))


def _multi_step(lr: float, arguments: Mapping[str, Any], epoch: int, total: int) -> float:
    return float(lr * arguments["gamma"] ** sum(m <= epoch for m in arguments["milestones"]))


def _exponential(lr: float, arguments: Mapping[str, Any], epoch: int, total: int) -> float:
    return float(lr * arguments["gamma"] ** epoch)


def _cosine(lr: float, arguments: Mapping[str, Any], step: int, total: int) -> float:
    """Loshchilov & Hutter 2016 (arXiv:1608.03983), without restarts."""
    low = float(arguments["eta_min"])
    return low + (lr - low) * (1 + cos(pi * min(step, total) / total)) / 2


def _one_cycle(lr: float, arguments: Mapping[str, Any], step: int, total: int) -> float:
    """Smith & Topin 2017 (arXiv:1708.07120). PyTorch's also moves the momentum; here it stays."""
    top = float(arguments["max_lr"] or lr)
    first = top / arguments["div_factor"]
    last = first / arguments["final_div_factor"]
    turn, end = arguments["pct_start"] * total - 1, total - 1
    step = min(step, end)
    if step <= turn:
        return _between(arguments["anneal_strategy"], first, top, step / turn if turn else 1.0)
    return _between(arguments["anneal_strategy"], top, last, (step - turn) / (end - turn) if end > turn else 1.0)


def _between(strategy: str, start: float, end: float, share: float) -> float:
    if strategy == "linear":
        return start + (end - start) * share
    return end + (start - end) / 2 * (1 + cos(pi * share))


_RULES: Mapping[str, Rule] = {
    "constant": _constant,
    "step": _step,
    "multi_step": _multi_step,
    "exponential": _exponential,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
}
_PER_STEP = frozenset({"cosine", "one_cycle"})
