"""The record of two sides in turns: what is left out, what is kept where a side dies, and what is denied."""

import math
from dataclasses import replace
from functools import partial
from itertools import count, cycle

import pytest

from harness.jobs.sides import program
from harness.measure import versus
from harness.measure.taking_turns import SideBlock, SideDied, take_turns
from harness.measure.versus import VersusTerms, measure_versus
from harness.proof import Contradiction
from harness.report.comparison import judge_turns

FACTS = {"case": "m-cpu-fp32-bs2-eager", "identity": {"weights_sha256": "a"}, "environment": {}}


class PlayedSide:
    """A side whose times are given: a round of block n takes `seconds(n)`, and block n waits `wait(n)` percent."""

    step_s = 0.1

    def __init__(self, name, seconds, wait=lambda n: 0.0, idle=0.0, dies_at=None):
        self.name, self.seconds, self.wait, self.idle, self.dies_at = name, seconds, wait, idle, dies_at
        self.facts = {**FACTS, "played": name}
        self.blocks = -1  # the first block is not counted
        self.ends = 0

    def block(self, rounds, untimed):
        if self.blocks == self.dies_at:
            raise SideDied(f"{self.name} was killed by SIGKILL (pid 1)\nlast words")
        found = SideBlock([self.seconds(self.blocks)] * rounds, self.wait(self.blocks), self.idle)
        self.blocks += 1
        return found

    def end(self):
        if self.dies_at is not None:
            raise SideDied("it is gone")
        self.ends += 1


def once(kind, target, next_arguments, batches=None):
    assert kind == "versus"
    while (arguments := next_arguments(0.0)) is not None:
        target(*arguments)
    assert all(count > 0 for count in batches())
    return [1.0]


def terms(most_s):
    return VersusTerms("engine=trace", 3.0, most_s, lambda ratios, is_over: judge_turns(ratios, 3, is_over=is_over))


@pytest.fixture(autouse=True)
def played_clock(monkeypatch):
    """The clock of the turns goes on by a second each time that it is read."""
    monkeypatch.setattr(versus, "take_turns", partial(take_turns, clock=count().__next__))


def measured(first, second, most_s=60.0, renew=None):
    return measure_versus([first, second], renew or (lambda: [first, second]), terms(most_s), 2, once)


def test_both_sides_have_their_full_record():
    first, second = PlayedSide("first", lambda n: 0.1), PlayedSide("second", lambda n: 0.2)
    found = measured(first, second)
    blocks = found.blocks
    assert (found.verdict, found.ratio, found.starts) == ("slower", pytest.approx(2.0), 4)
    assert (found.first["p50_ms"], found.second["p50_ms"]) == (pytest.approx(100), pytest.approx(200))
    assert found.first["rounds"] == found.second["rounds"] == blocks // 2 * found.rounds_a_block
    assert (found.first["played"], found.second["played"]) == ("first", "second")
    assert found.images == 2 * found.batches == 2 * blocks * found.rounds_a_block
    sides = [block["side"] for block in found.each_block]
    assert sides.count("first") == sides.count("second") == blocks // 2
    for at in range(0, blocks, 4):
        assert sides[at] == sides[at + 3] != sides[at + 1] == sides[at + 2]
    assert {block["start"] for block in found.each_block} == {1, 2, 3, 4}
    assert first.ends == second.ends == 4, "each start is asked for its proof"
    found.require_both()


def test_every_start_has_its_ratio_and_what_they_differ_by_is_in_the_interval():
    speeds = cycle([1.1, 0.9])
    sides = [PlayedSide("first", lambda n: 0.1), PlayedSide("second", lambda n: 0.1)]

    def renew():
        speed = next(speeds)
        return [sides[0], PlayedSide("second", lambda n: 0.1 * speed)]

    found = measured(*sides, renew=renew)
    assert found.each_start[:4] == pytest.approx((1.0, 1.1, 0.9, 1.1))
    assert found.verdict == "cannot tell"
    assert found.ratio_low < 0.95 and found.ratio_high > 1.05
    assert found.ratio == pytest.approx(math.exp(sum(map(math.log, found.each_start)) / found.starts))


