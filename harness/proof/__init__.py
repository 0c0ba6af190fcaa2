"""Owns the proof that a runner is what its label says, and getting it ready. Must not know what is measured of it."""

from harness.proof.contradictions import Contradiction
from harness.proof.preparation import prepare
from harness.proof.prepared import Cost, Prepared, Proof
from harness.proof.reference import References, input_images

__all__ = ["Contradiction", "Cost", "Prepared", "Proof", "References", "input_images", "prepare"]
