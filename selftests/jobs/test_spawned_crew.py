"""Real processes as a crew: they do pieces one after the other, and one that is killed is replaced."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

import psutil
import pytest

from harness.jobs.crews.hand_out import HandOut
from harness.jobs.crews.spawned import spawned_crew
from harness.jobs.job import Placement
from harness.jobs.spawn import JobFailed
from selftests.jobs.crews import Item

ITEMS = [Item(index) for index in range(12)]
ARRIVES_WITHIN_S = 1.0


@dataclass(frozen=True)
class Doubles:
    """Doubles the index of an item. The first process that gets item 5 is killed, with a folder to remember it in.

    Item 0 takes as long as it takes the items after it to arrive.
    """

    folder: Path | None = None
    is_broken: bool = False

    def prepare(self, report):
        report("doubling")
        if self.is_broken:
            raise OSError("no ship")
        return Doubling(self)


@dataclass(frozen=True)
class Doubling:
    job: Doubles
    facts: dict = field(default_factory=lambda: {"where": "here", "pid": os.getpid()})
    expected: dict = field(default_factory=dict)

    def warm(self):
        pass

    def expect(self, piece):
        self.expected[piece.index] = "in time"

    def work(self, piece):
        if piece.index == 0:
            sleep(ARRIVES_WITHIN_S)
        if self.job.folder is not None and piece.index == 5:
            try:
                (self.job.folder / "killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        return 2 * piece.index, self.expected.get(piece.index, "unexpected")

    def finish(self):
        pass

    def close(self):
        pass


def children():
    found = psutil.Process().children(recursive=True)
    return [one for one in found if one.is_running() and "resource_tracker" not in " ".join(one.cmdline())]


def placed(job, count):
    return [(job, Placement(None, 1))] * count


def test_a_process_that_is_killed_is_replaced_and_its_piece_is_done_once(tmp_path):
    kept = Counter()
    phases = []
    with spawned_crew(placed(Doubles(tmp_path), 2)) as crew:
        hand_out = HandOut(crew, phases.append)
        hand_out.ready()
        assert len({one["pid"] for one in hand_out.facts} | {os.getpid()}) == 3
        done = hand_out.run(ITEMS, lambda piece, worker, run: kept.update({(piece.index, run[0]): 1}))
        hand_out.finish()
    assert kept == Counter({(item.index, 2 * item.index): 1 for item in ITEMS})
    (first,) = [shift for shift in done.shifts if shift.turns and shift.turns[0].index == 0]
    assert first.turns[2].run[1] == "in time", "item 0's worker did not know at its second item which one follows"
    (loss,) = done.losses
    assert "was killed by SIGKILL (pid" in loss.reason
    assert "worker 1 doubling" in phases
    assert not children()


def test_a_worker_that_cannot_be_prepared_is_named_and_none_is_left():
    with (
        pytest.raises(JobFailed, match=r"worker 1 failed:\nTraceback(.|\n)*no ship"),
        spawned_crew(placed(Doubles(is_broken=True), 1)) as crew,
    ):
        HandOut(crew, lambda text: None).ready()
    assert not children()
