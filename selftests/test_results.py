"""The sample's result files: their shape, and that they say what the JSON says."""

from __future__ import annotations

import json

import pytest
import yaml

from harness.results import results_json, results_yaml
from selftests.inside import TINY, run_command, run_here

CASE = {
    "case": "m-cpu-amp_bf16-bs4-eager-x2",
    **{"model": "m", "device": "cpu", "precision": "amp_bf16", "batch": 4, "engine": "eager", "streams": 2},
    **{"replicas": 1, "unique_batches": 4, "warmup_rounds": 9},
}
ONE = {
    **{"images_per_second": 40.0, "min_images_per_second": 30.0, "max_images_per_second": 50.0},
    **{"stdev_images_per_second": 5.0, "mean_ms": 100.0, "min_ms": 90.0, "max_ms": 120.0, "stdev_ms": 3.0},
    **{"batches": 10},
}
STREAMS = {
    **CASE,
    **ONE,
    "measurement": "streams",
    "images_per_second": 100.0,
    "each": [ONE, {**ONE, "images_per_second": 60.0, "batches": 15}],
    "each_prepared": [{"warmup_rounds": 9}, {"warmup_rounds": 11}],
}
ENVIRONMENT = {
    **{"libraries": {"torch": "2"}, "machine": {"system": "Linux", "node": "n"}, "devices": {}, "threads": {}},
    "variables": {},
}


def document(stream=None, status="passed"):
    return results_json([STREAMS], ENVIRONMENT, status=status, is_dummy=True, link=None, stream=stream)


def test_the_yaml_has_exactly_the_documented_shape():
    assert results_yaml([STREAMS]) == (
        "results:\n"
        " - key: throughput\n   value: 100.000000\n   unit: img/s\n"
        " - key: latency\n   value: 100.000000\n   unit: ms\n"
        " - key: accuracy\n   value: null\n   unit: percents\n"
    )


def test_accuracy_is_in_percents_where_it_was_measured():
    right = {**CASE, "measurement": "accuracy", "top1": {"pct": 75.12}, "top5": {"pct": 92.38}}
    assert yaml.safe_load(results_yaml([STREAMS, right]))["results"][2]["value"] == 75.12


def test_the_json_has_the_samples_keys_and_true_counts():
    whole = document()
    assert (
        whole["config"]["workload"]["model"].items()
        >= {
            "streams": 2,
            "precision": "bfloat16",
            "batch-size": 4,
            "amp": "true",
            "jit": "none",
            "dummy": "true",
        }.items()
    )
    metrics = whole["results"]["metrics"]
    assert metrics["status"] == "passed"
    assert metrics["throughput"] == {"avg": 100.0, "min": 30.0, "max": 50.0, "stdev": 5.0, "units": "images/s"}
    assert metrics["latency"] == {"avg": 100.0, "min": 90.0, "max": 120.0, "stdev": 3.0, "units": "ms"}
    assert metrics["accuracy-top1"]["avg"] is None
    assert metrics["total-batches-tested-per-stream"] == {
        **{"avg": 12.5, "min": 10, "max": 15, "stdev": 2.5},
        "units": "count",
    }
    assert metrics["total-images-tested-per-stream"]["max"] == 60
    assert metrics["uniq-images-tested"] == {"total": 16}
    assert metrics["warmup-batches"] == {"total": 20}


def test_a_streams_file_is_of_that_stream():
    metrics = document(stream=2)["results"]["metrics"]
    assert "status" not in metrics
    assert metrics["throughput"]["avg"] == 60.0
    assert metrics["total-batches-tested-per-stream"]["avg"] == 15
    assert metrics["warmup-batches"] == {"total": 11}


