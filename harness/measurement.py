"""What was measured: frozen records with units in their names, and the one place where raw rounds become them.

Seconds come in; milliseconds leave. Knows no device and no clock.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from harness.percentiles import Percentiles, percentiles_ms
from harness.thresholds import Floor, Interval, Paired, Verdict
from harness.triton.measured import CrossCheck, OpenLoop, Overhead, Photographs, Served


class StreamTimes(Protocol):
    """One stream's requests in seconds, and when, on the clock that all processes share, they began and ended."""

    @property
    def name(self) -> str:
        """Of the stream."""

    @property
    def rounds_s(self) -> Sequence[float]:
        """Each request."""

    @property
    def began_s(self) -> float:
        """The first one's start."""

    @property
    def ended_s(self) -> float:
        """The last one's end."""


@dataclass(frozen=True)
class Latency(Percentiles):
    """One batch from before `submit` until after `synchronize`, input on the device, another input each round."""

    mean_ms: float
    min_ms: float
    max_ms: float
    stdev_ms: float
    rounds: int
    wall_s: float

    @classmethod
    def of(cls, rounds_s: Sequence[float]) -> Latency:
        """From the raw rounds, in seconds."""
        total = sum(rounds_s)
        return cls(
            **percentiles_ms(rounds_s),  # type: ignore[arg-type]  # keys and fields are one list, held by a test
            mean_ms=total / len(rounds_s) * 1e3,
            min_ms=min(rounds_s) * 1e3,
            max_ms=max(rounds_s) * 1e3,
            stdev_ms=statistics.pstdev(rounds_s) * 1e3,
            rounds=len(rounds_s),
            wall_s=total,
        )


@dataclass(frozen=True)
class Throughput:
    """Images over wall time, from before the first `submit` of a window until after one `synchronize` at its end.

    `min_`, `max_` and `stdev_` are of the windows' own rates.
    """

    images_per_second: float
    images: int
    batches: int
    wall_s: float
    windows: int
    min_images_per_second: float
    max_images_per_second: float
    stdev_images_per_second: float

    @classmethod
    def of(cls, windows_s: Sequence[float], batches: Sequence[int], batch_size: int) -> Throughput:
        """From the windows' wall times in seconds and how many batches each held."""
        wall_s = sum(windows_s)
        images = sum(batches) * batch_size
        rates = [count * batch_size / window_s for count, window_s in zip(batches, windows_s, strict=True)]
        return cls(
            images / wall_s,
            images,
            sum(batches),
            wall_s,
            len(windows_s),
            min(rates),
            max(rates),
            statistics.pstdev(rates),
        )


@dataclass(frozen=True)
class EndToEnd:
    """From before the encoded image is read until its class is on the host.

    Each stage's images per second are those of the stage alone, with every worker it has, in the same process just
    before; the slowest of them is the bound.
    """

    images_per_second: float
    images: int
    wall_s: float
    passes: int
    decode_images_per_second: float
    preprocess_images_per_second: float
    copy_images_per_second: float
    model_images_per_second: float
    bound: str
    workers: int
    decoder: str
    data: str
    unique_images: int
    labelled_images: int
    top1_pct: float | None
    top1_note: str | None


@dataclass(frozen=True)
class Parity:
    """Logits against the same weights in fp32 on the CPU eager path; see `parity`."""

    sqnr_db: float
    sqnr_floor_db: float
    top1_agreement_pct: float
    top1_agreement_floor_pct: float
    images: int


@dataclass(frozen=True)
class Scenario:
    """One MLPerf scenario as LoadGen judged it; its own numbers, from the scheduled time of a query to its completion.

    A number that the run does not support is None, and `reasons` says why: `p90_ms` and `p99_ms` are LoadGen's
    early-stopping estimates (server: its percentile, where the run is VALID), `samples_per_second` what was completed
    (offline, server). A batch is what waits, at most `batch_limit`, filled up where it is short.
    """

    scenario: str
    validity: str
    reasons: tuple[str, ...]
    p90_ms: float | None
    p99_ms: float | None
    samples_per_second: float | None
    queries: int
    samples_per_query: int
    bound_ms: float | None
    mean_ms: float
    max_ms: float
    min_duration_s: float
    batch_limit: int
    loadgen: str
    note: str | None
    logs: str

    def is_accepted(self, is_mlperf: bool) -> bool:
        """Whether the run may stand: one of full length only if it is VALID, a short one with its verdict beside it."""
        return self.validity == "VALID" or not is_mlperf


