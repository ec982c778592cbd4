"""ONNX against NumPy: einsum."""

from __future__ import annotations

from tests.ops.harness import Case

#: equation: operands' shapes
EQUATIONS: dict[str, list[tuple[int, ...]]] = {
    "ij,jk->ik": [(3, 4), (4, 5)],
    "ij,jk": [(3, 4), (4, 5)],
    "ij,jk->ki": [(3, 4), (4, 5)],
    "bhld,bhsd->bhls": [(2, 3, 4, 5), (2, 3, 6, 5)],
    "bhls,bshd->blhd": [(2, 3, 4, 6), (2, 6, 3, 5)],
    "i,i->": [(4,), (4,)],
    "i,j->ij": [(3,), (4,)],
    "ij,ij->ij": [(3, 4), (3, 4)],
    "ij->ji": [(3, 4)],
    "ijk->j": [(2, 3, 4)],
    "ij->": [(3, 4)],
    "ii->i": [(4, 4)],
    "ii": [(4, 4)],
    "iij->ij": [(3, 3, 4)],
    "ijj,jk->ik": [(2, 3, 3), (3, 4)],
    "ijx,jky->ik": [(2, 3, 5), (3, 4, 6)],
    "...ij,...jk->...ik": [(2, 3, 4), (2, 4, 5)],
    "... i j , ... j k": [(6, 2, 3, 4), (2, 4, 5)],
    "...i,...i->...": [(6, 1, 4), (3, 4)],
    "i...->...": [(4, 2, 3)],
    "ab,bc,cd->ad": [(2, 3), (3, 4), (4, 5)],
    "ab,ac,ad->bcd": [(2, 3), (2, 4), (2, 5)],
    "BiJ,BJ->Bi": [(2, 3, 4), (2, 4)],
}
TYPES = {"float16": 1e-2, "bfloat16": 6e-2, "float64": 1e-9, "int8": 0, "uint8": 0, "int32": 0, "int64": 0}


def _case(name: str, equation: str, dtype: str, shapes: list[tuple[int, ...]], error: float = 1e-5) -> Case:
    inputs = {f"x{i}": shape for i, shape in enumerate(shapes)}
    declared = " ".join(f"input {n}: {dtype}[{', '.join(map(str, shape))}]" for n, shape in inputs.items())
    source = f'{declared} output y = einsum("{equation}", {", ".join(inputs)})'
    return Case(name, source, inputs, rtol=error, atol=error)


CASES = [_case(equation, equation, "float32", shapes) for equation, shapes in EQUATIONS.items()]
CASES += [_case(dtype, "bij,bjk->bik", dtype, [(2, 3, 4), (2, 4, 5)], error) for dtype, error in TYPES.items()]
CASES += [
    Case(
        "symbols",
        'input a: float32[N, L, 4]  input b: float32[N, S, 4]  output y = a -> einsum("nld,nsd->nls", _, b)',
        {"a": (2, 3, 4), "b": (2, 5, 4)},
    ),
    Case(
        "symbols_diagonal_list",
        'input a: float32[N, L, L]  input b: float32[...]  output y = einsum("nll,l->nl", [a, b])'.replace(
            "[...]", "[L]"
        ),
        {"a": (2, 3, 3), "b": (3,)},
    ),
    Case("same_twice", 'input a: float32[N, 4]  output y = einsum("ni,nj->ij", a, a)', {"a": (3, 4)}),
]
