"""Two sides in turns: the verdict is wrong no oftener than it says, on a machine that drifts and whose speed jumps."""

import math

import numpy
import pytest
from scipy.signal import lfilter
from scipy.stats import wilcoxon

from harness.measure import taking_turns
from harness.measure.taking_turns import SideBlock, take_turns
from harness.report.comparison import judge_turns, turns
from harness.report.comparison.ratio import Ratio, verdict_of
from harness.report.comparison.turns import LEAST_FOURS, signed_rank_interval

RUNS = 100
STEP_S = 0.010
MOST_S = 60.0
BLOCKS = 600
BOUND_PCT = 3.0


class Machine:
    """Two sides on a machine whose speed wanders, in blocks that resemble those before them; no time really passes."""

    def __init__(self, seed, slowdown, *, is_jumping=False, growth=0.3):
        generator = numpy.random.default_rng(seed)
        alike = lfilter([1], [1, -0.9], generator.standard_normal(BLOCKS + 200))[200:]
        slope = generator.uniform(-growth, growth) / BLOCKS
        self.level = 0.01 * alike + 0.01 * generator.standard_normal(BLOCKS) + slope * numpy.arange(BLOCKS)
        if is_jumping:  # for seconds at a time it has half its speed, and the kernel does not tell
            self.level += math.log(2) * (numpy.cumsum(generator.random(BLOCKS) < 0.05) % 2)
        self.now_s, self.at = 0.0, 0
        self.sides = [_Side(self, 1.0), _Side(self, slowdown)]

    def clock(self):
        return self.now_s

    def run(self, rounds, speed):
        round_s = STEP_S * speed * math.exp(self.level[self.at])
        self.at += 1
        self.now_s += 1.2 * rounds * round_s
        return round_s


class _Side:
    step_s = STEP_S

    def __init__(self, machine, speed):
        self.machine, self.speed = machine, speed

    def block(self, rounds, untimed):
        return SideBlock([self.machine.run(rounds, self.speed)], 0.0, 0.0)


def planned(bound_pct=BOUND_PCT):
    return lambda log_ratios, is_over: judge_turns(log_ratios, bound_pct, is_over=is_over)


def peeking(bound_pct):
    """The sabotage: after every four an interval of 95%, as if it were the only one."""

    def judge(log_ratios, is_over):
        found = signed_rank_interval(log_ratios, 0.05)
        if found is None:
            return None
        _, low, high = found
        return Ratio(verdict_of(low, high, math.log1p(bound_pct / 100)), *map(math.exp, found))

    return judge


def found_by(judge, slowdown, **machine):
    found = []
    for seed in range(RUNS):
        here = Machine(seed, slowdown, **machine)
        found.append(take_turns(here.sides, MOST_S, judge, seed, clock=here.clock).finding)
    return found


@pytest.mark.parametrize("is_jumping", [False, True])
def test_a_side_against_itself_is_hardly_ever_called_different(is_jumping):
    found = found_by(planned(), 1.0, is_jumping=is_jumping)
    verdicts = [finding.verdict for finding in found]
    assert verdicts.count("same") + verdicts.count("cannot tell") >= 95
    assert verdicts.count("same") > 50, "a rule that never decides is of no use"
    assert sum(finding.low <= 1 <= finding.high for finding in found) >= 95


@pytest.mark.parametrize("is_jumping", [False, True])
def test_a_slowdown_of_a_twentieth_is_found(is_jumping):
    found = found_by(planned(), 1.05, is_jumping=is_jumping)
    assert [finding.verdict for finding in found].count("slower") >= 90
    assert sum(finding.low <= 1.05 <= finding.high for finding in found) >= 95


def test_looking_often_does_not_make_a_difference_where_there_is_none():
    """Without a bound to speak of, every interval that leaves out 1 is called a difference."""
    wrong = {
        name: sum(finding.verdict in ("faster", "slower") for finding in found_by(judge(1e-6), 1.0))
        for name, judge in (("planned", planned), ("peeking", peeking))
    }
    assert wrong["planned"] <= 5
    assert wrong["peeking"] > 10, "the simulation would not show it"


def test_a_steady_drift_is_the_same_for_both_sides(monkeypatch):
    """The sabotage: sides that simply alternate. The second one is always later, when the machine is slower."""
    here = Machine(1, 1.0, growth=0.0)
    here.level = here.level + 0.05 * numpy.arange(BLOCKS)
    assert take_turns(here.sides, 600.0, planned(), 1, clock=here.clock).finding.verdict == "same"
    monkeypatch.setattr(taking_turns, "ORDERS", ((0, 1, 0, 1),))
    here.at = 0
    assert take_turns(here.sides, 600.0, planned(), 1, clock=here.clock).finding.verdict == "slower"


def test_a_machine_that_changes_with_the_turns_moves_the_ratio_only_if_the_order_is_not_drawn(monkeypatch):
    """Something that comes each time when the second and the third block of a four run, and goes again."""
    here = Machine(1, 1.0, growth=0.0)
    here.level = here.level + 0.2 * numpy.isin((numpy.arange(BLOCKS) - 2) % 4, (1, 2))
    finding = take_turns(here.sides, MOST_S, planned(), 1, clock=here.clock).finding
    assert finding.low < 1 < finding.high
    monkeypatch.setattr(taking_turns, "ORDERS", ((0, 1, 1, 0),))
    here.at, here.now_s = 0, 0.0
    assert take_turns(here.sides, MOST_S, planned(), 1, clock=here.clock).finding.verdict == "slower"


def test_the_parts_of_the_error_add_up_to_five_percent(monkeypatch):
    spent = []
    monkeypatch.setattr(turns, "signed_rank_interval", lambda values, error: spent.append(error) or (0.0, -1.0, 1.0))
    taken = [count for count in range(209) if judge_turns([0.0] * count, 3, is_over=False)]
    assert taken == [8, 12, 18, 27, 40, 60, 91, 136, 205]
    assert sum(spent) < 0.05
    judge_turns([0.0] * 209, 3, is_over=True)
    assert sum(spent) == pytest.approx(0.05)
    assert judge_turns([0.0] * 3, 3, is_over=True) and spent[-1] == pytest.approx(0.05), "the only look has all of it"


@pytest.mark.parametrize("count", [8, 27, 151])
def test_the_interval_holds_what_the_signed_rank_test_would_not_reject(count):
    values = numpy.random.default_rng(count).normal(0.02, 0.05, count)
    centre, low, high = signed_rank_interval(values, 0.05)
    assert low < centre < high
    how, rounding = ("exact", 0.0) if count <= 50 else ("approx", 1e-3)
    for end, inward in ((low, 1e-9), (high, -1e-9)):
        assert wilcoxon(values - (end + inward), method=how).pvalue > 0.05 - rounding
        assert wilcoxon(values - (end - inward), method=how).pvalue <= 0.05 + rounding


def test_too_few_blocks_say_how_many_are_missing():
    few = judge_turns([0.1] * (LEAST_FOURS - 1), 3, is_over=True)
    assert (few.verdict, few.value, few.reason) == ("cannot tell", None, "needs about 24 blocks, has 20")
    assert judge_turns([0.1, 0.11] * (LEAST_FOURS // 2), 3, is_over=True).verdict == "slower"
    wide = judge_turns([0.0, 0.06, -0.05, 0.02, -0.03, 0.07, 0.01, -0.02], 3, is_over=True)
    assert wide.verdict == "cannot tell"
    assert wide.reason.startswith("needs about ") and wide.reason.endswith(" blocks, has 32")
