"""`test_imagenet` against timm's validate.py: `python -m benchmarks.validate --data DIR --weights FILE MODEL`.

Both evaluate the same weights on the same labelled images, each as a process of its own from its start to its end, in
turns. The ratio of wall times is paired by turn, with its 95% interval. validate.py lies in `pytorch-image-models` in
the folder that the variable PEERS_DIR names. The first run of ours is reported apart: it makes what later runs find in
the cache (the exported file and the reference's answers).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from benchmarks.peers import AbsentPeer, paired_ratio
from harness.data.imagenet.labels import class_indices
from harness.host.cores import usable_cores
from harness.host.pressure import read_waiting, shares_of
from selftests.inside import ROOT


def timed(command: Sequence[str]) -> tuple[float, str]:
    """Run a command and return its wall seconds and its output.

    Raises:
        AbsentPeer: it failed.
    """
    threads = str(usable_cores())
    variables = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    began = perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=ROOT, check=False)
    took_s = perf_counter() - began
    if done.returncode:
        raise AbsentPeer(
            f"{' '.join(command[:3])} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return took_s, done.stdout + done.stderr


def ours(asked: argparse.Namespace, folder: Path, decoder: str) -> list[str]:
    """Return the command of our accuracy test."""
    return [
        *(sys.executable, "-m", "pytest", "tests_accuracy/test_imagenet.py", "-q", "-p", "no:cacheprovider"),
        *("--model", asked.model, "--data", str(asked.data), "--weights", str(asked.weights), "--device", "cpu"),
        *("--engine", asked.engine, "--precision", asked.precision, "--batch-size", str(asked.batch_size)),
        *("--decoder", decoder, "--cache-dir", str(folder / "cache"), "--benchmark-json", str(folder / "ours.json")),
    ]


def theirs(asked: argparse.Namespace, folder: Path) -> list[str]:
    """Return the command of timm's script.

    Raises:
        AbsentPeer: the script is not in PEERS_DIR.
    """
    script = Path(os.environ.get("PEERS_DIR") or ".") / "pytorch-image-models" / "validate.py"
    if not script.is_file():
        raise AbsentPeer("timm's validate.py: set PEERS_DIR to a folder with a checkout of pytorch-image-models in it")
    classes = folder / "classes.txt"  # or a folder of some of the 1,000 classes would be numbered from 0
    classes.write_text("\n".join(class_indices()) + "\n", encoding="utf-8")
    images = asked.data / "val" if (asked.data / "val").is_dir() else asked.data
    return [
        *(sys.executable, str(script), "--data-dir", str(images), "--split", "", "--class-map", str(classes)),
        *("--model", asked.model, "--checkpoint", str(asked.weights), "--device", "cpu"),
        *("--batch-size", str(asked.batch_size), "--workers", str(usable_cores())),
    ]


def main(words: Sequence[str] | None = None) -> None:
    """Print the wall times of both by turn, their ratio, and the accuracy that each found."""
    reader = argparse.ArgumentParser(prog="python -m benchmarks.validate", description=__doc__.partition("\n")[0])
    reader.add_argument("model", nargs="?", default="mobilenetv2_100", help="a name that timm has as well")
    reader.add_argument("--data", type=Path, required=True, help="folders of wnids, or a folder with val/ in it")
    reader.add_argument("--weights", type=Path, required=True, help="a file of weights")
    reader.add_argument("--engine", default="openvino")
    reader.add_argument("--precision", default="fp32")
    reader.add_argument("--decoder", default="exact")
    reader.add_argument("--batch-size", type=int, default=32)
    reader.add_argument("--turns", type=int, default=3)
    asked = reader.parse_args(words)
    asked.data, asked.weights = asked.data.resolve(), asked.weights.resolve()
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        first_s, _ = timed(ours(asked, folder, asked.decoder))
        print(f"ours, first run with an empty cache: {first_s:.1f} s", flush=True)
        before, turns = read_waiting(), []
        for turn in range(asked.turns):
            pair: dict[str, tuple[float, str]] = {}
            for side in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
                command = ours(asked, folder, asked.decoder) if side == "ours" else theirs(asked, folder)
                pair[side] = timed(command)
            turns.append((pair["ours"][0], pair["theirs"][0]))
            print(f"turn {turn + 1}: ours {turns[-1][0]:.1f} s, validate.py {turns[-1][1]:.1f} s", flush=True)
        pressure = shares_of(before, read_waiting())["cpu_pressure_pct"]
        (row,) = json.loads((folder / "ours.json").read_text(encoding="utf-8"))["benchmarks"]
    record = row["extra_info"]
    ratio, low, high = paired_ratio([mine for mine, _ in turns], [their for _, their in turns])
    top1 = re.search(r'"top1":\s*([\d.]+)', pair["theirs"][1])
    print(f"wall time over validate.py's: {ratio:.2f} ({low:.2f} to {high:.2f}); at most 0.5")
    print(f"top-1: ours {record['top1']['pct']:.2f}%, validate.py {top1[1] if top1 else '?'}%; {record['case']}")
    if pressure is not None:
        print(f"for {pressure:.0f}% of the time a process waited for a core")


if __name__ == "__main__":
    main()
