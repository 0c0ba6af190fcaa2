"""What a profile of one step says ran."""

import pytest
import torch

from harness.engines.torch.kernels import is_matrix_kernel, kernel_dtype
from harness.engines.torch.profiler import (
    innermost_matrix_ops,
    matrix_work,
    memory_format,
    profile_step,
    ran_inductor,
)
from selftests.engines.kernel_names import HELPERS, NAMES


def op(name, types, ts, dur, tid=1, external=None):
    return {
        "cat": "cpu_op",
        "name": name,
        "tid": tid,
        "ts": ts,
        "dur": dur,
        "args": {"Input type": types, "External id": external},
    }


def kernel(name, dur, external=None):
    return {"cat": "kernel", "name": name, "tid": 7, "ts": 0, "dur": dur, "args": {"External id": external}}


def test_the_innermost_operator_of_a_nest_counts():
    events = [
        op("aten::conv2d", ["c10::BFloat16", "float"], 0, 100),
        op("aten::to", ["float"], 1, 5),
        op("aten::conv2d", ["c10::BFloat16", "c10::BFloat16"], 10, 80),
        op("aten::mkldnn_convolution", ["c10::BFloat16", "c10::BFloat16"], 20, 60),
        op("aten::addmm", ["float", "float", "float"], 200, 20),
    ]
    work = matrix_work(events)
    assert work.share_pct == {"bf16": 75.0, "fp32": 25.0}
    assert (work.count, work.clock) == (2, "operator")


def test_operators_of_other_threads_do_not_nest():
    events = [op("aten::mm", ["float"], 0, 100, tid=1), op("aten::mm", ["c10::Half"], 10, 100, tid=2)]
    assert matrix_work(events).share_pct == {"fp32": 50.0, "fp16": 50.0}


def test_conversions_are_no_matrix_work():
    assert matrix_work([op("aten::convert_element_type", ["float"], 0, 5)]).count == 0


def test_on_a_device_the_kernels_time_counts_and_the_operator_gives_the_format():
    events = [
        op("aten::cudnn_convolution", ["c10::Half", "c10::Half"], 0, 10, external=5),
        op("aten::relu", ["float"], 20, 10, external=6),
        kernel("some_opaque_kernel", 30, external=5),
        kernel("vectorized_elementwise_kernel", 1000, external=6),
    ]
    work = matrix_work(events)
    assert work.share_pct == {"fp16": 100.0}
    assert work.clock == "kernel"


def test_a_kernel_that_says_tf32_overrules_its_fp32_operator():
    events = [
        op("aten::cudnn_convolution", ["float", "float"], 0, 10, external=5),
        kernel("sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize128x128x16", 30, external=5),
    ]
    assert matrix_work(events).share_pct == {"tf32": 100.0}


def test_replayed_kernels_give_their_own_format_and_helpers_do_not_count():
    """A replayed CUDA graph: kernels without operators."""
    events = [
        kernel("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize64x64x64", 90),
        kernel("triton_poi_fused_convolution_relu_3", 50),
        kernel("void cask__5x_cudnn::computeOffsetsKernel<false, false>", 40),
        kernel("void cudnn::ops::nchwToNhwcKernel<float, float>", 40),
    ]
    work = matrix_work(events)
    assert work.share_pct == {"bf16": 100.0}
    assert work.count == 1


def test_an_inductor_pointwise_operator_is_no_matrix_work():
    assert matrix_work([op("triton_poi_fused_convolution_relu_3", [], 0, 5)]).count == 0


@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name, dtype, _ in NAMES])
def test_kernel_names_give_their_format(name, dtype):
    assert kernel_dtype(name) == dtype
    assert is_matrix_kernel(name)


@pytest.mark.parametrize("name", HELPERS)
def test_a_kernel_beside_the_product_does_not_count(name):
    assert not is_matrix_kernel(name)
    assert matrix_work([kernel(name, 90), kernel("nvjet_hsh_128x128_64x6_1x2_h_bz_TNT", 10)]).share_pct == {
        "fp16": 100.0
    }


@pytest.mark.parametrize("name", ["kernel_0", "fused_thing_f16_f32", "void mystery_gemm<int, 128>(int)", "gemm_kernel"])
def test_a_name_that_is_not_understood_is_no_format(name):
    assert kernel_dtype(name) == "unknown"


