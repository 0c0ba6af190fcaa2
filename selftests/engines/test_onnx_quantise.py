"""Quantising an ONNX file: what is quantised, what is not, and what it is calibrated on."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch

from harness.artefacts.calibration import BATCH
from harness.engines.onnx.export import export_onnx
from harness.engines.onnx.quantise import _Reader, quantise_onnx


def block():
    return [torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.GroupNorm(2, 8), torch.nn.ReLU()]


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        *block(),
        *block(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 5),
    ).eval()
    folder = tmp_path_factory.mktemp("onnx")
    export_onnx(module, torch.zeros(1, 3, 16, 16), folder / "model.onnx", dynamic_batch=True)
    quantise_onnx(folder / "model.onnx", folder / "quantised.onnx", torch.randn(20, 3, 16, 16))
    return onnx.load(folder / "quantised.onnx").graph


def made_by(graph):
    return {output: node for node in graph.node for output in node.output}


def test_every_convolution_and_product_takes_int8_and_norms_do_not(quantised):
    makers = made_by(quantised)
    counts = Counter()
    for node in quantised.node:
        if node.op_type in ("Conv", "Gemm", "InstanceNormalization", "GroupNormalization"):
            makes = {makers[name].op_type for name in node.input[1:2] if name in makers}  # the weight, or the scale
            counts[node.op_type, "DequantizeLinear" in makes] += 1
    assert counts["Conv", True] == 3
    assert counts["Gemm", True] == 1
    norms = {is_quantised: count for (name, is_quantised), count in counts.items() if name.endswith("Normalization")}
    assert norms == {False: 2}


def test_weights_have_a_scale_a_channel(quantised):
    weights = {tensor.name: tensor for tensor in quantised.initializer if len(tensor.dims) == 4}
    assert len(weights) == 3
    assert {onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type) for tensor in weights.values()} == {
        np.dtype(np.int8)
    }
    scales = {tensor.name: tensor.dims for tensor in quantised.initializer}
    for node in quantised.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            assert list(scales[node.input[1]]) == [8]


def test_every_image_is_calibrated_on_once():
    images = torch.arange(2 * BATCH + 3.0).view(-1, 1, 1, 1)
    reader, seen = _Reader(images), []
    while (batch := reader.get_next()) is not None:
        seen.extend(batch["images"].ravel())
    assert seen == list(images.ravel())


def test_a_batch_of_large_images_is_of_one():
    large = torch.zeros(3, 3, 608, 912)
    assert [len(batch["images"]) for batch in iter(_Reader(large).get_next, None)] == [1, 1, 1]
