"""The precisions: what each label promises, and how close its answers must be to those of fp32.

Devices and engines themselves say whether they can run a precision.
"""

from __future__ import annotations

from dataclasses import dataclass

# The name in a record for int8's calibration images when no data set was given.
GENERATED = "generated"


@dataclass(frozen=True)
class Precision:
    """What a precision label promises.

    Attributes:
        name: the label, as in a case id.
        weights: the torch dtype name of weights, inputs and activations.
        autocast: the torch dtype name in which autocast computes with those weights, or None without autocast.
        tf32: whether TF32 is enabled.
        work: the number format in which convolutions and matrix products must actually run.
        sqnr_floor_db: the least signal-to-quantisation-noise ratio of the answers against fp32, in dB (see
            `models.tasks`).
        top1_agreement_floor_pct: the least percentage of images whose top-1 class is the same as in fp32.
        gain_tolerance: by which share a head of a detector may be larger or smaller than fp32's (see
            `models.tasks.gain`).
        matched_floor_pct: the least percentage of objects that match, of a detector that makes them itself.
    """

    name: str
    weights: str
    autocast: str | None
    tf32: bool
    work: str
    sqnr_floor_db: float
    top1_agreement_floor_pct: float
    gain_tolerance: float
    matched_floor_pct: float

    @property
    def calibrated(self) -> bool:
        """Whether activation ranges have to be calibrated on images before a model can run in this precision."""
        return self.work == "int8"


# The floors lie below what the formats reach and above what a mistake reaches. Measured over the catalogue with random
# weights on a CPU: fp32 96 to 119 dB, fp16 33 to 49 dB, bf16 16 to 31 dB. The answers to another image are at about
# -3 dB; fp32 that was computed in a shorter format falls below 50 dB. What detectors reach is in docs/detection.md.
# A head that is sound has a gain of 1 in every precision; the tolerances are room for chance.
PRECISIONS: dict[str, Precision] = {
    p.name: p
    for p in (
        Precision("fp32", "float32", None, False, "fp32", 60.0, 96.0, 0.02, 85.0),
        Precision("tf32", "float32", None, True, "tf32", 28.0, 85.0, 0.05, 80.0),
        Precision("bf16", "bfloat16", None, False, "bf16", 10.0, 70.0, 0.1, 60.0),
        Precision("fp16", "float16", None, False, "fp16", 28.0, 85.0, 0.05, 80.0),
        Precision("amp_bf16", "float32", "bfloat16", False, "bf16", 10.0, 70.0, 0.1, 60.0),
        Precision("amp_fp16", "float32", "float16", False, "fp16", 28.0, 85.0, 0.05, 80.0),
        Precision("int8", "float32", None, False, "int8", 4.0, 60.0, 0.15, 50.0),
    )
}
