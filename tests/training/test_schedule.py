from __future__ import annotations

from typing import Any

import pytest

from netdsl.ir.arguments import ArgumentError
from netdsl.ir.recipe import OPTIMIZERS, SCHEDULES, OptimizerSpec, ScheduleSpec
from netdsl.training.schedule import Run, make_schedule

LR = 0.4
CASES: dict[str, dict[str, Any]] = {
    "constant": {},
    "step": {"step_size": 3, "gamma": 0.5},
    "multi_step": {"milestones": [2, 5], "gamma": 0.2},
    "exponential": {"gamma": 0.9},
    "cosine": {"eta_min": 0.01},
    "one_cycle": {"pct_start": 0.4, "anneal_strategy": "linear", "div_factor": 10.0},
}
RUN = Run(epochs=8, steps=7)


def rates(name: str, arguments: dict[str, Any], run: Run = RUN) -> list[float]:
    schedule = make_schedule(ScheduleSpec.of(name, arguments), LR, run)
    return [schedule.rate(step) for step in range(run.total)]


def torch_rates(name: str, arguments: dict[str, Any], run: Run, warmup: int = 0) -> list[float]:
    """PyTorch's, by stepping its schedulers as its documentation says."""
    torch = pytest.importorskip("torch")
    of = torch.optim.lr_scheduler
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    length = run.total - warmup
    arguments = dict(arguments)
    per_step = name in ("cosine", "one_cycle")
    makers = {
        "constant": lambda: of.LambdaLR(optimizer, lambda _: 1.0),
        "step": lambda: of.StepLR(optimizer, **arguments),
        "multi_step": lambda: of.MultiStepLR(optimizer, **arguments),
        "exponential": lambda: of.ExponentialLR(optimizer, **arguments),
        "cosine": lambda: of.CosineAnnealingLR(optimizer, T_max=length, **arguments),
        "one_cycle": lambda: of.OneCycleLR(optimizer, max_lr=LR, total_steps=length, cycle_momentum=False, **arguments),
    }
    if warmup and per_step:
        rise = of.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
        scheduler = of.SequentialLR(optimizer, [rise, makers[name]()], milestones=[warmup])
    else:
        scheduler = makers[name]()
    found = []
    for step in range(run.total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (per_step or (step + 1) % run.steps == 0) and step + 1 < run.total:
            scheduler.step()
    return found


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_rates_equal_pytorch(name: str) -> None:
    assert rates(name, CASES[name]) == pytest.approx(torch_rates(name, CASES[name], RUN), rel=1e-9)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_one_cycle_by_cosine_equals_pytorch() -> None:
    assert rates("one_cycle", {}) == pytest.approx(torch_rates("one_cycle", {}, RUN), rel=1e-9)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_cosine_after_warmup_equals_pytorch() -> None:
    ours = rates("cosine", {"warmup": 2})
    assert ours == pytest.approx(torch_rates("cosine", {}, RUN, warmup=14), rel=1e-9)


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_equals_pytorch(mode: str) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    arguments = {"factor": 0.3, "patience": 1, "cooldown": 1, "min_lr": 0.01, "threshold": 0.05}
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, **arguments)
    spec = ScheduleSpec.of("plateau", arguments)
    ours = make_schedule(spec, LR, Run(30, 1), mode)  # type: ignore[arg-type]
    for epoch, value in enumerate(
        [5, 4, 4.1, 4, 3.9, 3.95, 3.6, 3.6, 3.6, 3.6, 3.6, 3.6, 1, 1, 1, 1, 1, 1, 1, 9, 9, 9]
    ):
        assert ours.rate(epoch) == optimizer.param_groups[0]["lr"]
        theirs.step(value)
        ours.epoch_end(value)
        copy = make_schedule(spec, LR, Run(30, 1), mode)  # type: ignore[arg-type]
        copy.load(ours.state)
        ours = copy


def test_known_values() -> None:
    assert rates("step", {"step_size": 2, "gamma": 0.5}, Run(4, 1)) == pytest.approx([0.4, 0.4, 0.2, 0.2])
    assert rates("cosine", {}, Run(1, 4)) == pytest.approx(
        [0.4, 0.4 * (1 + 0.5**0.5) / 2, 0.2, 0.4 * (1 - 0.5**0.5) / 2]
    )
    assert rates("one_cycle", {"div_factor": 4.0}, Run(1, 10))[2] == pytest.approx(0.4)


@pytest.mark.parametrize("warmup, steps", [(0.1, 8), (2, 20), (0, 0)])
def test_warmup_rises_in_a_line(warmup: float, steps: int) -> None:
    found = rates("constant", {"warmup": warmup}, Run(8, 10))
    assert found[:steps] == pytest.approx([LR * (s + 1) / (steps + 1) for s in range(steps)])
    assert found[steps:] == [LR] * (80 - steps)


def test_epochs_of_a_schedule_count_from_the_start() -> None:
    plain, warm = rates("step", {"step_size": 2}), rates("step", {"step_size": 2, "warmup": 1})
    assert plain[RUN.steps :] == warm[RUN.steps :]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_runs(name: str) -> None:
    given = {p.name: CASES[name][p.name] for p in SCHEDULES[name] if p.required}
    assert all(0 <= rate <= LR * 1.000001 for rate in rates(name, given))


def test_arguments_are_checked() -> None:
    with pytest.raises(ArgumentError, match="rising"):
        ScheduleSpec.of("multi_step", {"milestones": [5, 2]})
    with pytest.raises(ArgumentError, match="share of the run"):
        ScheduleSpec.of("cosine", {"warmup": 1.5})
    with pytest.raises(KeyError, match="gamma"):
        ScheduleSpec.of("exponential", {})
    with pytest.raises(ArgumentError, match="momentum"):
        OptimizerSpec.of("sgd", {"nesterov": True})


def test_adam_takes_both_betas() -> None:
    arguments = OptimizerSpec.of("adam", {"betas": (0.8, 0.99)}).arguments
    assert (arguments["beta1"], arguments["beta2"]) == (0.8, 0.99)
    assert "betas" not in arguments


@pytest.mark.torch
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_defaults_are_pytorchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    classes = {"sgd": "SGD", "adagrad": "Adagrad", "adadelta": "Adadelta", "rmsprop": "RMSprop", "adamw": "AdamW"}
    kind = getattr(torch.optim, classes.get(name, "Adam"))
    defaults = kind([torch.zeros(1, requires_grad=True)]).defaults
    for param in OPTIMIZERS[name]:
        assert defaults[param.name] == param.default, param.name