@dataclass(frozen=True)
class Streams(Percentiles):
    """Several streams in one common window, from the first request's start to the last one's end.

    `images_per_second` is all images over that wall time; `min_`, `max_` and `stdev_` are of equal intervals of it. The
    percentiles are those of all requests together, each from before its `submit` until after its `synchronize`. `each`
    has a row a stream, over the same wall time, so that they add up to the whole.
    """

    images_per_second: float
    images: int
    batches: int
    wall_s: float
    min_images_per_second: float
    max_images_per_second: float
    stdev_images_per_second: float
    processes: int
    mean_ms: float
    min_ms: float
    max_ms: float
    stdev_ms: float
    rounds: int
    each: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, runs: Sequence[StreamTimes], batch_size: int) -> Streams:
        """From what each stream did."""
        begin_s, end_s = min(run.began_s for run in runs), max(run.ended_s for run in runs)
        whole = _window(runs, begin_s, end_s, batch_size)
        each = [{"name": run.name, **_window([run], begin_s, end_s, batch_size)} for run in runs]
        return cls(**whole, processes=len(runs), each=tuple(each))


def _window(runs: Sequence[StreamTimes], begin_s: float, end_s: float, batch_size: int) -> dict[str, Any]:
    """What these streams did in a window: rate and requests."""
    rounds_s = [round_s for run in runs for round_s in run.rounds_s]
    images, wall_s = len(rounds_s) * batch_size, end_s - begin_s
    rates = [count * batch_size for count in interval_rates(runs, begin_s, end_s)]
    requests = asdict(Latency.of(rounds_s))
    del requests["wall_s"]  # of one request after the other
    return {
        "images_per_second": images / wall_s,
        "images": images,
        "batches": len(rounds_s),
        "wall_s": wall_s,
        "min_images_per_second": min(rates),
        "max_images_per_second": max(rates),
        "stdev_images_per_second": statistics.pstdev(rates),
        **requests,
    }


def interval_rates(runs: Sequence[StreamTimes], begin_s: float, end_s: float) -> list[float]:
    """Requests a second in equal intervals, at most ten and each long enough for some eight requests a stream.

    A request that spans several intervals counts in each by the share of its time, so that a boundary makes no noise.
    """
    rounds = sum(len(run.rounds_s) for run in runs)
    number = max(1, min(10, rounds // (8 * len(runs))))
    length_s = (end_s - begin_s) / number
    counts = [0.0] * number
    for run in runs:
        at_s = run.began_s
        for round_s in run.rounds_s:
            first, last = (int((time_s - begin_s) / length_s) for time_s in (at_s, at_s + round_s))
            for index in range(first, min(last, number - 1) + 1):
                within_s = min(at_s + round_s, begin_s + (index + 1) * length_s) - max(at_s, begin_s + index * length_s)
                counts[index] += within_s / round_s
            at_s += round_s
    return [count / length_s for count in counts]


@dataclass(frozen=True)
class Accuracy:
    """Share of labelled images whose class is the first answer, or among the first five, and how that was judged.

    Attributes:
        top1: with its 95% interval.
        top5: likewise.
        absolute: whether both reach their floors; `not gated` where there is none.
        top1_floor: and what it is made of.
        top5_floor: likewise.
        paired: against the fp32 CPU reference on the same images; None where this is the reference.
        images: that were read and answered.
        unreadable_images: files that are no whole image, left out.
        images_in_data: in the whole data set.
        images_per_second: from files to classes, over wall time.
        wall_s: of the run over the images.
        mean_batch_interval_ms: wall time over batches; decoding and the model overlap in it, so it is no latency.
        data: the data set as it was named.
        data_route: how it was read.
        is_validation_set: whether it was recognised as the whole ILSVRC2012 validation set.
        sample_seed: of the draw.
        sample_sha256: which images, in which order.
        decoder: library and version.
        workers: threads that decoded.
    """

    top1: Interval
    top5: Interval
    absolute: Verdict
    top1_floor: Floor | None
    top5_floor: Floor | None
    paired: Paired | None
    images: int
    unreadable_images: int
    images_in_data: int
    images_per_second: float
    wall_s: float
    mean_batch_interval_ms: float
    data: str
    data_route: str
    is_validation_set: bool
    sample_seed: int
    sample_sha256: str
    decoder: str
    workers: int


Serving = Served | OpenLoop | Overhead | CrossCheck | Photographs
Measurement = Latency | Throughput | EndToEnd | Parity | Accuracy | Scenario | Streams | Serving
_KINDS: dict[type, str] = {
    Latency: "latency",
    Throughput: "throughput",
    EndToEnd: "end_to_end",
    Parity: "parity",
    Accuracy: "accuracy",
    Scenario: "scenario",
    Streams: "streams",
    Served: "served",
    OpenLoop: "open_loop",
    Overhead: "overhead",
    CrossCheck: "cross_check",
    Photographs: "photographs",
}


def record_of(measurement: Measurement) -> dict[str, Any]:
    """The measurement as it goes into the JSON: its kind in snake case, and its fields."""
    return {"measurement": _KINDS[type(measurement)], **asdict(measurement)}
