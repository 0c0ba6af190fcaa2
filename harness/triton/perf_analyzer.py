"""Runs NVIDIA's perf_analyzer, which gives a second opinion on the same server under the same load.

The program comes from a tritonclient wheel, and two libraries that it lacks come from nvidia-pytriton's wheel. Run as a
script, this file unpacks them: `python -m harness.triton.perf_analyzer WHEELS ENVIRONMENT`.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from harness.triton.clients import Target, Traffic
from harness.triton.installation import ENVIRONMENT, SETUP
from harness.triton.server import Server

FOLDER = "perf_analyzer"
_MEMBER = "/data/bin/perf_analyzer"
# The libraries that the program is linked with, each with the pattern of its file among the wheel's libraries.
_LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
# So large that perf_analyzer's own stability criterion never refuses a run: shared cores do not meet a small one, and
# this suite makes the comparison itself, pair by pair.
STABILITY_PCT = 10_000
TRIALS = 3
# So long it may take beside its windows, to connect and to settle, before it counts as hanging.
BESIDE_S = 60.0
_SHOWN = 2000


class NoPerfAnalyzer(RuntimeError):
    """There is no perf_analyzer here, or it does not run; the message says why."""


class NoMeasurement(RuntimeError):
    """perf_analyzer ran and measured nothing; the message has its output."""


@dataclass(frozen=True)
class Opinion:
    """What one of the two measured: requests answered per second, and the median latency of a request."""

    requests_per_second: float
    p50_ms: float


def find_perf_analyzer(root: Path) -> Path:
    """Return the path of perf_analyzer in the serving environment.

    Raises:
        NoPerfAnalyzer: if it is not there.
    """
    program = root / ENVIRONMENT / FOLDER / "perf_analyzer"
    if not program.is_file():
        raise NoPerfAnalyzer(f"no perf_analyzer in {ENVIRONMENT}; {SETUP.partition(',')[0]}")
    return program


def ask_perf_analyzer(
    program: Path, server: Server, target: Target, traffic: Traffic, batch: int, window_s: float, scratch: Path
) -> Opinion:
    """Have perf_analyzer load a model as many clients would, and return what it measured.

    It measures over windows of time, because over a number of requests its throughput is wrong: it divides by whole
    seconds.

    Args:
        program: the path of perf_analyzer.
        server: the server that is asked.
        target: the model that is asked for.
        traffic: the protocol, the mode and the number of clients.
        batch: the number of images per request.
        window_s: the seconds of each of its windows.
        scratch: a folder that it may write in.

    Raises:
        NoMeasurement: if its table has no row, whatever its exit code says, or if it does not end; then it is killed.
    """
    table = scratch / "perf_analyzer.csv"
    table.unlink(missing_ok=True)
    address = server.endpoint.grpc if traffic.protocol == "grpc" else server.endpoint.http
    command = [
        *(str(program), "-m", target.model, "-u", address, "-i", traffic.protocol, "-b", str(batch)),
        "--async" if traffic.mode == "async" else "--sync",
        *("--concurrency-range", str(traffic.clients), "-p", str(round(window_s * 1e3))),
        *("-s", str(STABILITY_PCT), "-r", str(TRIALS), "-f", str(table)),
    ]
    limit_s = BESIDE_S + 10 * TRIALS * window_s
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "LD_LIBRARY_PATH": str(program.parent / "lib")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as hung:
        raise NoMeasurement(f"perf_analyzer did not end within {limit_s:g} s:\n{_words(hung.output)}") from None
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines())) if table.exists() else []
    if not rows:  # in some of these cases its exit code is 0
        raise NoMeasurement(f"perf_analyzer measured nothing (exit code {done.returncode}):\n{_words(done.stdout)}")
    return Opinion(float(rows[0]["Inferences/Second"]) / batch, float(rows[0]["p50 latency"]) / 1e3)


def _words(output: bytes | None) -> str:
    """Return the end of what a program printed."""
    return (output or b"").decode(errors="replace")[-_SHOWN:].strip() or "(it printed nothing)"


def unpack(wheels: Path, environment: Path) -> Path:
    """Unpack the program into the serving environment, and return its path.

    Raises:
        NoPerfAnalyzer: if no wheel has the program, or if a library is missing.
    """
    folder = environment / FOLDER
    (folder / "lib").mkdir(parents=True, exist_ok=True)
    program = folder / "perf_analyzer"
    for wheel in wheels.glob("tritonclient-*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if member.endswith(_MEMBER):
                    program.write_bytes(archive.read(member))
                    program.chmod(0o755)
    if not program.exists():
        raise NoPerfAnalyzer(f"no tritonclient wheel in {wheels} has perf_analyzer")
    for name, pattern in _LIBRARIES.items():
        found = list(environment.glob(f"lib/python3*/site-packages/nvidia_pytriton.libs/{pattern}"))
        if not found:
            raise NoPerfAnalyzer(f"nvidia-pytriton in {environment} has no {pattern}")
        (folder / "lib" / name).unlink(missing_ok=True)
        (folder / "lib" / name).symlink_to(found[0].resolve())
    return program


if __name__ == "__main__":
    print(unpack(Path(sys.argv[1]), Path(sys.argv[2])))
