"""The normalisation of bytes in exported files: it stays in fp32 where a file is rewritten in bf16."""

from __future__ import annotations

import onnx
import torch
from torch import nn

from harness.engines.onnx.export import FILE_NAME, export_onnx
from harness.engines.onnx.normalisation import normalisation_nodes
from harness.engines.tensorrt.bf16 import write_bf16
from models.catalog import InputSpec
from models.normalised import normalised_inside

INPUT = InputSpec((8, 8), 0.875, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_a_file_in_bf16_normalises_its_bytes_in_fp32(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    example = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    export_onnx(normalised_inside(net, INPUT), example, tmp_path / FILE_NAME, dynamic_batch=True)
    write_bf16(tmp_path / FILE_NAME, tmp_path / "bf16.onnx")  # onnx's checker infers all types here
    graph = onnx.load(str(tmp_path / "bf16.onnx")).graph
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    first, *rest = normalisation_nodes(graph)
    assert [first.op_type, *(node.op_type for node in rest)][:3] == ["Cast", "Mul", "Add"]
    kept = {name for node in rest[:2] for name in node.input}
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.BFLOAT16)
    types = {one.name: one.data_type for one in graph.initializer if one.data_type in floats}
    assert {types[name] for name in kept if name in types} == {onnx.TensorProto.FLOAT}
    assert {types[name] for name in types if name not in kept} == {onnx.TensorProto.BFLOAT16}
