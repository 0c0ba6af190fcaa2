"""The normalisation at the beginning of an ONNX graph that takes bytes, which stays in fp32 in every precision."""

from __future__ import annotations

from typing import Any

# What the exporter and the optimisers make of `images.to(fp32) * scale + shift`.
_OPERATORS = ("Cast", "Mul", "Add", "Sub", "Div")


def normalisation_nodes(graph: Any) -> list[Any]:
    """Return the nodes between an input of bytes and the first other operator, in order; none for other inputs."""
    import onnx

    made = {end.name for end in graph.input if end.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {output for node in graph.node if node.op_type == "Constant" for output in node.output}
    found = []
    for node in graph.node:
        others = set(node.input) - constants
        if made and node.op_type in _OPERATORS and others and others <= made:
            found.append(node)
            made |= set(node.output)
    return found