def test_the_samples_variables_give_its_files_and_they_agree_with_the_json(tmp_path):
    path, out = tmp_path / "out.json", tmp_path / "out"
    outcome = run_command(
        *("tests_perf", "-k", "latency or throughput", f"--benchmark-json={path}"),
        **{"MODEL_NAME": TINY, "BATCH_SIZE": "4", "PLATFORM": "CPU", "JIT": "none", "PRECISION": "fp32"},
        **{"OUTPUT_DIR": str(out), "NUM_INPUTS": "30", "MIN_TEST_DURATION": "1", "MAX_TEST_DURATION": "1.5"},
    )
    assert outcome.code == 0, outcome.text
    rows = {row["group"]: row["extra_info"] for row in json.loads(path.read_text())["benchmarks"]}
    kept = {row["key"]: row for row in yaml.safe_load((out / "results.yaml").read_text())["results"]}
    assert kept["throughput"]["value"] == pytest.approx(rows["throughput"]["images_per_second"])
    assert kept["latency"]["value"] == pytest.approx(rows["latency"]["mean_ms"])
    metrics = json.loads((out / "results.json").read_text())["results"]["metrics"]
    assert metrics["status"] == "passed"
    assert metrics["throughput"]["avg"] == rows["throughput"]["images_per_second"]
    assert metrics["throughput"]["stdev"] > 0
    assert metrics["total-images-tested-per-stream"]["avg"] == rows["throughput"]["images"]
    assert 1 <= rows["throughput"]["wall_s"] < 1.5 + rows["latency"]["max_ms"] / 1e3
    assert metrics["throughput"] == json.loads((out / "results_1.json").read_text())["results"]["metrics"]["throughput"]
    log = (out / "output.log").read_text()
    assert "2 passed" in log
    assert "images/s" in log


def test_called_as_the_sample_what_is_not_named_is_its_default(tmp_path):
    outcome = run_command("--collect-only", "-q", "tests_perf", OUTPUT_DIR=str(tmp_path), PRECISION="bf16")
    assert "[fbnetc_100-cpu-amp_bf16-bs1-trace]" in outcome.text
    assert outcome.text.count("test_latency[") == 1


class Breaks:
    """A pytest plugin under which one test fails."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem):
        if "throughput" in pyfuncitem.name and "bs2" in pyfuncitem.name:
            raise RuntimeError("sabotage")


CASES = (
    *("tests_perf", "-k", "latency or throughput", "--model", TINY, "--engine", "eager", "--precision", "fp32"),
    *("--batch-size", "1,2", "--device", "cpu", "--max-test-duration", "0.1"),
)


def test_several_cases_have_a_folder_each_and_their_own_status(tmp_path):
    outcome = run_here(*CASES, f"--output-dir={tmp_path}", plugin=Breaks())
    assert outcome.code == 1
    found = {
        path.parent.name: json.loads(path.read_text())["results"]["metrics"] for path in tmp_path.rglob("results.json")
    }
    statuses = {name: metrics["status"] for name, metrics in found.items()}
    assert {name[-9:]: status for name, status in statuses.items()} == {"bs1-eager": "passed", "bs2-eager": "failed"}
    broken = next(metrics for name, metrics in found.items() if "bs2" in name)
    assert broken["throughput"]["avg"] is None, "what failed has no number"
    assert broken["latency"]["avg"] > 0, "what was complete is kept"


def test_a_full_disk_fails_the_run_with_the_reason_and_keeps_the_rest(tmp_path):
    out, path = tmp_path / "out", tmp_path / "out.json"
    out.mkdir()
    for name in ("output.log", ".results.json.part"):
        (out / name).symlink_to("/dev/full")
    outcome = run_here(*CASES[:-6], "--batch-size=1", *CASES[-4:], f"--output-dir={out}", f"--benchmark-json={path}")
    assert outcome.code == 1, outcome.text
    assert "NOT WRITTEN" in outcome.text
    assert "results.json: No space left on device; make room or give another --output-dir" in outcome.text
    assert len(json.loads(path.read_text())["benchmarks"]) == 2
    assert (out / "results.yaml").exists()


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path):
    (tmp_path / "file").write_text("")
    outcome = run_here(*CASES, f"--output-dir={tmp_path / 'file' / 'out'}")
    assert outcome.code == 4
    assert "give a folder that can be written" in outcome.text
