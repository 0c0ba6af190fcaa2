"""What the server has counted is read when it has counted everything. Here without a server: its counts come late."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from harness.triton import served as served_module
from harness.triton.readings import Statistics
from harness.triton.served import QUIET_S, settled_statistics

NOTHING = Statistics(0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
SERVED = SimpleNamespace(server=None, name="model")


@pytest.fixture
def counts(monkeypatch):
    """A server that has counted so many requests at each time, and a clock that goes when one sleeps."""
    timeline = []
    now_s = [0.0]

    def statistics(server, name):
        counted = max((count for at_s, count in timeline if at_s <= now_s[0]), default=0)
        return replace(NOTHING, requests=counted, images=counted)

    def sleep(seconds):
        now_s[0] += seconds

    monkeypatch.setattr(served_module, "statistics", statistics)
    monkeypatch.setattr(served_module, "time", SimpleNamespace(monotonic=lambda: now_s[0], sleep=sleep))
    return timeline


def test_a_request_of_before_that_is_counted_late_is_not_taken_for_one_of_ours(counts):
    """Four requests are sent where one of before is still to be counted: at four the last of ours is missing."""
    counts += [(0.00, 0), (0.01, 4), (0.03, 5)]
    assert settled_statistics(SERVED, NOTHING, 4).requests == 5


def test_where_nothing_comes_it_waits_a_moment_and_no_longer(counts):
    counts += [(0.0, 3), (2 * QUIET_S + 0.1, 4)]
    assert settled_statistics(SERVED, NOTHING, 3).requests == 3


def test_where_the_server_never_counts_them_the_wait_ends(counts):
    counts += [(0.0, 1)]
    assert settled_statistics(SERVED, NOTHING, 2).requests == 1
