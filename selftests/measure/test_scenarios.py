"""Our system under LoadGen: its batching answers the right sample, its search ends."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fixtures.scenario_table import render_scenarios
from harness.cases import Case
from harness.measure.loadgen import scenarios
from harness.measure.loadgen.bridge import SCENARIOS, LoadgenSettings
from harness.measure.loadgen.log import LoadgenVerdict
from harness.measure.loadgen.scenarios import (
    CONFIRMATIONS,
    STEP_DOWN,
    classes_by_loadgen,
    find_rate,
    found_rate,
    scenario_of,
)
from harness.measure.loadgen.system import Samples
from harness.measure.loadgen.terms import Terms
from harness.proof import Prepared
from models.catalog import find_spec, load_catalog
from selftests.inside import TINY, run_here
from selftests.logits import as_outputs

CLASSES = 50


class Reads:
    """A runner whose class of an image is the number that the image carries."""

    compilations = staticmethod(lambda: 0)

    def put(self, images):
        return images

    def submit(self, batch):
        return batch[:, 0, 0, 0].long()

    def synchronize(self):
        pass

    def fetch(self, output):
        return as_outputs(np.eye(CLASSES, dtype=np.float32)[output.numpy()])


def prepared(runner, batch):
    """A case with a runner of ours."""
    spec = find_spec(TINY, load_catalog())
    return Prepared(Case(TINY, "cpu", "fp32", batch, "eager"), spec, runner, (), cost=None, proof=None)


def images(total=30, loaded=30):
    return Samples(lambda indices: [torch.full((3, 2, 2), float(index)) for index in indices], total, loaded)


def terms(folder, min_s=0.2):
    return Terms(min_s, None, 0.015, folder)


def quiet(text):
    pass


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("batch", [1, 8])
def test_every_sample_gets_its_own_answer_however_batches_are_filled(scenario, batch, tmp_path):
    found = classes_by_loadgen(scenario, prepared(Reads(), batch), images(loaded=11), terms(tmp_path), quiet)
    assert found == {index: index for index in range(30)}


class Rotates(Reads):
    def fetch(self, output):
        return as_outputs(np.roll(super().fetch(output)["logits"], 1, axis=0))


def test_answers_of_another_sample_are_seen(tmp_path):
    found = classes_by_loadgen("offline", prepared(Rotates(), 8), images(), terms(tmp_path), quiet)
    assert found != {index: index for index in range(30)}


def verdict(validity, messages=(), rate=0.0):
    values = {
        **{"result_query_count": 500, "effective_samples_per_query": 1, "result_mean_latency_ns": 1e6},
        **{"result_max_latency_ns": 2e6, "result_completed_samples_per_sec": rate, "loadgen_version": "6"},
        "result_99.00_percentile_latency_ns": 9e6,
    }
    return LoadgenVerdict(validity, () if validity == "VALID" else ("too slow",), values, tuple(messages), Path("logs"))


def search(highest_valid, found):
    """A search that finds a rate, and runs that are valid up to another one."""
    tried = []

    def run(load, name):
        tried.append((load.mode, load.rate))
        if load.mode == "find_peak":
            text = f"FindPeakPerformance: Found peak performance field: {found}"
            return verdict("INVALID", [text] if found else [])
        return verdict("VALID" if load.rate <= highest_valid else "INVALID", rate=load.rate)

    return find_rate(LoadgenSettings("server", min_s=1, min_queries=1, rate=80), run, batch=1), tried


def test_the_rate_that_the_search_finds_is_confirmed_or_lowered():
    scenario, tried = search(highest_valid=100, found=50)
    assert scenario.samples_per_second == 50
    assert tried == [("find_peak", 10), ("performance", 50)]
    scenario, tried = search(highest_valid=46, found=50)
    assert scenario.validity == "VALID"
    assert scenario.samples_per_second == pytest.approx(50 * STEP_DOWN**2)
    assert "runs to confirm one: 3" in scenario.note


def test_a_rate_that_is_never_valid_has_no_number():
    scenario, tried = search(highest_valid=1, found=50)
    assert scenario.validity == "INVALID"
    assert scenario.samples_per_second is scenario.p99_ms is None
    assert len(tried) == 1 + CONFIRMATIONS
    scenario, tried = search(highest_valid=1, found=None)
    assert scenario.samples_per_second is None
    assert "no valid rate" in scenario.note


def test_the_rate_is_read_from_loadgens_own_words():
    assert (
        found_rate(verdict("INVALID", ["other", "FindPeakPerformance: Found peak performance field: 418.75"])) == 418.75
    )
    assert found_rate(verdict("INVALID", ["other"])) is None


SELECTED = (
    *("tests_perf", "--model", TINY, "--engine", "eager", "--precision", "fp32", "--batch-size", "2"),
    *("--device", "cpu", "--max-test-duration", "0.3"),
)


def test_a_plain_run_leaves_scenarios_out():
    assert "test_scenario" not in run_here("--collect-only", "-q", *SELECTED).text


def test_a_scenario_keeps_its_logs_and_shows_its_verdict(tmp_path):
    path, out = tmp_path / "out.json", tmp_path / "out"
    outcome = run_here(*SELECTED, "-k", "scenario and multi_stream", f"--benchmark-json={path}", f"--output-dir={out}")
    assert outcome.code == 0, outcome.text
    (bench,) = json.loads(path.read_text())["benchmarks"]
    row = bench["extra_info"]
    assert row["validity"] == "INVALID", "0.3 s are no 662 queries"
    assert row["p99_ms"] is row["p99_bound_ms"] is None
    assert row["terms"] == "visionmark"
    assert "INVALID: too few queries for the percentile" in outcome.text.replace("\n", " ")
    log = Path(row["logs"]) / "mlperf_log_detail.txt"
    assert out in log.parents
    assert '"result_validity", "value": "INVALID"' in log.read_text()


def test_a_query_smaller_than_the_batch_is_told_beside_its_number():
    """Such a batch is filled up: its latency is that of the whole batch."""
    record = {"case": "c", "reasons": [], "bound_ms": None, "queries": 64, "validity": "VALID", "logs": "a/b"}
    one = {**record, "scenario": "single_stream", "p90_bound_ms": 9.0, "samples_per_query": 1, "terms": "visionmark"}
    assert "1 in a batch of 32" in render_scenarios([{**one, "batch_limit": 32}], is_colour=False)
    assert "in a batch" not in render_scenarios([{**one, "batch_limit": 1}], is_colour=False)


def test_the_table_has_the_first_reasons_on_few_lines():
    reasons = ["the latency bound was not kept", "too few queries", "Run unsuccessful.\n * Processed 16 queries."]
    record = {"case": "c", "scenario": "server", "bound_ms": 15.0, "queries": 16, "validity": "INVALID", "logs": "a/b"}
    row = {**record, "samples_per_second": None, "samples_per_query": 1, "batch_limit": 1, "reasons": reasons}
    row["terms"] = "visionmark"
    text = " ".join(render_scenarios([row], is_colour=False).split())
    assert "INVALID: the latency bound was not kept; too few queries" in text
    assert "Processed 16" not in text


def test_a_run_under_mlperfs_terms_has_to_be_valid_and_says_whose_they_are(tmp_path):
    path = tmp_path / "out.json"
    outcome = run_here(
        *SELECTED,
        *("-k", "scenario and multi_stream", "--mlperf", "--min-test-duration=0.2"),
        *(f"--output-dir={tmp_path}", f"--benchmark-json={path}"),
    )
    assert outcome.code == 1, outcome.text
    assert "INVALID" in outcome.text
    assert "resnet50" in outcome.text, "the table says whose terms they are"
    (bench,) = json.loads(path.read_text())["benchmarks"]
    row = bench["extra_info"]
    assert row["terms"].startswith(f"mlperf resnet50 conf; MLPerf has none for {TINY}; at least 0.2 s, not 600 s")
    assert row["seeds"] == {
        "qsl": 2085463073848966840,
        "sample_index": 2747215439041700203,
        "schedule": 16159082839903944936,
    }


def test_what_loadgen_bounds_is_called_a_bound():
    """An estimate by early stopping is above the percentile; in server a VALID run shows that p99 keeps to it."""
    values = {**verdict("VALID", rate=50).values, "early_stopping_latency_ss": 9e6, "early_stopping_latency_ms": 8e6}
    found = {
        scenario: scenario_of(
            LoadgenSettings(scenario, min_s=1, min_queries=1, bound_s=0.015),
            LoadgenVerdict("VALID", (), {**values, "result_samples_per_second": 50.0}, (), Path("logs")),
            batch=1,
        )
        for scenario in SCENARIOS
    }
    bounds = {scenario: (one.p90_bound_ms, one.p99_bound_ms) for scenario, one in found.items()}
    assert bounds == {
        "single_stream": (9.0, None),
        "multi_stream": (None, 8.0),
        "offline": (None, None),
        "server": (None, 15.0),
    }
    assert (found["single_stream"].p90_ms, found["multi_stream"].p99_ms) == (9.0, 8.0), "the names that they had first"
    assert found["server"].p99_ms == 9.0, "the percentile itself"
    invalid = scenario_of(LoadgenSettings("server", min_s=1, min_queries=1), verdict("INVALID"), batch=1)
    assert invalid.p99_bound_ms is None


@pytest.mark.parametrize(("has_own_threads", "seen"), [(True, 1), (False, 3)])
def test_torch_leaves_the_cores_to_a_library_with_threads_of_its_own(has_own_threads, seen, monkeypatch, tmp_path):
    counts, before = [], torch.get_num_threads()
    for name in ("plan", "answer_time", "scenario_of"):
        monkeypatch.setattr(scenarios, name, lambda *given: None)
    monkeypatch.setattr(scenarios, "run_load", lambda *given: counts.append(torch.get_num_threads()))
    runner = SimpleNamespace(has_own_threads=has_own_threads)
    images, terms = SimpleNamespace(library=None), SimpleNamespace(folder=tmp_path)
    torch.set_num_threads(3)
    try:
        scenarios.run_scenario("single_stream", runner, None, 1, images, terms, lambda text: None, "fp32")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert counts == [seen]
