"""Owns preparing a runner and the proof that it is what its label says. Must not know what is measured with it."""

from harness.proof.contradictions import Contradiction
from harness.proof.inputs import (
    cannot_take_bytes,
    case_artefacts,
    case_images,
    case_module,
    case_pixels,
    input_images,
    takes_bytes,
)
from harness.proof.preparation import prepare
from harness.proof.prepared import Cost, Prepared, Proof
from harness.proof.reference import References
from harness.proof.under_load import LastAnswer, check_again, check_queued

__all__ = [
    "Contradiction",
    "Cost",
    "LastAnswer",
    "Prepared",
    "Proof",
    "References",
    "cannot_take_bytes",
    "case_artefacts",
    "case_images",
    "case_module",
    "case_pixels",
    "check_again",
    "check_queued",
    "input_images",
    "prepare",
    "takes_bytes",
]