def test_kernels_are_named_by_format_the_longest_first():
    found = matrix_work([kernel("gemm_kernel", 1), kernel("mystery_gemm", 9), kernel("nvjet_hsh_128x128_TNT", 90)])
    assert found.share_pct == {"fp16": 90.0, "unknown": 10.0}
    assert found.notes() == {
        "kernels_by_format": {"fp16": ["nvjet_hsh_128x128_TNT"], "unknown": ["mystery_gemm", "gemm_kernel"]}
    }
    assert matrix_work([op("aten::conv2d", ["float"], 0, 10)]).notes() == {}


def test_a_depthwise_kernel_that_names_no_format_has_that_of_its_operands():
    events = [kernel("conv2d_c1_k1_nchw_hw_packed", 30), kernel("gemm_kernel", 10), kernel("nvjet_hsh_128x128_TNT", 60)]
    assert matrix_work(events).share_pct == {"fp16": 60.0, "unknown": 40.0}
    found = matrix_work(events, "fp16")
    assert found.share_pct == {"fp16": 90.0, "unknown": 10.0}  # of no other kernel is it known
    assert found.kernels["unknown"] == ("gemm_kernel",)
    named = kernel("void conv2d_c1_k1_nhwc_kernel<__half, __half, __half, float, float, 3>()", 10)
    assert matrix_work([named], "fp32").share_pct == {"fp16": 100.0}


@pytest.mark.parametrize("name", ["upsample_bilinear2d", "_upsample_bilinear2d_aa", "upsample_linear1d"])
def test_resizing_is_no_matrix_work(name):
    events = [op("aten::conv2d", ["c10::BFloat16"], 0, 10), op(f"aten::{name}", ["float"], 20, 90)]
    assert matrix_work(events).share_pct == {"bf16": 100.0}
    assert [one["name"] for one in innermost_matrix_ops(events)] == ["aten::conv2d"]


@pytest.mark.parametrize("dtype", ["c10::Half", "c10::BFloat16"])
def test_a_product_that_is_named_fp32_is_no_16_bit_one(dtype):
    """The sabotage: a library that widens what it is given, as Fourier transforms for convolutions do."""
    short = {"c10::Half": "fp16", "c10::BFloat16": "bf16"}[dtype]
    events = [
        op("aten::conv2d", [dtype] * 2, 0, 50, external=5),
        kernel(
            "void implicit_convolve_sgemm<float, float, 1024, 5, 5, 3, 3, 3, 1, false, false, true>(int)",
            60,
            external=5,
        ),
        kernel("void cudnn::engines_precompiled::nhwcToNchwKernel<float, float, float, true, false>()", 10, external=5),
        kernel("a_kernel_of_no_known_name", 30, external=5),
    ]
    assert matrix_work(events).share_pct == {"fp32": 60.0, short: 40.0}


def test_only_an_fp32_operator_takes_a_shorter_format_from_its_kernel():
    half = [
        op("aten::addmm", ["c10::Half"] * 3, 0, 10, external=5),
        kernel("cutlass_80_tensorop_s1688gemm_128x64_16x6_tn_align4", 9, external=5),
    ]
    assert matrix_work(half).share_pct == {"fp16": 100.0}
    full = [
        op("aten::addmm", ["float"] * 3, 0, 10, external=5),
        kernel("cutlass_80_tensorop_s1688f16gemm_128x64_16x6_tn_align4", 9, external=5),
    ]
    assert matrix_work(full).share_pct == {"fp16": 100.0}


@pytest.mark.parametrize(
    ("dtype", "label"), [(torch.float32, "fp32"), (torch.bfloat16, "bf16"), (torch.float64, "fp64")]
)
def test_a_real_step_shows_its_format(dtype, label):
    convolution = torch.nn.Conv2d(3, 8, 3).to(dtype)
    image = torch.zeros(1, 3, 32, 32, dtype=dtype)

    def step():
        convolution(image)

    events = profile_step(step, None)
    work = matrix_work(events)
    assert set(work.share_pct) == {label}
    assert work.count == 1
    assert not ran_inductor(events)


def test_memory_format_is_read_from_the_weights():
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 1), torch.nn.Linear(8, 2))
    assert memory_format(module) == "contiguous"
    assert memory_format(module.to(memory_format=torch.channels_last)) == "channels_last"
    module.append(torch.nn.Conv2d(8, 8, 3))
    assert memory_format(module) == "mixed"
