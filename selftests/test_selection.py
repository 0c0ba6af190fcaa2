"""Which cases an ask selects, and how an ask that cannot be met ends."""

import json
import re
from dataclasses import replace

import pytest

from fixtures import options
from fixtures.cases import AXES
from harness.engines import engine_names, trace
from harness.precision import PRECISIONS
from models.catalog import Gap, find_spec
from selftests.inside import TINY, Replacing, run_command, run_here

IDS = re.compile(r"::test_(\w+)\[(.+)\]$", re.M)


def collected(*arguments, **variables):
    """Test names and case ids that a command would run."""
    outcome = (run_command if variables else run_here)("--collect-only", "-q", *arguments, **variables)
    assert outcome.code in (0, 5), outcome.text
    return set(IDS.findall(outcome.text))


def cases(*arguments, **variables):
    return {case for _, case in collected(*arguments, **variables)}


def test_nothing_selected_is_the_smoke_tier():
    grid = {(precision, engine) for precision in ("fp32", "bf16") for engine in ("eager", "trace")}
    found = collected()
    for test, batch in (("latency", 1), ("throughput", 1), ("parity", 1), ("imagenet", 32)):
        expected = {f"fbnetc_100-cpu-{precision}-bs{batch}-{engine}" for precision, engine in grid}
        assert {case for name, case in found if name == test} == expected


def test_what_does_not_depend_on_the_batch_runs_at_one_unless_batches_are_named():
    arguments = ("tests_accuracy/test_imagenet.py", "--model", "resnet18", "--precision", "fp32", "--engine", "eager")
    assert cases(*arguments) == {"resnet18-cpu-fp32-bs32-eager"}
    assert cases(*arguments, "--batch-size", "1,4") == {f"resnet18-cpu-fp32-bs{batch}-eager" for batch in (1, 4)}


def test_a_keyword_selects_that_models_default_grid():
    assert cases("-k", "fbnetc_100") == {
        f"fbnetc_100-cpu-{precision}-bs{batch}-{engine}"
        for precision in ("fp32", "bf16")
        for batch in (1, 32)
        for engine in ("eager", "compile")
    }


def test_the_whole_word_of_a_model_needs_its_dash():
    assert {case.split("-")[0] for case in cases("-k", "efficientnet_b0-")} == {"efficientnet_b0"}


def test_options_narrow_and_widen():
    assert cases("--model", "resnet18,resnet34", "--precision", "fp16", "--batch-size", "2", "--engine", "script") == {
        "resnet18-cpu-fp16-bs2-script",
        "resnet34-cpu-fp16-bs2-script",
    }
    assert len(cases("--model", "resnet18", "--precision", "all", "--batch-size", "all", "--engine", "all")) == len(
        PRECISIONS
    ) * 4 * len(engine_names())
    assert len(cases("--tier", "all")) == 18 * 2 * 2 * 2
    assert len(cases("--model", "all", "--batch-size", "1", "--precision", "fp32", "--engine", "eager")) == 18


def test_amp_chooses_autocast():
    assert {case.split("-")[2] for case in cases("--model", "resnet18", "--amp", "yes")} == {"fp32", "amp_bf16"}


def test_the_id_of_a_test_selects_it():
    wanted = "fbnetc_100-cpu-bf16-bs32-compile"
    assert cases(f"tests_perf/test_latency.py::test_latency[{wanted}]") == {wanted}


def test_the_samples_environment_selects_exactly_its_case():
    found = collected(
        "tests_perf", MODEL_NAME="fbnetc_100", BATCH_SIZE="4", PRECISION="bf16", JIT="trace", PLATFORM="CPU"
    )
    assert {case for _, case in found} == {"fbnetc_100-cpu-bf16-bs4-trace"}
    assert {test for test, _ in found} == {"latency", "throughput", "end_to_end"}


def test_the_command_line_overrules_the_environment():
    assert cases("--model", "resnet18", "--batch-size", "2", "--jit", "none", MODEL_NAME="resnet34", JIT="trace") == {
        "resnet18-cpu-fp32-bs2-eager",
        "resnet18-cpu-bf16-bs2-eager",
    }


def test_what_is_typed_goes_before_what_lies_in_the_environment():
    found = cases(
        *("--model", "resnet18", "--batch-size", "1", "--engine", "eager", "--precision", "amp_bf16", "--dummy"),
        **{"JIT": "trace", "AMP": "no", "DATASET_DIR": "/no/such/folder"},
    )
    assert found == {"resnet18-cpu-amp_bf16-bs1-eager"}


def test_threads_that_are_no_number_are_refused():
    outcome = run_command("--collect-only", OMP_NUM_THREADS="all")
    assert outcome.code == 4
    assert "OMP_NUM_THREADS 'all'" in outcome.text


