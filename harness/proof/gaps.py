"""What is known not to run before it is tried: what an engine or a device refuses, and the gaps that a model declares.

The collection of tests and `visionmark list` both ask here, so that they give the same reasons.
"""

from __future__ import annotations

from harness.cases import Case
from harness.devices import Device
from harness.engines import unsupported
from harness.proof.inputs import cannot_be_whole, cannot_take_bytes
from models.catalog import Gap, ModelSpec


def cannot_run(case: Case, spec: ModelSpec, device: Device) -> str | None:
    """Return None, or the reason why the device or the engine cannot run a case at all."""
    return unsupported(case, device) or cannot_take_bytes(case, spec) or cannot_be_whole(case, spec)


def declared_gap(case: Case, spec: ModelSpec) -> Gap | None:
    """Return the first gap of the model's row that covers a case, or None."""
    return next((gap for gap in spec.gaps if gap.covers(case.device, case.precision, case.engine)), None)
