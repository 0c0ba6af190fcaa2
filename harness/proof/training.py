"""Preparing a training step: built, compiled, warmed up on one batch, profiled, and compared with fp32 on the CPU."""

from __future__ import annotations

import gc
import math
import re
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from harness.cases import Case
from harness.devices import Device, open_device
from harness.engines import Evidence, import_libraries, open_training
from harness.engines.torch.training import StepBatch, StepTerms, TorchTrainingStep
from harness.progress import ReportPhase, no_report
from harness.proof.contradictions import Contradiction, contradictions
from harness.proof.first_step import FirstStep, StepReference, check_first_step, reference_step
from harness.proof.preparation import identity_of, rotation
from harness.proof.warmup import SPAN, WARMUP_CAP_S, is_steady
from models.build import build_module, import_source
from models.catalog import ModelSpec
from models.tasks import WrongAnswers, task_of

# The step of the row. It is short enough for a network with random weights, and long enough for the loss to fall.
RATE, MOMENTUM, WEIGHT_DECAY = 0.001, 0.9, 1e-4
# Warm-up repeats one batch, whose loss has to fall by this share at least. It takes this many steps or more.
LEAST_FALL_PCT = 2.0
LEAST_STEPS = 5
LABEL_SEED = 1

# How libraries name the layers that drop at a rate `p`.
_DROPS = re.compile("Drop|StochasticDepth")

StepReferenceOf = Callable[[Callable[[], StepReference]], StepReference]


@dataclass
class PreparedStep:
    """A training step that is ready to be measured.

    Attributes:
        case: the label.
        spec: the catalogue row of the model.
        step: the compiled and warmed-up step.
        batches: different batches of images and classes on the device.
        facts: what preparing cost and what the model is, for the record.
        forward: what the profile of the forward pass showed.
        backward: what the profile of the backward pass showed.
        first: how the first step compares with the reference's; None if it cannot be compared.
        losses: the losses of the warm-up steps, which are all of one batch.
        problems: what denies the label; empty if the label is proven.
        compilations: the number of graphs that were compiled until the end of preparation.
        held: releases everything that the case holds.
    """

    case: Case
    spec: ModelSpec
    step: TorchTrainingStep
    batches: Sequence[StepBatch]
    facts: dict[str, Any]
    forward: Evidence
    backward: Evidence
    first: FirstStep | None
    losses: Sequence[float]
    problems: Sequence[Contradiction | WrongAnswers]
    compilations: int
    held: ExitStack = field(default_factory=ExitStack)

    def require_proof(self) -> None:
        """Check that nothing denies the label.

        Raises:
            Contradiction: something other than what the label says ran, or it did not train.
            WrongAnswers: the loss or the gradients disagree with the reference.
        """
        __tracebackhide__ = True
        if self.problems:
            raise type(self.problems[0])(f"{self.case}: " + "; ".join(map(str, self.problems)))

    def require_no_recompilation(self) -> None:
        """Check that no graph was compiled since the case was prepared.

        Raises:
            Contradiction: graphs were compiled; the message gives their number.
        """
        __tracebackhide__ = True
        more = self.step.compilations() - self.compilations
        if more:
            raise Contradiction(f"{self.case}: {more} graphs were compiled inside the timed steps")

    def record(self) -> dict[str, Any]:
        """Return what a reader needs beside a number, JSON-serialisable: case, cost, evidence and identity."""
        return {
            "case": str(self.case),
            **self.case.flat(),
            **self.facts,
            "evidence": {
                **self.forward.as_dict(),
                "backward": {
                    "dtype_share_pct": self.backward.dtype_share_pct,
                    "matrix_ops": self.backward.matrix_ops,
                    "clock": self.backward.clock,
                },
                "first_step": None if self.first is None else asdict(self.first),
                "warmup_losses": list(self.losses),
            },
        }

    def close(self) -> None:
        """Release everything that the case holds."""
        self.batches = ()
        self.held.close()


