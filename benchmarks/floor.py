"""The floor under a compile: start Python, import NumPy and onnx, draw as many normal numbers as the network has
weights, and write as many bytes. Arguments: the number of weights, the output file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx  # noqa: F401  # the import is part of the floor

count, path = int(sys.argv[1]), Path(sys.argv[2])
path.write_bytes(memoryview(np.random.default_rng(0).standard_normal(count, dtype=np.float32)).cast("B"))
