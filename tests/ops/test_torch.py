"""NumPy rules against PyTorch, where it is installed."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from netdsl.ir.types import DType, TensorType
from tests.ops.building import Bench

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.torch


class Run:
    """An operator applied to float64 arrays drawn at random; its inputs, parameters and outputs as torch tensors."""

    def __init__(self, name: str, shapes: list[tuple[int, ...]], *arguments: Any, **named: Any) -> None:
        rng = np.random.default_rng(3)
        bench = Bench(*(TensorType(DType.float64, s) for s in shapes))
        found = bench.call(name, *bench.inputs, *arguments, **named)
        arrays = {v: rng.normal(size=v.shape) for v in bench.inputs}
        for p in bench.builder.parameters:
            arrays[p.value] = rng.uniform(0.5, 1.5, p.value.shape)  # type: ignore[arg-type]  # parameters' shapes are integers
        values = bench.run(arrays)
        self.x = torch.from_numpy(arrays[bench.inputs[0]])
        self.parameters = {
            p.name.removeprefix("layer."): torch.from_numpy(arrays[p.value]) for p in bench.builder.parameters
        }
        outputs = found if isinstance(found, tuple) else (found,)
        self.outputs = [torch.from_numpy(np.ascontiguousarray(values[v])) for v in outputs]

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]

    def equals(self, *expected: Any) -> None:
        for ours, theirs in zip(self.outputs, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


SPATIAL = [(9,), (9, 7), (5, 6, 7)]


@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize(
    ("k", "s", "p", "d", "g"), [(3, 1, 0, 1, 1), (3, 2, 1, 1, 2), (2, 3, 1, 2, 4), (3, 1, 2, 2, 1)]
)
def test_convolutions(spatial: tuple[int, ...], k: int, s: int, p: int, d: int, g: int) -> None:
    rank = len(spatial) - 1
    r = Run("conv", [(2, 4, *spatial)], 8, k, stride=s, padding=p, dilation=d, groups=g)
    r.equals((F.conv1d, F.conv2d, F.conv3d)[rank](r.x, r["weight"], r["bias"], s, p, d, g))
    for extra in range(max(s, min(d, p + 1))):
        r = Run(
            "conv_transpose", [(2, 4, *spatial)], 8, k, stride=s, padding=p, dilation=d, groups=g, output_padding=extra
        )
        transposed = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank]
        r.equals(transposed(r.x, r["weight"], r["bias"], s, p, extra, g, d))


@pytest.mark.parametrize(("k", "s", "p", "ceil"), list(product((2, 3, 5), (1, 2, 3), (0, 1), (False, True))))
def test_pools(k: int, s: int, p: int, ceil: bool) -> None:
    for d, spatial in product((1, 2), [(11,), (12, 14)]):
        r = Run("max_pool_indices", [(2, 3, *spatial)], k, stride=s, padding=p, dilation=d, ceil=ceil)
        pool = (F.max_pool1d, F.max_pool2d)[len(spatial) - 1]
        r.equals(*pool(r.x, k, s, p, d, ceil_mode=ceil, return_indices=True))
    for include, spatial in product((False, True), [(11,), (12, 14)]):
        r = Run("avg_pool", [(2, 3, *spatial)], k, stride=s, padding=p, ceil=ceil, count_include_pad=include)
        r.equals((F.avg_pool1d, F.avg_pool2d)[len(spatial) - 1](r.x, k, s, p, ceil, include))


@pytest.mark.parametrize("size", [1, 3, 4, (3, 1), (9, 12)])
def test_adaptive_pools(size: Any) -> None:
    r = Run("adaptive_avg_pool", [(2, 3, 7, 9)], size)
    r.equals(F.adaptive_avg_pool2d(r.x, size))


def test_unpooling() -> None:
    x = np.random.default_rng(3).normal(size=(2, 3, 5, 7))
    values, indices = F.max_pool2d(torch.from_numpy(x), 2, return_indices=True)
    bench = Bench(TensorType(DType.float64, values.shape), TensorType(DType.int64, values.shape))
    y = bench.call("max_unpool", *bench.inputs, 2, size=[5, 7])
    found = bench.run({bench.inputs[0]: values.numpy(), bench.inputs[1]: indices.numpy()})[y]
    torch.testing.assert_close(torch.from_numpy(found), F.max_unpool2d(values, indices, 2, output_size=(5, 7)))


@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 6, 5, 7), (2, 6, 3, 4, 5)])
def test_normalisations(shape: tuple[int, ...]) -> None:
    r = Run("batch_norm", [shape])
    r.equals(F.batch_norm(r.x, r["running_mean"], r["running_var"], r["weight"], r["bias"]))
    Run("instance_norm", [shape]).equals(F.instance_norm(Run("instance_norm", [shape]).x))
    r = Run("instance_norm", [shape], affine=True)
    r.equals(F.instance_norm(r.x, weight=r["weight"], bias=r["bias"]))
    r = Run("group_norm", [shape], 3)
    r.equals(F.group_norm(r.x, 3, r["weight"], r["bias"]))
    for size in (3, 4):
        r = Run("local_response_norm", [shape], size, alpha=0.3, k=2.0)
        r.equals(F.local_response_norm(r.x, size, 0.3, 0.75, 2.0))
    r = Run("layer_norm", [shape])
    r.equals(F.layer_norm(r.x, shape[-1:], r["weight"], r["bias"]))
    r = Run("layer_norm", [shape], axes=1)
    r.equals(F.layer_norm(r.x.movedim(1, -1), (6,), r["weight"], r["bias"]).movedim(-1, 1))
    r = Run("rms_norm", [shape], axes=[-2, -1])
    r.equals(F.rms_norm(r.x, shape[-2:], r["weight"], 1e-5))


MODES = {
    "bilinear": ("linear", "bilinear", "trilinear"),
    "bicubic": (None, "bicubic", None),
    "nearest": ("nearest",) * 3,
}


@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize(
    ("mode", "align"),
    [("nearest", "asymmetric"), *product(("bilinear", "bicubic"), ("half_pixel", "corners"))],
)
def test_resize(spatial: tuple[int, ...], mode: str, align: str) -> None:
    theirs = MODES[mode][len(spatial) - 1]
    if theirs is None:
        return
    options: dict[str, Any] = {} if mode == "nearest" else {"align_corners": align == "corners"}
    for scale in (2, 3, 0.5, 1.5, 0.75):
        r = Run("resize", [(2, 3, *spatial)], scale, mode=mode, align=align)
        r.equals(F.interpolate(r.x, scale_factor=scale, mode=theirs, **options))
    for size in (1, 4, 13):
        r = Run("resize", [(2, 3, *spatial)], size=size, mode=mode, align=align)
        r.equals(F.interpolate(r.x, size=(size,) * len(spatial), mode=theirs, **options))


def test_nearest_doubles_as_pytorch_does() -> None:
    r = Run("resize", [(2, 3, 5, 7)], 2)
    r.equals(F.interpolate(r.x, scale_factor=2, mode="nearest"))


def test_moves() -> None:
    r = Run("pixel_shuffle", [(2, 12, 3, 5)], 2)
    r.equals(F.pixel_shuffle(r.x, 2))
    r = Run("space_to_depth", [(2, 3, 4, 6)], 2)
    r.equals(F.pixel_unshuffle(r.x, 2))
    r = Run("channel_shuffle", [(2, 6, 3, 5)], 3)
    r.equals(F.channel_shuffle(r.x, 3))
    for mode in ("constant", "reflect", "replicate"):
        r = Run("pad", [(2, 3, 5, 6)], [(1, 0), (2, 3)], mode=mode)
        r.equals(F.pad(r.x, (2, 3, 1, 0), mode))
    r = Run("dense", [(2, 3, 5)], 4)
    r.equals(F.linear(r.x, r["weight"], r["bias"]))
