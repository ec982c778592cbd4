"""What `training.py` trains: networks, optimizers, losses; read by both sides, so it imports neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STEPS = 20  # of the parity table


@dataclass(frozen=True)
class Network:
    """A program of `networks/`, its settings, the batch's size, and how far it is trained when it is timed.

    `ids` is the number of ids in its batch, where that is text; such a network is smooth as it is, every other one
    with another `activation`.
    """

    file: str
    batch: int = 32
    settings: Mapping[str, Any] = field(default_factory=dict)
    timed: int = 30
    rate: float = 0.002
    ids: int | None = None

    def source(self) -> str:
        return (HERE / "networks" / f"{self.file}.net").read_text()


NETWORKS = {
    "LeNet-5": Network("lenet5", timed=200, rate=0.005),
    "ResNet-8": Network("resnet", settings={"units": 1}, timed=40, rate=0.0005),
    "ResNet-20": Network("resnet", settings={"units": 3}, timed=20, rate=0.0002),
    "MobileNetV2 32x32": Network("mobilenet_v2", timed=6, rate=5e-6),
    "U-Net 64x64": Network("unet", batch=4, timed=4),
    "char LSTM": Network("char_lstm", timed=20, rate=0.05, ids=96),
    "GRU generator": Network("gru_generator", timed=20, rate=0.05, ids=96),
    "GPT": Network("gpt", batch=16, timed=60, rate=0.01, ids=96),
}

#: Optimizers by a name of the case: the language's name, its arguments, and the rate for the parity table.
OPTIMIZERS: dict[str, tuple[str, dict[str, Any], float]] = {
    "sgd": ("sgd", {}, 0.02),
    "sgd momentum": ("sgd", {"momentum": 0.9, "weight_decay": 1e-4}, 0.01),
    "sgd nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}, 0.01),
    "adagrad": ("adagrad", {}, 1e-3),
    "adadelta": ("adadelta", {}, 0.5),
    "rmsprop": ("rmsprop", {}, 1e-4),
    "rmsprop centered": ("rmsprop", {"centered": True, "momentum": 0.5}, 1e-4),
    "adam": ("adam", {}, 1e-4),
    "adamw": ("adamw", {}, 1e-4),
}

#: Losses: the language's expression of the network's output `y` `[N, 6]` and the target `t`, and the target's kind.
LOSSES: dict[str, tuple[str, str]] = {
    "cross_entropy": ("cross_entropy(y, t)", "ids"),
    "cross_entropy smoothed": ("cross_entropy(y, t, label_smoothing=0.1)", "ids"),
    "cross_entropy ignoring": ("cross_entropy(y, t, ignore=2)", "ids"),
    "categorical_cross_entropy": ("categorical_cross_entropy(y, t)", "shares"),
    "binary_cross_entropy": ("binary_cross_entropy(y, t)", "binary"),
    "focal": ("focal(y, t)", "binary"),
    "mse": ("mse(y, t)", "numbers"),
    "rmse": ("rmse(y, t)", "numbers"),
    "mae": ("mae(y, t)", "numbers"),
    "huber": ("huber(y, t)", "numbers"),
    "kl_divergence": ("kl_divergence(log_softmax(y), t)", "shares"),
    "l1": ('mse(y, t) + 0.001 * l1("*.weight")', "numbers"),
    "l2": ('mse(y, t) + 0.001 * l2("*.weight")', "numbers"),
}

LOSS_PROGRAM = """
network Small {{
    input image: float32[N, 2, 8, 8]
    output y = image -> conv(8, 3, padding=1) as c1 -> relu -> max_pool(2) -> conv(8, 3) as c2 -> tanh -> flatten
                     -> dense(6) as head
}}
train Small {{ target t: {type}  loss = {loss}  optimizer = sgd(0.01) }}
"""


def loss_program(name: str) -> str:
    expression, kind = LOSSES[name]
    return LOSS_PROGRAM.format(loss=expression, type="int64[N]" if kind == "ids" else "float32[N, 6]")
