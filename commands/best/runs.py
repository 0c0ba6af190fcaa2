"""Runs pytest for `make best`, in a process for each engine, and reads what each process wrote."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from commands.child import TERMINATED, run_child
from harness.engines import absent
from harness.files import CHECKOUT
from harness.jobs.pytest_child import pytest_command
from harness.report.journal import Journal, Missing, read_journal
from harness.report.outcomes import INTERNAL_ERROR, INTERRUPTED_STATUS, is_dead
from models.catalog import UnknownModel, load_catalog
from models.catalog import find_spec as find_model

TESTS = ("tests_perf/test_latency.py", "tests_perf/test_throughput.py", "tests_accuracy/test_parity.py")
USAGE_ERROR, NOTHING_RAN, INTERRUPTED = 4, 5, INTERRUPTED_STATUS
# A person or a scheduler wants the run to end: no accident of the case that ran, and nothing is measured after it.
STOPPED = (INTERRUPTED, TERMINATED)
# The test of the scores of each task, which needs labelled images.
LABELLED_TESTS = {"classify": "tests_accuracy/test_imagenet.py", "detect": "tests_accuracy/test_coco.py"}
# Engines that have an environment of their own: the module that tells whether the engine is here, and the interpreter
# that may have it otherwise.
ELSEWHERE = {"ipex": ("intel_extension_for_pytorch", CHECKOUT / ".venv-ipex" / "bin" / "python")}


@dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Attributes:
        model: the name of one model.
        engines: the engines to measure, in this order.
        precision: the value of pytest's --precision.
        keyword: the value of pytest's -k, None without one.
        rest: further arguments, which pytest is given as they are.
        choices: the folder of kept choices.
        folder: what the runs write, the table and the picture go here.
    """

    model: str
    engines: tuple[str, ...]
    precision: str
    keyword: str | None
    rest: tuple[str, ...]
    choices: Path
    folder: Path


@dataclass(frozen=True)
class Measured:
    """What the processes of one engine wrote.

    Attributes:
        code: the exit status of the last process, as pytest's.
        journals: the journal of each process.
        is_ours: whether the engine ran in this environment, where `--engine best` could use it.
    """

    code: int
    journals: tuple[Journal, ...]
    is_ours: bool


def measure(asked: Asked, engine: str) -> Measured:
    """Measure one engine. If its process dies, another one goes on after the case in which it died."""
    python, is_ours = _python_of(engine)
    if is_ours and (reason := absent(engine)) is not None:
        print(f"skipped: {reason}")
        gone = Missing(f"{asked.model} {engine}", "skipped", "", reason)
        return Measured(NOTHING_RAN, (Journal(None, (), (gone,), ()),), is_ours)
    journals: list[Journal] = []
    labelled = _labelled_tests(asked)
    while True:
        name = engine if not journals else f"{engine}-{len(journals) + 1}"
        path = asked.folder / f"{name}.jsonl"
        done = [case for journal in journals for case in journal.opened]
        words = [
            *(*TESTS, *labelled),
            *("--model", asked.model, "--engine", engine, "--precision", asked.precision, "--journal", str(path)),
            *("--benchmark-json", str(path.with_suffix(".json"))),
            *("-v", "--no-header", "--no-summary", *asked.rest, *_keyword(asked, done)),
        ]
        code = _run(pytest_command(words, python))
        journal = read_journal(path)
        has_died = code not in STOPPED and is_dead(code)
        if code == USAGE_ERROR and not is_ours:  # here pytest accepts them, so that environment is wrong
            code = INTERNAL_ERROR
        if has_died or code == INTERNAL_ERROR:
            where, why = journal.last or f"{asked.model} {engine}", "its process ended here; what it printed is above"
            died = Missing(where, "died", f"exit status {code}", why)
            journal = replace(journal, missing=(*journal.missing, died))
        journals.append(journal)
        if not has_died or journal.last is None:
            return Measured(code, tuple(journals), is_ours)


def _run(command: Sequence[str]) -> int:
    """Run a command and return its exit status, one of `STOPPED` if a person or SIGTERM stopped it."""
    try:
        return run_child(command)
    except KeyboardInterrupt:
        return INTERRUPTED


def _python_of(engine: str) -> tuple[str, bool]:
    """Return the interpreter that has the engine, and whether it is the present one."""
    module, other = ELSEWHERE.get(engine, (None, None))
    if module and other and find_spec(module) is None and other.exists():
        return str(other), False
    return sys.executable, True


def _labelled_tests(asked: Asked) -> list[str]:
    """Return the test of the scores of the model's task, or none without data."""
    if not os.environ.get("DATASET_DIR") and not any(word.partition("=")[0] == "--data" for word in asked.rest):
        return []
    try:
        return [LABELLED_TESTS[find_model(asked.model, load_catalog()).task]]
    except UnknownModel:
        return []  # pytest says so


def _keyword(asked: Asked, done: Sequence[str]) -> list[str]:
    parts = [f"({asked.keyword})"] if asked.keyword else []
    parts += [f"not ({' or '.join(done)})"] if done else []
    return ["-k", " and ".join(parts)] if parts else []
