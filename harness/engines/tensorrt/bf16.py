"""Rewriting an fp32 ONNX file in bf16: weights are rounded, and every float type in the graph becomes bf16.

Where the file takes bytes, their normalisation stays in fp32, and its result is cast.

Exporting a bf16 module with torch would leave its folded weights in fp32, which gives an invalid file. In addition,
batch norms that are folded in fp32 and rounded once are more exact.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.engines.onnx.normalisation import normalisation_nodes

# The first operator set with bf16 convolution and pooling.
BF16_OPSET = 22


def write_bf16(source: Path, target: Path) -> None:
    """Write the file in bf16, and check it with onnx's checker, which infers all types.

    Args:
        source: the fp32 file, with its weights inside.
        target: the file to write.

    Raises:
        onnx.shape_inference.InferenceError: an operator in the file does not support bf16.
    """
    import onnx

    model = onnx.load(str(source))
    graph = model.graph
    del graph.value_info[:]
    kept = normalisation_nodes(graph)
    names = {name for node in kept for name in node.input}
    for tensor in graph.initializer:
        if tensor.name not in names:
            _round(tensor)
    for node in graph.node:
        if node in kept or names & set(node.output):
            continue
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _round(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.BFLOAT16
    if kept:
        _cast_after(graph, kept[-1])
    for end in (*(() if kept else graph.input), *graph.output):
        end.type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = BF16_OPSET
    onnx.save(model, str(target))
    onnx.checker.check_model(str(target), full_check=True)


def _cast_after(graph: Any, last: Any) -> None:
    """Cast what a node makes to bf16, for all nodes that read it."""
    import onnx

    (made,) = last.output
    cast = onnx.helper.make_node("Cast", [made], [f"{made}_bf16"], to=onnx.TensorProto.BFLOAT16)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == made:
                node.input[place] = cast.output[0]
    graph.node.insert(list(graph.node).index(last) + 1, cast)


def _round(tensor: Any) -> None:
    """Round an fp32 tensor to bf16 in place. Tensors of other types stay as they are."""
    import ml_dtypes
    import onnx

    if tensor.data_type == onnx.TensorProto.FLOAT:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(ml_dtypes.bfloat16), tensor.name))
