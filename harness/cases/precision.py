"""The precisions: what each label promises, and how near its answers must come to fp32.

Whether a device or an engine can run a precision is theirs to say.
"""

from __future__ import annotations

from dataclasses import dataclass

# How a record calls the images that int8 was calibrated on where no data set was given.
GENERATED = "generated"


@dataclass(frozen=True)
class Precision:
    """What a precision label promises.

    Attributes:
        name: the label, as in a case id.
        weights: torch dtype name of weights, inputs and activations.
        autocast: torch dtype name that autocast computes in over those weights, or None.
        tf32: whether the TF32 matrix units are on.
        work: the dtype in which convolutions and matrix products must really run.
        sqnr_floor_db: least signal-to-quantisation-noise ratio of the answers against fp32 (see `models.tasks`).
        top1_agreement_floor_pct: least share of images with the same first class as in fp32.
    """

    name: str
    weights: str
    autocast: str | None
    tf32: bool
    work: str
    sqnr_floor_db: float
    top1_agreement_floor_pct: float

    @property
    def calibrated(self) -> bool:
        """Whether ranges have to be taken from images before it can run."""
        return self.work == "int8"


# The floors lie below what the formats give and above what a mistake gives. Measured over the catalogue with random
# weights, CPU: fp32 96 to 119 dB, fp16 33 to 49, bf16 16 to 31. Another image's answers are about -3 dB; fp32 that ran
# in a shorter format falls below 50.
PRECISIONS: dict[str, Precision] = {
    p.name: p
    for p in (
        Precision("fp32", "float32", None, False, "fp32", 60.0, 96.0),
        Precision("tf32", "float32", None, True, "tf32", 28.0, 85.0),
        Precision("bf16", "bfloat16", None, False, "bf16", 10.0, 70.0),
        Precision("fp16", "float16", None, False, "fp16", 28.0, 85.0),
        Precision("amp_bf16", "float32", "bfloat16", False, "bf16", 10.0, 70.0),
        Precision("amp_fp16", "float32", "float16", False, "fp16", 28.0, 85.0),
        Precision("int8", "float32", None, False, "int8", 4.0, 60.0),
    )
}
