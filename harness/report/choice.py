"""Chooses the fastest row among those that are right, and says what speaks against each of the others.

A row is one of `record_rows.rows_of`. Whether it may be chosen is an `Eligibility`, which `judge` derives from what the
row holds. The choice looks at nothing else, so that a better gate changes `judge` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.cases import GENERATED
from harness.report.record_rows import Record, case_of_row


@dataclass(frozen=True)
class Objective:
    """What "fastest" means: a measurement, its field, and whether the least or the greatest number is best.

    `low` and `high` are the fields with the ends of the number's interval.
    """

    measurement: str
    field: str
    low: str
    high: str
    best: Callable[[Iterable[float]], float]

    def of(self, row: Record) -> float | None:
        """Return the row's number, or None if it has none."""
        value: float | None = row.get(self.measurement, {}).get(self.field)
        return value

    def interval_of(self, row: Record) -> tuple[float, float] | None:
        """Return the ends of the number's interval, the number itself if it has none, or None without a number."""
        value, record = self.of(row), row.get(self.measurement, {})
        if value is None:
            return None
        low, high = record.get(self.low), record.get(self.high)
        return value if low is None else low, value if high is None else high


OBJECTIVES: Mapping[str, Objective] = {
    "latency": Objective("latency", "p50_ms", "p50_low_ms", "p50_high_ms", min),
    "throughput": Objective("throughput", "images_per_second", "images_per_second_low", "images_per_second_high", max),
}


# The measurements of an accuracy: the names of their two scores, and the fields that hold them.
_SCORES: Mapping[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "accuracy": (("top-1", "top1"), ("top-5", "top5")),
    "coco": (("AP", "ap"), ("AP50", "ap50")),
}


@dataclass(frozen=True)
class Eligibility:
    """Whether a row may be chosen.

    Attributes:
        reasons: why the row may not be chosen; empty for a row that passes its gate.
        basis: what its answers were judged by: `top-1`, `AP` or `parity`.
        top1_loss_points: percentage points of top-1, or of a detector's AP, below the reference on the same images,
            None without labels.
    """

    reasons: tuple[str, ...]
    basis: str
    top1_loss_points: float | None

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against the row."""
        return not self.reasons


def judge(row: Record, peers: Sequence[Record], *, allow_undecided: bool = False) -> Eligibility:
    """Return whether a row may be chosen, with everything that speaks against it.

    A row is refused without proof, with answers too far from fp32, or with an accuracy that does not hold.

    Args:
        row: the row to be judged.
        peers: all rows of the run. An accuracy holds for every batch size, so that one measured at another will do.
        allow_undecided: whether a loss within the margin will do if the images are too few to be sure of it.
    """
    reasons = [*_unproven(row), *_far(row)]
    found = [kind for kind in _SCORES if any(kind in peer for peer in peers)]
    if not found:
        return Eligibility(tuple(reasons), "parity", None)
    accuracy = accuracy_of(row, peers)
    if accuracy is None:
        basis = _SCORES[found[0]][0][0]
        return Eligibility((*reasons, "no accuracy was measured, though the data are labelled"), basis, None)
    reasons += _lost(row, accuracy, allow_undecided)
    paired = accuracy["paired"]
    basis = _scores_of(accuracy)[0][0]
    return Eligibility(tuple(reasons), basis, 0.0 if paired is None else paired["loss_points"])


def accuracy_of(row: Record, peers: Sequence[Record]) -> Record | None:
    """Return the accuracy that holds for a row: its own, or that of a row that differs only in batch size.

    The result is None if there is neither.
    """
    axes = ("model", "device", "precision", "engine")
    for peer in (row, *peers):
        is_same = all(peer[axis] == row[axis] for axis in axes) and peer["identity"] == row["identity"]
        for kind in _SCORES:
            if is_same and kind in peer:
                found: Record = peer[kind]
                return found
    return None


def _scores_of(accuracy: Record) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the names of the two scores of an accuracy, and the fields that hold them."""
    return next(scores for scores in _SCORES.values() if scores[0][1] in accuracy)


def fastest(rows: Iterable[Record], eligible: Mapping[str, Eligibility], objective: str) -> Record | None:
    """Return the row that is best by an objective among those that pass, or None if none passes.

    Args:
        rows: the rows of one model, device and batch size.
        eligible: whether each case may be chosen.
        objective: a name in `OBJECTIVES`.
    """
    aim = OBJECTIVES[objective]
    numbers = {row["case"]: aim.of(row) for row in rows if eligible[row["case"]].passes}
    measured = {case: number for case, number in numbers.items() if number is not None}
    if not measured:
        return None
    best = aim.best(measured.values())
    return next(row for row in rows if measured.get(row["case"]) == best)


