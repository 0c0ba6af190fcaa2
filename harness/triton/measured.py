"""What was measured of a server: frozen records with units in their names. Seconds come in; milliseconds leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.percentiles import Percentiles, percentiles_ms


@dataclass(frozen=True)
class Served(Percentiles):
    """A closed loop of clients on a server: each request from when its client is free until its answer is decoded.

    A round is a request. `images_per_second` is images answered over wall time, of all clients together. The server's
    own times are means a request, from its statistics; `mean_batch` is images an execution, of the batches it formed.
    `answers_sqnr_db` is that of the worst answer of all.
    """

    protocol: str
    mode: str
    clients: int
    images_per_second: float
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
class OpenLoop(Percentiles):
    """Requests at random times of a given rate, each from its scheduled time until its answer is decoded.

    A round is a request. Times are MLPerf LoadGen's own; a percentile that too few requests support is None.
    """

    protocol: str
    rate_per_second: float
    images_per_second: float
    mean_ms: float
    min_ms: float
    max_ms: float
    rounds: int
    images: int
    answers_sqnr_db: float
    mean_batch: float
    server_queue_ms: float
    server_compute_ms: float
    loadgen: str
    logs: str


@dataclass(frozen=True)
class Overhead:
    """What serving adds to one request at a time: the median over each way less that of the same file in process.

    Measured in turns. `shared_memory` is gRPC with images and answers in shared memory; None for a server elsewhere.
    """

    rounds: int
    p50_missing_rounds: int
    in_process_p50_ms: float | None
    grpc_p50_ms: float | None
    grpc_overhead_ms: float | None
    http_p50_ms: float | None
    http_overhead_ms: float | None
    shared_memory_p50_ms: float | None
    shared_memory_overhead_ms: float | None


@dataclass(frozen=True)
class CrossCheck:
    """This suite's closed loop and NVIDIA's perf_analyzer on the same server and load, in turns.

    A ratio is ours over theirs, the median of the pairs, with the lowest and highest pair beside it. A pair that
    perf_analyzer did not measure is counted and not compared.
    """

    protocol: str
    mode: str
    clients: int
    pairs: int
    unmeasured_pairs: int
    images_per_second: float
    perf_analyzer_images_per_second: float
    p50_ms: float
    perf_analyzer_p50_ms: float
    throughput_ratio: float
    throughput_ratio_range: tuple[float, float]
    p50_ratio: float
    p50_ratio_range: tuple[float, float]
    verdict: str


@dataclass(frozen=True)
class Photographs:
    """Image files through the server and in process: how many get the same first class; top-1 where all have labels."""

    images: int
    same_top1: int
    served_top1_pct: float | None
    in_process_top1_pct: float | None
    answers_sqnr_db: float
    images_per_second: float
