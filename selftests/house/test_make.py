"""The targets of make, run with a stand-in for the environment: what they call, what they keep, how they end."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from selftests.inside import ROOT

# Writes down how it was called, and ends as it is told.
STAND_IN = """#!/bin/sh
echo "$@" >> {log}
exit {status}
"""


class Made:
    """A copy of the Makefile beside an environment whose python only writes down how it was called."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "calls.txt"
        shutil.copy(ROOT / "Makefile", folder)
        shutil.copytree(ROOT / "requirements", folder / "requirements")
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder)

    def run(self, *arguments, status=0):
        bin = self.folder / ".venv" / "bin"
        bin.mkdir(parents=True, exist_ok=True)
        for name in ("python", "visionmark"):
            (bin / name).write_text(STAND_IN.format(log=self.log, status=status))
            (bin / name).chmod(0o755)
        (self.folder / ".venv" / ".installed").touch()
        self.log.unlink(missing_ok=True)
        # no serving environment: it would be installed
        command = ["make", "-s", "HAS_TRITON=", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)

    def calls(self):
        return self.log.read_text().splitlines()


@pytest.fixture
def made(tmp_path):
    return Made(tmp_path)


@pytest.mark.parametrize(("status", "is_well"), [(0, True), (5, True), (1, False), (4, False)])
def test_a_selection_that_one_half_of_the_self_tests_lacks_is_no_failure(made, status, is_well):
    """A recipe of CONTRIBUTING is `make selftest ARGS="-k 'YOUR_MODEL'"`: pytest ends with 5 where nothing matches."""
    done = made.run("selftest", "ARGS=-k 'nothing_of_that_name'", status=status)
    assert (done.returncode == 0) == is_well, done.stderr
    if is_well:
        assert ["selftests/triton" in call and "--ignore" not in call for call in made.calls()] == [False, True]


def test_what_is_served_is_kept(made):
    assert made.run("serve").returncode == 0
    (call,) = made.calls()
    assert "--benchmark-json results/serve.json" in call
    assert (made.folder / "results").is_dir()


def test_cleaning_leaves_results_alone(made):
    results = made.folder / "results"
    (results / "best").mkdir(parents=True)
    for path in (results / "out.json", results / "best" / "choice.json", results / "journal.jsonl"):
        path.write_text("mine")
    (made.folder / ".cache").mkdir()
    assert made.run("clean").returncode == 0
    assert not (made.folder / ".cache").exists() and not (made.folder / ".venv").exists()
    assert sorted(path.name for path in results.rglob("*.*")) == ["choice.json", "journal.jsonl", "out.json"]


@pytest.mark.parametrize(
    ("arguments", "selected"),
    [
        ((), "-k fbnetc_100"),
        (("ARGS=-v",), "-k fbnetc_100"),
        (("ARGS=--precision bf16",), "-k fbnetc_100"),
        (("MODEL=resnet18",), "--model resnet18"),
        (("MODEL=resnet18", "ARGS=-v"), "--model resnet18"),
        (("ARGS=-k resnet18",), "-k resnet18"),
        (("ARGS=--model resnet18",), "--model resnet18"),
        (("ARGS=--model=resnet18",), "--model=resnet18"),
        (("ARGS=--profile=profiles/c100.bf16.csv",), "--profile=profiles/c100.bf16.csv"),
    ],
)
def test_an_argument_that_selects_nothing_does_not_change_what_is_measured(made, arguments, selected):
    assert made.run("bench", *arguments).returncode == 0
    (call,) = made.calls()
    assert f" {selected}" in call
    assert ("fbnetc_100" in call) == ("fbnetc_100" in selected)
