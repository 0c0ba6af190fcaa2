"""The comparison of a case's label with the evidence of what actually ran."""

from __future__ import annotations

from harness.cases import PRECISIONS, Case
from harness.devices import Device, place_of
from harness.engines import Evidence

# If less than this share of the time in convolutions and matrix products is in the promised format, the label is false.
# The rest is room for a first layer or a classifier that an engine may keep in fp32, which the record shows.
LEAST_SHARE_PCT = 90.0
# Only some kernels have TF32: depthwise convolutions, which take most of the time of a mobile network, do not.
LEAST_TF32_SHARE_PCT = 1.0
# The most work that may still run after `synchronize` has returned, as a share of the step's time.
MOST_PENDING_PCT = 20.0
# So many kernels of a format are named in a message.
_NAMED_KERNELS = 3
# What an accelerator's work is seen by: the times of its kernels, or the program that was compiled for it whole.
DEVICE_CLOCKS = ("kernel", "compiled graph")


class Contradiction(AssertionError):
    """The evidence shows that a row is not what its label says, or is not enough to show that it is."""


def contradictions(case: Case, device: Device, evidence: Evidence) -> list[str]:
    """Return every contradiction between label and evidence, each as a text that names both; empty if there is none.

    Args:
        case: the label.
        device: the device on which the case should have run.
        evidence: what actually ran.
    """
    return [
        *_engine_contradictions(case, evidence),
        *_dtype_contradictions(case, evidence),
        *_quantisation_contradictions(case, evidence),
        *_placement_contradictions(device, evidence),
        *_thread_contradictions(device, evidence),
        *evidence.denials,
    ]


def _engine_contradictions(case: Case, evidence: Evidence) -> list[str]:
    found = []
    if evidence.engine != case.engine:
        found.append(f"label says engine {case.engine}, but {evidence.engine} ran")
    if evidence.graph_breaks:
        found.append(f"label says engine {case.engine}, but {evidence.graph_breaks} graph breaks ran eager in between")
    return found


def _dtype_contradictions(case: Case, evidence: Evidence) -> list[str]:
    promised = PRECISIONS[case.precision]
    if not evidence.matrix_ops:
        return [f"label says {case.precision}, but the profile shows no convolution or matrix product at all"]
    work = promised.work
    share = evidence.dtype_share_pct.get(work, 0.0)
    least = LEAST_TF32_SHARE_PCT if promised.tf32 else LEAST_SHARE_PCT
    found = []
    if share < least:
        ran = ", ".join(f"{pct:.1f}% {dtype}" for dtype, pct in evidence.dtype_share_pct.items())
        found.append(
            f"label says {case.precision}, but convolution and matrix time was {ran} "
            f"({work} needs at least {least:.0f}%)"
        )
        by_format = evidence.notes.get("kernels_by_format", {})
        others = [f"{dtype}: {', '.join(ran[:_NAMED_KERNELS])}" for dtype, ran in by_format.items() if dtype != work]
        if others:
            found.append(f"the kernels in other formats, or in one that no rule tells, are {'; '.join(others)}")
    on = [switch for switch, is_on in evidence.short_formats.items() if is_on]
    tf32 = [switch for switch in on if not switch.startswith("onednn")]
    if tf32 and not promised.tf32:
        found.append(f"label says {case.precision}, but TF32 is on for {', '.join(tf32)}")
    onednn = [switch for switch in on if switch not in tf32]
    if onednn and work == "fp32":
        found.append(f"label says {case.precision}, but oneDNN may shorten fp32: {', '.join(onednn)} is on")
    if work == "fp32" and (evidence.fpmath_mode or "STRICT").upper() not in ("STRICT", "F32"):
        found.append(
            f"label says {case.precision}, but the environment lets oneDNN shorten fp32 "
            f"(fpmath mode {evidence.fpmath_mode}); unset ONEDNN_DEFAULT_FPMATH_MODE"
        )
    return found


def _quantisation_contradictions(case: Case, evidence: Evidence) -> list[str]:
    if not PRECISIONS[case.precision].calibrated:
        return []
    if evidence.quantisation is None:
        return [f"label says {case.precision}, but nothing tells what was quantised, or calibrated on which images"]
    if not evidence.quantisation.operators:
        return [f"label says {case.precision}, but the quantiser quantised nothing: no operator ran in int8"]
    return []


def _placement_contradictions(device: Device, evidence: Evidence) -> list[str]:
    found = []
    here = place_of(device)
    elsewhere = {place: count for place, count in evidence.parameter_devices.items() if place != here}
    if elsewhere:
        listed = ", ".join(f"{count} on {place}" for place, count in elsewhere.items())
        found.append(f"label says device {here}, but parameters lie elsewhere: {listed}")
    if evidence.fallbacks:
        listed = ", ".join(f"{name} ({count})" for name, count in evidence.fallbacks.items())
        found.append(f"label says device {here}, but nodes fell back to another provider: {listed}")
    if not device.is_host and evidence.clock not in DEVICE_CLOCKS:
        found.append(
            f"label says device {here}, but the profile shows no kernel of it: "
            f"nothing ran there, or profiling it is not permitted"
        )
    return found


def _thread_contradictions(device: Device, evidence: Evidence) -> list[str]:
    """Compare the threads of the pools that ran on the host with the number that the run has for every engine."""
    asked = evidence.threads.get("asked")
    if asked is None or not device.is_host:
        return []
    ran = {name: evidence.threads[name] for name in ("intra_op", "openmp") if name in evidence.threads}
    return [
        f"the run is of {asked} threads, but {evidence.engine} has {count} ({name}); give a number that it takes with "
        f"--threads, or leave the number alone in the model's own code"
        for name, count in ran.items()
        if count != asked
    ][:1]
