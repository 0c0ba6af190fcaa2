"""Which row is the best that is right: what a row is held to, and the fastest of those that pass. Pure functions.

A row is `rows.rows_of`'s. Where it passes its gate is a `Verdict`, made here from what the row holds; choosing looks at
verdicts only, so that a better gate changes `judge` and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.rows import Record

# Share of fp32's top-1 that a faster row has to keep. Source: MLPerf inference rules, 99% of the FP32 accuracy.
LEAST_TOP1_SHARE = 0.99
# The row that others lose accuracy against.
REFERENCE_PRECISION = "fp32"


@dataclass(frozen=True)
class Objective:
    """What "fastest" means: a measurement, its field, and which end of it is best."""

    measurement: str
    field: str
    best: Callable[[Iterable[float]], float]

    def of(self, row: Record) -> float | None:
        """The row's number, None where it has none."""
        value: float | None = row.get(self.measurement, {}).get(self.field)
        return value


OBJECTIVES: Mapping[str, Objective] = {
    "latency": Objective("latency", "p50_ms", min),
    "throughput": Objective("throughput", "images_per_second", max),
}


@dataclass(frozen=True)
class Verdict:
    """Whether a row may be chosen.

    Attributes:
        reasons: why not; empty for a row that passes its gate.
        basis: what its answers were judged by: `top-1` or `parity`.
        top1_loss_pct: percentage points of top-1 under fp32 on the same images, None without labels.
    """

    reasons: tuple[str, ...]
    basis: str
    top1_loss_pct: float | None

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against the row."""
        return not self.reasons


def judge(row: Record, peers: Sequence[Record]) -> Verdict:
    """What speaks against a row: no proof, answers too far from fp32, or too much accuracy lost.

    Args:
        row: to be judged.
        peers: all rows of the same model and weights, among them the fp32 ones to compare with.
    """
    reasons = [*_unproven(row), *_far(row)]
    if not any(_top1(peer) is not None for peer in peers):
        return Verdict(tuple(reasons), "parity", None)
    loss: float | None = None
    fp32 = _reference(row, peers)
    if _top1(row) is None:
        reasons.append("no top-1, though the data are labelled")
    elif fp32 is None:
        reasons.append("no fp32 row on the same images to compare its top-1 with")
    else:
        loss = _correct(fp32) - _correct(row)
        margin = (1 - LEAST_TOP1_SHARE) * _correct(fp32)
        if loss > margin:
            reasons.append(f"loses {loss:.2f} points of top-1, the margin is {margin:.2f}")
    return Verdict(tuple(reasons), "top-1", loss)


def fastest(rows: Iterable[Record], verdicts: Mapping[str, Verdict], objective: str) -> Record | None:
    """The row that is best by an objective among those that pass, None where none does.

    Args:
        rows: of one model, device and batch.
        verdicts: by case.
        objective: a name of `OBJECTIVES`.
    """
    aim = OBJECTIVES[objective]
    numbers = {row["case"]: aim.of(row) for row in rows if verdicts[row["case"]].passes}
    measured = {case: number for case, number in numbers.items() if number is not None}
    if not measured:
        return None
    best = aim.best(measured.values())
    return next(row for row in rows if measured.get(row["case"]) == best)


def error_of(row: Record, verdict: Verdict) -> float | None:
    """How wrong a row is, less is better: points of top-1 lost, or without labels the SQNR in dB, negated."""
    if verdict.basis == "top-1":
        return verdict.top1_loss_pct
    sqnr: float | None = row.get("parity", {}).get("sqnr_db")
    return None if sqnr is None else -sqnr


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Cases that no other beats in speed without being more wrong, from the least wrong on.

    Args:
        points: case to its error (less is better) and images per second (more is better).
    """
    front: list[str] = []
    fastest_so_far = float("-inf")
    for case, (_, speed) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if speed > fastest_so_far:
            front.append(case)
            fastest_so_far = speed
    return front


def _unproven(row: Record) -> list[str]:
    """A record is kept only where the label was proven; a row whose evidence is another's or none is nobody's."""
    evidence: dict[str, Any] = row.get("evidence") or {}
    if not evidence.get("dtype_share_pct"):
        return ["no evidence of what ran"]
    if evidence.get("engine") != row["engine"]:
        return [f"its evidence is of {evidence.get('engine')}"]
    return []


def _far(row: Record) -> list[str]:
    parity = row.get("parity")
    if parity is None:
        return ["no parity with fp32 was measured"]
    reasons = []
    if not parity["sqnr_db"] >= parity["sqnr_floor_db"]:
        reasons.append(f"answers are {parity['sqnr_db']:.1f} dB from fp32, the floor is {parity['sqnr_floor_db']:.0f}")
    if not parity["top1_agreement_pct"] >= parity["top1_agreement_floor_pct"]:
        reasons.append(
            f"{parity['top1_agreement_pct']:.0f}% of classes agree with fp32, "
            f"the floor is {parity['top1_agreement_floor_pct']:.0f}%"
        )
    return reasons


def _top1(row: Record) -> float | None:
    value: float | None = row.get("end_to_end", {}).get("top1_pct")
    return value


def _correct(row: Record) -> float:
    return float(row["end_to_end"]["top1_pct"])


def _reference(row: Record, peers: Sequence[Record]) -> Record | None:
    """The fp32 row that a loss is counted from: same weights, same images; eager before others, fewest losses first."""
    same = [
        peer
        for peer in peers
        if peer["precision"] == REFERENCE_PRECISION
        and _top1(peer) is not None
        and _images(peer) == _images(row)
        and not _far(peer)
    ]
    return min(same, key=lambda peer: (peer["engine"] != "eager", peer["batch"], peer["case"]), default=None)


def _images(row: Record) -> tuple[Any, ...]:
    end_to_end = row["end_to_end"]
    counted = (end_to_end["data"], end_to_end["unique_images"], end_to_end["labelled_images"])
    return (*counted, row["identity"]["weights_sha256"])
