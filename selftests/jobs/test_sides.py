"""The sides of a comparison: their processes are what their words say, and each way of failing is named."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import sysconfig
import venv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.artefacts import default_folder
from harness.cases import Case
from harness.files import CHECKOUT
from harness.host.cores import current
from harness.jobs.job import Placement
from harness.jobs.sides import process as sides_process
from harness.jobs.sides.plan import SidePlan, contradictions_of
from harness.jobs.sides.process import RunningSide, UnsupportedSide, open_side
from harness.jobs.sides.revision import NoRevision, commit_of, worktree
from harness.jobs.sides.side import Side, parse_side
from harness.jobs.stream import BuildInputs
from harness.measure.taking_turns import SideDied
from selftests.inside import TINY

CASE = Case(TINY, "cpu", "fp32", 2, "eager")
INPUTS = BuildInputs("random", default_folder())


def quiet(text):
    pass


def plan_of(words, case=CASE, checkout=CHECKOUT):
    side = parse_side(words) if words else Side()
    place = Placement(current().cpus, side.threads or 2, None)
    return SidePlan(f"the second side ({words})", side, side.case(case), INPUTS, place, checkout)


def environment_in(folder, has_packages):
    """A virtual environment, with the packages of this one or with none."""
    venv.create(folder, with_pip=False, symlinks=True)
    if has_packages:
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder


def test_another_environment_and_its_variables_are_what_runs_until_it_is_killed(tmp_path):
    other = environment_in(tmp_path / "venv", has_packages=True)
    words = f"env={other},env:OMP_NUM_THREADS=1,env:VISIONMARK_PLAYED=a=b,c"
    with open_side(plan_of(words), tmp_path / "side", quiet) as side:
        environment, evidence = side.facts["environment"], side.facts["evidence"]
        assert Path(environment["prefix"]) == other != Path(sys.prefix)
        assert environment["asked_variables"] == {"OMP_NUM_THREADS": "1", "VISIONMARK_PLAYED": "a=b,c"}
        assert environment["variables"]["OMP_NUM_THREADS"] == "1"
        assert (evidence["threads"]["asked"], evidence["threads"]["intra_op"]) == (1, 1)
        assert side.pid != os.getpid()
        block = side.block(3, 1)
        assert len(block.rounds_s) == 3 and min(block.rounds_s) > 0
        os.kill(side.pid, signal.SIGKILL)
        with pytest.raises(SideDied, match=r"the second side \(env=.*was killed by SIGKILL \(pid \d+\)"):
            side.block(3, 1)
    assert not side.is_alive()


@pytest.mark.parametrize(
    ("threads", "cores", "waited_pct"), [(2, (0, 1), 40.0), (4, (0, 1), None), (10**6, None, None)]
)
def test_threads_that_wait_for_each_other_are_no_other_programs(monkeypatch, tmp_path, threads, cores, waited_pct):
    """Four threads on two cores wait for half of the time by themselves: no machine is quiet enough to compare them."""
    plan = replace(plan_of(""), placement=Placement(cores, threads, None))
    ours, theirs = multiprocessing.Pipe()
    side = RunningSide(plan, SimpleNamespace(pid=os.getpid()), ours, tmp_path)
    monkeypatch.setattr(sides_process, "shares_of", lambda before, after: {"runqueue_wait_pct": 40.0})
    theirs.send(("block", ([0.1, 0.1], 1.0)))
    assert side.block(2, 1).runqueue_wait_pct == waited_pct


def test_an_environment_without_the_libraries_is_named_with_its_last_words(tmp_path):
    empty = environment_in(tmp_path / "venv", has_packages=False)
    with (
        pytest.raises(SideDied, match=r"ended with 1 \(pid \d+\)(.|\n)*ModuleNotFoundError"),
        open_side(plan_of(f"env={empty}"), tmp_path / "side", quiet),
    ):
        pass


@pytest.mark.slow
def test_what_a_side_cannot_run_is_told_with_the_reason(tmp_path):
    with (
        pytest.raises(UnsupportedSide, match=r"the second side \(precision=tf32\): .*tf32"),
        open_side(plan_of("precision=tf32"), tmp_path / "side", quiet),
    ):
        pass


FACTS = {
    "case": str(CASE),
    "evidence": {"threads": {"asked": 2}},
    "environment": {
        "checkout": str(CHECKOUT),
        "prefix": sys.prefix,
        "git": {"commit": "a" * 40},
        "asked_variables": {"KMP_BLOCKTIME": "0"},
    },
}


def told(words, commit=None, **environment):
    facts = {**FACTS, "environment": {**FACTS["environment"], **environment}}
    return list(contradictions_of(replace(plan_of(words), commit=commit), facts))


def test_a_process_that_is_not_the_side_is_contradicted():
    assert told("") == told("env:KMP_BLOCKTIME=0") == told(f"env={sys.prefix}", commit="a" * 40) == []
    assert told("engine=trace") == [f"it should run {CASE.model}-cpu-fp32-bs2-trace, and {CASE} ran"]
    assert "and that in /elsewhere ran" in told("", checkout="/elsewhere")[0]
    assert f"and {sys.prefix} did" in told("env=/nowhere/else")[0]
    assert "it should run revision bbb" in told("", commit="b" * 40)[0]
    assert told("", commit="b" * 40, git=None)
    assert told("env:KMP_BLOCKTIME=200") == ["it should have KMP_BLOCKTIME=200, and has '0'"]
    assert told("env:OMP_NUM_THREADS=1", asked_variables={"OMP_NUM_THREADS": "1"}) == [
        "it should run on 1 threads (OMP_NUM_THREADS), and 2 ran"
    ]


def test_the_words_of_a_side_are_joined_by_commas_that_a_value_may_have_too():
    side = parse_side("engine=compile,env:OMP_PLACES={0},{1},env:EMPTY=,rev=HEAD~1")
    assert (side.engine, side.revision) == ("compile", "HEAD~1")
    assert side.variables == (("OMP_PLACES", "{0},{1}"), ("EMPTY", ""))
    assert str(side.case(CASE)).endswith("-fp32-bs2-compile")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("compile", "'compile' is no side: give engine=NAME"),
        ("engine=", "'engine=' is no side"),
        ("batch=8", "'batch=8' is no side"),
        ("engine=eager,engine=trace", "engine is given twice"),
        ("env:OMP_NUM_THREADS=many", "env:OMP_NUM_THREADS 'many' is no number of threads"),
    ],
)
def test_words_that_are_no_side_are_told(words, message):
    with pytest.raises(ValueError) as error:
        parse_side(words)
    assert str(error.value).startswith(message)


@pytest.fixture
def repository(tmp_path):
    """A checkout with two commits: `which` holds one, then two."""

    def git(*words):
        author = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", "-C", tmp_path / "r", *author, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    (tmp_path / "r").mkdir()
    git("init", "--quiet")
    for text in ("one", "two"):
        (tmp_path / "r" / "which").write_text(text)
        git("add", "which")
        git("commit", "--quiet", "-m", text)
    return tmp_path / "r", git


def test_a_revision_is_checked_out_beside_and_removed_again(repository, tmp_path):
    checkout, git = repository
    commit = commit_of("HEAD~1", checkout)
    assert commit == git("rev-parse", "HEAD~1")
    with worktree(commit, checkout, tmp_path / "beside") as place:
        assert (place / "which").read_text() == "one"
        assert (checkout / "which").read_text() == "two"
    assert not place.exists()
    assert len(git("worktree", "list").splitlines()) == 1


def test_a_revision_that_git_does_not_know_is_told(repository, tmp_path):
    for revision, words in (("nowhere", "rev=nowhere: fatal"), ("--all", "does not begin with a dash")):
        with pytest.raises(NoRevision, match=words):
            commit_of(revision, repository[0])
    with pytest.raises(NoRevision, match="not a git repository"):
        commit_of("HEAD", tmp_path)
