"""The real LoadGen: its verdicts are read as it wrote them, and what fails behind it is told in words and ends soon."""

from __future__ import annotations

import queue
import time

import numpy as np
import pytest

from harness.measure.loadgen.bridge import SCENARIOS, Library, LoadgenFailed, LoadgenSettings, run_load
from harness.measure.loadgen.log import NoVerdict, read_answers, read_verdict

SAMPLES = 100


class Answers:
    """Answers each sample with seven times its index: at once, or from a queue while LoadGen runs beside."""

    def __init__(self, scenario, answer_s=0.0):
        self.is_queued = scenario in ("offline", "server")
        self.answer_s = answer_s
        self.queue = queue.SimpleQueue()
        self.issued = 0

    def answer(self, ids, indices, respond):
        time.sleep(self.answer_s)
        respond(ids, np.array(indices)[:, None] * 7)

    def issue(self, ids, indices, respond):
        self.issued += len(ids)
        if not self.is_queued:
            return self.answer(ids, indices, respond)
        for one in zip(ids, indices, strict=True):
            self.queue.put((*one, respond))

    def work(self, is_over):
        while not is_over.is_set():
            try:
                one, index, respond = self.queue.get(timeout=0.02)
            except queue.Empty:
                continue
            self.answer([one], [index], respond)


def library(loaded=None):
    loaded = [] if loaded is None else loaded
    return Library(SAMPLES, 64, loaded.extend, lambda indices: None)


def load(scenario, **changes):
    return LoadgenSettings(
        scenario, **{"min_s": 0.2, "min_queries": 1, "rate": 400.0, "bound_s": 1.0, "expected_s": 1e-5, **changes}
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_runs_and_its_answers_are_logged(scenario, tmp_path):
    loaded = []
    verdict = run_load(load(scenario, log_answers=10_000), Answers(scenario), library(loaded), tmp_path)
    assert verdict.values["effective_scenario"].lower() == scenario.replace("_", "")
    assert verdict.values["effective_performance_sample_count"] == 64
    assert len(set(loaded)) == 64
    logged = read_answers(tmp_path)
    assert logged
    for index, answers in logged.items():
        assert {int.from_bytes(answer, "little") for answer in answers} == {7 * index}
    assert (tmp_path / "mlperf_log_summary.txt").read_text().count("Result is") == 1


def test_an_accuracy_run_asks_for_each_sample_once(tmp_path):
    system = Answers("offline")
    verdict = run_load(load("offline", mode="accuracy"), system, library(), tmp_path)
    assert verdict.validity == "ACCURACY"
    assert system.issued == SAMPLES
    assert {index: len(answers) for index, answers in read_answers(tmp_path).items()} == dict.fromkeys(
        range(SAMPLES), 1
    )


def test_too_few_queries_are_invalid_and_it_says_how_many_are_needed(tmp_path):
    verdict = run_load(load("multi_stream", max_s=0.2), Answers("multi_stream", 0.01), library(), tmp_path)
    assert not verdict.is_valid
    assert "too few queries for the percentile at 99% confidence" in verdict.reasons
    assert any("at least 662" in reason for reason in verdict.reasons)


def test_enough_queries_are_valid(tmp_path):
    verdict = run_load(load("single_stream", min_queries=64), Answers("single_stream"), library(), tmp_path)
    assert verdict.validity == "VALID"
    assert verdict.reasons == ()
    assert verdict.values["early_stopping_latency_ss"] > 0


def test_a_bound_that_is_not_kept_is_invalid(tmp_path):
    slow = Answers("server", answer_s=0.02)
    verdict = run_load(load("server", rate=50, min_queries=20, bound_s=0.001), slow, library(), tmp_path)
    assert not verdict.is_valid
    assert "the latency bound was not kept" in verdict.reasons


class Stalls(Answers):
    """Answers nothing until 2,000 samples wait, then all of them."""

    def work(self, is_over):
        while not is_over.is_set():
            time.sleep(0.01)
            if self.issued > 2000:
                while not self.queue.empty():
                    one, index, respond = self.queue.get()
                    respond([one], None)


def test_a_backlog_ends_a_server_run_early(tmp_path):
    began = time.monotonic()
    verdict = run_load(load("server", rate=1000, min_s=600, bound_s=0.001), Stalls("server"), library(), tmp_path)
    assert time.monotonic() - began < 60
    assert any("Too many outstanding queries" in reason for reason in verdict.reasons)


class Raises(Answers):
    def answer(self, ids, indices, respond):
        raise ValueError("no such input")


class Interrupted(Answers):
    def answer(self, ids, indices, respond):
        raise KeyboardInterrupt


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("system", "error"), [(Raises, ValueError), (Interrupted, KeyboardInterrupt)])
def test_a_failure_behind_loadgen_ends_the_run_and_is_raised(scenario, system, error, tmp_path):
    began = time.monotonic()
    with pytest.raises(error):
        run_load(load(scenario, min_s=600, expected_s=0.01, bound_s=0.05), system(scenario), library(), tmp_path)
    assert time.monotonic() - began < 30
    # LoadGen is one a process: it has to be usable afterwards
    assert run_load(load("single_stream"), Answers("single_stream"), library(), tmp_path / "next").values


