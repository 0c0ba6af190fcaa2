"""The collector, its protocol, and what becomes of a run whose collector dies."""

from __future__ import annotations

import csv
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pynvml
import pytest

from harness.host.telemetry import CLOCK
from harness.host.telemetry.client import CollectorFailed, OutsideCollector, OwnCollector, tell
from harness.host.telemetry.sensors import CpuSensor, NvidiaSensor, Unavailable, XpuSensor
from harness.host.telemetry.summary import summarise, with_images
from selftests.inside import ROOT, TINY, run_here

LATENCY = (
    *("tests_perf/test_latency.py", "--model", TINY, "--engine", "eager", "--precision", "fp32", "--batch-size", "1"),
    *("--device", "cpu", "--min-test-duration", "1"),
)


@pytest.fixture
def outside(tmp_path):
    """The included collector as a user starts it, sampling every 50 ms."""
    path = tmp_path / "socket"
    words = ["--socket", str(path), "--output", str(tmp_path / "out"), "--interval", "0.05"]
    process = subprocess.Popen([sys.executable, "-m", "harness.telemetry", *words], cwd=ROOT)
    end = time.monotonic() + 20
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    yield process, path, tmp_path / "out"
    process.kill()
    process.wait()


def samples(folder, number):
    file = folder / f"telemetry_{number}.csv"
    end = time.monotonic() + 5
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.02)
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_samples_lie_between_start_and_stop_and_nowhere_else(outside):
    process, path, folder = outside
    time.sleep(0.3)
    began = time.perf_counter()
    for command in ("start", "start", "nonsense"):  # saying it twice changes nothing
        tell(path, command)
    time.sleep(1.0)
    ended = time.perf_counter()
    tell(path, "stop")
    rows = samples(folder, 1)
    clocks = [float(row[CLOCK]) for row in rows]
    assert began <= clocks[0] < began + 0.3
    assert ended - 0.2 < clocks[-1] < ended + 0.3
    assert len(rows) > 10
    assert all(0 <= float(row["cpu utilization (%)"]) <= 100 for row in rows)
    assert all(float(row["memory used (MiB)"]) > 0 for row in rows)
    tell(path, "stop")
    time.sleep(0.3)
    assert [file.name for file in folder.glob("telemetry_*.csv")] == ["telemetry_1.csv"]
    tell(path, "start")
    tell(path, "kill")
    assert process.wait(5) == 0
    assert samples(folder, 2), "a window that kill ends is kept"
    assert not path.exists()


def test_an_outside_collector_samples_the_timed_window_and_nothing_else(outside, tmp_path):
    _, path, folder = outside
    out = tmp_path / "out.json"
    outcome = run_here(*LATENCY, f"--socket={path}", f"--benchmark-json={out}")
    assert outcome.code == 0, outcome.text
    (bench,) = json.loads(out.read_text())["benchmarks"]
    record = bench["extra_info"]["telemetry"]
    assert record["collector"] == str(path)
    clocks = [float(row[CLOCK]) for row in samples(folder, 1)]
    assert record["window_s"] - 0.3 < clocks[-1] - clocks[0] < record["window_s"] + 0.3
    assert record["window_s"] < bench["extra_info"]["wall_s"] * 1.5 + 0.5, "loading and warming up are not in it"
    assert len(list(folder.glob("telemetry_*.csv"))) == 1


def test_a_client_that_says_nothing_does_not_hold_the_collector_up(outside):
    _, path, folder = outside
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(path))
        tell(path, "start")
        time.sleep(1.5)
        tell(path, "stop")
        assert samples(folder, 1)


def test_an_absent_collector_is_an_error_with_the_way_out(tmp_path):
    with pytest.raises(CollectorFailed, match="python -m harness.telemetry"):
        OutsideCollector(tmp_path / "none").start()
    outcome = run_here(*LATENCY, f"--socket={tmp_path / 'none'}")
    assert outcome.code == 4
    assert "no collector's socket is there" in outcome.text


