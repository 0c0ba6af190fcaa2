"""The task `measure`: runs pytest and keeps its numbers as artifacts, whatever its exit status is."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from commands.child import TERMINATED, run_child
from commands.pipeline.asked import WrongParameter, read_parameters
from commands.pipeline.summary import markdown, metrics_of
from harness.report.journal import read_journal

PARAMETERS = (
    *("model-name", "precision", "mode", "batch-size", "data-location", "socket-id", "verbose"),
    *("benchmark-or-accuracy", "extra-model-args", "device", "engine", "results-location"),
)
OUTPUTS = ("results", "summary", "metrics", "exit-code", "executor-input", "executor-output")
# What a run writes needs less than this; a claim that has less is found out before anything is measured.
_PROBE_BYTES = 1 << 20


def measure(arguments: Sequence[str]) -> int:
    """Measure and write the artifacts.

    Args:
        arguments: `--NAME VALUE` for every parameter and output; a value may look like an option.

    Returns:
        The exit status: 0 if there is a number, else that of pytest, and 143 if the task was stopped.

    Raises:
        WrongParameter: a parameter is not possible, or the results cannot be written where they are to be.
    """
    values = _pairs(arguments)
    asked = read_parameters(values)
    outputs = {name: Path(values[name]) for name in OUTPUTS if name != "executor-input"}
    for path in outputs.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    location = values["results-location"]
    with tempfile.TemporaryDirectory(prefix="visionmark-") as temporary:
        folder = Path(location) / _run_name() if location else Path(temporary)
        _require_room(folder, "results_location" if location else "the temporary folder")
        written, journal = folder / "out.json", folder / "rows.jsonl"
        for note in asked.notes:
            print(f"extra_model_args: {note}", flush=True)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *asked.command]
        command += [f"--output-dir={folder}", f"--benchmark-json={written}", f"--journal={journal}"]
        print(" ".join(command), flush=True)
        status = _run(command)
        records = [dict(record) for record in read_journal(journal).records] if journal.exists() else []
        if not records:
            print(f"no number was measured: pytest ended with {status}", file=sys.stderr, flush=True)
            return status or 1
        whole = json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
    kept = {**whole, "exit_code": status, "command": command, "records": records}
    outputs["results"].write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    outputs["summary"].write_text(markdown(records, status), encoding="utf-8")
    numbers = metrics_of(records)
    outputs["metrics"].write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    outputs["exit-code"].write_text(str(status), encoding="utf-8")
    described = _executor_output(json.loads(values["executor-input"]), {"metrics": numbers}, status)
    outputs["executor-output"].write_text(json.dumps(described), encoding="utf-8")
    print(markdown(records, status), flush=True)
    return TERMINATED if status == TERMINATED else 0


def _pairs(arguments: Sequence[str]) -> dict[str, str]:
    names = [name.removeprefix("--") for name in arguments[::2]]
    known = {*PARAMETERS, *OUTPUTS}
    if len(arguments) % 2 or set(names) != known or len(names) != len(known):
        wrong = sorted(set(names) ^ known) or "a name without a value"
        raise WrongParameter(f"the parameters are {', '.join(sorted(known))}, each once, with a value: {wrong}")
    return dict(zip(names, arguments[1::2], strict=True))


def _run_name() -> str:
    """Return the name of a folder that no other run has: in a pod, the host's name is the pod's."""
    return f"{os.uname().nodename}-{os.getpid()}"


def _require_room(folder: Path, named: str) -> None:
    """Check that the folder can be written, before an hour is measured that could not be kept.

    Raises:
        WrongParameter: it cannot, because it is read-only, full or missing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise WrongParameter(
            f"{named} {folder}: {error.strerror}; give a folder with room that can be written"
        ) from None


def _run(command: Sequence[str]) -> int:
    """Run pytest and return its exit status, as a shell gives it for a signal."""
    status = run_child(command)
    return 128 - status if status < 0 else status


def _executor_output(executor_input: Mapping[str, Any], metadata: Mapping[str, Any], status: int) -> dict[str, Any]:
    """Return what Kubeflow is told of the outputs: every artifact, with the numbers as metadata of the metrics.

    An artifact that is not listed would vanish from the outputs.
    """
    artifacts = executor_input.get("outputs", {}).get("artifacts", {})
    listed = {
        name: {"artifacts": [{**one, "metadata": metadata.get(name, {})} for one in found["artifacts"]]}
        for name, found in artifacts.items()
    }
    return {"artifacts": listed, "parameterValues": {"exit_code": status}}
