"""What ONNX Runtime's own profile says ran."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.engines.onnxruntime.profiler import Node, dtype_shares, fallbacks, operand_dtype, read_nodes

CONV = Node("c", "Conv", "CPUExecutionProvider", ("float", "float"), ("float",), 90, 2)


def test_time_counts_by_the_type_of_the_first_input():
    nodes = [
        CONV,
        replace(CONV, operator="QLinearConv", inputs=("uint8", "float", "uint8", "int8"), time_us=10),
        replace(CONV, operator="DequantizeLinear", inputs=("int8",), time_us=1000),
        replace(CONV, operator="ReorderInput", time_us=1000),
    ]
    assert dtype_shares(nodes) == {"fp32": 90.0, "int8": 10.0}


@pytest.mark.parametrize(
    ("operator", "is_work"),
    [("FusedConv", True), ("QGemm", True), ("MatMulIntegerToFloat", True), ("Convert", False), ("Relu", False)],
)
def test_convolutions_and_products_are_matrix_work(operator, is_work):
    assert replace(CONV, operator=operator).is_matrix_work is is_work


def test_a_node_elsewhere_is_a_fallback_unless_it_computes_with_sizes():
    on_host = replace(CONV, operator="Resize")
    sizes = replace(CONV, operator="Shape", outputs=("int64",))
    same_sizes = replace(CONV, operator="Equal", inputs=("int64", "int64"), outputs=("bool",))
    same_scores = replace(CONV, operator="Equal", outputs=("bool",))
    mixed = replace(CONV, operator="TopK", outputs=("float", "int64"))
    on_device = replace(CONV, provider="CUDAExecutionProvider")
    nodes = [on_host, on_host, sizes, same_sizes, same_scores, mixed, on_device]
    assert fallbacks(nodes, "CUDAExecutionProvider") == {
        "Resize on CPUExecutionProvider": 2,
        "Equal on CPUExecutionProvider": 1,
        "TopK on CPUExecutionProvider": 1,
    }


def test_the_operands_have_one_format_or_none_is_told():
    half = replace(CONV, inputs=("float16", "float16"))
    assert operand_dtype([half, half, replace(CONV, operator="Cast")]) == "fp16"
    assert operand_dtype([half, CONV]) is None
    assert operand_dtype([]) is None


def test_a_profile_is_read_as_onnxruntime_writes_it(tmp_path):
    onnx = pytest.importorskip("onnx", reason="makes a file to run")
    onnxruntime = pytest.importorskip("onnxruntime", reason="writes the profile")
    kinds = {"x": [1, 2, 4, 4], "w": [3, 2, 1, 1], "y": [1, 3, 4, 4]}
    x, w, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in kinds.items())
    graph = onnx.helper.make_graph([onnx.helper.make_node("Conv", ["x", "w"], ["y"], "one")], "g", [x, w], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "p")
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    session.run(None, {name: np.zeros(kinds[name], np.float32) for name in "xw"})
    (node,) = [node for node in read_nodes(Path(session.end_profiling())) if node.is_matrix_work]
    assert (node.operator, node.provider, node.dtype) == ("Conv", "CPUExecutionProvider", "fp32")
    assert node.outputs == ("float",)
    assert node.threads in (0, 1)
