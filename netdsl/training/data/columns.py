"""Where the items of one input or target come from: arrays in memory or on the disk, pictures, windows of a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netdsl.ir.types import NDArrayAny
from netdsl.training.data.faults import fault

Indices = NDArray[np.int64]


class Column(ABC):
    """Items along axis 0. `dtype` and `shape` are those of what `read` returns; shape[0] is the number of items."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @abstractmethod
    def read(self, indices: Indices) -> NDArrayAny:
        """Those items, in that order, as an array of its own."""

    def __len__(self) -> int:
        return self.shape[0]


class ArrayColumn(Column):
    """An array, perhaps memory-mapped. It is converted to `dtype` as it is read."""

    def __init__(self, array: NDArrayAny, dtype: np.dtype[np.generic] | None = None) -> None:
        self.array, self.shape, self.dtype = array, array.shape, dtype or array.dtype
        self._mapped = isinstance(array, np.memmap)

    def read(self, indices: Indices) -> NDArrayAny:
        if not self._mapped:
            return self.array[indices].astype(self.dtype, copy=False)
        order = np.argsort(indices, kind="stable")  # the disk is read from front to back
        out: NDArrayAny = np.empty((len(indices), *self.shape[1:]), self.dtype)
        out[order] = self.array[indices[order]]
        return out


@dataclass(frozen=True)
class PictureForm:
    """What pictures become: `channels` 1 or 3 of `height` by `width`, of `shape` (channels first, or flat), as floats
    of 0…1 or as bytes."""

    channels: int
    height: int
    width: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    def convert(self, pixels: NDArray[np.uint8]) -> NDArrayAny:
        """Bytes `[n, height, width, channels]` of the right size in this form."""
        planes: NDArrayAny = pixels.transpose(0, 3, 1, 2)
        if self.dtype.kind != "u":
            planes = planes.astype(np.float32) / np.float32(255)
        return np.ascontiguousarray(planes.reshape(len(pixels), *self.shape), self.dtype)


class PixelColumn(Column):
    """Pictures of one size in memory, bytes `[n, height, width, channels]`."""

    def __init__(self, pixels: NDArray[np.uint8], form: PictureForm) -> None:
        self.pixels, self.form = pixels, form
        self.shape, self.dtype = (len(pixels), *form.shape), form.dtype

    def read(self, indices: Indices) -> NDArrayAny:
        from PIL import Image

        pixels, form = self.pixels[indices], self.form
        if pixels.shape[1:3] == (form.height, form.width) and pixels.shape[3] == form.channels:
            return form.convert(pixels)
        mode = "L" if pixels.shape[3] == 1 else "RGB"
        images = (Image.fromarray(p[..., 0] if mode == "L" else p) for p in pixels)
        return form.convert(np.stack([sized(image, form) for image in images]))


def sized(image: object, form: PictureForm) -> NDArray[np.uint8]:
    """A PIL image as `[height, width, channels]`, bilinear, RGB or grey."""
    from PIL import Image

    assert isinstance(image, Image.Image)
    image = image.convert("L" if form.channels == 1 else "RGB")
    if image.size != (form.width, form.height):
        image = image.resize((form.width, form.height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(form.height, form.width, form.channels)


class FileColumn(Column):
    """Pictures that are decoded when they are asked for."""

    def __init__(self, files: Sequence[Path], form: PictureForm) -> None:
        self.files, self.form = tuple(files), form
        self.shape, self.dtype = (len(files), *form.shape), form.dtype

    def read(self, indices: Indices) -> NDArrayAny:
        return self.form.convert(np.stack([self._decoded(self.files[i]) for i in indices]))

    def _decoded(self, file: Path) -> NDArray[np.uint8]:
        from PIL import Image, ImageOps

        try:
            with Image.open(file) as opened:
                return sized(ImageOps.exif_transpose(opened) or opened, self.form)
        except (OSError, SyntaxError, Image.DecompressionBombError) as reason:
            raise fault("bad-picture", f"the picture cannot be read: {reason}", file) from None


class WindowColumn(Column):
    """Windows of `length` ids that follow one another in a text; `shift` 1 gives the ids that come next."""

    def __init__(self, ids: NDArrayAny, length: int, shift: int, form: Callable[[NDArrayAny], NDArrayAny]) -> None:
        self._ids, self._length, self._shift, self._form = ids, length, shift, form
        sample = form(np.zeros((1, length), ids.dtype))
        self.shape, self.dtype = ((ids.size - 1) // length, *sample.shape[1:]), sample.dtype

    def read(self, indices: Indices) -> NDArrayAny:
        positions = indices[:, None] * self._length + self._shift + np.arange(self._length)
        return self._form(self._ids[positions])
