"""The collector, its protocol, and what becomes of a run whose collector dies."""

from __future__ import annotations

import csv
import inspect
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pynvml
import pytest

from fixtures.telemetry import own_devices
from harness.cases import Case
from harness.host.telemetry import CLOCK
from harness.host.telemetry.client import CollectorFailed, OutsideCollector, OwnCollector, tell
from harness.host.telemetry.collector import Readings
from harness.host.telemetry.cpu import LEAST_SHARE_S, CpuSensor
from harness.host.telemetry.nvidia import AVERAGED_S, NvidiaSensor
from harness.host.telemetry.own import OwnDevice, UnknownDevice, sampled_name
from harness.host.telemetry.rapl import PSYS
from harness.host.telemetry.sensor import Unavailable
from harness.host.telemetry.summary import summarise, with_images
from harness.host.telemetry.xpu import XpuSensor
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
    tell(path, "stop")
    rows = samples(folder, 1)
    ended = time.perf_counter()
    clocks = [float(row[CLOCK]) for row in rows]
    assert began <= clocks[0] and clocks[-1] <= ended and clocks == sorted(clocks)
    assert len(rows) > 2, "however busy the machine is, more than the begin and the end of a second"
    shares = [row["cpu utilization (%)"] for row in rows]
    assert shares[0] == "", "a share of busy time at the begin would be of the time before"
    assert all(0 <= float(share) <= 100 for share in shares if share)
    assert any(shares)
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


@pytest.mark.slow
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


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_the_share_of_busy_time_is_never_of_the_time_before_the_window(tmp_path, monkeypatch):
    """psutil gives the share since it was asked last: here 100% until the window begins, and 3% in it."""
    clock, asked_s = Clock(), []

    def cpu_percent():
        asked_s.append(clock.now_s)
        return 100.0 if len(asked_s) < 2 or asked_s[-2] < 200 else 3.0

    monkeypatch.setattr("harness.host.telemetry.cpu.psutil.cpu_percent", cpu_percent)
    cpu = CpuSensor(rapl=tmp_path, cpus=tmp_path, clock=clock)
    clock.now_s = 200.0
    readings = Readings([cpu])
    clock.now_s += LEAST_SHARE_S
    readings.take()
    rows = list(csv.DictReader(readings.text().splitlines()))
    assert [row["cpu utilization (%)"] for row in rows] == ["", "3.0"]


def test_a_share_over_hardly_any_time_is_not_given(tmp_path):
    clock = Clock()
    cpu = CpuSensor(rapl=tmp_path, cpus=tmp_path, clock=clock)
    clock.now_s += LEAST_SHARE_S / 2
    assert "cpu utilization (%)" not in cpu.sample()
    clock.now_s += LEAST_SHARE_S
    assert "cpu utilization (%)" in cpu.sample()


def zone(folder, name, counts, microjoules, most=262_143_328_850):
    """One zone of energy: the kernel's powercap files, made by hand with its documented names and units."""
    place = folder / name
    place.mkdir(parents=True)
    (place / "name").write_text(f"{counts}\n")
    (place / "energy_uj").write_text(str(microjoules))
    (place / "max_energy_range_uj").write_text(str(most))
    return place / "energy_uj"


@pytest.fixture
def zones(tmp_path):
    """The zones of a machine with two processors, memory, the whole board, and the packages a second time."""
    return {
        "package 0": zone(tmp_path, "intel-rapl:0", "package-0", 900),
        "core": zone(tmp_path, "intel-rapl:0:0", "core", 500),
        "dram 0": zone(tmp_path, "intel-rapl:0:1", "dram", 50),
        "package 1": zone(tmp_path, "intel-rapl:1", "package-1", 100),
        "dram 1": zone(tmp_path, "intel-rapl:1:0", "dram", 60),
        "psys": zone(tmp_path, "intel-rapl:2", "psys", 5000),
        "again": zone(tmp_path, "intel-rapl-mmio:0", "package-0", 900),
    }


def grow(zones):
    """Let every zone count 1 J, and the whole board 9."""
    for name, file in zones.items():
        file.write_text(str(int(file.read_text()) + (9_000_000 if name == "psys" else 1_000_000)))


def test_energy_counts_packages_and_memory_once(zones, tmp_path):
    cpu = CpuSensor(rapl=tmp_path, cpus=tmp_path)
    assert cpu.sample()["cpu energy (J)"] == 0
    grow(zones)
    assert cpu.sample()["cpu energy (J)"] == pytest.approx(4), "two packages and the memory of each"
    assert "cpu energy" not in cpu.missing()
    assert cpu.devices() == {"cpu": "RAPL package-0, package-0 dram, package-1, package-1 dram"}


