"""The numbers of a record by name: those that matter most, and all of them flat."""

from __future__ import annotations

from typing import Any

from harness.report.record_rows import Record

Scalar = str | int | float | bool
# In the order in which they are told. A name with a dot is a number of a part of the record.
MAIN = (
    *(f"p{share}{end}_ms" for share in (50, 90, 99) for end in ("", "_low", "_high")),
    *(f"images_per_second{end}" for end in ("", "_low", "_high")),
    *("samples_per_second", "p90_bound_ms", "p99_bound_ms", "validity"),
    *(f"{score}.{end}" for score in ("top1", "top5", "ap", "ap50") for end in ("pct", "low_pct", "high_pct")),
    *("paired.loss_points", "paired.verdict", "absolute", "sqnr_db", "top1_pct", "top1_agreement_pct"),
    *("ratio", "ratio_low", "ratio_high", "verdict"),
    *("tflops", "share_of_peak_pct", "intensity", "bound"),
    *("forward_ms", "backward_ms", "optimiser_ms", "last_loss", "time_to_threshold_s"),
    *("peak_memory_mib", "compile_s", "runqueue_wait_pct", "rounds", "windows", "images"),
)


def main_numbers(record: Record) -> dict[str, Scalar]:
    """Return the numbers of a record that matter most, and its verdicts, under their names, which hold their units."""
    whole = flat(record)
    return {name: whole[name] for name in MAIN if name in whole}


def flat(record: Record) -> dict[str, Scalar]:
    """Return every field of a record that is a single value, and with a dot in its name every such field of its parts.

    Lists of words are joined by semicolons. What has no value is left out, and so is what lies deeper.
    """
    found: dict[str, Scalar] = {}
    for name, value in record.items():
        parts = value.items() if isinstance(value, dict) else ()
        fields = {name: value} | {f"{name}.{inner}": part for inner, part in parts}
        found |= {key: one for key, field in fields.items() if (one := _single(field)) is not None}
    return found


def _single(value: Any) -> Scalar | None:
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, str) for one in value):
        return "; ".join(value)
    return None
