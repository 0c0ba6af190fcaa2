"""CONTRIBUTING's recipes, tried as a newcomer would: a new engine and a new device in a copy of the checkout."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest

from selftests.inside import ROOT, TINY, clean_environment

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
# Every file that a recipe shows: its path, then its text.
BLOCKS = re.findall(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```$", CONTRIBUTING, re.M | re.S)
PACKAGES = ("models", "harness", "fixtures", "commands", "tests_perf", "tests_accuracy")


def add_to_register(path, shown):
    """Do as a reader does who is shown a file with `...` for what is there: the import, and the line in the table."""
    lines = shown.splitlines()
    (head,) = (line for line in lines if line.endswith("= {"))
    imports = [line for line in lines if line.startswith("from ")]
    entries = [line for line in lines if line.startswith("    ") and line.strip() != "..."]
    text = path.read_text()
    assert text.count(head) == 1, f"{path.name} has no register as CONTRIBUTING shows it"
    assert len(imports) == len(entries) == 1, "more than one line in the register"
    path.write_text(text.replace(head, f"{imports[0]}\n\n{head}\n{entries[0]}"))


@pytest.fixture
def copy(tmp_path):
    """The checkout with what the recipes show, a toy engine and a toy device: two new files, two lines."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("conftest.py", "pytest.ini"):
        shutil.copy(ROOT / file, tmp_path)
    for name, shown in BLOCKS:
        path = tmp_path / name
        if path.exists():
            add_to_register(path, shown)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(shown)
    return tmp_path


def test_the_recipes_show_two_new_files_and_two_registers():
    new = [name for name, _ in BLOCKS if not (ROOT / name).exists()]
    assert new == ["harness/devices/toy.py", "harness/engines/toy/__init__.py"]
    assert [name for name, _ in BLOCKS if name not in new] == [
        "harness/devices/__init__.py",
        "harness/engines/__init__.py",
    ]


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--model", TINY, *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_new_engine_and_a_new_device_are_measured_and_proven(copy):
    done = run(
        copy,
        *("tests_perf", "tests_accuracy", "--device", "cpu,toy", "--engine", "toy,eager", "--precision", "fp32,bf16"),
        *("--batch-size", "2", "--max-test-duration", "0.1", "--benchmark-json", "out.json", "-k", "latency or parity"),
    )
    assert done.returncode == 0, done.stdout
    rows = [row["extra_info"] for row in json.loads((copy / "out.json").read_text())["benchmarks"]]
    proven = {row["case"]: row["evidence"]["engine"] for row in rows if row["measurement"] == "latency"}
    assert proven == {
        f"{TINY}-cpu-fp32-bs2-toy": "toy",
        f"{TINY}-cpu-fp32-bs2-eager": "eager",
        f"{TINY}-cpu-bf16-bs2-eager": "eager",
        f"{TINY}-toy-fp32-bs2-toy": "toy",
    }
    assert "eager runs where torch does, on cpu, cuda, xpu, and not on toy" in done.stdout
    assert "toy (a toy)" in done.stdout


def test_what_a_new_engine_must_have_is_missed_by_name(copy):
    """The sabotage: an engine that proves nothing of itself."""
    path = copy / "harness" / "engines" / "toy" / "__init__.py"
    path.write_text(path.read_text().replace('engine="toy"', 'engine="eager"'))
    done = run(copy, "tests_perf/test_latency.py", "--device", "toy", "--engine", "toy", "--precision", "fp32")
    assert done.returncode == 1, done.stdout
    assert "label says engine toy, but eager ran" in done.stdout
