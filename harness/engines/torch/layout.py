"""The layout of images and convolution weights: channels last or contiguous, known to win or timed against the other.

Channels last won for every convolutional network measured on CPUs, so there it is known. On a GPU the winner depends on
the model, the format and the library's kernels, and in a network of linear layers nothing is known of either layout.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

import torch

CHANNELS_LAST, CONTIGUOUS = "channels_last", "contiguous"
_FORMATS = {CHANNELS_LAST: torch.channels_last, CONTIGUOUS: torch.contiguous_format}
# A trial lasts this many rounds of each layout, and fewer once it has taken this long, but never less than the least.
TRIAL_ROUNDS = 10
LEAST_ROUNDS = 3
TRIAL_CAP_S = 2.0


@dataclass(frozen=True)
class Layout:
    """A layout and the reason for it.

    Attributes:
        name: `channels_last` or `contiguous`.
        why: what chose it, for the record.
    """

    name: str = CHANNELS_LAST
    why: str = "given"

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout as torch names it."""
        return _FORMATS[self.name]


# Where no engine has chosen: channels last, as images of three channels are laid out by most decoders.
GIVEN = Layout()


def known_layout(module: torch.nn.Module, *, is_host: bool) -> Layout | None:
    """Return the layout that is known to win for a module, or None where a trial has to tell.

    Args:
        module: the module.
        is_host: whether it runs on the processor and not on an accelerator.
    """
    layers = list(module.modules())
    convolutions = sum(isinstance(layer, torch.nn.Conv2d) for layer in layers)
    products = sum(isinstance(layer, torch.nn.Linear) for layer in layers)
    if not convolutions and not any(parameter.dim() == 4 for parameter in module.parameters()):
        return Layout(CONTIGUOUS, "no convolution, so no weight has another layout")
    if is_host and convolutions > products:
        return Layout(CHANNELS_LAST, "known to win for convolutional networks on CPUs")
    return None


def timed_layout(steps: Mapping[str, Callable[[], None]], clock: Callable[[], float] = perf_counter) -> Layout:
    """Return the faster layout by the median of rounds that take turns.

    Args:
        steps: runs one step in each layout, by its name; returns when the step is done.
        clock: returns the time in seconds.
    """
    times_s: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():  # libraries search for kernels in the first steps
        step()
        step()
    began = clock()
    for done in range(TRIAL_ROUNDS):
        if done >= LEAST_ROUNDS and clock() - began > TRIAL_CAP_S:
            break
        for name in list(steps)[:: 1 if done % 2 else -1]:
            before = clock()
            steps[name]()
            times_s[name].append(clock() - before)
    medians = {name: statistics.median(times) for name, times in times_s.items()}
    rounds = min(map(len, times_s.values()))
    told = ", ".join(f"{name} {1e3 * seconds:.3f} ms" for name, seconds in medians.items())
    return Layout(min(medians, key=lambda name: medians[name]), f"the faster of {rounds} eager rounds each: {told}")
