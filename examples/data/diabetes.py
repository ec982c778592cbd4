"""Writes scikit-learn's diabetes table (Efron et al. 2004; 442 patients, ten measurements, the progression of the
disease after a year) as two tables: `python examples/data/diabetes.py FOLDER`.

`diabetes_train.csv` and `diabetes_test.csv`, every fifth patient in the latter. The measurements have mean 0 and
deviation 1.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes


def main(folder: Path) -> None:
    table = load_diabetes()
    features = table.data / table.data.std(0)
    rows = np.column_stack([features, table.target])
    test = np.arange(len(rows)) % 5 == 4
    folder.mkdir(parents=True, exist_ok=True)
    header = ",".join([*table.feature_names, "progression"])
    for name, chosen in {"train": ~test, "test": test}.items():
        np.savetxt(folder / f"diabetes_{name}.csv", rows[chosen], "%.6g", ",", header=header, comments="")


main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
