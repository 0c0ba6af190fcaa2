"""What streams, LoadGen, telemetry and profiles cost: a part of `make bench-harness`.

The figures are printed and nothing is asserted.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from benchmarks.peers import paired_ratio
from harness.artefacts import default_folder
from harness.cases import Case, Duration
from harness.host.telemetry.client import OwnCollector
from harness.jobs.spawn import RunningJobs as RunningStreams
from harness.jobs.spawn import open_jobs
from harness.jobs.stream import BuildInputs, stream_jobs
from harness.measure.loadgen.bridge import Library, LoadgenSettings, Respond, run_load
from harness.measure.streams import Streams
from harness.progress import no_report
from harness.proof import References, prepare
from models.catalog import find_spec, load_catalog
from selftests.inside import TINY, run_command

TURNS = 6
TELEMETRY_TURNS = 16
WINDOW = Duration(min_s=2.0, max_s=2.0, min_rounds=1)
INPUTS = BuildInputs("random", default_folder())


def _open(stack: ExitStack, case: Case) -> RunningStreams:
    spec = find_spec(case.model, load_catalog())
    return stack.enter_context(open_jobs(stream_jobs(case, spec, INPUTS), no_report))


def _in_turn(*kinds: Callable[[], float]) -> list[float]:
    """Return the median of each kind. They are measured in turn, because the speed of a shared machine drifts."""
    found = [[kind() for kind in kinds] for _ in range(TURNS)]
    return [statistics.median(values) for values in zip(*found, strict=True)]


def compare_streams() -> list[str]:
    """Compare two streams that share the cores with one that has them all, and check that the streams add up."""
    case = Case("fbnetc_100", "cpu", "fp32", 4, "trace")
    excess = 0.0

    def rate(streams: int) -> float:
        """Return the images per second of the streams alone on the machine.

        The processes of an earlier call have gone by then: until it has, a stream that has ended still takes a core.
        """
        nonlocal excess
        with ExitStack() as stack:
            opened = _open(stack, replace(case, streams=streams))
            whole = Streams.of(opened.run(WINDOW), case.batch)
        excess = max(excess, sum(one["images_per_second"] for one in whole.each) / whole.images_per_second - 1)
        return whole.images_per_second

    turns = [(rate(1), rate(2)) for _ in range(TURNS)]
    # the best turn of each: a machine that others use is slow for seconds at a time, never fast
    one_rate, two_rate = (max(values) for values in zip(*turns, strict=True))
    ratio, low, high = paired_ratio([many for _, many in turns], [single for single, _ in turns])
    return [
        f"{case}: two streams {two_rate:.1f} images/s over one {one_rate:.1f} = {two_rate / one_rate:.3f} (at least 1; "
        f"turn by turn {ratio:.3f}, {low:.3f} to {high:.3f})",
        f"sum over the streams exceeds images over wall time by {100 * excess:.6f}% (0)",
    ]


class _Nothing:
    """A system under test that answers every query at once."""

    def issue(self, ids: Sequence[int], indices: Sequence[int], respond: Respond) -> None:
        respond(ids, None)

    def work(self, is_over: threading.Event) -> None:
        is_over.wait()


def time_loadgen() -> list[str]:
    """Compare LoadGen's p50 of a query that costs nothing with that of a bare loop."""

    def through_loadgen() -> float:
        load = LoadgenSettings("single_stream", min_s=1.0, min_queries=64, expected_s=5e-6)
        library = Library(64, 64, lambda indices: None, lambda indices: None)
        with tempfile.TemporaryDirectory() as folder:
            verdict = run_load(load, _Nothing(), library, Path(folder))
        return float(verdict.values["result_50.00_percentile_latency_ns"]) / 1e3

    def bare() -> float:
        system, times = _Nothing(), []
        for _ in range(100_000):
            began = perf_counter()
            system.issue([1], [1], lambda ids, answers: None)
            times.append(perf_counter() - began)
        return statistics.median(times) * 1e6

    with_us, without_us = _in_turn(through_loadgen, bare)
    return [f"p50 {with_us:.2f} us over a bare loop's {without_us:.2f} us = {with_us - without_us:.2f} us (under 20)"]


def compare_telemetry() -> list[str]:
    """Compare the throughput while the collector samples with the throughput while it does not."""
    case = Case("fbnetc_100", "cpu", "fp32", 1, "trace")
    spec = find_spec(case.model, load_catalog())
    prepared = prepare(case, spec, "random", References(spec, "random"))
    collector = OwnCollector()

    def rate(is_sampled: bool) -> float:
        if is_sampled:
            collector.start()
        began = perf_counter()
        count = 0
        while perf_counter() - began < 1.0:
            prepared.runner.submit(prepared.batches[count % len(prepared.batches)])
            prepared.runner.synchronize()
            count += 1
        ended = perf_counter()
        if is_sampled:
            collector.stop(began, ended)
        return count / (ended - began)

    try:
        rate(True)  # the first call starts the collector
        fours = [(rate(True), rate(False), rate(False), rate(True)) for _ in range(TELEMETRY_TURNS)]
    finally:
        collector.close()
        prepared.close()
    ratio, low, high = paired_ratio([a + d for a, _, _, d in fours], [b + c for _, b, c, _ in fours])
    return [
        f"{case}: {len(fours)} times on-off-off-on, ratio {ratio:.3f} ({low:.3f} to {high:.3f}; at least 0.99)",
    ]


def time_profile() -> list[str]:
    """Time what a profile costs beyond its test durations and one build per row, scaled to 17 rows of 60 s."""
    rows, seconds = 4, 5
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "rows.csv", Path(folder) / "out"
        lines = ["model_name,batch_size,num_inputs,streams,test_duration,precision"]
        path.write_text("\n".join(lines + [f"{TINY},1,20,1,{seconds},fp32"] * rows) + "\n", encoding="utf-8")
        began = perf_counter()
        outcome = run_command(f"--profile={path}", f"--output-dir={out}", "--jit=none", "--device=cpu")
        wall_s = perf_counter() - began
        if outcome.code:
            return [outcome.text]
        kept = [
            json.loads((out / f"test_{row + 1}" / "record.json").read_text(encoding="utf-8"))["records"][0]
            for row in range(rows)
        ]
    builds_s = sum(one["ready_s"] for one in kept)
    measured_s = sum(one["wall_s"] for one in kept)
    beyond_s = wall_s - builds_s - measured_s
    per_row_s = (beyond_s - _empty_run_s()) / rows
    share = (17 * per_row_s + _empty_run_s()) / (17 * (60 + builds_s / rows))
    return [
        f"{rows} rows of {seconds} s: {wall_s:.1f} s, of it {measured_s:.1f} s measured, {builds_s:.1f} s building, "
        f"{per_row_s:.2f} s more a row; 17 rows of 60 s would cost {100 * share:.2f}% more (at most 5%)"
    ]


def _empty_run_s() -> float:
    """Return the seconds for starting and ending pytest with nothing to measure."""
    began = perf_counter()
    run_command("--collect-only", "-q", "--model", TINY)
    return perf_counter() - began


COMPARISONS = {
    "two streams over one": compare_streams,
    "LoadGen's own time a query": time_loadgen,
    "throughput while telemetry samples": compare_telemetry,
    "what a profile costs beyond its rows": time_profile,
}


def main() -> None:
    """Print the comparisons whose names contain a word from the command line, or all."""
    for name, compare in COMPARISONS.items():
        if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
            continue
        print(name, flush=True)
        for line in compare():
            print("  " + line, flush=True)


if __name__ == "__main__":
    main()
