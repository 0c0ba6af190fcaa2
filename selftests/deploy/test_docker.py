"""Containers cannot be built everywhere; what they call can be looked at everywhere."""

import re
import shutil
import subprocess

import pytest

from selftests.inside import ROOT

DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))


def test_there_is_one_a_device():
    assert [path.name for path in DOCKERFILES] == ["cpu.Dockerfile", "cuda.Dockerfile", "xpu.Dockerfile"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_it_installs_as_a_checkout_does(path):
    text = path.read_text()
    assert re.search(r"^RUN make setup$", text, re.M)
    for package in ("g++", "make", "numactl"):
        assert re.search(rf"\s{re.escape(package)}\s", text), package


def test_what_it_copies_is_enough_for_make_setup(tmp_path):
    """Every file that the target depends on is in the build's context; a file that is left out would end the build."""
    ignored = [line for line in (ROOT / ".dockerignore").read_text().split() if line]
    copy = tmp_path / "visionmark"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*ignored, "selftests", "docs"))
    done = subprocess.run(["make", "-n", "setup"], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "-e ." in done.stdout
    named = re.findall(r"-r (\S+)", done.stdout + (copy / "requirements.txt").read_text())
    named += re.findall(r'"(requirements/[\w.-]+)"', (copy / "pyproject.toml").read_text())
    assert len(named) > 5
    assert all((copy / name).is_file() for name in named), named
