"""LoadGen's own logs: the verdict, why, and the numbers. Nothing is computed here that LoadGen did not write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MARK = ":::MLLOG "


class NoVerdict(RuntimeError):
    """A detail log that does not say how the run ended."""


@dataclass(frozen=True)
class LoadgenVerdict:
    """How LoadGen judged a run.

    Attributes:
        validity: `VALID` or `INVALID`; an accuracy run, which has no constraint, is `ACCURACY`.
        reasons: why it is INVALID, in LoadGen's words and with what it says of each condition.
        values: every key of the detail log, its last value.
        messages: what it remarked on the way, in order.
        folder: where its logs lie.
    """

    validity: str
    reasons: tuple[str, ...]
    values: Mapping[str, Any]
    messages: tuple[str, ...]
    folder: Path

    @property
    def is_valid(self) -> bool:
        """Whether the run counts."""
        return self.validity == "VALID"


# Conditions that LoadGen logs, and what it means that one is not met.
_CONDITIONS = {
    "result_min_duration_met": "the minimum duration was not reached",
    "result_min_queries_met": "the minimum number of queries was not reached",
    "result_perf_constraints_met": "the latency bound was not kept",
    "early_stopping_met": "too few queries for the percentile at 99% confidence",
}


def read_verdict(detail: Path) -> LoadgenVerdict:
    """The verdict of a detail log.

    Args:
        detail: `mlperf_log_detail.txt`.

    Raises:
        NoVerdict: the run did not get as far as one.
    """
    values: dict[str, Any] = {}
    errors: list[str] = []
    messages: list[str] = []
    for line in detail.read_text().splitlines():
        if line.startswith(_MARK):
            entry = json.loads(line.removeprefix(_MARK))
            values[entry["key"]] = entry["value"]
            if entry["metadata"]["is_error"]:
                errors.append(str(entry["value"]).strip())
            elif entry["key"] == "generic_message":
                messages.append(str(entry["value"]))
    if values.get("effective_test_mode") == "AccuracyOnly":
        if errors:
            raise NoVerdict(f"{detail}: {'; '.join(errors)}")
        return LoadgenVerdict("ACCURACY", (), values, tuple(messages), detail.parent)
    if "result_validity" not in values:
        why = "; ".join(errors) or "the run was broken off; is there room, and may the folder be written?"
        raise NoVerdict(f"{detail} has no result_validity: {why}")
    reasons = tuple(_reasons(values, errors))
    return LoadgenVerdict(str(values["result_validity"]), reasons, values, tuple(messages), detail.parent)


def _reasons(values: Mapping[str, Any], errors: list[str]) -> list[str]:
    if values["result_validity"] == "VALID":
        return []
    found = [text for key, text in _CONDITIONS.items() if values.get(key) is False]
    stopping = str(values.get("early_stopping_result", "")).strip(" *")
    if values.get("early_stopping_met") is False and stopping:
        found.append(stopping)
    advice = str(values.get("result_invalid_reason", "")).strip()
    return [*found, *([advice] if advice else []), *errors]


def read_answers(folder: Path) -> dict[int, list[bytes]]:
    """The answers that LoadGen logged: sample index to each of its answers, as bytes.

    Args:
        folder: of the run; `mlperf_log_accuracy.json` is in it.
    """
    found: dict[int, list[bytes]] = {}
    for entry in json.loads((folder / "mlperf_log_accuracy.json").read_text()):
        found.setdefault(int(entry["qsl_idx"]), []).append(bytes.fromhex(entry["data"]))
    return found
