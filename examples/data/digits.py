"""Writes scikit-learn's 1,797 handwritten digits as training data: `python examples/data/digits.py FOLDER`.

- `digits_train.npz`, `digits_test.npz`: `image` float32[N, 1, 28, 28], MNIST's size (each of the 8 x 8 pixels becomes
  3 x 3 by bilinear interpolation, with a border of 2), and `label` int64[N]. Every tenth digit is held out. The
  training set holds each of the others five times: as it is, and moved by a pixel along both diagonals, which is a
  third of a pixel of the original.
- `digits8_train.npz`, `digits8_test.npz`: the same digits as they are, `image` float32[N, 1, 8, 8].
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

MOVES = [(0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]


def enlarged(images: np.ndarray) -> np.ndarray:
    """[N, 8, 8] to [N, 24, 24], bilinear: pixel centres keep their places, the border's values go on."""
    at = np.clip((np.arange(24) + 0.5) / 3 - 0.5, 0, 7)
    low = np.minimum(at.astype(int), 6)
    weights = np.zeros((24, 8))
    weights[np.arange(24), low] = 1 - (at - low)
    weights[np.arange(24), low + 1] += at - low
    return weights @ images @ weights.T


def main(folder: Path) -> None:
    digits = load_digits()
    small, label = digits.images / 16, digits.target.astype(np.int64)
    large = np.pad(enlarged(small), ((0, 0), (2, 2), (2, 2)))
    test = np.arange(len(label)) % 10 == 9
    moved = np.concatenate([np.roll(large[~test], move, (1, 2)) for move in MOVES])
    folder.mkdir(parents=True, exist_ok=True)
    for name, images, labels in [
        ("digits_train", moved, np.tile(label[~test], len(MOVES))),
        ("digits_test", large[test], label[test]),
        ("digits8_train", small[~test], label[~test]),
        ("digits8_test", small[test], label[test]),
    ]:
        np.savez(folder / f"{name}.npz", image=images[:, None].astype(np.float32), label=labels)


main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
