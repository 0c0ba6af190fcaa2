"""Owns preparing a runner and the proof that it is what its label says. Must not know what is measured with it."""

from harness.proof.contradictions import Contradiction
from harness.proof.preparation import prepare
from harness.proof.prepared import Cost, Prepared, Proof
from harness.proof.reference import References, input_images

__all__ = ["Contradiction", "Cost", "Prepared", "Proof", "References", "input_images", "prepare"]
