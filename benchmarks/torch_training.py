"""PyTorch's side of `training.py`: the same networks, weights by the same names, in eager mode.

    python benchmarks/torch_training.py timed NETWORK FILE.npz THREADS
    python benchmarks/torch_training.py losses NETWORK FILE.npz [OPTIMIZER] [32|64]
    python benchmarks/torch_training.py gradients NETWORK FILE.npz OURS.npz

`gradients` compares those of `OURS.npz`, and PyTorch's own in float32, with float64.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from training_cases import LOSSES, NETWORKS, OPTIMIZERS, STEPS, Network

Weights = dict[str, torch.Tensor]
Activation = Callable[[torch.Tensor], torch.Tensor]


def conv(p: Weights, name: str, x: torch.Tensor, **options: Any) -> torch.Tensor:
    return F.conv2d(x, p[f"{name}.weight"], p.get(f"{name}.bias"), **options)


def dense(p: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])


def conv_bn(p: Weights, name: str, x: torch.Tensor, stride: int = 1, groups: int = 1) -> torch.Tensor:
    size = p[f"{name}.conv.weight"].shape[-1]
    y = conv(p, f"{name}.conv", x, stride=stride, padding=size // 2, groups=groups)
    mean, var = p[f"{name}.bn.running_mean"], p[f"{name}.bn.running_var"]
    return F.batch_norm(y, mean, var, p[f"{name}.bn.weight"], p[f"{name}.bn.bias"], training=True, momentum=0.1)


def numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"


def lenet5(p: Weights, x: torch.Tensor, relu: Activation = F.relu) -> torch.Tensor:
    x = F.max_pool2d(relu(conv(p, "c1", x, padding=2)), 2)
    x = F.max_pool2d(relu(conv(p, "c3", x)), 2)
    return dense(p, "f7", relu(dense(p, "f6", relu(conv(p, "c5", x)).flatten(1))))


def resnet(p: Weights, x: torch.Tensor, relu: Activation = F.relu) -> torch.Tensor:
    x = relu(conv_bn(p, "stem", x))
    for stage in (1, 2, 3):
        paths = (f"{numbered('stage', stage)}.{numbered('unit', unit)}" for unit in range(1, 100))
        for path in takewhile(lambda path: f"{path}.a.conv.weight" in p, paths):
            stride = 2 if f"{path}.shortcut.conv.weight" in p else 1
            y = conv_bn(p, f"{path}.b", relu(conv_bn(p, f"{path}.a", x, stride)))
            x = relu((conv_bn(p, f"{path}.shortcut", x, stride) if stride == 2 else x) + y)
    return dense(p, "head", F.adaptive_avg_pool2d(x, 1).flatten(1))


def mobilenet_v2(p: Weights, x: torch.Tensor, relu: Activation = F.relu6) -> torch.Tensor:
    x = relu(conv_bn(p, "stem", x))
    table = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for stage, (expansion, channels, depth, first) in enumerate(table, 1):
        for unit in range(1, depth + 1):
            path, stride = f"{numbered('stage', stage)}.{numbered('unit', unit)}", first if unit == 1 else 1
            y = relu(conv_bn(p, f"{path}.expand", x)) if expansion != 1 else x
            y = relu(conv_bn(p, f"{path}.depthwise", y, stride, y.shape[1]))
            y = conv_bn(p, f"{path}.project", y)
            x = x + y if stride == 1 and x.shape[1] == channels else y
    return dense(p, "head", F.adaptive_avg_pool2d(relu(conv_bn(p, "last", x)), 1).flatten(1))


def unet(p: Weights, x: torch.Tensor, relu: Activation = F.relu) -> torch.Tensor:
    def pair(name: str, x: torch.Tensor) -> torch.Tensor:
        return relu(conv(p, f"{name}.b", relu(conv(p, f"{name}.a", x, padding=1)), padding=1))

    skips = []
    for number in (1, 2, 3, 4):
        x = pair(f"{numbered('down', number)}.pair", x)
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = pair("bottom", x)
    for number, skip in enumerate(reversed(skips), 1):
        path = numbered("up", number)
        y = F.conv_transpose2d(x, p[f"{path}.grow.weight"], p[f"{path}.grow.bias"], stride=2)
        x = pair(f"{path}.pair", torch.cat([skip, y], 1))
    return conv(p, "head", x)


def text(p: Weights, ids: torch.Tensor, cell: str, layers: int) -> torch.Tensor:
    """An embedding, a recurrent layer as `torch.nn` runs it, and a dense layer."""
    x = F.embedding(ids, p["embed.weight"])
    names = [f"{cell}.{part}_l{k}" for k in range(layers) for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    weights = [p[name] for name in names]
    start = x.new_zeros(layers, len(x), weights[1].shape[1])
    if cell == "lstm":
        y = torch.lstm(x, (start, start), weights, True, layers, 0.0, True, False, True)[0]
    else:
        y = torch.gru(x, start, weights, True, layers, 0.0, True, False, True)[0]
    return dense(p, "head", y.flatten(0, 1))


def char_lstm(p: Weights, ids: torch.Tensor, **unused: Any) -> torch.Tensor:
    return text(p, ids, "lstm", 2)


def gru_generator(p: Weights, ids: torch.Tensor, **unused: Any) -> torch.Tensor:
    return text(p, ids, "gru", 1)


def gpt(p: Weights, ids: torch.Tensor, **unused: Any) -> torch.Tensor:
    """Blocks as `torch.nn.TransformerEncoderLayer` has them, norms first, with PyTorch's own attention."""
    x = F.embedding(ids, p["embed.weight"]) + p["position.positions"]
    for number in (1, 2):
        path = f"{numbered('block', number)}.layer"
        y = F.layer_norm(x, x.shape[-1:], p[f"{path}.norm1.weight"], p[f"{path}.norm1.bias"])
        y = F.linear(y, p[f"{path}.self_attn.in_proj_weight"], p[f"{path}.self_attn.in_proj_bias"])
        q, k, v = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in y.chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + dense(p, f"{path}.self_attn.out_proj", y)
        y = F.layer_norm(x, x.shape[-1:], p[f"{path}.norm2.weight"], p[f"{path}.norm2.bias"])
        x = x + dense(p, f"{path}.linear2", F.gelu(dense(p, f"{path}.linear1", y)))
    x = F.layer_norm(x, x.shape[-1:], p["norm.weight"], p["norm.bias"])
    return dense(p, "head", x.flatten(0, 1))


