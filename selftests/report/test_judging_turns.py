"""Two sides in turns: the verdict is wrong no oftener than it says, whatever the machine and its processes do.

The machine drifts and its speed jumps, and each process has a speed of its own for as long as it lives.
"""

import math

import numpy
import pytest
from scipy.signal import lfilter
from scipy.stats import ttest_1samp

from harness.measure import taking_turns
from harness.measure.taking_turns import SideBlock, take_turns
from harness.report.comparison import judge_turns, turns
from harness.report.comparison.ratio import Ratio, verdict_of
from harness.report.comparison.turns import FIRST_LOOK, mean_interval

RUNS = 100
STEP_S = 0.010
MOST_S = 60.0
BLOCKS = 600
BOUND_PCT = 3.0
# By how much the speeds of two processes of one side differ: normally, or as one of two kinds.
PROCESSES = {
    "alike": lambda generator: generator.normal(0, 0.003),
    "apart": lambda generator: generator.normal(0, 0.04),
    "of two kinds": lambda generator: generator.choice([0.0, 0.1]),
}


class Machine:
    """Two sides on a machine whose speed wanders, in blocks that resemble those before them; no time really passes."""

    def __init__(self, seed, slowdown, *, is_jumping=False, growth=0.3, processes="alike"):
        generator = self.generator = numpy.random.default_rng(seed)
        alike = lfilter([1], [1, -0.9], generator.standard_normal(BLOCKS + 200))[200:]
        slope = generator.uniform(-growth, growth) / BLOCKS
        self.level = 0.01 * alike + 0.01 * generator.standard_normal(BLOCKS) + slope * numpy.arange(BLOCKS)
        if is_jumping:  # for seconds at a time it has half its speed, and the kernel does not tell
            self.level += math.log(2) * (numpy.cumsum(generator.random(BLOCKS) < 0.05) % 2)
        self.now_s, self.at, self.slowdown, self.drawn = 0.0, 0, slowdown, PROCESSES[processes]

    def clock(self):
        return self.now_s

    def renew(self):
        return [_Side(self, speed * math.exp(self.drawn(self.generator))) for speed in (1.0, self.slowdown)]

    def run(self, rounds, speed):
        round_s = STEP_S * speed * math.exp(self.level[self.at])
        self.at += 1
        self.now_s += 1.2 * rounds * round_s
        return round_s

    def taken(self, judge, most_s=MOST_S, renew=None):
        found = take_turns(self.renew(), renew or self.renew, most_s, judge, 1, clock=self.clock)
        assert not found.died
        return found.finding


class _Side:
    step_s = STEP_S

    def __init__(self, machine, speed):
        self.machine, self.speed = machine, speed

    def block(self, rounds, untimed):
        return SideBlock([self.machine.run(rounds, self.speed)], 0.0, 0.0)

    def end(self):
        pass


def planned(bound_pct=BOUND_PCT):
    return lambda log_ratios, is_over: judge_turns(log_ratios, bound_pct, is_over=is_over)


def interval_at_once(values, bound_pct):
    centre, half = mean_interval(values, 0.05)
    verdict = verdict_of(centre - half, centre + half, math.log1p(bound_pct / 100))
    return Ratio(verdict, *map(math.exp, (centre, centre - half, centre + half)))


def peeking(bound_pct):
    """The sabotage: after every start an interval of 95%, as if it were the only one."""

    def judge(log_ratios, is_over):
        return interval_at_once([*map(numpy.median, log_ratios)], bound_pct) if len(log_ratios) > 2 else None

    return judge


def pooling(bound_pct=BOUND_PCT):
    """The sabotage: all fours alike, as if two processes of one side did not differ."""

    def judge(log_ratios, is_over):
        fours = [four for start in log_ratios for four in start]
        return interval_at_once(fours, bound_pct) if is_over or len(log_ratios) == FIRST_LOOK else None

    return judge


def found_by(judge, slowdown, **machine):
    return [Machine(seed, slowdown, **machine).taken(judge) for seed in range(RUNS)]


def differences(found):
    return sum(finding.verdict in ("faster", "slower") for finding in found)


@pytest.mark.parametrize("is_jumping", [False, True])
@pytest.mark.parametrize("processes", PROCESSES)
def test_a_side_against_itself_is_hardly_ever_called_different(processes, is_jumping):
    found = found_by(planned(), 1.0, is_jumping=is_jumping, processes=processes)
    assert differences(found) <= 5
    assert sum(finding.low <= 1 <= finding.high for finding in found) >= 95
    if processes == "alike":
        assert [finding.verdict for finding in found].count("same") > 50, "a rule that never decides is of no use"


