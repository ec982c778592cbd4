"""The loop that the package's documentation shows, over artefacts, with nothing of netdsl.

Run in the engine's environment as `python bare_loop.py FOLDER BATCH.npz RATE STEPS THREADS`; prints the losses, the
evaluation's loss and the steps' milliseconds as JSON.
"""

import json
import sys
import time
import types
from pathlib import Path

import numpy as np

for name in ("onnxruntime.training.optim", "onnxruntime.training.amp"):  # which need PyTorch
    sys.modules[name] = types.ModuleType(name)

import onnx  # noqa: E402
from onnxruntime import SessionOptions  # noqa: E402
from onnxruntime.training import api  # noqa: E402


def main(folder: Path, batch: dict[str, np.ndarray], rate: float, steps: int, threads: int) -> dict[str, object]:
    graph = onnx.load(folder / "training_model.onnx").graph
    outputs = [o.name for o in graph.output if not o.name.endswith(".accumulation.out")]
    moved = [(i, n.removeprefix("next/")) for i, n in enumerate(outputs) if n.startswith("next/")]
    options = SessionOptions()
    options.intra_op_num_threads = threads
    state = api.CheckpointState.load_checkpoint(str(folder / "checkpoint"))
    module = api.Module(
        str(folder / "training_model.onnx"), state, str(folder / "eval_model.onnx"), session_options=options
    )
    optimizer = api.Optimizer(str(folder / "optimizer_model.onnx"), module)
    optimizer.set_learning_rate(rate)
    losses, times = [], []
    for number in range(steps):
        began = time.perf_counter()
        values = {**batch, "seed": np.asarray(number, np.int64)}
        module.train()
        results = module(*(values[name] for name in module.input_names()))
        results = results if isinstance(results, tuple) else (results,)
        optimizer.step()
        module.lazy_reset_grad()
        for index, name in moved:
            state.parameters[name] = results[index]
        losses.append(float(results[0]))
        times.append(time.perf_counter() - began)
    module.eval()
    held = module(*(batch[name] for name in module.input_names()))
    held = held if isinstance(held, tuple) else (held,)
    return {"losses": losses, "evaluation": float(held[0]), "times": [1e3 * t for t in times]}


if __name__ == "__main__":
    with np.load(sys.argv[2]) as given:
        arrays = {name: given[name] for name in given.files}
    print(json.dumps(main(Path(sys.argv[1]), arrays, float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))))