def test_a_window_has_its_statistics_and_says_what_is_missing(tmp_path):
    path = tmp_path / "out.json"
    outcome = run_here(*LATENCY, f"--benchmark-json={path}")
    assert outcome.code == 0, outcome.text
    (bench,) = json.loads(path.read_text())["benchmarks"]
    found = bench["extra_info"]["telemetry"]
    assert found["samples"] >= 4
    assert found["window_s"] >= 1
    usage = found["metrics"]["cpu utilization"]
    assert usage["units"] == "%"
    assert 0 <= usage["min"] <= usage["mean"] <= usage["max"] <= 100
    assert "not_measured" in found["energy"] or found["energy"]["joules_per_image"] > 0
    assert "nvidia" in found["not_measured"] or "gpu0 utilization" in found["metrics"]


class Fails:
    """A pytest plugin under which the first test fails in its window."""

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem):
        if "bs1-" in pyfuncitem.name:
            pyfuncitem.funcargs["watch"].begin()
            raise RuntimeError("sabotage")
        return (yield)


def test_a_window_that_a_failure_left_open_does_not_run_into_the_next(tmp_path):
    path = tmp_path / "out.json"
    arguments = [*LATENCY[:7], "--batch-size", "1,2", *LATENCY[9:]]
    outcome = run_here(*arguments, f"--benchmark-json={path}", plugin=Fails())
    assert "1 failed, 1 passed" in outcome.text, outcome.text
    (bench,) = json.loads(path.read_text())["benchmarks"]
    found = bench["extra_info"]["telemetry"]
    assert found["samples"] <= found["window_s"] / found["interval_s"] + 3


class Kills:
    """A pytest plugin that kills the run's own collector once the window has begun."""

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem):
        watch = pyfuncitem.funcargs["watch"]
        begin = watch.begin

        def begin_and_kill():
            begin()
            os.kill(watch._collector.pid, signal.SIGKILL)

        watch.begin = begin_and_kill
        return (yield)


@pytest.mark.parametrize(("mode", "code"), [("note", 0), ("require", 1)])
def test_a_collector_that_is_killed_in_the_window_is_told_and_the_number_is_kept(mode, code, tmp_path):
    path = tmp_path / "out.json"
    began = time.monotonic()
    outcome = run_here(*LATENCY, f"--telemetry={mode}", f"--benchmark-json={path}", plugin=Kills())
    assert time.monotonic() - began < 60
    assert outcome.code == code, outcome.text
    (bench,) = json.loads(path.read_text())["benchmarks"]
    assert bench["extra_info"]["rounds"] > 0
    assert "the collector died (signal 9)" in bench["extra_info"]["telemetry"]["not_measured"]["telemetry"]
    assert ("the collector died (signal 9)" in outcome.text) == (code == 1)


def test_the_collector_ends_with_its_owner():
    own = OwnCollector()
    own.start()
    own.close()
    assert own._process.returncode is not None
    with pytest.raises(CollectorFailed, match="died"):
        own.start()


def zone(folder, name, microjoules, most=262_143_328_850):
    place = folder / name
    place.mkdir(parents=True)
    (place / "energy_uj").write_text(str(microjoules))
    (place / "max_energy_range_uj").write_text(str(most))
    return place / "energy_uj"


def test_energy_counts_packages_once_and_goes_on_where_a_counter_wraps(tmp_path):
    """The kernel's files, made by hand: powercap's documented names and units."""
    package = zone(tmp_path, "intel-rapl:0", 900, most=999)
    zone(tmp_path, "intel-rapl:0:0", 500)
    cpu = CpuSensor(rapl=tmp_path, cpus=tmp_path)
    assert cpu.sample()["cpu energy (J)"] == 0
    package.write_text("100")  # 100 up to the end, and 100 again
    assert cpu.sample()["cpu energy (J)"] == pytest.approx(200e-6)
    assert "cpu energy" not in cpu.missing()
    assert "cpu energy" in CpuSensor(rapl=tmp_path / "none", cpus=tmp_path).missing()


def write_window(folder, columns, missing=None, step_s=0.5, count=5):
    """A window's files: each column a function of the seconds since its start."""
    lines = [",".join([CLOCK, *columns])]
    for index in range(count):
        lines.append(",".join(str(value) for value in [index * step_s, *(f(index * step_s) for f in columns.values())]))
    (folder / "telemetry_1.csv").write_text("\n".join(lines))
    (folder / "sources.json").write_text(json.dumps({"interval_s": step_s, "missing": missing or {}}))
    return folder / "telemetry_1.csv"


