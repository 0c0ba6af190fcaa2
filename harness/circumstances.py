"""What a reader of a number needs beside it: the case, what getting ready cost, the evidence, the identity."""

from __future__ import annotations

from typing import Any

from harness.prepare import Prepared


def circumstances(prepared: Prepared) -> dict[str, Any]:
    """The part of a record that is not the measurement, JSON-able."""
    preparation = prepared.preparation
    return {
        "case": str(prepared.case),
        **prepared.case.flat(),
        "load_s": preparation.load_s,
        "compile_s": preparation.compile_s,
        "first_inference_s": preparation.first_inference_s,
        "warmup_s": preparation.warmup_s,
        "warmup_rounds": preparation.warmup_rounds,
        "warmup_steady": preparation.warmup_steady,
        "peak_memory_mib": None if prepared.peak_memory_bytes is None else prepared.peak_memory_bytes / 2**20,
        "unique_batches": len(prepared.batches),
        "evidence": {
            **prepared.evidence.as_dict(),
            "answers_sqnr_db": prepared.sqnr_db,
            "pending_after_synchronize_pct": prepared.pending_pct,
        },
        "identity": prepared.identity,
    }
