"""`visionmark peaks` prints and keeps, `--peaks` measures what is missing, and rows then have a share of a peak."""

import json
from dataclasses import replace

import pytest

from commands.__main__ import main
from harness.devices import open_device
from harness.host import cores
from harness.measure.peaks import measuring
from harness.measure.peaks.kept import identity_of, keep_peaks, kept_peaks
from selftests.inside import TINY, run_here
from selftests.measure.test_bounds import PEAKS

RUN = (
    *("tests_perf/test_latency.py", "tests_perf/test_throughput.py", "--model", TINY, "--device", "cpu"),
    *("--precision", "fp32", "--engine", "eager", "--batch-size", "1", "--telemetry", "off"),
    *("--iterations", "20"),
)


@pytest.fixture
def same_threads(monkeypatch):
    """The threads of this process, put back after a command that takes others."""
    yield
    cores.set_threads()


@pytest.fixture
def asked(monkeypatch):
    """What is asked to be measured, in the place of measuring it: a peak that no row reaches."""
    calls = []

    def measured(device, precisions, engines=measuring.ENGINES, before=None, report=None):
        calls.append((device.name, list(precisions)))
        peak = replace(PEAKS.peaks["fp32"], tflops=1e3)
        return replace(PEAKS, identity=identity_of(device), peaks={"fp32": peak})

    for module in ("harness.measure.peaks.measuring", "commands.peaks"):
        monkeypatch.setattr(f"{module}.measure_peaks", measured)
    return calls


def test_peaks_are_printed_and_kept_and_measured_once(asked, tmp_path, capsys, same_threads):
    command = ["peaks", "--device", "cpu", "--precision", "fp32", "--cache-dir", str(tmp_path)]
    assert main([*command, "--json", str(tmp_path / "peaks.json")]) == 0
    shown = capsys.readouterr().out
    assert "100% fp32" in shown and "GB/s" in shown
    assert kept_peaks(tmp_path, identity_of(open_device("cpu"))) is not None
    assert json.loads((tmp_path / "peaks.json").read_text())[0]["peaks"]["fp32"]["tflops"] == 1e3
    assert main(command) == 0
    assert asked == [("cpu", ["fp32"])], "what is kept is not measured again"
    assert main([*command, "--again"]) == 0
    assert len(asked) == 2


def test_a_command_that_is_ended_keeps_the_formats_that_it_has(monkeypatch, tmp_path, same_threads):
    """The sabotage: it is ended in the second of two formats."""

    def measured(device, precisions, engines, before, report):
        if precisions != ["fp32"]:
            raise KeyboardInterrupt
        return replace(before, peaks=PEAKS.peaks)

    monkeypatch.setattr("commands.peaks.measure_peaks", measured)
    with pytest.raises(KeyboardInterrupt):
        main(["peaks", "--device", "cpu", "--precision", "fp32,int8", "--cache-dir", str(tmp_path)])
    assert list(kept_peaks(tmp_path, identity_of(open_device("cpu"))).peaks) == ["fp32"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--precision", "fp8"], "'fp8' is no precision"),
        (["--engine", "nothing"], "'nothing' is no engine"),
        (["--device", "abacus"], "no device 'abacus'"),
        (["--threads", "many"], "is no number of threads"),
    ],
)
def test_a_wrong_command_line_ends_before_anything_is_measured(wrong, words, asked, capsys, same_threads):
    with pytest.raises(SystemExit) as ended:
        main(["peaks", *wrong])
    assert ended.value.code == 2 and words in capsys.readouterr().err and asked == []


def test_a_run_measures_the_peaks_that_are_missing_once_and_its_rows_have_shares(asked, tmp_path):
    arguments = (*RUN, f"--cache-dir={tmp_path}", f"--benchmark-json={tmp_path}/out.json", "--peaks", "--layers")
    outcome = run_here(*arguments)
    assert outcome.code == 0, outcome.text
    assert asked == [("cpu", ["fp32"])]
    rows = [row["extra_info"] for row in json.loads((tmp_path / "out.json").read_text())["benchmarks"]]
    assert [row["measurement"] for row in rows] == ["latency", "throughput"]
    for row in rows:
        assert 0 < row["share_of_peak_pct"] == pytest.approx(100 * row["tflops"] / 1e3)
        assert row["bound"] in ("compute", "memory", "launch") or "machine was shared" in row["bounds"]["why"]
        assert row["bounds"]["flops"] > 1e7 and row["intensity"] > 1
        assert len(row["layers"]) == 10 and "layers" not in row["evidence"]
    assert "what bounds a row" in outcome.text and "costliest layers" in outcome.text
    assert run_here(*RUN, f"--cache-dir={tmp_path}", "--peaks", "-k", "latency").code == 0
    assert len(asked) == 1, "what is kept is not measured again"


@pytest.mark.slow
def test_a_run_without_peaks_of_its_threads_prints_no_share(asked, tmp_path):
    """The sabotage: the peaks of two threads, for a run of one."""
    identity = identity_of(open_device("cpu"))
    keep_peaks(tmp_path, replace(PEAKS, identity={**identity, "threads": identity["threads"] + 1}))
    arguments = (*RUN, "-k", "latency", f"--cache-dir={tmp_path}", f"--benchmark-json={tmp_path}/out.json")
    outcome = run_here(*arguments)
    assert outcome.code == 0 and asked == [], outcome.text
    (row,) = [row["extra_info"] for row in json.loads((tmp_path / "out.json").read_text())["benchmarks"]]
    assert row["share_of_peak_pct"] is None and row["tflops"] > 0 and row["intensity"] > 0
    assert "visionmark peaks" in row["bounds"]["why"] or row["bound"]
    assert "what bounds a row" not in outcome.text and "layers" not in row
