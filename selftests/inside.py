"""pytest inside pytest: the real command line in a process of its own, or in this one with a plugin that sabotages."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from fixtures.options.table import OPTIONS
from harness.engines import _ENGINES

ROOT = Path(__file__).parent.parent
# the smallest network of timm: every case takes a second or two
TINY = "timm:test_efficientnet"
# What would change a run inside a run: the options' own variables, and pytest's.
# The number of threads is left as it is for all of the self-tests.
VARIABLES = {option.variable for option in OPTIONS.values() if option.variable} - {"OMP_NUM_THREADS"} | {
    "PYTEST_ADDOPTS",
    "PYTEST_XDIST_WORKER",
    "PYTEST_XDIST_WORKER_COUNT",
}


MADE = ("results", "__pycache__", "build", "node_modules")
TEXTS = (".py", ".md", ".txt", ".toml", ".yaml", ".yml", ".csv", ".ini", ".Dockerfile", ".json", "")


def clean_environment():
    """The variables of this process without those that would change a run of pytest, and with no journal."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**kept, "VISIONMARK_JOURNAL": "off"}


def files_of_checkout():
    """Every text file of the checkout but what was built or measured; it may be an archive that was unpacked."""
    found = []
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        is_made = any(part.startswith(".") and part != ".ci" or part in MADE for part in parts)
        if path.is_file() and not is_made and path.suffix in TEXTS:
            found.append(path)
    return found


@dataclass(frozen=True)
class Outcome:
    """How a run ended and what it printed."""

    code: int
    text: str


def run_command(*arguments: str, **variables: str) -> Outcome:
    """`python -m pytest` as a user types it, in the checkout, with these variables and none of the options' own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**clean_environment(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return Outcome(done.returncode, done.stdout)


def run_here(
    *arguments: str,
    plugin: object | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
    cache: str | Path | None = None,
) -> Outcome:
    """The same in this process, which has torch and timm loaded already; pytest's cache is in that folder, or off."""
    out = io.StringIO()
    caching = ["-p", "no:cacheprovider"] if cache is None else ["-o", f"cache_dir={cache}"]
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        with redirect_stdout(out), redirect_stderr(out), pytest.MonkeyPatch.context() as patch:
            for name in VARIABLES:
                patch.delenv(name, raising=False)
            for name, value in {"VISIONMARK_JOURNAL": "off", **variables}.items():
                patch.setenv(name, value)
            code = pytest.main(
                [*caching, "--capture=no", "--tb=short", *arguments],
                plugins=[plugin] if plugin is not None else [],
            )
    finally:
        os.chdir(before)
    return Outcome(int(code), out.getvalue())


class Replacing:
    """A pytest plugin under which an engine's name stands for another builder."""

    def __init__(self, name, build):
        self.name, self.build = name, build

    def supports(self, device, precision):
        return None

    def pytest_configure(self, config):
        self.before = _ENGINES[self.name]
        _ENGINES[self.name] = self

    def pytest_unconfigure(self, config):
        _ENGINES[self.name] = self.before
