"""Where the time of a step went: each operator by its own time, and nothing twice."""

import pytest
import torch

from harness.engines.torch.layer_times import busy_us, layer_times
from harness.engines.torch.profiler import profile_step


def op(name, ts, dur, dims=(), tid=1, external=None):
    return {
        **{"cat": "cpu_op", "name": name, "tid": tid, "ts": ts, "dur": dur},
        "args": {"Input type": ["float"], "Input Dims": list(dims), "External id": external},
    }


def kernel(name, ts, dur, external=None, cat="kernel"):
    return {"cat": cat, "name": name, "tid": 7, "ts": ts, "dur": dur, "args": {"External id": external}}


def times(events):
    return {layer.name: (layer.time_us, layer.is_matrix_work, layer.calls) for layer in layer_times(events)}


def test_an_operator_counts_without_those_that_it_calls_and_a_product_counts_whole():
    events = [
        op("forward", 0, 100),
        op("aten::conv2d", 10, 50),
        op("aten::mkldnn_convolution", 15, 40, [[1, 3, 8, 8], [4, 3, 3, 3]]),
        op("aten::empty", 20, 5),
        op("aten::relu", 70, 20),
    ]
    assert times(events) == {
        "aten::mkldnn_convolution [1,3,8,8] x [4,3,3,3]": (40, True, 1),
        "forward": (30, False, 1),
        "aten::relu": (20, False, 1),
        "aten::conv2d": (10, False, 1),
    }
    assert sum(layer.time_us for layer in layer_times(events)) == busy_us(events) == 100


def test_equal_operators_of_equal_shapes_are_one_entry_the_costliest_first():
    events = [op("aten::relu", 0, 5, [[8]]), op("aten::relu", 10, 7, [[8]]), op("aten::relu", 20, 30, [[9]])]
    assert [(layer.name, layer.time_us, layer.calls) for layer in layer_times(events)] == [
        ("aten::relu [9]", 30, 1),
        ("aten::relu [8]", 12, 2),
    ]


def test_what_inductor_wrote_is_told_as_that():
    events = [op("Torch-Compiled Region: 0/0", 0, 100), op("mkldnn::_convolution_pointwise", 10, 60)]
    shown = {layer.operator: layer.time_us for layer in layer_times(events)}
    assert shown == {"mkldnn::_convolution_pointwise": 60, "code that inductor wrote, and its calls": 40}


def test_on_a_device_the_kernels_and_copies_count_and_the_gaps_between_them_do_not():
    events = [
        op("aten::conv2d", 0, 500, external=3),
        kernel("sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nhwckrsc_nhwc", 100, 40),
        kernel("vectorized_elementwise_kernel", 130, 30),
        kernel("Memcpy HtoD", 300, 10, cat="gpu_memcpy"),
        kernel("some_kernel_of_a_convolution", 400, 5, external=3),
    ]
    assert busy_us(events) == 60 + 10 + 5
    shown = times(events)
    assert {name: is_matrix for name, (_, is_matrix, _) in shown.items()} == {
        "sm80_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nhwckrsc_nhwc": True,
        "vectorized_elementwise_kernel": False,
        "Memcpy HtoD": False,
        "some_kernel_of_a_convolution": True,
    }


def test_nothing_is_busy_where_nothing_ran():
    assert busy_us([]) == 0.0 and layer_times([]) == ()


def test_a_real_step_is_told_whole():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU()).eval()

    def step():
        with torch.inference_mode():
            network(torch.ones(1, 3, 32, 32))

    events = profile_step(step, None)
    layers = layer_times(events)
    assert sum(layer.is_matrix_work for layer in layers) == 1
    assert any("batch_norm" in layer.operator for layer in layers)
    assert sum(layer.time_us for layer in layers) == pytest.approx(busy_us(events), rel=0.05)
