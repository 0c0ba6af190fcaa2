"""A crew that needs no process: its workers do their pieces when they are heard, and die when a test says so."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from harness.jobs.crews.crew import Heard
from harness.measure.bulk.classify import BlockRun


@dataclass(frozen=True)
class Item:
    """A piece of two images."""

    index: int
    size: int = 2

    def __str__(self):
        return f"item {self.index}"


def answered(piece):
    """What a worker says of an item: two predictions in a tenth of a second."""
    return BlockRun(tuple(f"{piece.index}.{at}" for at in range(piece.size)), (), 0.1, 0.01, 0.05)


class Clock:
    """Seconds that pass only when somebody waits."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class PlayedCrew:
    """A crew of so many slots. `plan` maps a worker to what happens at its so manyth piece, counted from 0.

    `dies` loses the worker, `hangs` lets it never answer, `lies` answers for another piece, `fails` tells a traceback.
    """

    launcher, names = "played", ("here",)

    def __init__(self, slots, plan=None, clock=None, hireable=99, deadly=()):
        self.slots, self.plan, self.clock = slots, plan or {}, clock or Clock()
        self.hireable, self.deadly = hireable, set(deadly)
        self.orders = {}
        self.done = {}
        self.dismissed = []
        self.given = []

    def hire(self, slot):
        if self.hireable <= len(self.done):
            return None
        number = len(self.done) + 1
        self.done[number] = 0
        self.orders[number] = deque(["ready"])
        return number

    def tell(self, worker, word, piece=None):
        if worker in self.orders:
            self.orders[worker].append(piece if word == "work" else word)
            if word == "work":
                self.given.append((worker, piece.index))

    def hear(self, timeout_s):
        self.clock.now_s += timeout_s
        found = []
        for worker, orders in list(self.orders.items()):
            if not orders:
                continue
            order = orders[0]
            if isinstance(order, str):
                orders.popleft()
                value = {"where": "here"} if order == "ready" else None
                found.append(Heard(worker, {"finish": "finished"}.get(order, order), value))
                continue
            what = self.plan.get((worker, self.done[worker]))
            if what == "hangs":
                continue
            if what == "dies" or order.index in self.deadly:
                del self.orders[worker]
                found.append(Heard(worker, "lost", "was killed by SIGKILL"))
                continue
            orders.popleft()
            self.done[worker] += 1
            index = order.index + 1000 if what == "lies" else order.index
            told = Heard(worker, "failed", "Traceback: no ship") if what == "fails" else None
            found.append(told or Heard(worker, "done", (index, answered(order))))
        return found

    def dismiss(self, worker):
        self.dismissed.append(worker)
        self.orders.pop(worker, None)

    def stack_of(self, worker):
        return "in misbehave"
