"""An ONNX file in fp32 rewritten in bf16: weights rounded, every float of the graph a bf16.

torch's exporter leaves a bf16 module's folded weights in fp32, which is no sound file; batch norms that are folded in
fp32 and rounded once are more exact besides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

# The first operator set with bf16 convolutions and poolings.
BF16_OPSET = 22


def write_bf16(source: Path, target: Path) -> None:
    """Write the rewritten file, and have onnx's checker infer every type of it.

    Args:
        source: fp32, its weights inside.
        target: where to write.

    Raises:
        onnx.shape_inference.InferenceError: an operator of it has no bf16.
    """
    import onnx

    model = onnx.load(str(source))
    graph = model.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        _round(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _round(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.BFLOAT16
    for end in (*graph.input, *graph.output):
        end.type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = BF16_OPSET
    onnx.save(model, str(target))
    onnx.checker.check_model(str(target), full_check=True)


def _round(tensor: Any) -> None:
    """A tensor of floats to bf16, in place."""
    import ml_dtypes
    import onnx

    if tensor.data_type == onnx.TensorProto.FLOAT:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(ml_dtypes.bfloat16), tensor.name))
