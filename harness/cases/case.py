"""The case, which is everything that changes the meaning of a measured number, its id, and the grid of cases."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from harness.cases.precision import PRECISIONS
from harness.cases.setting import REPLICATING_ENGINES, device_iterations, option_of

# A setting is a word at the end of an id. `x4` and `r2` in that position mean streams and replicas instead.
_WORD = r"[a-z][A-Za-z0-9:+._]*"
_SETTING = re.compile(rf"(?!x\d+$|r\d+$){_WORD}")
_ID = re.compile(
    r"(?P<model>.+)-(?P<device>[a-z][a-z0-9]*(?::\d+)?)"
    rf"-(?P<precision>{'|'.join(PRECISIONS)})-bs(?P<batch>[1-9]\d*)-(?P<engine>[a-z][a-z0-9_]*)"
    rf"(?:-x(?P<streams>[1-9]\d*))?(?:-r(?P<replicas>[1-9]\d*))?(?P<settings>(?:-{_WORD})*)"
)


class NoCase(ValueError):
    """The text is not a valid case id, or a word cannot be a setting."""


@dataclass(frozen=True)
class Case:
    """A model on a device, in a precision, at a batch size, on an engine, and how many copies run at once.

    `str(case)` is the test id, what `-k` selects by, and the key in the JSON, such as
    `fbnetc_100-cpu-bf16-bs32-compile`. An appended `-x4` means four streams on each device, and `-r2` means one replica
    on each of two devices. Settings follow as words.

    Attributes:
        model: the name in the catalogue, or `timm:NAME` or `torchvision:NAME`.
        device: the device's name, such as `cpu`, `cuda` or `cuda:1`.
        precision: a key of `PRECISIONS`.
        batch: the number of images in one batch.
        engine: the name of an engine in the register of engines.
        streams: the number of processes that run at once on each device.
        replicas: the number of devices that are used at once.
        settings: words for optional properties that change the measured number; sorted and without duplicates.
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
        """Sort the settings and remove duplicates.

        Raises:
            NoCase: a setting could not be parsed back from the id.
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
        """Return the case that has this id. This is the inverse of `str`.

        Raises:
            NoCase: the text is not a case id.
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
        """The number of images that one call of `submit` takes."""
        replicas = self.replicas if self.engine in REPLICATING_ENGINES else 1
        return self.batch * device_iterations(self.settings) * replicas

    @property
    def processes(self) -> int:
        """The number of processes that measure the case together."""
        return self.streams * (1 if self.engine in REPLICATING_ENGINES else self.replicas)

    @property
    def device_kind(self) -> str:
        """The device without its index, such as `cuda` for `cuda:1`."""
        return self.device.partition(":")[0]

    @property
    def is_reference(self) -> bool:
        """Whether this case is the reference that others are compared with: fp32, eager, on the CPU, at any batch."""
        return (self.device, self.precision, self.engine, self.settings) == ("cpu", "fp32", "eager", ())

    def alone(self) -> Case:
        """Return the same case in one process: with one stream, and with the replicas of that process alone."""
        return replace(self, streams=1, replicas=self.replicas if self.engine in REPLICATING_ENGINES else 1)

    def flat(self) -> dict[str, str | int]:
        """Return the parts as scalars, in the order of the id, with the settings joined by spaces."""
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
        """Return the command-line options that select only this case."""
        several = f" --streams {self.streams}" * (self.streams > 1) + f" --replicas {self.replicas}" * (
            self.replicas > 1
        )
        return (
            f"--model {self.model} --device {self.device} --precision {self.precision} "
            f"--batch-size {self.batch} --engine {self.engine}{several}"
            + "".join(f" {option_of(word)}" for word in self.settings)
        )


@dataclass(frozen=True)
class Grid:
    """The matrix of cases, with a tuple of values for each axis.

    If `only` is not None, the grid is limited to those cases, which are compared without streams and replicas. The
    cases of `more` are added to it, wherever they lie. Each value of `settings` is the settings of a case together.
    """

    models: tuple[str, ...]
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    batches: tuple[int, ...]
    engines: tuple[str, ...]
    only: frozenset[Case] | None = None
    streams: tuple[int, ...] = (1,)
    replicas: tuple[int, ...] = (1,)
    more: tuple[Case, ...] = ()
    settings: tuple[tuple[str, ...], ...] = ((),)

    def cases(self) -> Iterable[Case]:
        """Return all cases, with the model as the outermost axis, so that the cases of one model are adjacent."""
        alone = (self.models, self.devices, self.precisions, self.batches, self.engines)
        cells = (Case(*parts) for parts in product(*alone, self.streams, self.replicas, self.settings))
        found = (case for case in cells if self.only is None or case.alone() in self.only)
        return dict.fromkeys([*found, *self.more]) if self.more else found
