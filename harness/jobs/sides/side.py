"""What the second side of a comparison has that the first has not: the words of `--against`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cases import Case
from harness.host.cores import threads_in

THREADS = "OMP_NUM_THREADS"
_NEXT_WORD = re.compile(r",(?=(?:engine|precision|env|rev)=|env:\w+=)")
_VARIABLE = re.compile(r"env:([A-Za-z_]\w*)")
FORMS = "engine=NAME, precision=NAME, env=FOLDER, rev=REVISION or env:NAME=VALUE"


@dataclass(frozen=True)
class Side:
    """One side of a comparison: what differs from the case as selected, in this environment and this checkout.

    Attributes:
        words: the words that say so, empty for the side as selected.
        engine: another engine.
        precision: another precision.
        environment: the folder of another virtual environment.
        revision: another revision of this checkout.
        variables: variables of the environment, which its process has from the beginning.
        threads: the number of threads that these ask for, None if they do not.
    """

    words: str = ""
    engine: str | None = None
    precision: str | None = None
    environment: Path | None = None
    revision: str | None = None
    variables: tuple[tuple[str, str], ...] = ()
    threads: int | None = None

    def case(self, selected: Case) -> Case:
        """Return the case of this side."""
        return replace(selected, engine=self.engine or selected.engine, precision=self.precision or selected.precision)

    @property
    def is_of_elsewhere(self) -> bool:
        """Whether this environment and this checkout cannot tell which engines and precisions there are."""
        return self.environment is not None or self.revision is not None


def parse_side(text: str) -> Side:
    """Read the words of a side, which are joined by commas: `engine=compile,env:KMP_BLOCKTIME=0`.

    Raises:
        ValueError: they say nothing, or something twice, or are none of `FORMS`; the message says what is wrong.
    """
    found: dict[str, str] = {}
    for word in _NEXT_WORD.split(text.strip()):
        name, equals, value = word.strip().partition("=")
        is_known = name in ("engine", "precision", "env", "rev") or _VARIABLE.fullmatch(name)
        if not (is_known and equals) or (not value and not name.startswith("env:")):
            raise ValueError(f"{word!r} is no side: give {FORMS}, several joined by commas")
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = value
    variables = tuple((name.partition(":")[2], value) for name, value in found.items() if name.startswith("env:"))
    environment = found.get("env")
    return Side(
        text.strip(),
        found.get("engine"),
        found.get("precision"),
        None if environment is None else Path(environment).expanduser().absolute(),
        found.get("rev"),
        variables,
        threads_in(found.get(f"env:{THREADS}", ""), f"env:{THREADS}"),
    )


def python_of(environment: Path) -> Path:
    """Return the Python of a virtual environment.

    Raises:
        ValueError: the folder holds none.
    """
    for name in ("bin/python", "Scripts/python.exe"):
        if (environment / name).is_file():
            return environment / name
    raise ValueError(f"env={environment} has no bin/python: give the folder of a virtual environment")