def test_blocks_in_which_others_had_the_cores_are_left_out():
    """A program that comes and goes holds up the first side alone, which uses all cores."""
    is_busy = lambda n: n % 6 < 3  # noqa: E731
    first = PlayedSide("first", lambda n: 0.3 if is_busy(n) else 0.1, lambda n: 60.0 if is_busy(n) else 1.0)
    found = measured(first, PlayedSide("second", lambda n: 0.16 + 1e-3 * (n // 6 % 3)))
    assert found.verdict == "slower"
    assert found.ratio == pytest.approx(1.61, abs=0.01)
    assert found.blocks_shared and not found.is_shared


def test_a_machine_that_is_always_shared_decides_only_what_is_shared_alike():
    alike = [PlayedSide(name, lambda n: 0.1, lambda n: 50.0) for name in ("first", "second")]
    found = measured(*alike, most_s=40.0)
    assert (found.is_shared, found.blocks_shared) == (True, found.blocks)
    turns = take_turns(alike, lambda: alike, 40.0, terms(40.0).judge, 1, clock=count().__next__)
    assert turns.is_shared
    unlike = [PlayedSide("first", lambda n: 0.1, lambda n: 50.0), PlayedSide("second", lambda n: 0.1, lambda n: 20.0)]
    found = measured(*unlike, most_s=40.0)
    assert found.verdict == "cannot tell"
    assert found.reason == "other programs made the first side wait for 50% of its time, the second 20%"


@pytest.mark.parametrize("dies_at", [-1, 0, 5])
def test_a_side_that_dies_is_named_and_the_others_numbers_are_kept(dies_at):
    first, second = PlayedSide("first", lambda n: 0.1), PlayedSide("second", lambda n: 0.1, dies_at=dies_at)
    found = measured(first, second)
    assert found.verdict == "cannot tell"
    assert found.reason == f"second was killed by SIGKILL (pid 1), after {found.blocks} blocks"
    assert (found.second is None) == (dies_at <= 0)
    assert (found.first is None) == (found.blocks == 0)
    assert first.ends == 1, "the one that lives is asked for its proof"
    with pytest.raises(SideDied, match=r"SIGKILL .*after \d+ blocks\nlast words$"):
        found.require_both()


def test_a_side_that_runs_while_the_other_is_timed_is_denied():
    spinning = PlayedSide("the second side", lambda n: 0.1, idle=97.0)
    with pytest.raises(Contradiction, match="the second side used 97% of a core while the other was timed"):
        measured(PlayedSide("first", lambda n: 0.1), spinning)


def test_a_side_that_was_hardly_ever_idle_for_long_enough_is_not_denied_for_waking_up():
    """Between two blocks of the same side there is a millisecond, of which waking is a twentieth."""
    idles = cycle([None, None, None, 1.0])

    class Waking(PlayedSide):
        def block(self, rounds, untimed):
            return replace(super().block(rounds, untimed), idle_cpu_pct=next(idles))

    found = measured(PlayedSide("first", lambda n: 0.1), Waking("second", lambda n: 0.1))
    assert found.second["idle_cpu_pct"] == 1.0


@pytest.mark.parametrize(("busy", "naps"), [(3, 4), (10**6, 200)])
def test_a_side_answers_when_its_threads_stand_still(monkeypatch, busy, naps):
    """Threads that spin for a while are waited for, and those that spin for ever are not."""
    clock = {"wall": 0.0, "used": 0.0, "naps": 0}

    def nap(seconds):
        clock["naps"] += 1
        clock["wall"] += seconds
        clock["used"] += seconds if clock["naps"] <= busy else 0.0

    monkeypatch.setattr(program, "perf_counter", lambda: clock["wall"])
    monkeypatch.setattr(program, "process_time", lambda: clock["used"])
    monkeypatch.setattr(program, "sleep", nap)
    program._stand_still()
    assert clock["naps"] == pytest.approx(naps, abs=1)
