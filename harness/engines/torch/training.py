"""The training step of torch's engines: forward pass, loss, backward pass and optimiser step, whole and in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.cases import PRECISIONS, Case
from harness.devices import Device, forked_generators
from harness.engines.evidence import Evidence
from harness.engines.torch.layout import CHANNELS_LAST, CONTIGUOUS, Layout, known_layout, timed_layout
from harness.engines.torch.profiler import Event, matrix_work, profile_step
from harness.engines.torch.runner import (
    PROFILER_ACTIVITIES,
    StepFindings,
    autocast,
    evidence_of,
    not_a_torch_device,
    place,
    put,
)

# The scale that the losses of fp16 begin with. torch's own default overflows in the first steps, which are then lost.
FIRST_SCALE = 1024.0
StepBatch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class StepTerms:
    """What a training step does beside the model.

    Attributes:
        optimiser: returns the optimiser of a module that is in its place.
        loss: returns the mean loss of logits [n, classes], given the classes [n].
        keeps_batchnorm: whether batch norms stay in evaluation mode, so that their statistics do not change.
        wrap: returns the module that is called in place of the module, such as one that averages gradients.
        agree: returns the layout, given the function that tries both: what several processes have in common, or what a
            run before had. It is called where no layout is known to win.
    """

    optimiser: Callable[[nn.Module], torch.optim.Optimizer]
    loss: Callable[[Tensor, Tensor], Tensor]
    keeps_batchnorm: bool = False
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    agree: Callable[[Callable[[], Layout]], Layout] = lambda trial: trial()


def trains(engine: str, device: Device, precision: str) -> str | None:
    """Return None, or the reason why an engine of torch does not train on a device in a precision."""
    if reason := not_a_torch_device(engine, device) or device.supports(precision):
        return reason
    if PRECISIONS[precision].calibrated:
        return "int8 is for inference: train in fp32, tf32, bf16, amp_bf16 or amp_fp16"
    if precision == "fp16":
        return "gradients of a model that is cast to fp16 vanish: use amp_fp16, which scales the loss, or bf16"
    return None


def set_training(module: nn.Module, *, keeps_batchnorm: bool) -> None:
    """Put a module into training mode, but for its batch norms where they are kept."""
    module.train()
    if keeps_batchnorm:
        for layer in module.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()


def place_for_training(
    module: nn.Module, images: Tensor, labels: Tensor, case: Case, device: Device, terms: StepTerms
) -> tuple[nn.Module, Layout]:
    """Move a module to its device, in training mode and in the layout that is known to win or wins a timed trial.

    The trial takes turns of forward and backward passes in eager mode. It changes no weight and no random state, and
    `terms.agree` decides whether it is needed.

    Args:
        module: the module in fp32 on the host.
        images: one batch of images, fp32 [batch, 3, h, w] on the host.
        labels: the classes of the images, [batch].
        case: the label.
        device: the device.
        terms: the terms of the step.
    """
    placed = place(module, case, device).requires_grad_(True)
    set_training(placed, keeps_batchnorm=terms.keeps_batchnorm)
    layout = known_layout(placed, is_host=device.is_host)
    if layout is None:
        layout = terms.agree(lambda: _tried_layout(placed, images, labels, case, device, terms))
    return placed.to(memory_format=layout.memory_format), layout


def _tried_layout(
    placed: nn.Module, images: Tensor, labels: Tensor, case: Case, device: Device, terms: StepTerms
) -> Layout:
    """Return the layout in which forward and backward passes of copies of a placed module are faster."""
    tried = {
        name: deepcopy(placed).to(memory_format=Layout(name).memory_format) for name in (CHANNELS_LAST, CONTIGUOUS)
    }

    def trial(name: str) -> Callable[[], None]:
        batch, classes = put(images, case, device, Layout(name)), device.put(labels)

        def run() -> None:
            with autocast(case, device):
                loss = terms.loss(tried[name](batch), classes)
            loss.backward()
            device.synchronize()

        return run

    with forked_generators(device):  # the number of passes differs from trial to trial, and with it what they draw
        layout = timed_layout({name: trial(name) for name in tried})
    tried.clear()
    device.release()
    device.reset_peak_memory()  # what the trial took is no part of the row's memory
    return layout


class TorchTrainingStep:
    """A module with its optimiser. `submit` is the whole step, and the other methods are its parts, in their order."""

    def __init__(
        self,
        module: nn.Module,
        called: nn.Module,
        case: Case,
        device: Device,
        terms: StepTerms,
        layout: Layout,
        *,
        prove: Callable[[list[Event]], StepFindings],
        forward: Callable[[Tensor], Tensor] | None = None,
        compilations: Callable[[], int] = lambda: 0,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """Take over a placed module.

        Args:
            module: the module that holds the parameters, in its place and in training mode.
            called: what is called in its place, from `terms.wrap`.
            case: the label.
            device: the device.
            terms: the terms of the step.
            layout: the layout of images and weights.
            prove: returns what the profile of a pass shows.
            forward: computes the logits, with gradients; None for `called` itself.
            compilations: returns the number of graphs compiled so far.
            on_close: releases what the engine itself holds.
        """
        self.module = module
        self.called = called
        self.layout = layout
        self.optimiser = terms.optimiser(module)
        self.compilations = compilations
        self._forward = called if forward is None else forward
        self.device = device
        self._case, self._terms = case, terms
        self._prove, self._on_close = prove, on_close
        is_fp16 = PRECISIONS[case.precision].autocast == "float16"
        self._scaler = torch.amp.GradScaler(device.kind, init_scale=FIRST_SCALE) if is_fp16 else None

    def put(self, images: Tensor, labels: Tensor) -> StepBatch:
        """Return images, fp32 [n, 3, h, w], and classes [n] on the device, as `submit` takes them."""
        return put(images, self._case, self.device, self.layout), self.device.put(labels)

    def submit(self, batch: StepBatch) -> Tensor:
        """Start one whole step and return its loss, on the device. The gradients stay until the next step."""
        self.clear()
        loss = self.forward(batch)
        self.backward(loss)
        self.update()
        return loss.detach()

    def clear(self) -> None:
        """Drop the gradients of the step before."""
        self.optimiser.zero_grad(set_to_none=True)

    def forward(self, batch: StepBatch) -> Tensor:
        """Compute the loss, with autocast where the precision says so."""
        images, labels = batch
        with autocast(self._case, self.device):
            return self._terms.loss(self._forward(images), labels)

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    def update(self) -> None:
        """Let the optimiser change the parameters. The scale of fp16 is taken off the gradients before."""
        if self._scaler is None:
            self.optimiser.step()
            return
        self._scaler.unscale_(self.optimiser)
        self._scaler.step(self.optimiser)
        self._scaler.update()

    def synchronize(self) -> None:
        """Wait until all submitted work is done."""
        self.device.synchronize()

    def gradients(self) -> dict[str, Tensor | None]:
        """Return the gradient of every parameter by its name, fp32 on the host; None where there is none."""
        found = self.module.named_parameters()
        return {name: None if p.grad is None else p.grad.detach().float().cpu() for name, p in found}

    def parameters(self) -> dict[str, Tensor]:
        """Return a copy of every parameter by its name, on the host."""
        return {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.module.named_parameters()}

    def scaler_state(self) -> dict[str, Any]:
        """Return the state of the scale of fp16's losses, which is empty for the other precisions."""
        return {} if self._scaler is None else dict(self._scaler.state_dict())

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        """Go on with the scale of an earlier run."""
        if self._scaler is not None:
            self._scaler.load_state_dict(state)

    def evidence(self, batch: StepBatch) -> tuple[Evidence, Evidence]:
        """Profile the two passes of one more step, which changes no parameter; return what each of them shows."""
        losses: list[Tensor] = []

        def forwards() -> None:
            losses.append(self.forward(batch))
            self.synchronize()

        def backwards() -> None:
            self.backward(losses[0])
            self.synchronize()

        self.clear()
        activity = PROFILER_ACTIVITIES[self.device.kind]
        with _same_statistics(self.module):
            found = [self._evidence(profile_step(step, activity)) for step in (forwards, backwards)]
        self.clear()
        return found[0], found[1]

    def _evidence(self, events: list[Event]) -> Evidence:
        return evidence_of(self.module, self.device, self.layout, matrix_work(events), self._prove(events))

    def close(self) -> None:
        """Release the model and what the engine holds."""
        self.optimiser.state.clear()
        self.optimiser.param_groups.clear()
        self.module = self.called = nn.Module()
        del self._forward, self._prove
        self._on_close()


@contextmanager
def _same_statistics(module: nn.Module) -> Iterator[None]:
    """Put every buffer of a module, such as a batch norm's running statistics, back on leaving."""
    before = [buffer.detach().clone() for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, was in zip(module.buffers(), before, strict=True):
                buffer.copy_(was)
