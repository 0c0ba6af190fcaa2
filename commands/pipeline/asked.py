"""The pipeline's parameters, which are those of the model zoo's pipeline, as a command line of pytest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.catalog import find_spec, load_catalog
from models.other_names import OTHER_NAMES

PRECISIONS = {"bfloat16": "bf16", "float32": "fp32"}
# For each kind and task, the tests that are run.
TESTS = {
    ("benchmark", "classify"): ("tests_perf/test_latency.py", "tests_perf/test_throughput.py"),
    ("benchmark", "detect"): ("tests_perf/test_latency.py", "tests_perf/test_throughput.py"),
    ("accuracy", "classify"): ("tests_accuracy/test_imagenet.py",),
    ("accuracy", "detect"): ("tests_accuracy/test_coco.py",),
}
_STEPS = ("steps", "number_of_steps", "num_batches")
_WARMUP = ("warmup_steps", "num_warmup_batches")


class WrongParameter(Exception):
    """A parameter that cannot be; the message names it and the way out."""


@dataclass(frozen=True)
class AskedRun:
    """What the parameters say.

    Attributes:
        command: the arguments of pytest, but for where it writes.
        notes: what a parameter of the original means here, where it means nothing, as sentences.
    """

    command: tuple[str, ...]
    notes: tuple[str, ...]


def read_parameters(values: Mapping[str, str]) -> AskedRun:
    """Return the command line that the parameters stand for.

    Args:
        values: the parameters by name, with dashes, each as text; an empty one is not given.

    Raises:
        WrongParameter: a value is not possible, or two of them deny each other.
    """
    if values.get("mode", "inference") != "inference":
        raise WrongParameter(
            f"mode {values['mode']!r}: this pipeline measures inference; deploy/kubernetes/training is for training"
        )
    kind = values.get("benchmark-or-accuracy") or "benchmark"
    if kind not in ("benchmark", "accuracy"):
        raise WrongParameter(f"benchmark_or_accuracy {kind!r} is neither benchmark nor accuracy")
    model = OTHER_NAMES.get(values.get("model-name", ""), values.get("model-name", ""))
    if not model:
        raise WrongParameter("model_name is empty: name a model, such as resnet50")
    try:
        task = find_spec(model, load_catalog()).task
    except ValueError as error:
        raise WrongParameter(f"model_name: {error}") from None
    data = values.get("data-location", "")
    if kind == "accuracy" and not data:
        raise WrongParameter("data_location is empty, and accuracy is of labelled images: give a URL or a mounted path")
    batches = _batches(values.get("batch-size", ""))
    precision = ",".join(PRECISIONS.get(one, one) for one in (values.get("precision") or "fp32").split(","))
    command = [*TESTS[kind, task], f"--model={model}", f"--precision={precision}", f"--batch-size={batches}"]
    options = {"--data": data, "--device": values.get("device", ""), "--engine": values.get("engine", "")}
    if socket := values.get("socket-id", ""):
        if not socket.isdecimal():
            raise WrongParameter(f"socket_id {socket!r} is no number of a socket: give 0, 1, …, or leave it empty")
        options["--numa-node"] = socket
    command += [f"{option}={value}" for option, value in options.items() if value]
    verbose = (values.get("verbose") or "false").lower()
    if verbose not in ("true", "false"):
        raise WrongParameter(f"verbose {verbose!r} is neither true nor false")
    if verbose == "true":
        command.append("-v")
    more, notes = _extra(values.get("extra-model-args", ""), batches)
    return AskedRun((*command, *more), notes)


def _batches(text: str) -> str:
    if text == "-1":
        raise WrongParameter("batch_size -1, the original's word for the batch of the graph, is none here: give 1, …")
    parts = (text or "1").split(",")
    for part in parts:
        if not part.strip().isdecimal() or int(part) < 1:
            raise WrongParameter(f"batch_size {part!r} is no whole number of at least 1")
    return ",".join(part.strip() for part in parts)


def _extra(text: str, batches: str) -> tuple[Sequence[str], tuple[str, ...]]:
    """Return the further arguments of pytest; the original's `name=value` are turned into ours."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise WrongParameter(f"extra_model_args {text!r}: {error}; give it balanced quotes") from None
    found: list[str] = []
    notes: list[str] = []
    for word in words:
        name, is_pair, value = word.partition("=")
        if word.startswith("-") or not is_pair:
            found.append(word)
        elif name in _STEPS:
            if "," in batches or not value.isdecimal() or int(value) < 1:
                raise WrongParameter(
                    f"extra_model_args {word!r}: steps is a number, of one batch size; see --num-inputs"
                )
            found.append(f"--num-inputs={int(value) * int(batches)}")
        elif name in _WARMUP:
            notes.append(f"{word} is not needed: warm-up ends when its rounds are steady")
        else:
            raise WrongParameter(f"extra_model_args {word!r} is not known here; options of pytest begin with --")
    return found, tuple(notes)
