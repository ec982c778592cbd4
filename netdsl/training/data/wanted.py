"""What a recipe wants of its data, and how a format of pictures or text meets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from netdsl.ir.dims import Dim
from netdsl.ir.types import NDArrayAny, TensorType
from netdsl.training.data.check import fitted, matches
from netdsl.training.data.columns import Column, PictureForm
from netdsl.training.data.faults import fault

DEFAULT_WINDOW = 128  # characters


@dataclass(frozen=True)
class Wanted:
    """The recipe's inputs and targets with their types, items along axis 0.

    `columns`: of a table, for each name. `part`: which files of a data set that comes as two. `classes` and `ignore`:
    as in a Recipe. `window`: characters per item of a text whose length the types leave open. `vocabulary`: of the
    text that was trained on.
    """

    types: Mapping[str, TensorType]
    targets: frozenset[str] = frozenset()
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    part: Literal["train", "test"] = "train"
    classes: Mapping[str, int] = field(default_factory=dict)
    ignore: Mapping[str, int] = field(default_factory=dict)
    window: int = DEFAULT_WINDOW
    vocabulary: Sequence[str] = ()

    def kind(self, name: str) -> str:
        return "target" if name in self.targets else "input"

    @property
    def inputs(self) -> list[str]:
        return [name for name in self.types if name not in self.targets]

    def one_input(self, what: str, where: object) -> str:
        """The only input. Raises DiagnosticError where there are several, or several targets."""
        if len(self.inputs) != 1:
            names = ", ".join(self.inputs) or "none"
            raise fault("missing-data", f"{what} give one input, but the recipe has {len(self.inputs)}: {names}", where)
        return self.inputs[0]


def labelled(wanted: Wanted, labels: Mapping[str, NDArrayAny], where: object) -> dict[str, Column]:
    """The recipe's target, if it has one, from the labels of a format: the only one, or the one named like it."""
    found: dict[str, Column] = {}
    for target in sorted(wanted.targets):
        array = labels.get(target, next(iter(labels.values())))
        if len(wanted.targets) > 1 and target not in labels:
            names = ", ".join(sorted(wanted.targets))
            raise fault(
                "missing-data", f"these data give one label for each item, but the recipe has targets {names}", where
            )
        found[target] = fitted(target, array.astype(np.int64), wanted.types[target], {}, where)
    return found


def picture_form(name: str, type: TensorType, native: tuple[int, int, int] | None, where: object) -> PictureForm:
    """How pictures become an input of this type: `[N, C, H, W]`, `[N, H, W]` or, of their own size, `[N, C*H*W]`.

    `native` is the pictures' own (channels, height, width), where they share one; it is what symbols become. Raises
    DiagnosticError where pictures do not fit.
    """
    if type.rank not in (2, 3, 4) or not (type.dtype.is_float or str(type.dtype) == "uint8"):
        raise fault("data-shape", f"pictures do not fit '{name}', which is {type}", where)
    if type.rank == 2:
        return _flat(name, type, native, where)
    own = native if type.rank == 4 else native[1:] if native else None
    sizes = _sizes(name, type, type.shape[1:], own, where)
    channels, height, width = sizes if type.rank == 4 else (1, *sizes)
    if channels not in (1, 3):
        raise fault("data-shape", f"a picture has 1 or 3 channels; '{name}' is {type}", where)
    return PictureForm(channels, height, width, tuple(sizes), type.dtype.numpy)


def _sizes(name: str, type: TensorType, dims: Sequence[Dim], native: Sequence[int] | None, where: object) -> list[int]:
    """Integers as they are; symbols from the pictures' own size."""
    env: dict[str, int] = {}
    found = []
    for axis, dim in enumerate(dims):
        if isinstance(dim, int):
            found.append(dim)
        elif native is not None and matches(dim, native[axis], env):
            found.append(native[axis])
        else:
            help = "give the symbols values with --set, such as --set H=224"
            raise fault(
                "data-shape", f"the pictures' size does not say how large '{name}' is: {type}", where, help=help
            )
    return found


def _flat(name: str, type: TensorType, native: tuple[int, int, int] | None, where: object) -> PictureForm:
    if native is None or not matches(type.shape[1], int(np.prod(native)), {}):
        size = f"{native[0]}x{native[1]}x{native[2]}" if native else "pictures of several sizes"
        raise fault("data-shape", f"'{name}' is {type}; the data are {size}", where)
    channels, height, width = native
    return PictureForm(channels, height, width, (channels * height * width,), type.dtype.numpy)