def test_a_failure_in_a_search_ends_it(tmp_path):
    with pytest.raises(ValueError, match="no such input"):
        run_load(load("server", mode="find_peak", bound_s=0.05), Raises("server"), library(), tmp_path)


class Loses(Answers):
    """Takes samples and never answers, as a client whose server died."""

    def issue(self, ids, indices, respond):
        self.issued += len(ids)

    def work(self, is_over):
        is_over.wait()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_answers_that_never_come_are_told_within_the_deadline(scenario, tmp_path):
    began = time.monotonic()
    with pytest.raises(LoadgenFailed, match="hangs or loses answers"):
        run_load(
            load(scenario, min_s=600, expected_s=0.01, bound_s=0.05),
            Loses(scenario),
            library(),
            tmp_path,
            answer_within_s=0.3,
        )
    assert time.monotonic() - began < 30


class Twice(Answers):
    def answer(self, ids, indices, respond):
        respond(ids, None)
        respond(ids, None)


def test_answering_twice_is_an_error(tmp_path):
    with pytest.raises(LoadgenFailed, match="answered twice"):
        run_load(load("single_stream"), Twice("single_stream"), library(), tmp_path)


def test_a_library_that_cannot_be_loaded_is_an_error(tmp_path):
    def cannot(indices):
        raise OSError("truncated file")

    with pytest.raises(OSError, match="truncated"):
        run_load(load("offline"), Answers("offline"), Library(10, 10, cannot, cannot), tmp_path)


def test_an_audit_file_that_lies_about_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "audit.config").write_text("*.*.min_duration = 99999\n*.*.performance_issue_same = 1\n")
    monkeypatch.chdir(tmp_path)
    verdict = run_load(load("single_stream"), Answers("single_stream"), library(), tmp_path / "logs")
    assert verdict.values["effective_performance_issue_same"] is False


def test_a_log_without_a_verdict_is_no_verdict(tmp_path):
    run_load(load("single_stream"), Answers("single_stream"), library(), tmp_path)
    detail = tmp_path / "mlperf_log_detail.txt"
    kept = [line for line in detail.read_text().splitlines() if '"result_validity"' not in line]
    detail.write_text("\n".join(kept))
    with pytest.raises(NoVerdict, match="broken off"):
        read_verdict(detail)


def test_logs_that_cannot_be_written_are_an_error(tmp_path):
    (tmp_path / "mlperf_log_summary.txt").mkdir()
    with pytest.raises(LoadgenFailed, match="mlperf_log_summary"):
        run_load(load("single_stream"), Answers("single_stream"), library(), tmp_path)
