"""What a reader has to know of a row beside its numbers: that something disturbed them while they were taken."""

from __future__ import annotations

from harness.report.record_rows import Record

# A thread that waits for a fifth of the time takes a quarter longer, which is more than most engines differ by. A
# machine that does nothing else makes a thread wait for a few hundredths.
MOST_WAIT_PCT = 20.0
SHARED = "machine shared"
GPU_SHARED = "GPU shared"
# Twice what warm-up allows from a few rounds to the next: a drift of the machine, and not the scatter of its rounds.
MOST_SLOPE_PCT = 10.0
# The share of a step in which a GPU waits for launches, from which on it tells how long they take.
MOST_IDLE_PCT = 20.0
# The measurements that use no more threads than there are cores, so that only others make them wait.
_ALONE = ("latency", "throughput", "streams", "generated", "overhead", "training_step")


def remarks(row: Record) -> dict[str, str]:
    """Return what disturbed the numbers of a row: a short mark for a table, and the sentence that it stands for.

    Args:
        row: a row of `record_rows.rows_of`. What its records do not hold is not remarked on.
    """
    found: dict[str, str] = {}
    parts = {kind: row[kind] for kind in _ALONE if isinstance(row.get(kind), dict)}  # `streams` may be their number
    timed = {kind: record for kind, record in parts.items() if record.get("measurement", kind) == kind}
    waits = {kind: waited for kind, record in timed.items() if (waited := _waited_pct(record)) is not None}
    if waits and max(waits.values()) > MOST_WAIT_PCT:
        told = " and ".join(f"{kind} for {waited:.0f}%" for kind, waited in waits.items() if waited > MOST_WAIT_PCT)
        found[SHARED] = f"{SHARED}: {told} of its time waited for a core; end what else runs here"
    crowds = {kind: crowd for kind, record in timed.items() if (crowd := _others_on_gpu(record))}
    if crowds:
        kind, crowd = max(crowds.items(), key=lambda found: found[1])
        found[GPU_SHARED] = (
            f"{GPU_SHARED}: processes beside those of {kind} had the GPU open, {crowd} of them; its times, its energy "
            "and what bounds it are not this row's alone; end what else runs there"
        )
    if any(record.get("warmup_steady") is False for record in timed.values()):
        found["not warm"] = "not warm: warm-up was ended before its rounds were steady; measure again, longer"
    for kind, record in timed.items():
        over_pct = record.get("bounds", {}).get("over_peak_pct")
        if over_pct is not None:
            found["over the peak"] = (
                f"over the peak: {kind} reached {over_pct:.0f}% of the peak that is kept, which was measured badly; "
                "measure it anew (visionmark peaks --again)"
            )
        idle_pct = record.get("bounds", {}).get("idle_pct")
        if idle_pct is not None and idle_pct > MOST_IDLE_PCT and _is_profiler_attached(record):
            found["profiler attached"] = (
                f"profiler attached: {kind} left the GPU waiting for launches for {idle_pct:.0f}% of a step, and the "
                "profiler that proved the row makes each launch longer; TEARDOWN_CUPTI=1 in the environment detaches it"
            )
        slope = record.get("slope_pct")
        if slope is not None and abs(slope) > MOST_SLOPE_PCT:
            word = "slower" if slope > 0 else "faster"
            found[f"slope {slope:+.0f}%"] = (
                f"slope: {kind} got {abs(slope):.0f}% {word} while it was timed; measure again, longer "
                "(--min-test-duration)"
            )
    if timed.get("streams", {}).get("untimed_rounds") == 0:
        found["cold stream"] = "cold stream: one ran nothing before the common start, so that it began cold"
    return found


def _others_on_gpu(record: Record) -> int:
    """Return how many processes beside its own had the GPUs of a record open, as far as the driver tells."""
    telemetry = record.get("telemetry") or {}
    own: int = record.get("streams", 1)  # replicas have a GPU each
    if own * record.get("replicas", 1) > 1:
        own += 1  # the one that started them may have looked at the GPU
    gpus = (telemetry.get("energy") or {}).get("devices") or {}
    most: list[float] = [telemetry.get("metrics", {}).get(f"{gpu} processes", {}).get("max", 0.0) for gpu in gpus]
    return max(0, round(max(most, default=0.0)) - own)


def _is_profiler_attached(record: Record) -> bool:
    conditions = ((record.get("evidence") or {}).get("notes") or {}).get("conditions") or {}
    return conditions.get("tracing_detaches") is False


def _waited_pct(record: Record) -> float | None:
    """Return the share of the time that was waited for a core.

    It is what this process waited. The pressure of the whole machine, of which others may have had cores of their own,
    counts only where the kernel does not tell the former.
    """
    waited: float | None = record.get("runqueue_wait_pct")
    pressure: float | None = record.get("cpu_pressure_pct")
    return pressure if waited is None else waited
