"""Reading LoadGen's logs: the verdict, its reasons, and the numbers. All values are as LoadGen wrote them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MARK = ":::MLLOG "


class NoVerdict(RuntimeError):
    """The detail log does not say how the run ended."""


@dataclass(frozen=True)
class LoadgenVerdict:
    """How LoadGen judged a run.

    Attributes:
        validity: `VALID` or `INVALID`; `ACCURACY` for an accuracy run, which has no constraints.
        reasons: why the run is INVALID: each condition that is not met, and LoadGen's own advice and errors.
        values: every key of the detail log with its last value.
        messages: LoadGen's generic messages, in order.
        folder: the folder of the logs.
    """

    validity: str
    reasons: tuple[str, ...]
    values: Mapping[str, Any]
    messages: tuple[str, ...]
    folder: Path

    @property
    def is_valid(self) -> bool:
        """Whether LoadGen judged the run VALID."""
        return self.validity == "VALID"


# Maps each condition that LoadGen logs to the meaning of its not being met.
_CONDITIONS = {
    "result_min_duration_met": "the minimum duration was not reached",
    "result_min_queries_met": "the minimum number of queries was not reached",
    "result_perf_constraints_met": "the latency bound was not kept",
    "early_stopping_met": "too few queries for the percentile at 99% confidence",
}


def read_verdict(detail: Path) -> LoadgenVerdict:
    """Read the verdict in a detail log.

    Args:
        detail: the path of `mlperf_log_detail.txt`.

    Raises:
        NoVerdict: the log has no verdict, or an accuracy run logged errors.
    """
    values: dict[str, Any] = {}
    errors: list[str] = []
    messages: list[str] = []
    for line in detail.read_text(encoding="utf-8").splitlines():
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
    """Return the answers that LoadGen logged: for each sample index, all its answers as bytes.

    Args:
        folder: the folder of the run, which contains `mlperf_log_accuracy.json`.
    """
    found: dict[int, list[bytes]] = {}
    for entry in json.loads((folder / "mlperf_log_accuracy.json").read_text(encoding="utf-8")):
        found.setdefault(int(entry["qsl_idx"]), []).append(bytes.fromhex(entry["data"]))
    return found
