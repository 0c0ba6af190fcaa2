"""What was measured: frozen records with units in their names, and the one place where raw rounds become them.

Seconds come in; milliseconds leave. Knows no device and no clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.thresholds import Floor, Interval, Paired, Verdict

CONFIDENCE = 0.99
PERCENTILES = (50, 90, 99)


def least_rounds(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Rounds that a percentile needs before it may be printed.

    The early-stopping rule of MLPerf LoadGen with tolerance 0 and one value above the percentile: the least n for
    which a binomial with success probability p gives n or n-1 successes with probability at most 1 - confidence.

    Args:
        percentile: in percent, between 0 and 100.
        confidence: probability that the percentile is not above the highest round.

    Source: MLPerf inference rules, "Early Stopping Criterion"; 64 rounds for p90, 662 for p99.
    """
    p = percentile / 100
    n = 2
    while p**n + n * p ** (n - 1) * (1 - p) > 1 - confidence:
        n += 1
    return n


def percentile(rounds_s: Sequence[float], percent: float) -> float:
    """The smallest round that at least `percent` of the rounds do not exceed (nearest rank), in seconds."""
    ordered = sorted(rounds_s)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def percentiles_ms(rounds_s: Sequence[float]) -> dict[str, float | int | None]:
    """p50, p90 and p99 in milliseconds; None where too few rounds support one, with how many are missing."""
    found: dict[str, float | int | None] = {}
    for percent in PERCENTILES:
        missing = max(0, least_rounds(percent) - len(rounds_s))
        found[f"p{percent}_ms"] = None if missing else percentile(rounds_s, percent) * 1e3
        found[f"p{percent}_missing_rounds"] = missing
    return found


@dataclass(frozen=True)
class Latency:
    """One batch from before `submit` until after `synchronize`, input on the device, another input each round."""

    p50_ms: float | None
    p50_missing_rounds: int
    p90_ms: float | None
    p90_missing_rounds: int
    p99_ms: float | None
    p99_missing_rounds: int
    mean_ms: float
    min_ms: float
    max_ms: float
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
            rounds=len(rounds_s),
            wall_s=total,
        )


@dataclass(frozen=True)
class Throughput:
    """Images over wall time, from before the first `submit` of a window until after one `synchronize` at its end."""

    images_per_second: float
    images: int
    batches: int
    wall_s: float
    windows: int

    @classmethod
    def of(cls, windows_s: Sequence[float], batches: Sequence[int], batch_size: int) -> Throughput:
        """From the windows' wall times in seconds and how many batches each held."""
        wall_s = sum(windows_s)
        images = sum(batches) * batch_size
        return cls(images / wall_s, images, sum(batches), wall_s, len(windows_s))


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
class Served:
    """A closed loop of clients on a server: each request from when its client is free until its answer is decoded.

    A round is a request. `images_per_second` is images answered over wall time, of all clients together. The server's
    own times are means a request, from its statistics; `mean_batch` is images an execution, of the batches it formed.
    `answers_sqnr_db` is that of the worst answer of all.
    """

    protocol: str
    mode: str
    clients: int
    images_per_second: float
    p50_ms: float | None
    p50_missing_rounds: int
    p90_ms: float | None
    p90_missing_rounds: int
    p99_ms: float | None
    p99_missing_rounds: int
    mean_ms: float
    min_ms: float
    max_ms: float
    rounds: int
    images: int
    wall_s: float
    answers_sqnr_db: float
    mean_batch: float
    executions: int
    server_queue_ms: float
    server_input_ms: float
    server_compute_ms: float
    server_output_ms: float
    rounds_ms: tuple[float, ...]

    @classmethod
    def of(
        cls,
        rounds_s: Sequence[float],
        wall_s: float,
        *,
        batch: int,
        protocol: str,
        mode: str,
        clients: int,
        answers_db: float,
        executions: int,
        server_ms: Mapping[str, float],
    ) -> Served:
        """From each request's seconds, in the order asked, the wall time of all and what the server counted."""
        images = len(rounds_s) * batch
        return cls(
            protocol=protocol,
            mode=mode,
            clients=clients,
            images_per_second=images / wall_s,
            **percentiles_ms(rounds_s),  # type: ignore[arg-type]  # keys and fields are one list, held by a test
            mean_ms=sum(rounds_s) / len(rounds_s) * 1e3,
            min_ms=min(rounds_s) * 1e3,
            max_ms=max(rounds_s) * 1e3,
            rounds=len(rounds_s),
            images=images,
            wall_s=wall_s,
            answers_sqnr_db=answers_db,
            mean_batch=images / executions,
            executions=executions,
            server_queue_ms=server_ms["queue"],
            server_input_ms=server_ms["input"],
            server_compute_ms=server_ms["compute"],
            server_output_ms=server_ms["output"],
            rounds_ms=tuple(round(seconds * 1e3, 3) for seconds in rounds_s),
        )


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


Measurement = Latency | Throughput | EndToEnd | Parity | Accuracy | Served


def record_of(measurement: Measurement) -> dict[str, Any]:
    """The measurement as it goes into the JSON: its kind in snake case, and its fields."""
    kinds: dict[type, str] = {
        Latency: "latency",
        Throughput: "throughput",
        EndToEnd: "end_to_end",
        Parity: "parity",
        Accuracy: "accuracy",
        Served: "served",
    }
    return {"measurement": kinds[type(measurement)], **asdict(measurement)}