def test_the_energy_of_the_whole_board_stands_alone(zones, tmp_path):
    cpu = CpuSensor(rapl=tmp_path, cpus=tmp_path, domain=PSYS)
    grow(zones)
    assert cpu.sample()["psys energy (J)"] == pytest.approx(9)
    assert "cpu energy (J)" not in cpu.sample()
    assert cpu.devices() == {"cpu": "RAPL psys"}


def test_energy_counts_from_the_begin_of_the_window_and_goes_on_where_a_counter_wraps(tmp_path):
    package = zone(tmp_path, "intel-rapl:0", "package-0", 300, most=999)
    cpu = CpuSensor(rapl=tmp_path, cpus=tmp_path)
    package.write_text("900")
    cpu.begin()
    assert cpu.sample()["cpu energy (J)"] == 0, "what was before the window is not in it"
    package.write_text("100")  # 100 up to the end, and 100 again
    assert cpu.sample()["cpu energy (J)"] == pytest.approx(200e-6)


@pytest.mark.parametrize("broken", ["package 1", "dram 0"])
def test_a_zone_that_cannot_be_read_is_named_and_no_part_is_given_as_the_whole(zones, tmp_path, broken):
    zones[broken].write_text("no number")
    cpu = CpuSensor(rapl=tmp_path, cpus=tmp_path)
    assert "cpu energy (J)" not in cpu.sample()
    assert str(zones[broken]) in cpu.missing()["cpu energy"]


def test_a_zone_that_cannot_be_read_any_more_ends_the_energy_of_its_window(zones, tmp_path):
    cpu = CpuSensor(rapl=tmp_path, cpus=tmp_path)
    cpu.sample()
    whole = zones["dram 1"].read_text()
    zones["dram 1"].unlink()
    assert "cpu energy (J)" not in cpu.sample()
    assert "dram" in cpu.missing()["cpu energy"]
    zones["dram 1"].write_text(whole)
    assert "cpu energy (J)" not in cpu.sample(), "a counter with a gap would be a part"
    cpu.begin()
    assert cpu.sample()["cpu energy (J)"] == 0
    assert "cpu energy" not in cpu.missing()


def test_a_machine_without_counters_says_so(tmp_path):
    assert "no RAPL counter" in CpuSensor(rapl=tmp_path / "none", cpus=tmp_path).missing()["cpu energy"]
    zone(tmp_path, "intel-rapl:0", "psys", 5)
    assert "there is psys" in CpuSensor(rapl=tmp_path, cpus=tmp_path).missing()["cpu energy"]


def write_window(folder, columns, missing=None, step_s=0.5, count=5, devices=None):
    """A window's files: each column a function of the seconds since its start."""
    lines = [",".join([CLOCK, *columns])]
    for index in range(count):
        lines.append(",".join(str(value) for value in [index * step_s, *(f(index * step_s) for f in columns.values())]))
    (folder / "telemetry_1.csv").write_text("\n".join(lines))
    (folder / "sources.json").write_text(
        json.dumps({"interval_s": step_s, "devices": devices or {}, "missing": missing or {}})
    )
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
    found = summarise(file, 0.501, 1.0)
    assert found["samples"] == 1, "a sample a moment before the window is of the time before it"


def test_a_counter_is_scaled_by_the_time_between_its_own_values(tmp_path):
    """xpu-smi has a line a second: its first one comes after the window's begin."""
    columns = {"xpu energy consumed (J)": lambda s: "" if s < 1 else 1000 + 50 * s}
    found = summarise(write_window(tmp_path, columns), 0.0, 2.0)
    assert found["energy"]["joules"] == {"xpu energy consumed": 100}


CARDS = {"cpu": "RAPL package-0", "gpu0": "GPU-aaaa0000-1", "gpu1": "GPU-bbbb0000-2"}
COLUMNS = {
    "cpu energy (J)": lambda s: 10 * s,
    "gpu0 energy (J)": lambda s: 1000 + 300 * s,
    "gpu1 energy (J)": lambda s: 5000 + 70 * s,
    "gpu0 throttled (flag)": lambda s: 1.0,
    "gpu1 throttled (flag)": lambda s: 0.0,
    "cpu throttled (count)": lambda s: 7,
}


