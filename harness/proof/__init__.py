"""Owns preparing a runner and the proof that it is what its label says. Must not know what is measured with it."""

from harness.proof.contradictions import Contradiction
from harness.proof.preparation import prepare
from harness.proof.prepared import Cost, Prepared, Proof
from harness.proof.reference import References, input_images
from harness.proof.under_load import LastAnswer, check_again, check_queued

__all__ = [
    "Contradiction",
    "Cost",
    "LastAnswer",
    "Prepared",
    "Proof",
    "References",
    "check_again",
    "check_queued",
    "input_images",
    "prepare",
]
