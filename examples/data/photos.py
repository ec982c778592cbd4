"""Writes a task of removing noise from scikit-learn's two photographs: `python examples/data/photos.py FOLDER`.

`photos_train.npz` and `photos_test.npz` hold `image` and `clean`, both float32[N, 3, 64, 64] of 0 to 1: squares cut
from the photographs at half their size, and the same with Gaussian noise of deviation 0.1. The test set is the right
fifth of each photograph, which no training square touches.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_images

SIZE, DEVIATION = 64, 0.1


def squares(picture: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """[count, 3, SIZE, SIZE] from [height, width, 3]."""
    height, width, _ = picture.shape
    tops, lefts = rng.integers(0, height - SIZE + 1, count), rng.integers(0, width - SIZE + 1, count)
    cut = [picture[t : t + SIZE, left : left + SIZE] for t, left in zip(tops, lefts, strict=True)]
    return np.stack(cut).transpose(0, 3, 1, 2)


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for photo in load_sample_images().images:
        even = photo[: photo.shape[0] // 2 * 2, : photo.shape[1] // 2 * 2] / 255
        half = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, 3).mean((1, 3))
        border = half.shape[1] * 4 // 5
        parts["train"].append(squares(half[:, :border], 160, rng))
        parts["test"].append(squares(half[:, border:], 16, rng))
    folder.mkdir(parents=True, exist_ok=True)
    for name, cut in parts.items():
        clean = np.concatenate(cut).astype(np.float32)
        noisy = clean + rng.normal(0, DEVIATION, clean.shape).astype(np.float32)
        np.savez(folder / f"photos_{name}.npz", image=noisy, clean=clean)


main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
