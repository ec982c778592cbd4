"""Optimizers as graph arithmetic, each by PyTorch's definition (torch.optim, 2.x), state included.

A rule gets a parameter, its gradient and its state, and returns their next values. `t` is the number of this step,
from 1, as a float scalar, counted since the parameter is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from netdsl.autodiff.algebra import Algebra, Term
from netdsl.ir.graph import Value

Arguments = Mapping[str, float]
State = dict[str, Value]
Rule = Callable[["Update"], tuple[Value, State]]


@dataclass(frozen=True)
class Update:
    """What a rule reads: `a` emits arithmetic, `arguments` are the optimizer's, all given."""

    a: Algebra
    arguments: Arguments
    parameter: Value
    gradient: Value
    state: State
    rate: Value
    t: Value

    def __getitem__(self, name: str) -> float:
        return float(self.arguments[name])

    def decayed(self) -> Value:
        """The gradient with the L2 penalty's: `g + weight_decay * w`."""
        decay = self["weight_decay"]
        return self.a.add(self.gradient, self.a.mul(self.parameter, decay)) if decay else self.gradient

    def step(self, direction: Value, rate: Term | None = None, start: Value | None = None) -> Value:
        """`w - rate * direction`, from another value than the parameter's own if `start` is given."""
        moved = self.a.mul(direction, self.rate if rate is None else rate)
        return self.a.sub(self.parameter if start is None else start, moved)


class Direction(Update):
    """An update that only says where to go, for the rate 1: what plain gradient descent is to multiply by the rate.
    AdamW's decay is no part of it, as it acts on the parameter."""

    def step(self, direction: Value, rate: Term | None = None, start: Value | None = None) -> Value:
        return self.a.mul(direction, 1.0 if rate is None else rate)


def _sgd(u: Update) -> tuple[Value, State]:
    """Momentum begins at 0, so that the first buffer is the gradient itself, as in PyTorch (dampening 0)."""
    gradient, momentum = u.decayed(), u["momentum"]
    if not momentum:
        return u.step(gradient), {}
    buffer = u.a.add(u.a.mul(u.state["momentum"], momentum), gradient)
    direction = u.a.add(gradient, u.a.mul(buffer, momentum)) if u.arguments["nesterov"] else buffer
    return u.step(direction), {"momentum": buffer}


def _adam_step(u: Update, gradient: Value, parameter: Value) -> tuple[Value, State]:
    """Kingma & Ba 2014 (arXiv:1412.6980). The bias corrections are scalars, so they cost nothing per element."""
    a, beta1, beta2 = u.a, u["beta1"], u["beta2"]
    mean = a.mix(u.state["exp_avg"], gradient, beta1)
    square = a.mix(u.state["exp_avg_sq"], a.mul(gradient, gradient), beta2)
    correction = a.sqrt(a.sub(1.0, a.pow(beta2, u.t)))
    rate = a.div(u.rate, a.sub(1.0, a.pow(beta1, u.t)))
    denominator = a.add(a.div(a.sqrt(square), correction), u["eps"])
    moved = u.step(a.div(a.mul(mean, rate), denominator), 1.0, parameter)
    return moved, {"exp_avg": mean, "exp_avg_sq": square}


def _adam(u: Update) -> tuple[Value, State]:
    return _adam_step(u, u.decayed(), u.parameter)


def _adamw(u: Update) -> tuple[Value, State]:
    """Loshchilov & Hutter 2017 (arXiv:1711.05101): the decay acts on the parameter, not on the gradient."""
    decay = u["weight_decay"]
    kept = u.a.mul(u.parameter, u.a.sub(1.0, u.a.mul(u.rate, decay))) if decay else u.parameter
    return _adam_step(u, u.gradient, kept)


def _adagrad(u: Update) -> tuple[Value, State]:
    """Duchi et al. 2011."""
    a, gradient = u.a, u.decayed()
    total = a.add(u.state["sum"], a.mul(gradient, gradient))
    decay = u["lr_decay"]
    rate = a.div(u.rate, a.add(a.mul(a.sub(u.t, 1.0), decay), 1.0)) if decay else u.rate
    return u.step(a.div(gradient, a.add(a.sqrt(total), u["eps"])), rate), {"sum": total}


def _adadelta(u: Update) -> tuple[Value, State]:
    """Zeiler 2012 (arXiv:1212.5701)."""
    a, gradient, rho, eps = u.a, u.decayed(), u["rho"], u["eps"]
    square = a.mix(u.state["square_avg"], a.mul(gradient, gradient), rho)
    ratio = a.div(a.sqrt(a.add(u.state["acc_delta"], eps)), a.sqrt(a.add(square, eps)))
    delta = a.mul(ratio, gradient)
    return u.step(delta), {"square_avg": square, "acc_delta": a.mix(u.state["acc_delta"], a.mul(delta, delta), rho)}


def _rmsprop(u: Update) -> tuple[Value, State]:
    """Tieleman & Hinton 2012; centred: Graves 2013 (arXiv:1308.0850)."""
    a, gradient, alpha = u.a, u.decayed(), u["alpha"]
    square = a.mix(u.state["square_avg"], a.mul(gradient, gradient), alpha)
    state = {"square_avg": square}
    spread = square
    if u.arguments["centered"]:
        state["grad_avg"] = a.mix(u.state["grad_avg"], gradient, alpha)
        spread = a.sub(square, a.mul(state["grad_avg"], state["grad_avg"]))
    direction = a.div(gradient, a.add(a.sqrt(spread), u["eps"]))
    if u["momentum"]:
        direction = a.add(a.mul(u.state["momentum_buffer"], u["momentum"]), direction)
        state["momentum_buffer"] = direction
    return u.step(direction), state


@dataclass(frozen=True)
class Definition:
    rule: Rule
    state: Callable[
        [Arguments], tuple[str, ...]
    ]  #: names of the state tensors that each parameter has, all zero at first
    initial: str = ""  #: the argument that gives the state's first value, if it is not zero


OPTIMIZERS: Mapping[str, Definition] = {
    "sgd": Definition(_sgd, lambda a: ("momentum",) if a["momentum"] else ()),
    "adam": Definition(_adam, lambda a: ("exp_avg", "exp_avg_sq")),
    "adamw": Definition(_adamw, lambda a: ("exp_avg", "exp_avg_sq")),
    "adagrad": Definition(_adagrad, lambda a: ("sum",), "initial_accumulator_value"),
    "adadelta": Definition(_adadelta, lambda a: ("square_avg", "acc_delta")),
    "rmsprop": Definition(
        _rmsprop,
        lambda a: (
            "square_avg",
            *(["grad_avg"] if a["centered"] else []),
            *(["momentum_buffer"] if a["momentum"] else []),
        ),
    ),
}