@pytest.mark.parametrize("processes", ["apart", "of two kinds"])
def test_starts_that_differ_make_a_difference_where_they_are_not_told_apart(processes):
    assert differences(found_by(pooling(), 1.0, processes=processes)) > 10, "the simulation would not show it"


def test_one_start_of_both_sides_makes_a_difference_where_there_is_none():
    """The sabotage: the very same two processes in every start."""

    def kept(seed):
        here = Machine(seed, 1.0, processes="apart")
        sides = here.renew()
        return take_turns(sides, lambda: sides, MOST_S, planned(), 1, clock=here.clock).finding

    assert differences(map(kept, range(RUNS))) > 10


@pytest.mark.parametrize("is_jumping", [False, True])
def test_a_slowdown_of_a_twentieth_is_found(is_jumping):
    found = found_by(planned(), 1.05, is_jumping=is_jumping)
    assert [finding.verdict for finding in found].count("slower") >= 90
    assert sum(finding.low <= 1.05 <= finding.high for finding in found) >= 95


def test_looking_often_does_not_make_a_difference_where_there_is_none():
    """Without a bound to speak of, every interval that leaves out 1 is called a difference."""
    wrong = {
        name: differences(found_by(judge(1e-6), 1.0)) for name, judge in (("planned", planned), ("peeking", peeking))
    }
    assert wrong["planned"] <= 5
    assert wrong["peeking"] > 10, "the simulation would not show it"


def test_a_steady_drift_is_the_same_for_both_sides(monkeypatch):
    """The sabotage: sides that simply alternate. The second one is always later, when the machine is slower."""
    here = Machine(1, 1.0, growth=0.0)
    here.level = here.level + 0.05 * numpy.arange(BLOCKS)
    assert here.taken(planned(), 600.0).verdict == "same"
    monkeypatch.setattr(taking_turns, "ORDERS", ((0, 1, 0, 1),))
    here.at = 0
    assert here.taken(planned(), 600.0).verdict == "slower"


def test_a_machine_that_changes_with_the_turns_moves_the_ratio_only_if_the_order_is_not_drawn(monkeypatch):
    """Something that comes each time when the second and the third block of a four run, and goes again."""
    here = Machine(1, 1.0, growth=0.0)
    here.level = here.level + 0.2 * numpy.isin((numpy.arange(BLOCKS) - 2) % 4, (1, 2))

    def renew():
        here.at += -here.at % 4
        return here.renew()

    finding = here.taken(planned(), renew=renew)
    assert finding.low < 1 < finding.high
    monkeypatch.setattr(taking_turns, "ORDERS", ((0, 1, 1, 0),))
    here.at, here.now_s = 0, 0.0
    assert here.taken(planned(), renew=renew).verdict == "slower"


def test_the_parts_of_the_error_add_up_to_five_percent(monkeypatch):
    spent = []
    monkeypatch.setattr(turns, "mean_interval", lambda values, error: spent.append(error) or (0.0, 1.0))
    taken = [count for count in range(47) if judge_turns([[0.0]] * count, 3, is_over=False)]
    assert taken == [4, 6, 9, 13, 20, 30, 45]
    assert sum(spent) < 0.05
    judge_turns([[0.0]] * 46, 3, is_over=True)
    assert sum(spent) == pytest.approx(0.05)
    for starts in (4, 5):
        assert judge_turns([[0.0]] * starts, 3, is_over=True)
        assert spent[-1] == pytest.approx(0.05 / (1 if starts == FIRST_LOOK else 2)), "the last look has what is left"


def test_the_interval_holds_what_the_t_test_would_not_reject():
    values = numpy.random.default_rng(4).normal(0.02, 0.05, 7)
    centre, half = mean_interval(list(values), 0.05)
    for end, inward in ((centre - half, 1e-9), (centre + half, -1e-9)):
        assert ttest_1samp(values, end + inward).pvalue > 0.05
        assert ttest_1samp(values, end - inward).pvalue < 0.05


def test_too_few_starts_say_how_many_are_missing():
    few = judge_turns([[0.1, 0.1]] * 3 + [[]], 3, is_over=True)
    assert (few.verdict, few.value, few.reason) == ("cannot tell", None, "needs 4 starts of both sides, has 3")
    assert judge_turns([[0.1], [0.11]] * 2, 3, is_over=True).verdict == "slower"
    wide = judge_turns([[0.0], [0.06], [-0.05], [0.02]], 3, is_over=True)
    assert wide.verdict == "cannot tell"
    assert wide.reason.startswith("needs about ") and wide.reason.endswith(" starts, has 4")