def test_a_case_has_the_energy_and_the_throttling_of_its_own_devices_alone(tmp_path):
    file = write_window(tmp_path, COLUMNS, devices=CARDS)
    on_cpu = with_images(summarise(file, 0.0, 2.0, [OwnDevice("cpu")], {}), images=10)
    assert on_cpu["energy"]["joules"] == {"cpu energy": 20}
    assert on_cpu["energy"]["joules_per_image"] == 2
    assert on_cpu["energy"]["devices"] == {"cpu": "RAPL package-0"}
    assert on_cpu["throttled"] == {"cpu": False}
    second = OwnDevice("cuda", 0, "bbbb0000-2")  # as torch writes what the driver calls GPU-bbbb0000-2
    found = summarise(file, 0.0, 2.0, [second], {})
    assert found["energy"]["joules"] == {"gpu1 energy": 140}
    assert found["energy"]["devices"] == {"gpu1": "GPU-bbbb0000-2"}
    assert found["throttled"] == {"gpu1": False}
    both = [second, OwnDevice("cuda", 1, "aaaa0000-1")]
    assert summarise(file, 0.0, 2.0, both, {})["energy"]["joules"] == {"gpu0 energy": 600, "gpu1 energy": 140}


def test_the_energy_of_the_whole_board_is_the_processors(tmp_path):
    file = write_window(tmp_path, {"psys energy (J)": lambda s: 40 * s}, devices={"cpu": "RAPL psys"})
    energy = summarise(file, 0.0, 2.0, [OwnDevice("cpu")], {})["energy"]
    assert energy["joules"] == {"psys energy": 80}
    assert energy["devices"] == {"cpu": "RAPL psys"}


def test_a_device_without_a_counter_leaves_no_energy_of_the_others(tmp_path):
    columns = {name: values for name, values in COLUMNS.items() if name != "gpu1 energy (J)"}
    file = write_window(tmp_path, columns, devices=CARDS, missing={"gpu1 energy": "Not Supported"})
    both = [OwnDevice("cuda", 0, "aaaa0000-1"), OwnDevice("cuda", 1, "bbbb0000-2")]
    assert summarise(file, 0.0, 2.0, both, {})["energy"] == {"not_measured": "Not Supported"}
    gap = write_window(tmp_path, COLUMNS, devices=CARDS, missing={"cpu energy": "zone: Permission denied"})
    energy = summarise(gap, 0.0, 2.0, [OwnDevice("cpu")], {})["energy"]
    assert energy == {"not_measured": "zone: Permission denied"}, "a counter that broke off is a part"


def test_a_device_that_no_sensor_knows_is_told(tmp_path):
    file = write_window(tmp_path, COLUMNS, devices=CARDS)
    found = summarise(file, 0.0, 2.0, [OwnDevice("cuda", 0, "cccc0000-3")], {})
    assert "0 GPUs of the driver have the UUID cccc0000-3" in found["energy"]["not_measured"]
    assert "cuda:0" in found["not_measured"]
    assert found["throttled"] == {}


ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("device", "variables", "name"),
    [
        (OwnDevice("cpu"), {}, "cpu"),
        (OwnDevice("cuda", 0, "GPU-BBBB0000-2"), {"CUDA_VISIBLE_DEVICES": "0"}, "gpu1"),  # the UUID decides
        (OwnDevice("cuda", 0), {"CUDA_VISIBLE_DEVICES": "1,0", **ORDER}, "gpu1"),
        (OwnDevice("cuda", 1), {"CUDA_VISIBLE_DEVICES": "1,0", **ORDER}, "gpu0"),
        (OwnDevice("cuda", 1), ORDER, "gpu1"),
        (OwnDevice("cuda", 0), {"CUDA_VISIBLE_DEVICES": "GPU-bbbb"}, "gpu1"),  # CUDA takes the begin of a UUID
    ],
)
def test_a_device_is_found_among_the_drivers_own(device, variables, name):
    assert sampled_name(device, CARDS, variables) == name