def tied(rows: Sequence[Record], eligible: Mapping[str, Eligibility], objective: str) -> list[Record]:
    """Return the other rows that pass and whose interval overlaps that of the best: the run does not tell them apart.

    Args:
        rows: the rows of one model, device and batch size.
        eligible: whether each case may be chosen.
        objective: a name in `OBJECTIVES`.
    """
    aim = OBJECTIVES[objective]
    best = fastest(rows, eligible, objective)
    ends = None if best is None else aim.interval_of(best)
    if best is None or ends is None:
        return []
    low, high = ends
    others = [row for row in rows if row["case"] != best["case"] and eligible[row["case"]].passes]
    intervals = [(row, aim.interval_of(row)) for row in others]
    return [row for row, other in intervals if other is not None and other[0] <= high and other[1] >= low]


def error_of(row: Record, standing: Eligibility) -> float | None:
    """Return how wrong a row is, where less is better, or None if that was not measured.

    It is the points of top-1 or AP lost, or without labels the SQNR in dB, negated.
    """
    if standing.basis != "parity":
        return standing.top1_loss_points
    sqnr: float | None = row.get("parity", {}).get("sqnr_db")
    return None if sqnr is None else -sqnr


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the cases that no other case beats in speed without being more wrong, the least wrong first.

    Args:
        points: for each case, its error (less is better) and its images per second (more is better).
    """
    front: list[str] = []
    fastest_so_far = float("-inf")
    for case, (_, speed) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if speed > fastest_so_far:
            front.append(case)
            fastest_so_far = speed
    return front


def _unproven(row: Record) -> list[str]:
    """Return what is wrong with a row's evidence. A record is kept only if its label was proven.

    A model that is calibrated on no real image is proven to be int8, and nothing else.
    """
    evidence: dict[str, Any] = row.get("evidence") or {}
    if not evidence.get("dtype_share_pct"):
        return ["no evidence of what ran"]
    if evidence.get("engine") != row["engine"]:
        return [f"its evidence is of {evidence.get('engine')}"]
    calibration = (evidence.get("quantisation") or {}).get("calibration", {})
    if calibration.get("source") == GENERATED:
        return ["calibrated on generated images, which says nothing of its accuracy: give DATA=DIR"]
    return []


def _far(row: Record) -> list[str]:
    parity = row.get("parity")
    if parity is None:
        return ["no parity with fp32 was measured"]
    reasons = []
    if not parity["sqnr_db"] >= parity["sqnr_floor_db"]:
        reasons.append(f"answers are {parity['sqnr_db']:.1f} dB from fp32, the floor is {parity['sqnr_floor_db']:.0f}")
    agreement_pct = parity.get("top1_agreement_pct")  # answers of a server are compared, and no classes counted
    if agreement_pct is not None and not agreement_pct >= parity["top1_agreement_floor_pct"]:
        reasons.append(
            f"{agreement_pct:.0f}% of classes agree with fp32, the floor is {parity['top1_agreement_floor_pct']:.0f}%"
        )
    return reasons


def _lost(row: Record, accuracy: Record, allow_undecided: bool) -> list[str]:
    reasons = []
    (first, first_key), (second, second_key) = _scores_of(accuracy)
    if accuracy["absolute"] == "fails":
        shares = accuracy[first_key]["pct"], accuracy[second_key]["pct"]
        reasons.append(f"{first} {shares[0]:.2f}% or {second} {shares[1]:.2f}% is below its floor")
    paired = accuracy["paired"]
    if paired is None:
        return reasons if case_of_row(row).is_reference else [*reasons, "its accuracy was compared with nothing"]
    loss, margin = paired["loss_points"], paired["margin_points"]
    if paired["verdict"] == "holds" or (paired["verdict"] == "cannot tell" and allow_undecided and loss <= margin):
        return reasons
    if paired["verdict"] == "cannot tell":
        more = f", {paired['needs_images']:,} images would tell" if paired["needs_images"] else ""
        reasons.append(
            f"may lose {paired['loss_high_points']:.2f} points of {first}, the margin is {margin:.2f}: "
            f"{paired['images']:,} images are too few{more}"
        )
    else:
        reasons.append(f"loses {loss:.2f} points of {first}, the margin is {margin:.2f}")
    return reasons