def test_all_tests_of_a_case_stand_together():
    outcome = run_here("--collect-only", "-q", "-k", "fbnetc_100 or resnet18")
    ids = [case for _, case in IDS.findall(outcome.text)]
    changes = sum(a != b for a, b in zip(ids, ids[1:], strict=False))
    assert changes == len(set(ids)) - 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nosuch"], ["nosuch", "timm:"]),
        (["--model", "resnet5"], ["resnet50"]),
        (["--model", "timm:resnet5o"], ["resnet50"]),
        (["--device", "cuda:77", "-k", "fbnetc_100"], ["no cuda", "drop --device"]),
        (["--device", "toaster"], ["toaster", "cpu, cuda, xpu"]),
        (["--precision", "fp8"], ["fp8", "fp32"]),
        (["--engine", "tvm"], ["tvm", "eager"]),
        (["--jit", "onnx"], ["onnx", "trace"]),
        (["--jit", "trace", "--engine", "compile"], ["trace", "compile", "drop one"]),
        (["--batch-size", "0"], ["'0'"]),
        (["--batch-size", "-1"], ["-1"]),
        (["--num-inputs", "many"], ["many"]),
        (["--min-test-duration", "soon"], ["soon"]),
        (["--min-test-duration", "5", "--max-test-duration", "4"], ["below"]),
        (["--data", "/no/such/folder"], ["/no/such/folder"]),
        (["--weights", "/no/such/file.pth", "--model", "resnet18"], ["/no/such/file.pth"]),
        ([f"--weights={__file__}"], ["--model"]),
        (["--dummy", "--data", "."], ["--dummy", "--data"]),
        (["--amp", "maybe"], ["maybe"]),
        (["--amp", "no", "--precision", "amp_bf16"], ["--amp no"]),
        (["--ipex", "yes"], ["ipex"]),
        (["--tier", "huge"], ["huge"]),
        (["--random-weights", "--weights", "pretrained"], ["drop one"]),
        (["--benchmark-json", "x.json", "--benchmark-disable"], ["--benchmark-disable", "no file"]),
        (["--benchmark-json", "x.json", "--benchmark-skip"], ["--benchmark-skip", "no file"]),
        (["--benchmark-json", "x.json", "-n", "2"], ["-n", "no file"]),
        (["--benchmark-json", "/proc/none/x.json"], ["/proc/none/x.json", "can be written"]),
        (["--benchmark-save", "name", "--benchmark-disable"], ["--benchmark-save", "no file"]),
        (["--benchmark-timer", "time.process_time"], ["process_time", "wall time"]),
        (["--benchmark-cprofile", "tottime"], ["--benchmark-cprofile", "drop it"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("-") else "",
)
def test_an_ask_that_cannot_be_met_is_a_usage_error_with_the_way_out(arguments, words, tmp_path):
    outcome = run_here(*[str(tmp_path / a) if a == "x.json" else a for a in arguments])
    assert outcome.code == 4, outcome.text
    errors = [line for line in outcome.text.splitlines() if line.startswith("ERROR:")]
    assert len(errors) == 1, outcome.text
    assert all(word in errors[0] for word in words), errors


def test_the_exit_code_is_that_of_the_process():
    assert run_command("--model", "nosuch").code == 4
    assert run_command("--collect-only", "-q", DUMMY="perhaps").code == 4


def test_nothing_that_matches_is_exit_5_and_says_what_there_was():
    outcome = run_here("-k", "nosuchmodel")
    assert outcome.code == 5
    assert "widen with --model" in outcome.text


def test_what_a_device_cannot_do_is_a_skip_with_its_reason(tmp_path):
    outcome = run_here(
        "tests_perf",
        "--model",
        TINY,
        "--precision",
        "tf32",
        "--batch-size",
        "1",
        "--engine",
        "eager",
        "--device",
        "cpu",
    )
    assert outcome.code == 0
    assert "3 skipped" in outcome.text
    assert "skipped 3: tf32 is a mode of NVIDIA matrix units" in outcome.text
    assert "passed" not in outcome.text


def test_a_run_keeps_every_number_of_its_cases_and_no_other(tmp_path):
    path = tmp_path / "out.json"
    outcome = run_here(
        *("--model", TINY, "--batch-size", "2", "--engine", "eager", "--precision", "fp32,bf16", "--device", "cpu"),
        *("--max-test-duration", "0.2", "--benchmark-json", str(path)),
    )
    assert outcome.code == 0, outcome.text
    written = json.loads(path.read_text())
    rows = [bench["extra_info"] for bench in written["benchmarks"]]
    assert sorted((row["measurement"], row["precision"]) for row in rows) == sorted(
        (kind, precision) for kind in ("latency", "throughput", "parity") for precision in ("fp32", "bf16")
    )
    for row, bench in zip(rows, written["benchmarks"], strict=True):
        assert row["evidence"]["engine"] == "eager"
        assert row["evidence"]["dtype_share_pct"][row["precision"]] > 90
        assert row["case"] in bench["name"]
        assert bench["params"] == {k: row[k] for k in AXES}
        assert len(row["identity"]["weights_sha256"]) == 64
        assert row["load_s"] > 0
        assert row["first_inference_s"] > 0
        assert row["peak_memory_mib"] > 100
    run = written["visionmark"]
    assert run["schema"] == 1
    assert run["environment"]["threads"]["intra_op"] >= 1
    assert run["environment"]["libraries"]["torch"]
    assert run["environment"]["devices"]["cpu"]["name"]


def test_the_maximum_duration_ends_a_measurement(tmp_path):
    path = tmp_path / "out.json"
    arguments = ("tests_perf", "--model", TINY, "--batch-size", "1", "--engine", "eager", "--precision", "fp32")
    outcome = run_here(
        *arguments, "--min-test-duration", "0.8", "--max-test-duration", "1.0", "--benchmark-json", str(path)
    )
    assert outcome.code == 0, outcome.text
    for bench in json.loads(path.read_text())["benchmarks"]:
        assert 0.5 < bench["extra_info"]["wall_s"] <= 1.3  # timed time: the loop's own overhead lies outside
    outcome = run_here(*arguments, "--num-inputs", "7", "--benchmark-json", str(path))
    assert outcome.code == 0, outcome.text
    rows = {bench["group"]: bench["extra_info"] for bench in json.loads(path.read_text())["benchmarks"]}
    assert rows["latency"]["rounds"] == 7
    assert rows["throughput"]["images"] == 7


def run_with_gap(monkeypatch, kind, engine):
    """One latency test of a model whose row declares a gap on the engine trace."""
    catalog = options.load_catalog()
    row = replace(find_spec(TINY, catalog), name="gappy", gaps=(Gap(kind, "no such kernel", engine="trace"),))
    monkeypatch.setattr(options, "load_catalog", lambda: {"gappy": row})
    return run_here(
        *("tests_perf/test_latency.py", "--model", "gappy", "--precision", "fp32", "--batch-size", "1"),
        *("--engine", "trace", "--device", "cpu", "--max-test-duration", "0.1"),
        plugin=Replacing("trace", engine),
    )


def refuses(*arguments):
    raise RuntimeError("no kernel for this")


def breaks(*arguments):
    raise KeyError("a typo")


def test_a_file_that_would_be_empty_is_not_written_and_that_is_told(tmp_path):
    path = tmp_path / "out.json"
    outcome = run_here("tests_accuracy/test_imagenet.py", "--model", TINY, f"--benchmark-json={path}")
    assert outcome.code == 0, outcome.text
    assert f"{path} was not written: nothing was measured" in outcome.text
    assert not path.exists()


@pytest.mark.parametrize("kind", ["notimpl", "notyet"])
@pytest.mark.parametrize(
    ("engine", "code", "words"),
    [(trace.build, 1, "XPASS(strict)"), (refuses, 0, "xfailed 1: {}: no such kernel"), (breaks, 1, "a typo")],
    ids=["works", "refuses", "breaks"],
)
def test_a_gap_is_told_with_its_reason_and_fails_once_it_works_or_breaks(monkeypatch, kind, engine, code, words):
    outcome = run_with_gap(monkeypatch, kind, engine)
    assert outcome.code == code, outcome.text
    assert words.format(kind) in outcome.text


def test_a_gap_for_ever_is_a_skip(monkeypatch):
    outcome = run_with_gap(monkeypatch, "never", refuses)
    assert outcome.code == 0
    assert "skipped 1: never: no such kernel" in outcome.text


def test_weights_of_another_model_are_a_usage_error_naming_keys(tmp_path):
    import timm
    import torch

    path = tmp_path / "resnet18.pth"
    torch.save(timm.create_model("resnet18").state_dict(), path)
    outcome = run_here("--model", "resnet34", f"--weights={path}", "--engine", "eager", "--batch-size", "1")
    assert outcome.code == 4, outcome.text
    assert "holds no weights of resnet34" in outcome.text
    assert "layer1.2.conv1.weight" in outcome.text


def test_a_model_without_published_weights_has_no_pretrained_ones():
    outcome = run_here("--model", "efficientnet_b0_g16_gn", "--weights", "pretrained")
    assert outcome.code == 4, outcome.text
    assert "efficientnet_b0_g16_gn has no published weights" in outcome.text
