"""Export an adapter as a task's ONNX graph over the shared base, and compare it with torch."""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from monitor.models import WEIGHTS, encoder
from monitor.training.adapters import Adapter, predict
from monitor.training.encoder import EPSILON, HEADS, LAYERS, Array


class _GraphBuilder:
    """Collects the nodes and weights of a task's ONNX graph."""

    def __init__(self) -> None:
        from onnx import helper

        self._helper = helper
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        with (WEIGHTS / encoder.BASE).open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            self._base = json.loads(file.read(size))
        self._data = 8 + size

    def add(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its (first) output; others end in .1, .2."""
        name = f"{kind}_{len(self.nodes)}"
        names = [name, *(f"{name}.{n}" for n in range(1, outputs))]
        self.nodes.append(self._helper.make_node(kind, inputs, names, name, domain=domain, **attributes))
        return name

    def constant(self, name: str, array: Array) -> str:
        """Add a weight of the task itself."""
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def base(self, name: str) -> str:
        """Refer to a weight of the shared base by its place in the file."""
        from onnx import TensorProto

        entry = self._base[name]
        kinds = {"F32": TensorProto.FLOAT, "I8": TensorProto.INT8}
        start, end = entry["data_offsets"]
        tensor = TensorProto(name=f"base.{name}", data_type=kinds[entry["dtype"]], dims=entry["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", encoder.BASE),
            ("offset", self._data + start),
            ("length", end - start),
        ):
            tensor.external_data.add(key=key, value=str(value))
        if all(known.name != tensor.name for known in self.weights):
            self.weights.append(tensor)
        return str(tensor.name)

    def rows(self, table: str, ids: str) -> str:
        """Look rows up in an int8 table with a scale per row."""
        from onnx import TensorProto

        values = self.add("Cast", self.add("Gather", self.base(table), ids), to=TensorProto.FLOAT)
        return self.add("Mul", values, self.add("Gather", self.base(f"{table}.scale"), ids))

    def linear(self, name: str, x: str, low_rank: tuple[Array, Array]) -> str:
        """Add a linear layer, whose input is rounded to eight bits per text, and its adapter."""
        from onnx import TensorProto

        full = self.add(
            "DynamicQuantizeMatMul",
            *(x, self.base(name), self.base(f"{name}.scale"), "", self.base(f"{name}.bias")),
            domain="com.microsoft",
        )
        for part, array in zip("AB", low_rank, strict=True):
            half = self.constant(f"{name}.{part}", array.astype(np.float16))
            x = self.add("MatMul", x, self.add("Cast", half, to=TensorProto.FLOAT))
        return self.add("Add", full, x)

    def norm(self, name: str, x: str, residual: str) -> str:
        """Add the residual and normalise."""
        weights = self.base(f"{name}.norm.weight"), self.base(f"{name}.norm.bias")
        return self.add(
            "SkipLayerNormalization", x, residual, *weights, domain="com.microsoft", epsilon=EPSILON
        )


def export(adapter: Adapter, task: str) -> str:
    """Write a task's graph, not yet pinned, and return its file name."""
    import onnx
    from onnx import TensorProto, helper

    builder = _GraphBuilder()
    length = builder.add("Shape", "ids", start=1, end=2)
    zero, one = builder.constant("zero", np.array(0)), builder.constant("one", np.array(1))
    places = builder.add("Range", zero, builder.add("Squeeze", length), one)
    words = builder.add("Add", builder.rows("words", "ids"), builder.rows("places", places))
    x = builder.norm("first", words, builder.add("Gather", builder.base("types"), "types"))
    for n in range(LAYERS):
        mixed = builder.add(
            "Split",
            builder.linear(f"{n}.qkv", x, adapter.low_rank[f"{n}.qkv"]),
            outputs=3,
            axis=-1,
            num_outputs=3,
        )
        attended = builder.add(
            "MultiHeadAttention",
            *(mixed, f"{mixed}.1", f"{mixed}.2"),
            domain="com.microsoft",
            num_heads=HEADS,
        )
        out = builder.linear(f"{n}.out", attended, adapter.low_rank[f"{n}.out"])
        x = builder.norm(f"{n}.attention", out, x)
        inner = builder.add(
            "Gelu", builder.linear(f"{n}.up", x, adapter.low_rank[f"{n}.up"]), domain="com.microsoft"
        )
        x = builder.norm(f"{n}.block", builder.linear(f"{n}.down", inner, adapter.low_rank[f"{n}.down"]), x)
    mean = builder.add("ReduceMean", x, builder.constant("tokens", np.array([1])), keepdims=0)
    head = builder.add("MatMul", mean, builder.constant("head.weight", adapter.weight.astype(np.float32)))
    builder.nodes.append(
        helper.make_node(
            "Add", [head, builder.constant("head.bias", adapter.bias.astype(np.float32))], ["logits"]
        )
    )
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, [1, "length"]) for name in ("ids", "types")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(adapter.bias)])]
    graph = helper.make_graph(builder.nodes, task, inputs, outputs, builder.weights)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    name = encoder.graph(task)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), WEIGHTS / name)
    return name


def parity(adapter: Adapter, texts: Sequence[str], task: str, pairs: Sequence[str] | None = None) -> float:
    """Return the largest difference in probability between torch in float32 and a task's pinned graph."""
    exact = predict(adapter, texts, pairs, exact=True)
    graph = encoder.Encoder.load(task).logits(texts, pairs)
    return float(np.abs(1 / (1 + np.exp(-exact)) - 1 / (1 + np.exp(-graph))).max())
