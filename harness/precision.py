"""The precisions: what each label promises and how near its answers must come to fp32.

Owns the table below. Knows no device and no engine: whether one can run a precision is theirs to say.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Precision:
    """What a precision label promises.

    Attributes:
        name: the label, as in a case id.
        weights: torch dtype name of weights, inputs and activations.
        autocast: torch dtype name that autocast computes in over those weights, or None.
        tf32: whether the TF32 matrix units are on.
        work: the dtype in which convolutions and matrix products must really run.
        sqnr_floor_db: least signal-to-quantisation-noise ratio of the logits against fp32 (see `parity`).
        top1_agreement_floor_pct: least share of images with the same first class as in fp32.
    """

    name: str
    weights: str
    autocast: str | None
    tf32: bool
    work: str
    sqnr_floor_db: float
    top1_agreement_floor_pct: float


# The floors lie between what the formats give (24, 11 and 8 bits of significand: about 6 dB a bit, less what the
# depth of a network adds) and what a mistake gives: another image's answer is at most 0 dB, bf16 in place of
# fp32 or fp16 falls below their floors.
PRECISIONS: dict[str, Precision] = {
    p.name: p
    for p in (
        Precision("fp32", "float32", None, False, "fp32", 60.0, 96.0),
        Precision("tf32", "float32", None, True, "tf32", 30.0, 90.0),
        Precision("bf16", "bfloat16", None, False, "bf16", 12.0, 60.0),
        Precision("fp16", "float16", None, False, "fp16", 30.0, 90.0),
        Precision("amp_bf16", "float32", "bfloat16", False, "bf16", 12.0, 60.0),
        Precision("amp_fp16", "float32", "float16", False, "fp16", 30.0, 90.0),
    )
}
