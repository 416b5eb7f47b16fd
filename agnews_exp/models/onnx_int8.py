"""int8 for an ONNX graph: one scale a token for what goes into a matrix product, one a column for the weights.

onnxruntime's own ``quantize_dynamic`` takes one scale for a whole batch, so an answer depends on the other texts of its
batch, and a single large activation coarsens all of them. With a scale a token the same text always gets the same
answer, and the error is about half as large, for a tenth of the speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MIN_TABLE = 10_000
"""Entries of an embedding table from which on it is stored as int8; smaller ones are not worth it."""


def quantise(model: Any) -> int:
    """Turn the products with constant matrices, and the embedding tables, of a graph into int8; in place.

    Weights: symmetric, a scale for each column. Activations: symmetric (uint8 around 128, which is what VNNI multiplies
    fastest), a scale for each row, found while the graph runs. Embedding tables: a scale for each row. Everything else
    (softmax, LayerNorm, GELU, attention weights) stays float32.

    Args:
        model: An ``onnx.ModelProto``.

    Returns:
        The number of products and tables that were turned.
    """
    from onnx import helper

    graph = _Graph(model)
    turned = 0
    for node in list(model.graph.node):
        if node.op_type == "MatMul" and graph.matrix(node.input[1]) is not None:
            graph.product(node)
        elif node.op_type == "Gather" and _is_table(graph.matrix(node.input[0])):
            graph.lookup(node)
        else:
            graph.nodes.append(node)
            continue
        turned += 1
    del model.graph.node[:]
    model.graph.node.extend(graph.nodes)
    graph.drop_unused()
    if not any(entry.domain == "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return turned


def _is_table(matrix: NDArray[Any] | None) -> bool:
    return matrix is not None and matrix.size >= _MIN_TABLE


class _Graph:
    """A graph in the making.

    Args:
        model: The ``onnx.ModelProto`` whose initialisers are read and added to.
    """

    def __init__(self, model: Any) -> None:
        self._graph = model.graph
        self._initialisers = {entry.name: entry for entry in model.graph.initializer}
        self._rows: dict[str, str] = {}
        self.nodes: list[Any] = []

    def matrix(self, name: str) -> NDArray[Any] | None:
        """Return a constant float matrix, or None where the name is something else."""
        from onnx import TensorProto, numpy_helper

        entry = self._initialisers.get(name)
        if entry is None or entry.data_type != TensorProto.FLOAT or len(entry.dims) != 2:
            return None
        return np.asarray(numpy_helper.to_array(entry))

    def product(self, node: Any) -> None:
        """Replace ``X @ W`` by an integer product."""
        weights = self.matrix(node.input[1])
        assert weights is not None
        out = node.output[0]
        columns = self._quantised_constant(node.input[1], weights, axis=0)
        rows = self._quantised_rows(node.input[0], len(weights))
        zero = self._constant("int8/zero", np.array(128, np.uint8))
        one = self._constant("int8/one", np.array(1, np.float32))
        width = self._constant(f"int8/width{weights.shape[1]}", np.array([weights.shape[1]], np.int64))
        inputs = [f"{rows}/values", f"{columns}/int8", one, f"{columns}/scale", zero]
        self._add("MatMulIntegerToFloat", inputs, f"{out}/unscaled", domain="com.microsoft")
        self._add("Mul", [f"{out}/unscaled", f"{rows}/column"], f"{out}/flat")
        self._add("Concat", [f"{rows}/leading", width], f"{out}/shape", axis=0)
        self._add("Reshape", [f"{out}/flat", f"{out}/shape"], out)

    def lookup(self, node: Any) -> None:
        """Replace a look-up in a float table by one in an int8 table."""
        from onnx import TensorProto

        table = self.matrix(node.input[0])
        assert table is not None
        out = node.output[0]
        rows = self._quantised_constant(node.input[0], table, axis=1)
        self._add("Gather", [f"{rows}/int8", node.input[1]], f"{out}/int8")
        self._add("Cast", [f"{out}/int8"], f"{out}/float", to=TensorProto.FLOAT)
        self._add("Gather", [f"{rows}/scale", node.input[1]], f"{out}/scale")
        self._add("Mul", [f"{out}/float", f"{out}/scale"], out)

    def drop_unused(self) -> None:
        """Remove the constants that no node takes any more."""
        taken = {name for node in self.nodes for name in node.input} | {out.name for out in self._graph.output}
        kept = [entry for name, entry in self._initialisers.items() if name in taken]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _quantised_constant(self, name: str, matrix: NDArray[Any], axis: int) -> str:
        """Store a constant matrix as int8, with one scale a column (axis 0) or row (1); returns a prefix of names."""
        prefix = name if axis == 0 else f"{name}/rows"
        if f"{prefix}/int8" not in self._initialisers:
            scale = _scales(matrix, axis)
            self._constant(f"{prefix}/int8", _rounded(matrix / scale))
            self._constant(f"{prefix}/scale", scale)
        return prefix

    def _quantised_rows(self, name: str, width: int) -> str:
        """Quantise a tensor (..., width) row by row, once for all products that take it; returns a prefix of names."""
        from onnx import TensorProto, helper

        prefix = self._rows.get(name)
        if prefix is not None:
            return prefix
        prefix = self._rows[name] = f"{name}/int8"
        flat = self._constant(f"int8/flat{width}", np.array([-1, width], np.int64))
        last = self._constant("int8/last", np.array([-1], np.int64))
        first = self._constant("int8/first", np.array([0], np.int64))
        tiny = self._constant("int8/tiny", np.array(1e-12, np.float32))
        unit = self._constant("int8/unit", np.array(1 / 127, np.float32))
        self._add("Reshape", [name, flat], f"{prefix}/flat")
        self._add("Abs", [f"{prefix}/flat"], f"{prefix}/absolute")
        self._add("ReduceMax", [f"{prefix}/absolute"], f"{prefix}/largest", axes=[1], keepdims=0)
        self._add("Max", [f"{prefix}/largest", tiny], f"{prefix}/positive")
        self._add("Mul", [f"{prefix}/positive", unit], f"{prefix}/scale")
        self._add("Shape", [f"{prefix}/scale"], f"{prefix}/count")
        middle = helper.make_tensor("value", TensorProto.UINT8, [1], [128])
        self._add("ConstantOfShape", [f"{prefix}/count"], f"{prefix}/zeros", value=middle)
        self._add(
            "QuantizeLinear", [f"{prefix}/flat", f"{prefix}/scale", f"{prefix}/zeros"], f"{prefix}/values", axis=0
        )
        self._add("Unsqueeze", [f"{prefix}/scale", last], f"{prefix}/column")
        self._add("Shape", [name], f"{prefix}/shape")
        self._add("Slice", [f"{prefix}/shape", first, last], f"{prefix}/leading")
        return prefix

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        if name not in self._initialisers:
            self._initialisers[name] = numpy_helper.from_array(values, name)
        return name

    def _add(self, operation: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(operation, list(inputs), [output], output, **attributes))


def _scales(matrix: NDArray[Any], axis: int) -> NDArray[np.float32]:
    """Return what one step of int8 is worth in each column (axis 0, shape (n,)) or row (axis 1, shape (m, 1))."""
    largest = np.abs(matrix).max(axis=axis, keepdims=axis == 1) / 127
    return np.where(largest == 0, 1, largest).astype(np.float32)


def _rounded(values: NDArray[Any]) -> NDArray[np.int8]:
    rounded: NDArray[np.int8] = np.clip(np.rint(values), -127, 127).astype(np.int8)
    return rounded
