"""A command that runs pytest hands SIGTERM on to it, and waits for its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from commands import child
from commands.child import TERMINATED, run_child

# Says that it hears the signal, then waits for it; `status` is how it ends.
HEARS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({status}))
os.kill({parent}, signal.SIGTERM)
time.sleep(60)
"""


def python(text):
    return [sys.executable, "-c", text]


@pytest.fixture(autouse=True)
def same_handler():
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("status", [143, 0])
def test_the_signal_reaches_the_child_whose_exit_status_counts(status):
    """The sabotage: without the handler this process would be gone, and the child would sleep on."""
    assert run_child(python(HEARS.format(status=status, parent=os.getpid()))) == status


def test_a_child_that_has_not_heard_it_yet_was_stopped_too(monkeypatch):
    """The signal arrives while the child is being started."""

    def start(command, **more):
        os.kill(os.getpid(), signal.SIGTERM)
        return subprocess.Popen(command, **more)

    monkeypatch.setattr(child, "subprocess", type("module", (), {"Popen": staticmethod(start)}))
    assert run_child(python("import time; time.sleep(60)")) == TERMINATED


@pytest.mark.parametrize(("text", "status"), [("import os; os.kill(os.getpid(), 9)", -9), ("raise SystemExit(5)", 5)])
def test_any_other_end_is_told_as_it_is(text, status):
    assert run_child(python(text)) == status


# What a run does after Ctrl-C: it keeps what it has, and then it ends.
KEEPS = """
import os, signal, time, pathlib
signal.signal(signal.SIGINT, lambda *_: None)
os.kill({parent}, signal.SIGINT)
time.sleep(0.3)
pathlib.Path({kept!r}).touch()
"""


def test_one_who_interrupts_waits_for_what_the_child_keeps(tmp_path):
    """The sabotage: a command that ends before its child has written."""
    kept = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        run_child(python(KEEPS.format(parent=os.getpid(), kept=str(kept))))
    assert kept.exists()
