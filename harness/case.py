"""The case: everything that changes what a number means. Owns its name; knows nothing of how it is run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product


@dataclass(frozen=True)
class Case:
    """Model x device x precision x batch x engine, and how many at once.

    `str(case)` is the test id, the `-k` vocabulary and the key in the JSON, such as
    `fbnetc_100-cpu-bf16-bs32-compile`; `-x4` at its end is four streams a device, `-r2` one replica on each of two.
    """

    model: str
    device: str
    precision: str
    batch: int
    engine: str
    streams: int = 1
    replicas: int = 1

    def __str__(self) -> str:
        several = f"-x{self.streams}" * (self.streams > 1) + f"-r{self.replicas}" * (self.replicas > 1)
        return f"{self.model}-{self.device}-{self.precision}-bs{self.batch}-{self.engine}{several}"

    @property
    def processes(self) -> int:
        """How many processes measure it together."""
        return self.streams * self.replicas

    def alone(self) -> Case:
        """The same case in one process."""
        return replace(self, streams=1, replicas=1)

    def flat(self) -> dict[str, str | int]:
        """The parts as scalars, in the order of the id."""
        return {
            "model": self.model,
            "device": self.device,
            "precision": self.precision,
            "batch": self.batch,
            "engine": self.engine,
            "streams": self.streams,
            "replicas": self.replicas,
        }

    def arguments(self) -> str:
        """The command-line options that select this case and no other."""
        several = f" --streams {self.streams}" * (self.streams > 1) + f" --replicas {self.replicas}" * (
            self.replicas > 1
        )
        return (
            f"--model {self.model} --device {self.device} --precision {self.precision} "
            f"--batch-size {self.batch} --engine {self.engine}{several}"
        )


@dataclass(frozen=True)
class Grid:
    """The matrix of cases: one tuple an axis, and of its cells those in `only`, None for all."""

    models: tuple[str, ...]
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    batches: tuple[int, ...]
    engines: tuple[str, ...]
    only: frozenset[Case] | None = None
    streams: tuple[int, ...] = (1,)
    replicas: tuple[int, ...] = (1,)

    def cases(self) -> Iterable[Case]:
        """The combinations, the model outermost, so that one model's cases stand together."""
        alone = (self.models, self.devices, self.precisions, self.batches, self.engines)
        cells = (Case(*parts) for parts in product(*alone, self.streams, self.replicas))
        return (case for case in cells if self.only is None or case.alone() in self.only)


# What a user gets who names a model and nothing else.
DEFAULT_PRECISIONS = ("fp32", "bf16")
DEFAULT_BATCHES = (1, 32)
DEFAULT_ENGINES = ("eager", "compile")
# What `all` means where the axis is open-ended.
ALL_BATCHES = (1, 8, 32, 128)
# `pytest` with nothing selected: about half a minute on two cores, so without a compiler run.
SMOKE_MODELS = ("fbnetc_100",)
SMOKE_BATCHES = (1,)
SMOKE_ENGINES = ("eager", "trace")