@pytest.mark.parametrize(
    ("device", "variables", "reason"),
    [
        (OwnDevice("cuda", 0), {}, "set CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        (OwnDevice("cuda", 0), {"CUDA_VISIBLE_DEVICES": "1"}, "set CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        (OwnDevice("cuda", 1), {"CUDA_VISIBLE_DEVICES": "1", **ORDER}, "no entry for cuda:1"),
        (OwnDevice("cuda", 0), {"CUDA_VISIBLE_DEVICES": "7", **ORDER}, "no GPU 7"),
        (OwnDevice("cuda", 0), {"CUDA_VISIBLE_DEVICES": "MIG-1234"}, "a part of one"),
        (OwnDevice("xpu", 0), {}, "no sensor samples xpu:0"),
        (OwnDevice("ipu", 0), {}, "no sensor samples ipu:0"),
    ],
)
def test_a_device_that_cannot_be_told_apart_is_not_guessed(device, variables, reason):
    with pytest.raises(UnknownDevice, match=reason):
        sampled_name(device, CARDS, variables)


def test_one_card_needs_no_order_and_intels_devices_go_by_number():
    assert sampled_name(OwnDevice("cuda", 0), {"gpu0": "GPU-1"}, {}) == "gpu0"
    devices = {"xpu": "0", "xpu1": "1"}
    assert sampled_name(OwnDevice("xpu", 1), devices, {}) == "xpu1"
    with pytest.raises(UnknownDevice, match="with ZE_AFFINITY_MASK"):
        sampled_name(OwnDevice("xpu", 0), devices, {"ZE_AFFINITY_MASK": "1"})


def test_the_devices_of_a_case_are_its_own():
    assert own_devices(Case(TINY, "cpu", "fp32", 1, "eager", streams=3)) == [OwnDevice("cpu")]


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

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return f"GPU-0000-{handle}"

    def nvmlDeviceGetUtilizationRates(self, handle):  # noqa: N802
        return type("Rates", (), {"gpu": 97, "memory": 3})()

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        return [type("Process", (), {"pid": pid})() for pid in (11, 12)]

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
    clock = Clock()
    source = NvidiaSensor(MockNvml(), clock)
    clock.now_s += AVERAGED_S
    assert source.devices() == {"gpu0": "GPU-0000-0"}
    assert source.sample() == {
        "gpu0 utilization (%)": 97,
        "gpu0 processes (count)": 2,
        "gpu0 memory used (MiB)": 3,
        "gpu0 sm clock (MHz)": 1980,
        "gpu0 memory clock (MHz)": 2619,
        "gpu0 temperature (C)": 61,
        "gpu0 power (W)": 412.5,
        "gpu0 throttled (flag)": 1,
    }
    assert source.missing() == {"gpu0 energy": "Not Supported"}


def test_a_mean_of_the_driver_is_not_of_the_time_before_the_window():
    clock = Clock()
    source = NvidiaSensor(MockNvml(), clock)
    clock.now_s += 10 * AVERAGED_S
    source.begin()
    averaged = {"gpu0 utilization (%)", "gpu0 power (W)"}
    assert not averaged & source.sample().keys()
    assert "the window was shorter" in source.missing()["gpu0 power"]
    clock.now_s += AVERAGED_S
    assert averaged <= source.sample().keys()
    assert source.missing() == {"gpu0 energy": "Not Supported"}


# A mock of Intel's command: the heading and lines of its documented `dump`. It writes the lines of a file, which grows.
MOCK_XPU_SMI = """#!/bin/sh
printf "Timestamp, DeviceId, GPU Utilization (%%), GPU Power (W), GPU Frequency (MHz), "
echo "GPU Energy Consumed (J), Throttle reason"
exec tail -n +1 -f {lines}
"""


@pytest.fixture
def xpu_smi(tmp_path, monkeypatch):
    """Gives a sensor of a mocked command, and a function that lets it write one line and waits until it is read."""
    lines = tmp_path / "lines"
    lines.touch()
    command = tmp_path / "xpu-smi"
    command.write_text(MOCK_XPU_SMI.format(lines=lines))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    source = XpuSensor()

    def write(line):
        with lines.open("a") as opened:
            opened.write(f"{line}\n")
        select.select([source._process.stdout], [], [], 10)

    yield source, write
    source.close()


def test_intels_lines_are_given_once_and_the_first_of_a_window_by_its_counters_alone(xpu_smi):
    source, write = xpu_smi
    write("06:14:45.000, 0, 99.00, 300.00, 2050, 5000, Not Throttled")
    source.begin()
    assert source.sample() == {}, "the line before the window is not of it"
    write("06:14:46.000, 0, 87.50, 118.20, 2050, 5100, Not Throttled")
    assert source.sample() == {"xpu energy consumed (J)": 5100.0}, "its means are partly of the time before"
    write("06:14:47.000, 0, N/A, 119.00, 2050, 5200, Not Throttled")
    assert source.sample() == {
        "xpu power (W)": 119.0,
        "xpu frequency (MHz)": 2050.0,
        "xpu energy consumed (J)": 5200.0,
    }
    assert source.sample() == {}
    assert source.missing() == {"xpu throttled": "xpu-smi gives the reason in words"}
    source.close()
    assert source.missing() == {"xpu": "xpu-smi ended with -9"}


def test_intels_devices_have_columns_of_their_own(xpu_smi):
    source, write = xpu_smi
    source.begin()
    write("06:14:46.000, 1, 87.50, 118.20, 2050, 70, Not Throttled")
    assert source.sample() == {"xpu1 energy consumed (J)": 70.0}
    assert source.devices() == {"xpu1": "1"}


def test_a_source_that_is_not_here_says_why(monkeypatch):
    monkeypatch.setenv("PATH", str(Path("/none")))
    with pytest.raises(Unavailable, match="not installed"):
        XpuSensor()
