"""Compares two runs row by row: which rows are pairs, what forbids the comparison of a pair, and what the numbers say.

Everything is read from the files of `--benchmark-json`, of this schema and of the earlier ones.
"""

from harness.report.comparison.pairs import KINDS, Pair, compare_runs, differences
from harness.report.comparison.ratio import Ratio, compare_accuracies, compare_images, compare_intervals, compare_rounds
from harness.report.comparison.runs import MeasuredRow, Run, UnreadableRun, read_content, read_run, run_of
from harness.report.comparison.turns import judge_turns

__all__ = [
    "KINDS",
    "MeasuredRow",
    "Pair",
    "Ratio",
    "Run",
    "UnreadableRun",
    "compare_accuracies",
    "compare_images",
    "compare_intervals",
    "compare_rounds",
    "compare_runs",
    "differences",
    "judge_turns",
    "read_content",
    "read_run",
    "run_of",
]
