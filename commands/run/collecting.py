"""What pytest collects: the cases, their tests, and what is known of them before one is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.files import CHECKOUT
from harness.jobs.pytest_child import pytest_command

CASES_FILE = "VISIONMARK_CASES_FILE"


def collect(arguments: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Let pytest collect, and return its exit status and what `fixtures.one_case` writes: the cases and variables."""
    with tempfile.TemporaryDirectory(prefix="visionmark-run-") as folder:
        path = Path(folder) / "cases.json"
        done = subprocess.run(
            pytest_command([*arguments, "--collect-only", "-q", "-p", "fixtures.one_case"]),
            cwd=CHECKOUT,
            env={**os.environ, CASES_FILE: str(path), "VISIONMARK_JOURNAL": "off"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            return done.returncode, {}
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return 0, found
