"""Arrays and pictures from files, for `netdsl run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

import click
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from netdsl.ir.dims import Dim, Expr, evaluate, solve, to_text
from netdsl.ir.types import NDArrayAny, TensorType

PICTURES = {".png", ".jpg", ".jpeg"}


def load_input(file: str, name: str, type: TensorType) -> NDArrayAny:
    """What a file holds for an input, in that input's element type.

    Raises ClickException, a sentence, for a file that cannot be read or does not fit, OSError for one that cannot be
    opened.
    """
    suffix = Path(file).suffix.lower()
    if suffix in PICTURES:
        return picture(file, name, type)
    if suffix == ".npy":
        array = _load(file)
    elif suffix == ".npz":
        array = _member(file, name)
    else:
        raise click.ClickException(f"{file}: an input is a .npy, .npz, .png or .jpg file")
    return _as_type(array, file, name, type)


def _load(file: str) -> Any:
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, BadZipFile):
        raise click.ClickException(f"{file}: not an array that NumPy can read without pickle") from None


def _member(file: str, name: str) -> NDArrayAny:
    """The only array of a .npz file, or the one that is named like the input."""
    archive = _load(file)
    if not hasattr(archive, "files"):
        raise click.ClickException(f"{file}: not an .npz archive")
    with archive:
        names = archive.files
        wanted = name if name in names else names[0] if len(names) == 1 else None
        if wanted is None:
            held = ", ".join(names) or "nothing"
            raise click.ClickException(f"{file}: holds {held}, but no array named {name!r} as the input is")
        try:
            member: NDArrayAny = archive[wanted]
        except (ValueError, BadZipFile):
            raise click.ClickException(
                f"{file}: {wanted!r} is not an array that NumPy can read without pickle"
            ) from None
    return member


def _as_type(array: NDArrayAny, file: str, name: str, type: TensorType) -> NDArrayAny:
    """The array in the input's element type: floats among themselves, integers where every value fits."""
    target = type.dtype.numpy
    if array.dtype == target:
        return array
    if type.dtype.is_float and array.dtype.kind == "f":
        return array.astype(target)
    if type.dtype.is_integer and array.dtype.kind in "iu":
        converted = array.astype(target)
        if np.array_equal(converted, array):
            return converted
        raise click.ClickException(f"{file}: input {name!r} is {type}, and some values do not fit into {type.dtype}")
    raise click.ClickException(f"{file}: input {name!r} is {type}, but the file holds {array.dtype}")


def picture(file: str, name: str, type: TensorType) -> NDArrayAny:
    """A picture as `[1, channels, height, width]`, or without the batch for a rank-3 input.

    RGB, or grey where the input has 1 channel, scaled to 0…1 (0…255 for a uint8 input), resized to the input's height
    and width; where these are symbols, to the largest size that fits and is no larger than the picture.
    """
    if type.rank not in (3, 4) or not (type.dtype.is_float or str(type.dtype) == "uint8"):
        raise click.ClickException(f"{file}: a picture does not fit input {name!r}, which is {type}")
    channels = type.shape[-3]
    if channels not in (1, 3) and isinstance(channels, int):
        raise click.ClickException(f"{file}: a picture has 1 or 3 channels; input {name!r} is {type}")
    if type.rank == 4 and isinstance(type.shape[0], int) and type.shape[0] != 1:
        raise click.ClickException(f"{file}: a picture is a batch of 1; input {name!r} is {type}")
    pixels = _pixels(file, "L" if channels == 1 else "RGB", name, type)
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if type.dtype.is_float:
        planes = (planes.astype(np.float32) / 255).astype(type.dtype.numpy)
    return np.ascontiguousarray(planes if type.rank == 3 else planes[None])


def _pixels(file: str, mode: str, name: str, type: TensorType) -> NDArrayAny:
    try:
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
            image = (upright or opened).convert(mode)
    except UnidentifiedImageError:
        raise click.ClickException(f"{file}: not a picture that can be read") from None
    except Image.DecompressionBombError:
        raise click.ClickException(f"{file}: the picture is too large") from None
    height, width = _fitting(type.shape[-2:], (image.height, image.width), file, name, type)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _fitting(dims: Sequence[Dim], sizes: Sequence[int], file: str, name: str, type: TensorType) -> list[int]:
    env: dict[str, int] = {}
    found = []
    for dim, size in zip(dims, sizes, strict=True):
        fit = _fit(dim, size, env)
        if fit is None:
            raise click.ClickException(f"{file}: no size of {to_text(dim)} fits for input {name!r}, which is {type}")
        found.append(fit)
    return found


def _fit(dim: Dim, size: int, env: dict[str, int]) -> int | None:
    """A dimension's value: known, or the largest that is no larger than `size`. Binds its symbol in `env`."""
    if not isinstance(dim, Expr):
        return dim
    unknown = dim.symbols - env.keys()
    if not unknown:
        return evaluate(dim, env)
    if len(unknown) > 1:
        return None
    for candidate in range(size, 0, -1):
        value = solve(dim, candidate, env)
        if isinstance(value, int):
            env.update(dict.fromkeys(unknown, value))
            return candidate
    return None


def write_npz(stream: IO[bytes], arrays: Mapping[str, NDArrayAny]) -> None:
    """Writes arrays under any names (np.savez takes them as keywords, where `file` is its own).

    NumPy's files hold NumPy's own element types: bfloat16 is stored as float32.
    """
    with ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                own = array.astype(np.float32) if array.dtype.kind == "V" else array
                np.lib.format.write_array(member, own, allow_pickle=False)
