"""The Kubeflow pipeline: what is compiled, what its parameters mean, and which of its tasks fails when."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from safetensors.torch import save_file

from commands.pipeline import measuring
from commands.pipeline.asked import WrongParameter, read_parameters
from commands.pipeline.command import main
from commands.pipeline.compiling import compile_pipeline
from commands.pipeline.verdict import verdict
from harness.data import write_generated_jpegs
from models.build import build_module
from models.catalog import find_spec, load_catalog
from models.other_names import OTHER_NAMES
from selftests.inside import ROOT, TINY, clean_environment

GOLDEN = ROOT / "selftests" / "deploy" / "pipeline.golden.yaml"
CLAIMS = {"data_claim": "imagenet", "results_claim": "visionmark-results"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipeline") / "pipeline.yaml"
    compile_pipeline(path, **CLAIMS)
    return path.read_text()


def without_comments(text):
    """kfp writes the defaults into its comments, in an order that changes from run to run."""
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_the_compiled_pipeline_is_the_golden_one(compiled):
    """To accept a change: visionmark pipeline compile --data-claim imagenet --results-claim visionmark-results."""
    assert without_comments(compiled) == without_comments(GOLDEN.read_text())


def test_no_task_is_cached_or_repeated_and_no_value_is_in_a_script(compiled):
    pipeline, platform = yaml.safe_load_all(compiled)
    tasks = pipeline["root"]["dag"]["tasks"]
    assert set(tasks) == {"measure", "verdict"}
    for task in tasks.values():
        assert task["cachingOptions"] == {}
        assert task["retryPolicy"].get("maxRetryCount", 0) == 0
    for executor in pipeline["deploymentSpec"]["executors"].values():
        assert executor["container"]["command"][:4] == ["python", "-m", "commands", "pipeline"]
    claims = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-measure"]["pvcMount"]
    assert [claim["mountPath"] for claim in claims] == ["/data", "/results"]


def test_the_parameters_are_those_of_the_model_zoos_pipeline(compiled):
    given = set(yaml.safe_load_all(compiled).__next__()["root"]["inputDefinitions"]["parameters"])
    assert given >= {
        *("data_location", "model_name", "precision", "mode", "batch_size", "socket_id", "verbose"),
        *("benchmark_or_accuracy", "extra_model_args", "docker_image"),
        *("node_selector", "tolerations", "cpu", "memory", "accelerator", "accelerators"),
    }


PERF = ("tests_perf/test_latency.py", "tests_perf/test_throughput.py")


@pytest.mark.parametrize(
    ("values", "command"),
    [
        ({}, (*PERF, "--model=resnet50", "--precision=fp32", "--batch-size=1")),
        ({"model-name": "resnet50v1_5"}, (*PERF, "--model=resnet50", "--precision=fp32", "--batch-size=1")),
        ({"model-name": "inceptionv3"}, (*PERF, "--model=inception_v3", "--precision=fp32", "--batch-size=1")),
        ({"precision": "bfloat16"}, (*PERF, "--model=resnet50", "--precision=bf16", "--batch-size=1")),
        (
            {"batch-size": "128", "socket-id": "0", "verbose": "true", "extra-model-args": "steps=10 warmup_steps=5"},
            (*PERF, "--model=resnet50", "--precision=fp32", "--batch-size=128", "--numa-node=0", "-v")
            + ("--num-inputs=1280",),
        ),
        (
            {"benchmark-or-accuracy": "accuracy", "data-location": "gs://b/i", "extra-model-args": "--min-top1 '7 5'"},
            ("tests_accuracy/test_imagenet.py", "--model=resnet50", "--precision=fp32", "--batch-size=1")
            + ("--data=gs://b/i", "--min-top1", "7 5"),
        ),
        (
            {"data-location": "/a b;$(x)"},
            (*PERF, "--model=resnet50", "--precision=fp32", "--batch-size=1", "--data=/a b;$(x)"),
        ),
    ],
)  # fmt: skip
def test_what_the_parameters_mean(values, command):
    assert read_parameters({"model-name": "resnet50", **values}).command == command


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mode": "training"}, "mode 'training'"),
        ({"model-name": "resnet51"}, "model_name: .*resnet50"),
        ({"model-name": ""}, "model_name is empty"),
        ({"batch-size": "-1"}, "batch_size -1, the original's word"),
        ({"batch-size": "8,none"}, "batch_size 'none' is no whole number"),
        ({"socket-id": "-1"}, "socket_id '-1' is no number"),
        ({"verbose": "loud"}, "verbose 'loud' is neither"),
        ({"benchmark-or-accuracy": "both"}, "'both' is neither benchmark nor accuracy"),
        ({"benchmark-or-accuracy": "accuracy"}, "data_location is empty"),
        ({"extra-model-args": "config_file=pipeline.config"}, "'config_file=pipeline.config' is not known here"),
        ({"extra-model-args": "steps=many"}, "'steps=many': steps is a number"),
        ({"extra-model-args": "a 'b"}, "balanced quotes"),
    ],
)
def test_a_wrong_parameter_is_told_in_words(values, words):
    with pytest.raises(WrongParameter, match=words):
        read_parameters({"model-name": "resnet50", **values})


def test_the_spellings_of_models_stand_for_rows_of_the_catalogue():
    """Detection models only where the catalogue has detection at all."""
    catalog = load_catalog()
    has_detection = any(spec.task == "detect" for spec in catalog.values())
    wanted = {name for spelt, name in OTHER_NAMES.items() if has_detection or spelt.startswith(("resnet", "inception"))}
    assert len(wanted) >= 3
    assert wanted <= set(catalog)


ROW = {"measurement": "latency", "case": "resnet50-cpu-fp32-bs1-eager"}


@pytest.fixture
def task(tmp_path, monkeypatch):
    """The task `measure` with a pytest that writes what it is told, and the folder of its outputs."""

    def run(status, records, *, location="", keeps_json=True):
        def pytest_stands_in(command):
            written = {one.partition("=")[0]: one.partition("=")[2] for one in command if "=" in one}
            with open(written["--journal"], "w") as journal:
                journal.writelines(json.dumps({"row": record}) + "\n" for record in records)
            if keeps_json:
                with open(written["--benchmark-json"], "w") as file:
                    json.dump({"benchmarks": []}, file)
            return status

        monkeypatch.setattr(measuring, "_run", pytest_stands_in)
        values = {**dict.fromkeys(measuring.PARAMETERS, ""), "model-name": "resnet50", "mode": "inference"}
        values |= {"results-location": str(location)}
        values |= {name: str(tmp_path / "outputs" / name) for name in measuring.OUTPUTS}
        listed = {"artifacts": [{"name": "metrics", "uri": "x"}]}
        values["executor-input"] = json.dumps({"outputs": {"artifacts": {"metrics": listed, "results": listed}}})
        return measuring.measure([part for name, value in values.items() for part in (f"--{name}", value)])

    run.outputs = tmp_path / "outputs"
    return run


@pytest.fixture
def record():
    """A record of latency, from a real run."""
    fields = {"model": "resnet50", "device": "cpu", "precision": "fp32", "batch": 1, "engine": "eager"}
    return {**ROW, **fields, "p50_ms": 7.5, "p99_ms": 9.0, "streams": 1, "replicas": 1, "settings": ""}


@pytest.mark.parametrize(
    ("status", "keeps_json", "expected", "judged"),
    [(0, True, 0, 0), (1, True, 0, 1), (5, True, 0, 1), (137, False, 0, 1), (143, True, 143, 1)],
)
def test_numbers_are_kept_whatever_the_exit_status_and_the_verdict_is_red(
    task, record, status, keeps_json, expected, judged, tmp_path
):
    """The sabotage: a red gate, a run killed for memory without its JSON, a run that is stopped."""
    assert task(status, [record], location=tmp_path / "claim", keeps_json=keeps_json) == expected
    kept = json.loads((task.outputs / "results").read_text())
    assert kept["records"] == [record]
    assert (task.outputs / "exit-code").read_text() == str(status)
    assert f"exit code {status}" in (task.outputs / "summary").read_text()
    told = json.loads((task.outputs / "executor-output").read_text())
    assert told["parameterValues"] == {"exit_code": status}
    assert set(told["artifacts"]) == {"metrics", "results"}, "an artifact that is not listed is lost"
    (metrics,) = told["artifacts"]["metrics"]["artifacts"]
    assert metrics["uri"] == "x"
    assert metrics["metadata"] == {"resnet50-cpu-fp32-bs1-eager p50_ms": 7.5, "resnet50-cpu-fp32-bs1-eager p99_ms": 9.0}
    assert list((tmp_path / "claim").glob("*/rows.jsonl")), "the claim has the journal too"
    assert verdict([str(status), str(task.outputs / "results")]) == judged


@pytest.mark.parametrize(("status", "expected"), [(4, 4), (0, 1), (137, 137)])
def test_without_a_number_the_task_fails(task, status, expected):
    assert task(status, []) == expected
    assert not (task.outputs / "results").exists()


def test_a_claim_that_cannot_be_written_is_found_out_before_measuring(task, record, tmp_path, capsys):
    """The sabotage: a file stands where the folder would be, and /dev/full where there is no room."""
    blocked = tmp_path / "claim"
    blocked.write_text("")
    with pytest.raises(WrongParameter, match="results_location .*: .*; give a folder with room"):
        task(0, [record], location=blocked)


def test_a_claim_without_room_is_found_out_before_measuring(task, record, tmp_path, monkeypatch):
    with (
        open("/dev/full", "wb", buffering=0) as full,
        monkeypatch.context() as patch,
        pytest.raises(WrongParameter, match="No space left on device"),
    ):
        patch.setattr(measuring.tempfile, "TemporaryFile", lambda dir: full)
        task(0, [record], location=tmp_path / "claim")


def test_results_of_another_run_have_no_verdict(tmp_path):
    path = tmp_path / "results"
    path.write_text(json.dumps({"records": [ROW], "exit_code": 1}))
    with pytest.raises(WrongParameter, match="the task said 0"):
        verdict(["0", str(path)])
    with pytest.raises(WrongParameter, match="no results of a run"):
        verdict(["0", str(tmp_path / "none")])


def test_wrong_parameters_are_one_line_and_exit_4(capsys, tmp_path):
    assert main(["measure", "--model-name", "resnet50"]) == 4
    assert main(["verdict"]) == 4
    assert main(["compile", "--output", str(tmp_path / "pipeline.json")]) == 4
    assert main(["run", "colour=red"]) == 4
    assert main(["run", "verbose=perhaps"]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 5


def run_pipeline(folder, *parameters):
    """The real pipeline, as processes: kfp, its runner and both tasks."""
    done = subprocess.run(
        [sys.executable, "-m", "commands", "pipeline", "run", "--output-dir", str(folder), *parameters],
        cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280,
    )  # fmt: skip
    return done.returncode, done.stdout, sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_pipeline_as_processes_refuses_accuracy_without_data(tmp_path):
    code, text, files = run_pipeline(tmp_path, "benchmark_or_accuracy=accuracy")
    assert code == 1, text
    assert "data_location is empty, and accuracy is of labelled images" in text
    assert "results" not in files


@pytest.mark.slow
def test_the_pipeline_as_processes_measures(tmp_path):
    code, text, files = run_pipeline(
        tmp_path, f"model_name={TINY}", "engine=eager", "extra_model_args=--max-test-duration 0.2"
    )
    assert code == 0, text
    assert {"results", "summary", "metrics"} <= set(files)
    assert f"| {TINY}-cpu-fp32-bs1-eager |" in text


@pytest.mark.slow
def test_the_pipeline_as_processes_keeps_its_numbers_when_the_gate_is_red(tmp_path):
    data = tmp_path / "data" / "n01440764"
    data.mkdir(parents=True)
    write_generated_jpegs(data, 8)
    weights = tmp_path / "weights.safetensors"  # an accuracy of random weights is refused
    save_file(build_module(find_spec(TINY, load_catalog()), "random").module.state_dict(), weights)
    code, text, files = run_pipeline(
        tmp_path / "out",
        *(f"model_name={TINY}", "engine=eager", "benchmark_or_accuracy=accuracy", f"data_location={data.parent}"),
        f"extra_model_args=--min-top1 99 --weights {weights}",
    )
    assert code == 1, text
    assert "exit code 1, a test failed" in text
    assert {"results", "summary", "metrics"} <= set(files)
