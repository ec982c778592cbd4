"""Writes pairs of scikit-learn's handwritten digits: `python examples/data/pairs.py FOLDER`.

- `pairs_train.npz`, `pairs_test.npz`: `left` and `right` float32[N, 1, 8, 8], and `same` float32[N], 1 where both show
  the same digit, which half of them do. Every tenth digit is held out: pairs of the test set hold none of the training
  set.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

PAIRS = 3  # of each digit as the left one


def pairs(images: np.ndarray, label: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
    left = np.tile(np.arange(len(label)), PAIRS)
    same = np.arange(len(left)) % 2 == 0
    right = np.array([random.choice(np.flatnonzero((label == label[i]) == s)) for i, s in zip(left, same, strict=True)])
    return {"left": images[left], "right": images[right], "same": same.astype(np.float32)}


def main(folder: Path) -> None:
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    test = np.arange(len(images)) % 10 == 9
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, chosen in (("train", ~test), ("test", test)):
        np.savez(folder / f"pairs_{name}.npz", **pairs(images[chosen], digits.target[chosen], random))


main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
