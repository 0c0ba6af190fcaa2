"""The check of a training step's loss, gradients and changes against the same step in fp32, eager, on the CPU."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from harness.cases import PRECISIONS, Case
from harness.devices.cpu import Cpu
from harness.engines import eager
from harness.engines.torch.training import StepTerms
from harness.proof.contradictions import Contradiction
from models.tasks import WrongAnswers

# The SQNR of identical numbers, which have no noise.
EXACT_DB = 200.0
# The least SQNR of all gradients together, by the format of the work. They lie below what the formats reach and above
# what a mistake reaches; docs/training.md lists both. Rounding grows on the way back through a network, so that
# gradients are farther from fp32 than answers are.
GRADIENT_FLOORS_DB: Mapping[str, float] = {"fp32": 40.0, "tf32": 15.0, "bf16": 6.0, "fp16": 15.0}
# The least SQNR of the loss, which is a mean over images and classes and suffers less.
LOSS_FLOORS_DB: Mapping[str, float] = {"fp32": 60.0, "tf32": 40.0, "bf16": 20.0, "fp16": 40.0}
# A parameter whose gradient is below this share of the largest has none but for rounding, such as the bias of a
# convolution before a batch norm.
NEGLIGIBLE = 1e-5
# The least share of weights that a step has to change where they are cast to 16 bits: there a change under a 256th of a
# weight is rounded away. Those of norms, which are near 1, need not change at all.
LEAST_CHANGED_PCT = 50.0
NAMES_SHOWN = 3


@dataclass(frozen=True)
class StepReference:
    """The first step in fp32, eager, on the CPU: its loss, and the gradient of every parameter by its name."""

    loss: float
    gradients: Mapping[str, Tensor]


@dataclass(frozen=True)
class FirstStep:
    """How the first step compares with the reference's.

    Attributes:
        loss: the loss of the first step.
        loss_sqnr_db: the signal-to-quantisation-noise ratio of the loss, in dB.
        gradient_sqnr_db: that of all gradients together.
        worst_gradient_sqnr_db: that of the parameter whose gradient is worst, among those that are not negligible.
        worst_parameter: the name of that parameter.
        parameters: the number of parameters.
        parameters_changed: the number of parameters that the step changed.
    """

    loss: float
    loss_sqnr_db: float
    gradient_sqnr_db: float
    worst_gradient_sqnr_db: float
    worst_parameter: str
    parameters: int
    parameters_changed: int


def reference_step(module: nn.Module, images: Tensor, labels: Tensor, case: Case, terms: StepTerms) -> StepReference:
    """Return the first step of a module in fp32, eager, on the CPU. The module stays as it is.

    Args:
        module: the module in fp32 on the host.
        images: one batch of images, fp32 [batch, 3, h, w].
        labels: the classes of the images, [batch].
        case: the case that is compared with the reference.
        terms: the terms of the step.
    """
    alone = replace(terms, wrap=lambda one: one)
    label = replace(case, device="cpu", precision="fp32", engine="eager", settings=())
    device = Cpu()
    with device.settings("fp32"):
        step = eager.build_step(copy.deepcopy(module), (images, labels), label, device, alone)
        batch = step.put(images, labels)
        loss = step.forward(batch)
        step.backward(loss)
        gradients = {name: gradient for name, gradient in step.gradients().items() if gradient is not None}
        found = StepReference(float(loss.detach()), gradients)
        step.close()
    return found


def sqnr_db(reference: Tensor, found: Tensor) -> float:
    """Return the signal-to-quantisation-noise ratio of a tensor in dB; the noise is the difference from `reference`."""
    signal = float(reference.double().norm())
    noise = float((found.double() - reference.double()).norm())
    if not math.isfinite(noise):
        return -math.inf
    return EXACT_DB if noise == 0 else min(EXACT_DB, 20 * math.log10(max(signal, 1e-300) / noise))


def check_first_step(
    case: Case,
    reference: StepReference,
    loss: float,
    gradients: Mapping[str, Tensor | None],
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
) -> tuple[FirstStep | None, list[Contradiction | WrongAnswers]]:
    """Compare a first step with the reference's.

    Args:
        case: the label.
        reference: the same step of the reference.
        loss: the loss.
        gradients: the gradient of every parameter, None where there is none.
        before: the parameters before the step.
        after: the parameters after the step.

    Returns:
        the comparison, None where there is nothing to compare, and what is wrong with the step.
    """
    work = PRECISIONS[case.precision].work
    missing = [name for name in reference.gradients if gradients.get(name) is None]
    if missing:
        return None, [Contradiction(f"label says training, but {_named(missing)} got no gradient: frozen or detached")]
    found = {name: gradient for name, gradient in gradients.items() if gradient is not None}
    largest = max(float(gradient.norm()) for gradient in reference.gradients.values())
    weighty = {name for name, one in reference.gradients.items() if float(one.norm()) > NEGLIGIBLE * largest}
    problems: list[Contradiction | WrongAnswers] = []
    zero = [name for name in weighty if not bool(found[name].any())]
    if zero:
        problems.append(Contradiction(f"label says training, but {_named(sorted(zero))} got a gradient of zeros"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    stayed = sorted(weighty - changed)
    if PRECISIONS[case.precision].weights != "float32":  # see LEAST_CHANGED_PCT
        stayed = [name for name in stayed if before[name].dim() > 1]
        large = [name for name in weighty if before[name].dim() > 1]
        stayed = stayed if len(large) - len(stayed) < LEAST_CHANGED_PCT / 100 * len(large) else []
    if stayed:
        problems.append(
            Contradiction(f"label says training, but a step left {len(stayed)} of {len(weighty)} parameters as they "
                          f"were: {_named(stayed)}")
        )  # fmt: skip
    each = {name: sqnr_db(reference.gradients[name], found[name]) for name in weighty}
    worst = min(each, key=lambda name: each[name])
    order = sorted(reference.gradients)
    step = FirstStep(
        loss=loss,
        loss_sqnr_db=sqnr_db(torch.tensor(reference.loss), torch.tensor(loss)),
        gradient_sqnr_db=sqnr_db(
            torch.cat([reference.gradients[name].flatten() for name in order]),
            torch.cat([found[name].flatten() for name in order]),
        ),
        worst_gradient_sqnr_db=each[worst],
        worst_parameter=worst,
        parameters=len(before),
        parameters_changed=len(changed),
    )
    for what, value, floor in (
        ("loss", step.loss_sqnr_db, LOSS_FLOORS_DB[work]),
        ("gradients", step.gradient_sqnr_db, GRADIENT_FLOORS_DB[work]),
    ):
        if value < floor:
            problems.append(
                WrongAnswers(
                    f"the {what} of the first step {'is' if what == 'loss' else 'are'} {value:.1f} dB from fp32 on the "
                    f"CPU, the floor of {case.precision} is {floor:.0f} dB; farthest off is {worst} ({each[worst]:.1f})"
                )
            )
    return step, problems


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