def small(p: Weights, x: torch.Tensor, **unused: Any) -> torch.Tensor:
    x = F.max_pool2d(conv(p, "c1", x, padding=1).relu(), 2)
    return dense(p, "head", conv(p, "c2", x).tanh().flatten(1))


FORWARD: dict[str, Callable[..., torch.Tensor]] = {
    "lenet5": lenet5,
    "resnet": resnet,
    "mobilenet_v2": mobilenet_v2,
    "unet": unet,
    "char_lstm": char_lstm,
    "gru_generator": gru_generator,
    "gpt": gpt,
}


def focal(y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """As in torchvision.ops.sigmoid_focal_loss, its mean."""
    p = y.sigmoid()
    plain = F.binary_cross_entropy_with_logits(y, t, reduction="none")
    right = p * t + (1 - p) * (1 - t)
    return ((0.25 * t + 0.75 * (1 - t)) * (1 - right) ** 2 * plain).mean()


def penalty(p: Weights, power: int) -> torch.Tensor:
    return 0.001 * sum((w.abs() ** power).sum() for n, w in p.items() if n.endswith(".weight"))


CRITERIA: dict[str, Callable[[Weights, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cross_entropy": lambda p, y, t: F.cross_entropy(y, t),
    "cross_entropy smoothed": lambda p, y, t: F.cross_entropy(y, t, label_smoothing=0.1),
    "cross_entropy ignoring": lambda p, y, t: F.cross_entropy(y, t, ignore_index=2),
    "categorical_cross_entropy": lambda p, y, t: F.cross_entropy(y, t),
    "binary_cross_entropy": lambda p, y, t: F.binary_cross_entropy_with_logits(y, t),
    "focal": lambda p, y, t: focal(y, t),
    "mse": lambda p, y, t: F.mse_loss(y, t),
    "rmse": lambda p, y, t: F.mse_loss(y, t).sqrt(),
    "mae": lambda p, y, t: F.l1_loss(y, t),
    "huber": lambda p, y, t: F.huber_loss(y, t),
    "kl_divergence": lambda p, y, t: F.kl_div(y.log_softmax(-1), t, reduction="batchmean"),
    "l1": lambda p, y, t: F.mse_loss(y, t) + penalty(p, 1),
    "l2": lambda p, y, t: F.mse_loss(y, t) + penalty(p, 2),
}
assert CRITERIA.keys() == LOSSES.keys()

CLASSES = {
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


class Twin:
    """A network with its weights and batch, of one float type."""

    def __init__(self, name: str, file: str, dtype: torch.dtype = torch.float32) -> None:
        arrays = {n: torch.from_numpy(a) for n, a in np.load(file).items()}
        arrays = {n: a.to(dtype) if a.is_floating_point() else a for n, a in arrays.items()}
        self.batch = {n.removeprefix("batch/"): a for n, a in arrays.items() if n.startswith("batch/")}
        self.weights = {n: a.clone() for n, a in arrays.items() if not n.startswith("batch/")}
        self.trained = {n: w.requires_grad_() for n, w in self.weights.items() if "running_" not in n}
        is_loss = name.startswith("loss:")
        self.forward = small if is_loss else FORWARD[NETWORKS[name].file]
        self.options: dict[str, Any] = {}
        self.criterion = CRITERIA[name[5:] if is_loss else "cross_entropy"]

    def loss(self) -> torch.Tensor:
        target = self.batch["t" if "t" in self.batch else "label"]
        x = self.batch["ids" if "ids" in self.batch else "image"]
        if "ids" in self.batch:
            target = target.flatten()
        return self.criterion(self.weights, self.forward(self.weights, x, **self.options), target)


def network_of(name: str) -> Network:
    return Network("", batch=16, rate=0.01) if name.startswith("loss:") else NETWORKS[name]


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def timed(name: str, file: str, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    before = peak()
    twin, network = Twin(name, file), network_of(name)
    optimizer = torch.optim.SGD(twin.trained.values(), lr=1e-4, momentum=0.9)
    seconds = []
    for _ in range(network.timed + 2):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = twin.loss()
        loss.backward()
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - start)
    return {"ms": min(seconds[2:]) * 1e3, "peak": peak() - before}


def losses(name: str, file: str, optimizer: str = "sgd momentum", bits: int = 32) -> dict[str, Any]:
    kind, given, rate = OPTIMIZERS[optimizer]
    if not name.startswith("loss:") and optimizer == "sgd momentum":
        rate = network_of(name).rate
    twin = Twin(name, file, torch.float64 if bits == 64 else torch.float32)
    rule: Any = CLASSES[kind](list(twin.trained.values()), lr=rate, **given)
    found = []
    for _ in range(STEPS):
        rule.zero_grad()
        loss = twin.loss()
        loss.backward()
        rule.step()
        found.append(loss.item())
    return {"losses": found}


def gradients(name: str, file: str, ours: str) -> dict[str, Any]:
    """The error of each side over all parameters together, relative to the gradient's norm; of a smooth network."""
    exact, single = Twin(name, file, torch.float64), Twin(name, file)
    exact.options = single.options = {"relu": F.silu}
    exact.loss().backward()
    single.loss().backward()
    given = np.load(ours)
    mine = theirs = size = 0.0
    for n, w in exact.trained.items():
        assert w.grad is not None and single.trained[n].grad is not None
        reference = w.grad.numpy()
        size += float(np.sum(reference**2))
        mine += float(np.sum((given[n] - reference) ** 2))
        theirs += float(np.sum((single.trained[n].grad.numpy() - reference) ** 2))
    return {"ours": (mine / size) ** 0.5, "torch": (theirs / size) ** 0.5}


def main() -> None:
    command, *given = sys.argv[1:]
    arguments: list[Any] = [int(a) if a.isdigit() else a for a in given]
    chosen: Any = next(c for c in (timed, losses, gradients) if c.__name__ == command)
    print(json.dumps(chosen(*arguments)))


if __name__ == "__main__":
    main()