def step_terms() -> StepTerms:
    """Return the terms of the step that a row measures: SGD with momentum and weight decay, mean cross-entropy."""

    def optimiser(module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(module.parameters(), RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)

    return StepTerms(optimiser, nn.functional.cross_entropy)


def without_dropout(module: nn.Module) -> int:
    """Set the rate of every dropout to 0, and return their number. What they drop is not the same on two engines.

    Stochastic depth, which drops a whole branch, is one of them.
    """
    rates = {"p": [layer for layer in module.modules() if hasattr(layer, "p") and _DROPS.search(type(layer).__name__)]}
    rates["drop_prob"] = [layer for layer in module.modules() if hasattr(layer, "drop_prob")]
    for name, layers in rates.items():
        for layer in layers:
            setattr(layer, name, 0.0)
    return sum(map(len, rates.values()))


def prepare_step(
    case: Case, spec: ModelSpec, weights: str | Path, reference_of: StepReferenceOf, report: ReportPhase = no_report
) -> PreparedStep:
    """Build, compile, warm up, profile and check the training step of a case.

    What the checks deny raises nothing here: `PreparedStep.require_proof` raises it.

    Args:
        case: the case to prepare.
        spec: the catalogue row of its model.
        weights: `random`, `pretrained` or the path of a file.
        reference_of: returns the reference's first step, given the function that computes it.
        report: called with a description of each step, for a progress line.
    """
    device = open_device(case.device)
    with ExitStack() as held:
        held.callback(device.release)
        held.callback(gc.collect)
        held.enter_context(device.settings(case.precision))
        report("loading")
        import_source(spec)
        import_libraries(case.engine, case.precision)
        built = build_module(spec, weights)
        dropouts = without_dropout(built.module)
        count = rotation(case.images)
        images = task_of(spec).generated(spec, case.images * count)
        classes = _classes(built.module, images[:2])
        labels = torch.randint(classes, (len(images),), generator=torch.Generator().manual_seed(LABEL_SEED))
        first_images, first_labels = images[: case.images], labels[: case.images]
        terms = step_terms()
        report("one step in fp32 on the CPU")
        reference = reference_of(lambda: reference_step(built.module, first_images, first_labels, case, terms))

        report("placing" if case.engine == "eager" else "compiling")
        gc.collect()
        device.release()
        device.reset_peak_memory()
        began = perf_counter()
        step = open_training(case.engine).build_step(built.module, (first_images, first_labels), case, device, terms)
        held.callback(step.close)
        batches = [step.put(*pair) for pair in zip(images.split(case.images), labels.split(case.images), strict=True)]
        before = step.parameters()
        problems: list[Contradiction | WrongAnswers] = []
        try:
            loss = float(step.submit(batches[0]))
        except RuntimeError as error:  # autograd's words for a loss that depends on no parameter
            if "does not require grad" not in str(error):
                raise
            raise Contradiction(f"{case}: label says training, but the loss is detached: {error}") from None
        compile_s = perf_counter() - began
        first, wrong = check_first_step(case, reference, loss, step.gradients(), before, step.parameters())
        problems += wrong

        report("warming up")
        losses, rounds_s = _warm_up(step, device, batches[0], loss)
        peak = device.peak_memory()
        problems += _fallen(losses)
        report("profiling the two passes")
        forward, backward = step.evidence(batches[0])
        for word, evidence in (("forward", forward), ("backward", backward)):
            problems += [Contradiction(f"{word} pass: {text}") for text in contradictions(case, device, evidence)]
        facts = {
            "load_s": built.load_s,
            "alive_s": built.alive_s,
            "compile_s": compile_s,
            "warmup_s": sum(rounds_s),
            "warmup_rounds": len(rounds_s),
            "warmup_steady": is_steady(rounds_s),
            "step_s": statistics.median(rounds_s[-SPAN:]),
            "peak_memory_mib": None if peak is None else peak / 2**20,
            "unique_batches": count,
            "optimiser": f"SGD, rate {RATE:g}, momentum {MOMENTUM:g}, weight decay {WEIGHT_DECAY:g}",
            "dropouts_off": dropouts,
            "identity": identity_of(spec, built),
        }
        compilations = step.compilations()
        return PreparedStep(
            case, spec, step, batches, facts, forward, backward, first, losses, problems, compilations, held.pop_all()
        )


def _classes(module: nn.Module, images: torch.Tensor) -> int:
    with torch.no_grad():
        return int(module(images).shape[1])


def _warm_up(step: TorchTrainingStep, device: Device, batch: StepBatch, loss: float) -> tuple[list[float], list[float]]:
    """Repeat one batch until the steps are steady or a cap is reached. Returns the losses and each step's seconds."""
    losses, rounds_s = [loss], list[float]()
    while len(losses) < LEAST_STEPS or (sum(rounds_s) < WARMUP_CAP_S and not is_steady(rounds_s)):
        began = perf_counter()
        loss_on_device = step.submit(batch)
        device.synchronize()
        rounds_s.append(perf_counter() - began)
        losses.append(float(loss_on_device))
    return losses, rounds_s


def _fallen(losses: Sequence[float]) -> list[Contradiction]:
    """Return what is wrong with the losses of steps that repeat one batch; empty if they are finite and fell."""
    told = ", ".join(f"{loss:.3f}" for loss in losses[: LEAST_STEPS + 1])
    if not all(map(math.isfinite, losses)):
        return [Contradiction(f"label says training, but the loss of one batch repeated is not finite: {told}")]
    if min(losses[1:]) > losses[0] * (1 - LEAST_FALL_PCT / 100):
        return [Contradiction(f"label says training, but the loss of one batch repeated did not fall: {told}")]
    return []
