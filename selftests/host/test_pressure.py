"""What the kernel counts of waiting for a core, read from a folder that is written here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.host.pressure import read_threads, read_waiting, shares_of, waited_ms


def write(proc, total_us=None, **waited_ns):
    """A folder as /proc has it: the pressure's total and each thread's wait."""
    if total_us is not None:
        (proc / "pressure").mkdir(exist_ok=True)
        full = "full avg10=0.00 avg60=0.00 avg300=0.00 total=0"
        (proc / "pressure" / "cpu").write_text(f"some avg10=9.00 avg60=9.00 avg300=9.00 total={total_us}\n{full}\n")
    for name, waited in waited_ns.items():
        (proc / "self" / "task" / name).mkdir(parents=True, exist_ok=True)
        (proc / "self" / "task" / name / "schedstat").write_text(f"123456 {waited} 7\n")


def between(proc, seconds, change):
    before = read_waiting(proc)
    change()
    return shares_of(before, replace(read_waiting(proc), at_s=before.at_s + seconds))


def test_shares_are_of_the_wall_time_between_two_readings(tmp_path):
    write(tmp_path, 1_000_000, t1=5_000_000_000, t2=0)
    found = between(tmp_path, 2.0, lambda: write(tmp_path, 1_500_000, t1=5_800_000_000, t2=100_000_000))
    assert found == pytest.approx({"cpu_pressure_pct": 25.0, "runqueue_wait_pct": 40.0})


def test_the_wait_is_that_of_the_thread_that_waited_longest_not_a_sum(tmp_path):
    """Sixty-four threads that wait a hundredth of the time each are no shared machine."""
    threads = {f"t{index}": 0 for index in range(64)}
    write(tmp_path, **threads)
    found = between(tmp_path, 1.0, lambda: write(tmp_path, **dict.fromkeys(threads, 10_000_000)))
    assert found["runqueue_wait_pct"] == pytest.approx(1.0)


def test_a_thread_that_begins_within_the_window_counts_from_its_beginning(tmp_path):
    write(tmp_path, t1=9_000_000_000)
    found = between(tmp_path, 1.0, lambda: write(tmp_path, t2=300_000_000))
    assert found["runqueue_wait_pct"] == pytest.approx(30.0)


def test_what_the_kernel_does_not_tell_is_none(tmp_path):
    assert between(tmp_path, 1.0, lambda: None) == {"cpu_pressure_pct": None, "runqueue_wait_pct": None}
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "cpu").write_text("nonsense\n")
    write(tmp_path, t1=0)
    (tmp_path / "self" / "task" / "t1" / "schedstat").write_text("0 0 0\n")  # a kernel without sched_info
    assert between(tmp_path, 1.0, lambda: None) == {"cpu_pressure_pct": None, "runqueue_wait_pct": None}


def test_the_wait_of_several_processes_is_the_sum_over_their_threads(tmp_path):
    """A client that hands over to a server waits in both: the longest alone would be half of it."""
    write(tmp_path, own=1_000_000)
    server = tmp_path / "77" / "task" / "78"
    server.mkdir(parents=True)
    (server / "schedstat").write_text("1 5000000 3\n")
    before = read_threads(("self", 77), tmp_path)
    write(tmp_path, own=3_000_000)
    (server / "schedstat").write_text("1 9000000 4\n")
    later = tmp_path / "77" / "task" / "79"
    later.mkdir()
    (later / "schedstat").write_text("1 500000 1\n")
    after = read_threads(("self", 77), tmp_path)
    assert waited_ms(before, after) == pytest.approx(2.0 + 4.0 + 0.5)
    assert read_threads(("self", 99), tmp_path) is None, "a process that does not tell leaves no sum"
    assert waited_ms(None, after) is None and waited_ms(before, None) is None
