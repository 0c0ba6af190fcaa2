"""The case: everything that changes what a number means, and its name. Knows nothing of how a case is run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from harness.cases.precision import PRECISIONS

# A setting is a word at the end of an id. `x4` and `r2` at that place are streams and replicas.
_SETTING = re.compile(r"(?!x\d+$|r\d+$)[a-z][a-z0-9]*")
_ID = re.compile(
    r"(?P<model>.+)-(?P<device>[a-z][a-z0-9]*(?::\d+)?)"
    rf"-(?P<precision>{'|'.join(PRECISIONS)})-bs(?P<batch>[1-9]\d*)-(?P<engine>[a-z][a-z0-9_]*)"
    r"(?:-x(?P<streams>[1-9]\d*))?(?:-r(?P<replicas>[1-9]\d*))?(?P<settings>(?:-[a-z][a-z0-9]*)*)"
)


class NoCase(ValueError):
    """A text that is the id of no case."""


@dataclass(frozen=True)
class Case:
    """A model on a device, in a precision, at a batch size, on an engine, and how many of it at once.

    `str(case)` is the test id, what `-k` selects by, and the key in the JSON, such as
    `fbnetc_100-cpu-bf16-bs32-compile`. `-x4` behind it means four streams on each device, `-r2` one replica on each of
    two devices. Settings follow as words.

    Attributes:
        model: name in the catalogue, `timm:NAME` or `torchvision:NAME`.
        device: `cpu`, `cuda`, `cuda:1` …
        precision: a name of `PRECISIONS`.
        batch: images in one batch.
        engine: a name of the register of engines.
        streams: processes at once on each device.
        replicas: devices that are used at once.
        settings: words for what changes the number and not every case has; kept sorted, each once.
    """

    model: str
    device: str
    precision: str
    batch: int
    engine: str
    streams: int = 1
    replicas: int = 1
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Sort the settings.

        Raises:
            NoCase: a setting could not be read back out of the id.
        """
        for word in self.settings:
            if not _SETTING.fullmatch(word):
                raise NoCase(f"{word!r} cannot be a setting: it has to be a lower-case word, and not x4 or r2")
        object.__setattr__(self, "settings", tuple(sorted(set(self.settings))))

    def __str__(self) -> str:
        several = f"-x{self.streams}" * (self.streams > 1) + f"-r{self.replicas}" * (self.replicas > 1)
        words = "".join(f"-{word}" for word in self.settings)
        return f"{self.model}-{self.device}-{self.precision}-bs{self.batch}-{self.engine}{several}{words}"

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case that has this id: the inverse of `str`.

        Raises:
            NoCase: the text is no id.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise NoCase(f"{text!r} is no case; an id is MODEL-DEVICE-PRECISION-bsN-ENGINE")
        return cls(
            match["model"],
            match["device"],
            match["precision"],
            int(match["batch"]),
            match["engine"],
            int(match["streams"] or 1),
            int(match["replicas"] or 1),
            tuple(match["settings"].split("-")[1:]),
        )

    @property
    def images(self) -> int:
        """How many images one submit takes."""
        return self.batch

    @property
    def processes(self) -> int:
        """How many processes measure the case together."""
        return self.streams * self.replicas

    @property
    def device_kind(self) -> str:
        """The device without its index: `cuda` of `cuda:1`."""
        return self.device.partition(":")[0]

    @property
    def is_reference(self) -> bool:
        """Whether this is what candidates are compared with, whatever the batch: fp32 on the CPU, eager."""
        return (self.device, self.precision, self.engine, self.settings) == ("cpu", "fp32", "eager", ())

    def alone(self) -> Case:
        """The same case in one process."""
        return replace(self, streams=1, replicas=1)

    def flat(self) -> dict[str, str | int]:
        """The parts as scalars, in the order of the id; settings are joined by spaces."""
        return {
            "model": self.model,
            "device": self.device,
            "precision": self.precision,
            "batch": self.batch,
            "engine": self.engine,
            "streams": self.streams,
            "replicas": self.replicas,
            "settings": " ".join(self.settings),
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
    """The matrix of cases: a tuple for each axis. `only` names the cells that count, None for all of them."""

    models: tuple[str, ...]
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    batches: tuple[int, ...]
    engines: tuple[str, ...]
    only: frozenset[Case] | None = None
    streams: tuple[int, ...] = (1,)
    replicas: tuple[int, ...] = (1,)

    def cases(self) -> Iterable[Case]:
        """The combinations, with the model outermost, so that the cases of one model stand together."""
        alone = (self.models, self.devices, self.precisions, self.batches, self.engines)
        cells = (Case(*parts) for parts in product(*alone, self.streams, self.replicas))
        return (case for case in cells if self.only is None or case.alone() in self.only)
