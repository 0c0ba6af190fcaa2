"""The real LoadGen: its verdicts are read as it wrote them, and what fails behind it is told in words and ends soon."""

from __future__ import annotations

import queue
import time

import numpy as np
import pytest

from harness.measure.loadgen import bridge
from harness.measure.loadgen.bridge import SCENARIOS, Library, LoadgenFailed, LoadgenSettings, run_load
from harness.measure.loadgen.conf import (
    Conf,
    OtherTerms,
    apply_conf,
    conf_for,
    describe_terms,
    official_terms,
    require_official,
    seeds_of,
)
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


# mlperf.conf of LoadGen 6.0.17, "Set seeds" and "resnet50"
OFFICIAL_SEEDS = {
    "qsl": 2085463073848966840,
    "sample_index": 2747215439041700203,
    "schedule": 16159082839903944936,
}
RESNET50 = Conf("resnet50")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_run_under_mlperfs_terms_has_the_official_seeds_in_loadgens_log(scenario, tmp_path):
    """The duration is a short one; the rest is that of the file, and the words say in what the run departed from it."""
    verdict = run_load(load(scenario, conf=RESNET50, bound_s=0.015), Answers(scenario), library(), tmp_path)
    log = (tmp_path / "mlperf_log_detail.txt").read_text()
    for name, seed in OFFICIAL_SEEDS.items():
        assert f'"effective_{name}_rng_seed", "value": {seed}' in log
    assert seeds_of(verdict.values) == OFFICIAL_SEEDS
    assert verdict.values["effective_performance_sample_count"] == 64, "as many as there are, not the file's 1,024"
    words = describe_terms(verdict.values, RESNET50, scenario)
    assert words.startswith("mlperf resnet50 conf; at least 0.2 s, not 600 s")
    assert words.endswith("64 samples in memory, not 1024")


def test_a_run_with_other_seeds_than_it_was_to_have_is_denied(tmp_path, monkeypatch):
    settings = bridge._settings

    def seeded(load, loaded):
        found = settings(load, loaded)
        found.schedule_rng_seed = 7
        return found

    monkeypatch.setattr(bridge, "_settings", seeded)
    with pytest.raises(OtherTerms, match="schedule 7, not 16159082839903944936"):
        run_load(load("single_stream", conf=RESNET50), Answers("single_stream"), library(), tmp_path)


def test_a_run_on_terms_of_its_own_says_so_and_would_be_denied_under_mlperfs(tmp_path):
    verdict = run_load(load("single_stream"), Answers("single_stream"), library(), tmp_path)
    assert describe_terms(verdict.values, None, "single_stream") == "visionmark"
    assert seeds_of(verdict.values) == dict.fromkeys(OFFICIAL_SEEDS, 0)
    with pytest.raises(OtherTerms, match="Leave out --mlperf"):
        require_official(verdict.values, RESNET50, "single_stream")


def test_the_official_terms_are_those_of_the_file():
    found = {scenario: official_terms(RESNET50, scenario) for scenario in SCENARIOS}
    assert {one.min_s for one in found.values()} == {600.0}
    assert {one.loaded for one in found.values()} == {1024}
    assert found["server"].bound_s == 0.015
    assert found["offline"].min_queries == 24_576
    assert found["multi_stream"].min_queries == 662
    assert all(one.seeds == OFFICIAL_SEEDS for one in found.values())


FULL = {
    "effective_min_duration_ms": 600_000,
    "effective_max_duration_ms": 0,
    "effective_min_sample_count": 24_576,
    "effective_min_query_count": 662,
    "effective_target_latency_ns": 15_000_000,
    "effective_performance_sample_count": 1024,
}


@pytest.mark.parametrize(
    ("scenario", "changed", "words"),
    [
        ("offline", {}, ""),
        ("server", {}, ""),
        ("server", {"effective_target_latency_ns": 20_000_000}, "; bound 20 ms, not 15 ms"),
        ("single_stream", {"effective_target_latency_ns": 0}, ""),
        ("offline", {"effective_min_sample_count": 64}, "; at least 64 queries, not 24576"),
        ("multi_stream", {"effective_min_query_count": 5}, "; at least 5 queries, not 662"),
        ("server", {"effective_max_duration_ms": 2000}, "; at most 2 s"),
    ],
)
def test_what_a_run_departs_in_from_the_terms_is_said(scenario, changed, words):
    assert describe_terms({**FULL, **changed}, RESNET50, scenario) == f"mlperf resnet50 conf{words}"


def test_a_model_that_mlperf_has_no_terms_for_says_whose_it_runs_under():
    assert conf_for("resnet50") == conf_for("torchvision:resnet50") == RESNET50
    words = describe_terms(FULL, conf_for("fbnetc_100"), "server")
    assert words == "mlperf resnet50 conf; MLPerf has none for fbnetc_100"


class WithoutConf:
    """The settings of a library that has no file compiled in, as far as they are asked for."""

    qsl_rng_seed = sample_index_rng_seed = schedule_rng_seed = 0

    def FromConfig(self, path, model, scenario, conf_type):  # noqa: N802
        return 1


def test_a_loadgen_without_the_file_is_an_error_with_the_way_out():
    with pytest.raises(OtherTerms, match="install mlcommons-loadgen"):
        apply_conf(WithoutConf(), RESNET50, "server")
