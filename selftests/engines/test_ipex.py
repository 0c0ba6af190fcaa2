"""The engine ipex: for real in its own environment (`make test-ipex`), elsewhere what it says of its absence."""

import json

import pytest
import torch

from harness.devices import open_device
from harness.engines import ipex
from harness.engines.torch import library_log
from harness.engines.torch.library_log import Primitive, executed_primitives, parse_log
from harness.engines.torch.runner import TorchRunner
from selftests.inside import ROOT, TINY, run_here
from selftests.proof.test_alarms import assert_rings, product_run

IS_HERE = ipex.absent() is None
here_only = pytest.mark.skipif(not IS_HERE, reason=str(ipex.absent()))
LOG = """onednn_verbose,v1,info,cpu,runtime:OpenMP,nthr:2
onednn_verbose,v1,primitive,info,template:operation,engine,primitive,implementation,prop_kind,memory_descriptors,exec_time
onednn_verbose,v1,primitive,exec,cpu,convolution,brgconv_1x1:avx512_core,forward_inference,\
src:f32::blocked:acdb::f0 wei:f32:a:blocked:Acdb16a::f0 bia:f32:a:blocked:a::f0 dst:f32::blocked:acdb::f0,\
attr-scratchpad:user attr-post-ops:eltwise_relu,alg:convolution_direct,mb4_ic16oc16_ih1oh1,0.5
onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src:f32::blocked:abcd::f0 dst:bf16::blocked:acdb::f0,,,4x3,9
onednn_verbose,v1,primitive,exec,cpu,inner_product,brgemm:avx512_core_amx,forward_training,\
src:bf16::blocked:ab::f0 wei:bf16:a:blocked:AB::f0 dst:bf16::blocked:ab::f0,attr-scratchpad:user,,mb4ic8oc9,0.25
"""


def test_the_log_gives_format_kernel_and_time_of_matrix_work_alone():
    assert parse_log(LOG) == [
        Primitive("fp32", "brgconv_1x1:avx512_core", 500.0),
        Primitive("bf16", "brgemm:avx512_core_amx", 250.0),
    ]


@pytest.mark.parametrize(("dtype", "label"), [(torch.float32, "fp32"), (torch.bfloat16, "bf16")])
def test_what_onednn_really_ran_is_caught(dtype, label, capfd):
    if label == "bf16" and open_device("cpu").supports("bf16"):
        pytest.skip("this CPU has no bf16")
    layer = torch.nn.Conv2d(16, 16, 3).to(dtype).to(memory_format=torch.channels_last)
    images = torch.randn(2, 16, 32, 32).to(dtype).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = executed_primitives(lambda: layer(images))
    assert [primitive.dtype for primitive in found] == [label]
    assert found[0].kernel
    print("after")
    assert capfd.readouterr().out == "after\n", "the log leaked, or standard output was not put back"


def test_standard_output_is_put_back_after_a_failure(capfd):
    with pytest.raises(RuntimeError, match="broken"):
        executed_primitives(lambda: (_ for _ in ()).throw(RuntimeError("broken")))
    print("after")
    assert capfd.readouterr().out == "after\n"


def test_where_it_is_absent_the_reason_gives_the_way_to_it(monkeypatch):
    monkeypatch.setattr(ipex, "find_spec", lambda name: None)
    assert "make setup-ipex" in ipex.supports(open_device("cpu"), "fp32")
    assert "torch.xpu" in ipex.supports(open_device("xpu"), "fp32")
    assert "int8" in ipex.supports(open_device("cpu"), "int8")
    arguments = (f"--model={TINY}", "--batch-size=1", "--precision=fp32", "tests_perf/test_latency.py", "--device=cpu")
    for asked in ("--engine=ipex", "--ipex=yes"):
        outcome = run_here(*arguments, asked)
        assert outcome.code == 4, outcome.text
        assert "make setup-ipex" in outcome.text
    outcome = run_here(*arguments, "--engine=all", "--collect-only", "-q")
    assert outcome.code == 0, outcome.text
    assert "bs1-ipex" in outcome.text
    assert (ROOT / "requirements" / "ipex.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ipex", "yes", "--jit", "compile"], "denies --jit compile"),
        (["--ipex", "yes", "--engine", "eager"], "denies --engine eager"),
        (["--ipex", "no", "--engine", "ipex"], "--ipex no denies"),
    ],
)
def test_what_denies_ipex_is_a_usage_error(arguments, words):
    outcome = run_here("--collect-only", *arguments)
    assert outcome.code == 4, outcome.text
    assert words in outcome.text


def test_ipex_no_takes_it_out_of_all():
    outcome = run_here("--collect-only", "-q", f"--model={TINY}", "--engine", "all", "--ipex", "no")
    assert outcome.code == 0, outcome.text
    assert "-eager]" in outcome.text
    assert "-ipex]" not in outcome.text


@here_only
@pytest.mark.parametrize("asked", [("--engine", "ipex"), ("--ipex", "yes", "--jit", "trace")])
def test_ipex_rows_are_measured_with_their_evidence(asked, tmp_path):
    path = tmp_path / "out.json"
    outcome = run_here(
        *("tests_perf/test_latency.py", "--model", TINY, "--device", "cpu", "--precision", "fp32", *asked),
        *("--batch-size", "2", "--max-test-duration", "0.2", f"--benchmark-json={path}"),
    )
    assert outcome.code == 0, outcome.text
    (bench,) = json.loads(path.read_text())["benchmarks"]
    evidence = bench["extra_info"]["evidence"]
    assert evidence["engine"] == "ipex"
    assert evidence["dtype_share_pct"] == {"fp32": 100.0}
    assert evidence["notes"]["ipex_share_pct"] == 100.0
    assert any(name.startswith("ipex_prepack::convolution") for name in evidence["notes"]["ipex_operators"])


@here_only
def test_a_trace_that_ipex_did_not_touch_rings(monkeypatch):
    extension = pytest.importorskip(ipex.MODULE)
    monkeypatch.setattr(extension, "optimize", lambda module, **how: module)
    monkeypatch.setattr(torch._C, "_jit_set_texpr_fuser_enabled", lambda state: None, raising=False)
    extension.enable_onednn_fusion(False)
    try:
        assert_rings(
            product_run("ipex", ipex.build),
            "label says engine ipex, but a trace with 0% of its time in ipex's operators ran",
        )
    finally:
        extension.enable_onednn_fusion(True)


@here_only
def test_bf16_that_ipex_left_in_fp32_rings(monkeypatch):
    extension = pytest.importorskip(ipex.MODULE)
    real = extension.optimize
    monkeypatch.setattr(extension, "optimize", lambda module, dtype, inplace: real(module, torch.float32, inplace=True))
    monkeypatch.setattr(ipex, "put", lambda images, case, device: images)
    monkeypatch.setattr(TorchRunner, "put", lambda self, images: images)
    assert_rings(
        product_run("ipex", ipex.build, precision="bf16"),
        "label says bf16, but convolution and matrix time was 100.0% fp32",
    )


def test_an_empty_log_proves_nothing(monkeypatch):
    monkeypatch.setattr(library_log, "parse_log", lambda text: [])
    assert ipex.executed_work(lambda: None, []).count == 0
