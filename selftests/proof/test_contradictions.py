"""Where evidence denies a label."""

from dataclasses import replace

import pytest

from harness.cases import Case
from harness.devices import open_device
from harness.engines import Evidence
from harness.engines.evidence import Quantisation
from harness.proof.contradictions import contradictions

CASE = Case("m", "cpu", "bf16", 1, "compile")
TRUE = Evidence(
    engine="compile",
    dtype_share_pct={"bf16": 99.0, "fp32": 1.0},
    matrix_ops=66,
    clock="operator",
    parameter_devices={"cpu": 100},
    parameter_dtypes={"bfloat16": 100},
    short_formats={},
    fpmath_mode=None,
    memory_format="channels_last",
    threads={"intra_op": 2, "inter_op": 1},
    graphs=1,
    graph_breaks=0,
)


def test_a_true_label_is_not_denied():
    assert contradictions(CASE, open_device("cpu"), TRUE) == []
    threads = {"intra_op": 8, "openmp": 8, "inter_op": 16, "asked": 8}
    assert contradictions(CASE, open_device("cpu"), replace(TRUE, threads=threads)) == []


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"engine": "eager"}, ["engine compile", "eager ran"]),
        ({"dtype_share_pct": {"fp32": 100.0}}, ["bf16", "100.0% fp32"]),
        ({"dtype_share_pct": {"bf16": 80.0, "fp32": 20.0}}, ["80.0% bf16, 20.0% fp32"]),
        ({"dtype_share_pct": {}, "matrix_ops": 0}, ["no convolution or matrix product"]),
        ({"graph_breaks": 3}, ["3 graph breaks"]),
        ({"parameter_devices": {"cpu": 90, "cuda:0": 10}}, ["device cpu", "10 on cuda:0"]),
        ({"fallbacks": {"Conv on CPUExecutionProvider": 3}}, ["device cpu", "fell back", "CPUExecutionProvider (3)"]),
        ({"short_formats": {"matmul": False, "cudnn": True}}, ["TF32 is on for cudnn"]),
        ({"threads": {"intra_op": 16, "asked": 8}}, ["of 8 threads", "compile has 16 (intra_op)"]),
        ({"threads": {"intra_op": 8, "openmp": 1, "asked": 8}}, ["of 8 threads", "compile has 1 (openmp)"]),
    ],
)
def test_a_lie_is_denied_naming_both(lie, words):
    found = contradictions(CASE, open_device("cpu"), replace(TRUE, **lie))
    assert len(found) == 1
    assert all(word in found[0] for word in words), found


def test_fp32_that_onednn_may_shorten_is_denied():
    case = replace(CASE, precision="fp32")
    evidence = replace(TRUE, dtype_share_pct={"fp32": 100.0})
    assert contradictions(case, open_device("cpu"), evidence) == []
    assert "fpmath mode BF16" in contradictions(case, open_device("cpu"), replace(evidence, fpmath_mode="BF16"))[0]
    switched = replace(evidence, short_formats={"onednn_conv": True, "onednn_matmul": False})
    assert contradictions(case, open_device("cpu"), switched) == [
        "label says fp32, but oneDNN may shorten fp32: onednn_conv is on"
    ]
    bf16 = replace(TRUE, short_formats=switched.short_formats)
    assert contradictions(CASE, open_device("cpu"), bf16) == [], "of other formats it says nothing"


def test_tf32_needs_some_tf32_kernels_and_fp32_none():
    case = replace(CASE, device="cuda", precision="tf32")
    ran = replace(
        TRUE,
        dtype_share_pct={"fp32": 70.0, "tf32": 30.0},
        parameter_devices={"cuda:0": 1},
        clock="kernel",
        short_formats={"cudnn": True},
    )
    assert contradictions(case, open_device("cuda"), ran) == []
    assert contradictions(case, open_device("cuda"), replace(ran, dtype_share_pct={"fp32": 100.0}))
    assert contradictions(replace(case, precision="fp32"), open_device("cuda"), ran)


def test_a_gpu_row_without_gpu_kernels_is_denied():
    case = replace(CASE, device="cuda")
    ran = replace(TRUE, parameter_devices={"cuda:0": 100})
    assert "no kernel of it" in contradictions(case, open_device("cuda"), ran)[0]
    assert contradictions(case, open_device("cuda"), replace(ran, clock="kernel")) == []


@pytest.mark.parametrize(
    ("quantisation", "words"),
    [
        (Quantisation(60, ("classifier",), {"source": "generated"}), None),
        (Quantisation(0, ("stem", "classifier"), {"source": "generated"}), "quantised nothing"),
        (None, "nothing tells what was quantised"),
    ],
)
def test_int8_tells_what_was_quantised(quantisation, words):
    case = replace(CASE, precision="int8")
    evidence = replace(TRUE, dtype_share_pct={"int8": 97.0, "fp32": 3.0}, quantisation=quantisation)
    found = contradictions(case, open_device("cpu"), evidence)
    assert found == [] if words is None else words in found[0]


def test_threads_of_the_host_say_nothing_of_an_accelerator():
    case = replace(CASE, device="cuda", precision="fp16")
    ran = replace(
        TRUE, dtype_share_pct={"fp16": 100.0}, parameter_devices={"cuda:0": 1}, clock="kernel", threads={"asked": 8}
    )
    assert contradictions(case, open_device("cuda"), replace(ran, threads={"intra_op": 1, "asked": 8})) == []


def test_kernels_of_other_formats_are_named_where_they_keep_a_row_from_being_proven():
    shares, kernels = {"bf16": 80.0, "unknown": 20.0}, {"bf16": ["good_gemm"], "unknown": ["a_gemm", "b_gemm"]}
    (share, names) = contradictions(
        CASE, open_device("cpu"), replace(TRUE, dtype_share_pct=shares, notes={"kernels_by_format": kernels})
    )
    assert "20.0% unknown" in share and names.endswith("unknown: a_gemm, b_gemm") and "good_gemm" not in names
    enough = replace(TRUE, dtype_share_pct={"bf16": 95.0, "unknown": 5.0}, notes={"kernels_by_format": kernels})
    assert contradictions(CASE, open_device("cpu"), enough) == []
