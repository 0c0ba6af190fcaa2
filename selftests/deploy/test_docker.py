"""Containers cannot be built everywhere; what they do can be looked at everywhere."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.host.environment import describe_environment
from selftests.inside import ROOT

FOLDER = ROOT / "deploy" / "docker"
DOCKERFILES = sorted(FOLDER.glob("*.Dockerfile"))
HADOLINT = Path(sys.executable).with_name("hadolint")
each_file = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)


def instructions(path):
    """The instructions of a Dockerfile, each in a line of its own, without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def test_there_is_one_a_device():
    assert [path.name for path in DOCKERFILES] == ["cpu.Dockerfile", "cuda.Dockerfile", "xpu.Dockerfile"]


@each_file
def test_the_libraries_come_before_the_code_and_the_commit_last(path):
    """So an edit of the code, or a commit, installs nothing again."""
    found = instructions(path)
    order = [
        next(index for index, line in enumerate(found) if re.search(pattern, line))
        for pattern in (
            r"apt-get install",
            r"^COPY constraints",
            r"-r requirements.txt",
            r"^COPY \. \.",
            r"-e \.",
            "^ARG COM",
        )
    ]
    assert order == sorted(order)
    for package in ("g++", "make", "numactl"):
        assert f" {package} " in found[order[0]], package


@each_file
def test_it_ends_as_a_user_by_number_whose_folders_can_be_written(path):
    found = instructions(path)
    assert [line for line in found if line.startswith("USER")][-1] == "USER 1000"
    assert found[-1].startswith("CMD") and found[-2] == "USER 1000"
    (owned,) = [line for line in found if "chown -R 1000:0" in line]
    for folder in ('"$HOME"', "/cache", "/results"):
        assert folder in owned.partition("chown")[2], folder
    assert any("VISIONMARK_CACHE_DIR=/cache" in line for line in found)


@each_file
def test_what_it_copies_is_enough_for_what_it_installs(path, tmp_path):
    """Every file that is named is there when it is named, and in the build's context."""
    ignored = (ROOT / ".dockerignore").read_text().split()
    there = set()
    for line in instructions(path):
        if line.startswith("COPY"):
            there |= set(line.split()[1:-1])
        for name in re.findall(r"-[rc] (\S+\.txt)", line):
            assert _is_there(name, there), f"{line}: {name}"
            for nested in re.findall(r"^-r (\S+)", (ROOT / name).read_text(), re.M):
                assert _is_there((Path(name).parent / nested).as_posix(), there), nested
    named = re.findall(r'"(requirements/[\w.-]+)"', (ROOT / "pyproject.toml").read_text())
    for name in [*named, "pyproject.toml", "constraints.txt", "profiles/c100.fp32.csv", "pytest.ini"]:
        assert (ROOT / name).is_file()
        assert not any(fnmatch.fnmatch(part, pattern) for part in Path(name).parts for pattern in ignored), name


def _is_there(name, copied):
    return (ROOT / name).is_file() and (name in copied or Path(name).parts[0] in copied)


def test_the_base_for_nvidia_is_of_the_cuda_of_the_wheels():
    base = next(line for line in instructions(FOLDER / "cuda.Dockerfile") if line.startswith("ARG BASE"))
    wheels = re.search(r"^tensorrt-cu(\d+)", (ROOT / "requirements" / "tensorrt.txt").read_text(), re.M)[1]
    assert f"nvidia/cuda:{wheels}." in base


def hadolint(*paths):
    return subprocess.run(
        [HADOLINT, "--config", FOLDER / "hadolint.yaml", *paths], capture_output=True, text=True, check=False
    )


def test_hadolint_has_no_word_and_would_have_one(tmp_path):
    """The sabotage: a Dockerfile that ends as root."""
    assert (done := hadolint(*DOCKERFILES)).returncode == 0, done.stdout
    wrong = tmp_path / "wrong.Dockerfile"
    wrong.write_text((FOLDER / "cpu.Dockerfile").read_text().replace("USER 1000", "USER root"))
    done = hadolint(wrong)
    assert done.returncode == 1
    assert "DL3002" in done.stdout


@pytest.mark.parametrize("tool", ["docker", "podman", "buildah"])
def test_make_image_takes_the_tool_that_is_there_and_tells_it_the_commit(tool, tmp_path):
    for name in ("make", "sh", "git", "grep", "test", "expand", "sed"):
        (tmp_path / name).symlink_to(shutil.which(name))
    fake = tmp_path / tool
    fake.write_text('#!/bin/sh\necho "$0 $@"\n')
    fake.chmod(0o755)
    # a `make` that runs these tests hands its own options on
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ARGS"))}
    environment = {**kept, "PATH": str(tmp_path)}
    done = subprocess.run(
        ["make", "--no-print-directory", "image", "DEVICE=cpu", "TRITON_PYTHON=false"],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{fake} build -f deploy/docker/cpu.Dockerfile --build-arg COMMIT="), done.stdout
    assert done.stdout.rstrip().endswith("-t visionmark:cpu .")


def test_make_image_without_a_tool_or_for_no_device_says_what_to_do(tmp_path):
    for name in ("make", "sh", "git", "test"):
        (tmp_path / name).symlink_to(shutil.which(name))
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(
        ["make", "image", "TRITON_PYTHON=false"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "deploy/docker/README.md" in done.stderr


@pytest.mark.parametrize(
    ("built_of", "state"),
    [("abc", {"commit": "abc", "changed": False}), ("abc-changed", {"commit": "abc", "changed": True})],
)
def test_the_commit_that_an_image_was_built_of_is_in_its_records(built_of, state, monkeypatch, tmp_path):
    monkeypatch.setenv("VISIONMARK_COMMIT", built_of)
    monkeypatch.setenv("NODE_NAME", "node-7")
    found = describe_environment([], tmp_path)
    assert found["git"] == state
    assert found["node_name"] == "node-7"
    monkeypatch.delenv("VISIONMARK_COMMIT")
    assert describe_environment([], tmp_path)["git"] is None
