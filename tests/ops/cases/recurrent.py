"""ONNX against NumPy: recurrent layers."""

from __future__ import annotations

from tests.ops.harness import Case

CELLS = ("rnn", "lstm", "gru")
STATES = {"rnn": "state", "gru": "state", "lstm": "(state, state * 0.5)"}
TYPES = {"float16": 1e-2, "bfloat16": 6e-2, "float64": 1e-5}


def _case(
    name: str, cell: str, arguments: str = "", shape: str = "N, L, 3", dtype: str = "float32", **given: object
) -> Case:
    last = "output h = last[0] output c = last[1]" if cell == "lstm" else "output h = last"
    source = f"input x: {dtype}[{shape}]  y, last = x -> {cell}(4{arguments})  output y  {last}"
    return Case(f"{cell}_{name}", source, {"x": (2, 5, 3)}, **given)  # type: ignore[arg-type]  # of Case's own types


CASES = [_case("symbols", cell) for cell in CELLS]
CASES += [_case("sizes", cell, shape="2, 5, 3") for cell in CELLS]
CASES += [_case("without_bias", cell, ", bias=false") for cell in CELLS]
CASES += [_case("bidirectional", cell, ", bidirectional=true") for cell in CELLS]
CASES += [_case("bidirectional_sizes", cell, ", bidirectional=true", "2, 5, 3") for cell in CELLS]
CASES += [_case("two_layers", cell, ", layers=2, dropout=0.5") for cell in CELLS]
CASES += [_case("two_layers_bidirectional", cell, ", 2, true, bias=false") for cell in CELLS]
CASES += [_case("relu", "rnn", ', nonlinearity="relu"')]
CASES += [_case(dtype, cell, dtype=dtype, rtol=error, atol=error) for cell in CELLS for dtype, error in TYPES.items()]
CASES += [
    Case(
        f"{cell}_one_step_from_a_state",
        f"input x: float32[N, 1, 3]  input state: float32[2, N, 4]  output y = x -> {cell}(4, 2, state={state})[0]",
        {"x": (2, 1, 3), "state": (2, 2, 4)},
    )
    for cell, state in STATES.items()
]
CASES += [
    Case(
        f"{cell}_last_state_of_a_state",
        f"input x: float32[N, L, 3]  input state: float32[2, N, 4]  last = lstm(x, 4, bidirectional=true, "
        f"state=(state, state * 2))[1][1]  output y = {cell}(x, 4, bidirectional=true, state={state})[0]  output last",
        {"x": (3, 2, 3), "state": (2, 3, 4)},
    )
    for cell, state in STATES.items()
]