def test_energy_an_image_is_joules_over_images(tmp_path):
    file = write_window(tmp_path, {"gpu0 energy (J)": lambda s: 1000 + 50 * s, "gpu0 power (W)": lambda s: 50})
    found = with_images(summarise(file, 0.0, 2.0), images=400)
    assert found["energy"]["joules"] == {"gpu0 energy": 100}
    assert found["energy"]["joules_per_image"] == 0.25
    assert found["metrics"]["gpu0 power"] == {"min": 50, "max": 50, "mean": 50, "stdev": 0, "units": "W"}


def test_energy_of_a_short_window_is_not_measured(tmp_path):
    file = write_window(tmp_path, {"cpu energy (J)": lambda s: s}, step_s=0.1)
    assert "too short" in summarise(file, 0.0, 0.4)["energy"]["not_measured"]


def test_clocks_that_were_held_back_are_told(tmp_path):
    columns = {"gpu0 throttled (flag)": lambda s: float(s == 1.0), "cpu throttled (count)": lambda s: 7}
    assert summarise(write_window(tmp_path, columns), 0.0, 2.0)["throttled"] == {"gpu0": True, "cpu": False}


def test_samples_outside_the_window_do_not_count(tmp_path):
    file = write_window(tmp_path, {"cpu utilization (%)": lambda s: 100 * s})
    found = summarise(file, 0.5, 1.0)
    assert found["samples"] == 2
    assert found["metrics"]["cpu utilization"]["max"] == 100


class MockNvml:
    """A mock of NVIDIA's library, for there is no such GPU everywhere; one card, one sensor of it missing."""

    NVMLError = pynvml.NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM = pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlShutdown(self):  # noqa: N802
        pass

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        return type("Rates", (), {"gpu": 97, "memory": 3})()

    def nvmlDeviceGetMemoryInfo(self, handle, version=None):  # noqa: N802
        return type("Memory", (), {"used": 3 * 2**20})()

    def nvmlDeviceGetClockInfo(self, handle, type):  # noqa: A002, N802
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 2619}[type]

    def nvmlDeviceGetTemperature(self, handle, sensor):  # noqa: N802
        return 61

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802
        return 412_500

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):  # noqa: N802
        return pynvml.nvmlClocksEventReasonSwThermalSlowdown | pynvml.nvmlClocksThrottleReasonGpuIdle


def test_the_mock_of_nvml_is_as_the_real_one():
    for name, method in inspect.getmembers(MockNvml, inspect.isfunction):
        real = list(inspect.signature(getattr(pynvml, name)).parameters)
        mocked = list(inspect.signature(method).parameters)[1:]
        assert len(mocked) == len(real), name
        assert name in inspect.getsource(NvidiaSensor), f"{name} is mocked and never asked"


def test_nvidia_values_have_their_units_and_a_missing_sensor_its_reason():
    source = NvidiaSensor(MockNvml())
    assert source.sample() == {
        "gpu0 utilization (%)": 97,
        "gpu0 memory used (MiB)": 3,
        "gpu0 sm clock (MHz)": 1980,
        "gpu0 memory clock (MHz)": 2619,
        "gpu0 temperature (C)": 61,
        "gpu0 power (W)": 412.5,
        "gpu0 throttled (flag)": 1,
    }
    assert source.missing() == {"gpu0 energy": "Not Supported"}


MOCK_XPU_SMI = """#!/bin/sh
# a mock of Intel's command: the heading and lines of its documented `dump`
echo "Timestamp, DeviceId, GPU Utilization (%), GPU Power (W), GPU Frequency (MHz)"
while true; do echo "06:14:46.000, 0, 87.50, 118.20, 2050"; echo "06:14:47.000, 0, N/A, 119.00, 2050"; sleep 1; done
"""


def test_intel_values_are_the_last_whole_line(tmp_path, monkeypatch):
    command = tmp_path / "xpu-smi"
    command.write_text(MOCK_XPU_SMI)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    source = XpuSensor()
    time.sleep(0.3)
    assert source.sample() == {"xpu power (W)": 119.0, "xpu frequency (MHz)": 2050.0}
    assert source.missing() == {}
    source.close()
    assert source.missing() == {"xpu": "xpu-smi ended with -9"}


def test_a_source_that_is_not_here_says_why(monkeypatch):
    monkeypatch.setenv("PATH", str(Path("/none")))
    with pytest.raises(Unavailable, match="not installed"):
        XpuSensor()
