"""The kept choice: which engine and precision were the fastest that were right, and under which conditions.

There is one file for each model, device, batch size and weights. A choice is worth nothing on another machine or with
other library versions, threads or weights: `differences` names what changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cases import Case
from harness.files import RESULTS, write_whole

# Format history of the file:
#   1  first
SCHEMA = 1
# The parts of a device's description that change by the minute.
_PASSING = {"governor"}
# The folder of the kept choices unless another is named.
DEFAULT_CHOICES = RESULTS / "best"
# The name, among the conditions, of the model's weights and preprocessing.
IDENTITY = "identity"


class NoChoice(ValueError):
    """No choice that holds here is kept; the message says why."""


@dataclass(frozen=True)
class Choice:
    """What was chosen, and under which conditions it holds.

    Attributes:
        cases: for each objective (`latency`, `throughput`), the chosen case.
        numbers: for each objective, the number for which the case was chosen.
        conditions: the conditions under which the choice holds; see `conditions_of`.
        missing: the cases that failed by accident, and so did not compete.
    """

    cases: Mapping[str, Case]
    numbers: Mapping[str, float]
    conditions: Mapping[str, Any]
    missing: tuple[str, ...]


def conditions_of(environment: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Return what in a run's environment decides which row is fastest, serialisable as JSON.

    Args:
        environment: the result of `environment.describe_environment`.
        device: the device's name in the case.
    """
    described: Mapping[str, Any] = environment["devices"][device]
    return {
        "machine": environment["machine"]["node"],
        "device": {key: value for key, value in described.items() if key not in _PASSING},
        "threads": {
            "intra_op": environment["threads"]["intra_op"],
            "cores": len(environment["threads"]["usable_cores"] or ()) or None,
        },
        "variables": dict(environment["variables"]),
        "libraries": dict(environment["libraries"]),
    }


def choice_path(folder: Path, model: str, device: str, batch: int, weights: str | Path, torch: str) -> Path:
    """Return the file that keeps the choice for these, with a name that tells what it is for.

    Args:
        folder: the folder of all choices.
        model: the model of the case.
        device: the device of the case.
        batch: the batch size of the case.
        weights: `random`, `pretrained` or a file.
        torch: the version of torch, so that two environments keep a choice each.
    """
    of = weights if isinstance(weights, str) else weights.name
    name = f"{model}-{device}-bs{batch}-{of}-torch{torch}.json"
    return folder / name.replace(":", "_").replace("/", "_")


def keep(path: Path, choice: Choice) -> None:
    """Write a choice, whole or not at all."""
    written = {
        "schema": SCHEMA,
        "chosen": {aim: {**case.flat(), "value": choice.numbers[aim]} for aim, case in choice.cases.items()},
        "circumstances": choice.conditions,
        "missing": list(choice.missing),
    }
    write_whole(path, json.dumps(written, indent=1) + "\n")


def read(path: Path) -> Choice:
    """Return a choice as it was kept.

    Raises:
        NoChoice: if there is none, or if the file does not hold a choice.
    """
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        if written["schema"] != SCHEMA:
            raise NoChoice(f"{path.name} is of format {written['schema']}, this is {SCHEMA}")
        chosen = {
            aim: Case(
                model=part["model"],
                device=part["device"],
                precision=part["precision"],
                batch=part["batch"],
                engine=part["engine"],
                settings=tuple(part.get("settings", "").split()),
            )
            for aim, part in written["chosen"].items()
        }
        numbers = {aim: float(part["value"]) for aim, part in written["chosen"].items()}
        return Choice(chosen, numbers, dict(written["circumstances"]), tuple(written["missing"]))
    except FileNotFoundError:
        raise NoChoice(f"no choice is kept in {path.name}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, NoChoice):
            raise
        raise NoChoice(f"{path.name} is damaged ({type(error).__name__}: {error})") from None


def differences(kept: Mapping[str, Any], here: Mapping[str, Any], at: str = "") -> list[str]:
    """Return what differs between here and where the choice was made, each with both values.

    Args:
        kept: the conditions of the choice.
        here: the conditions of this run.
        at: the names of the conditions around nested ones, for the messages.
    """
    found = []
    for key in sorted({*kept, *here}):
        then, now = kept.get(key), here.get(key)
        if isinstance(then, Mapping) and isinstance(now, Mapping):
            found.extend(differences(then, now, f"{at}{key} "))
        elif json.dumps(then) != json.dumps(now):  # what was read back has lists in place of tuples
            found.append(f"{at}{key} was {_word(then)}, is {_word(now)}")
    return found


def _word(value: Any) -> str:
    return "absent" if value is None else str(value)
