"""Equal layers whose equal weights have different names in a checkpoint."""

from pathlib import Path

import numpy as np
import pytest

from netdsl import api

NET = """network Two {
    input x: float32[N, 3, 8, 8]
    a = x -> conv(4, 3) as a_conv -> batch_norm as a_norm -> relu
    b = x -> conv(4, 3) as b_conv -> batch_norm as b_norm -> relu
    output y = a + b
    output z = a -> conv(2, 1) as a_head
    output u = b -> conv(2, 1) as b_head
}
"""


def _checkpoint(folder: Path, same: tuple[str, ...]) -> Path:
    """The weights of the program, those of `b_…` taken from `a_…` for the layers in `same`."""
    store = api.compile_source(NET).store
    arrays = {p.name: store.perturbed().array(p) for p in store.parameters}
    for name in arrays:
        if name.startswith(tuple(f"b_{s}" for s in same)):
            arrays[name] = arrays["a" + name[1:]]
    path = folder / "weights.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("same", "layers"),
    [
        (("conv", "norm", "head"), ["b_conv", "b_norm", "relu_2", "b_head"]),
        (("conv", "norm"), ["b_conv", "b_norm", "relu_2"]),
        (("conv",), ["b_conv"]),
        (("norm", "head"), []),
    ],
)
def test_equal_layers_are_computed_once(tmp_path: Path, same: tuple[str, ...], layers: list[str]) -> None:
    model = api.compile_source(NET, weights=_checkpoint(tmp_path, same))
    assert [r.path for r in model.log.rewrites if r.pass_name == "equal-weights"] == layers
    assert model.verify().ok


def test_drawn_weights_are_not_compared() -> None:
    assert not [r for r in api.compile_source(NET).log.rewrites if r.pass_name == "equal-weights"]
