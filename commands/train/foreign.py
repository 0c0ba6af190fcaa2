"""What the command lines of the model zoo's training call our options: an unknown one is told its name here."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches

_OPTION = r"--?[A-Za-z][\w-]*"

# Another tool's spelling, with dashes: what does it here. Sources: the model zoo's launcher and its imagenet_main.py.
FOREIGN = {
    "-a": "use --threads N",
    "--benchmark-only": "none is needed: a training run is measured by itself",
    "--checkpoint": "use --output-dir DIR",
    "--data-dir": "use --data DIR",
    "--data-location": "use --data DIR",
    "--docker-image": "see deploy/docker/README.md",
    "--framework": "none is needed: PyTorch trains",
    "--host": "run the command on each machine, with --nodes N --rendezvous HOST:PORT",
    "--inter-op-parallelism-threads": "none is needed: torch trains with one operator at a time",
    "--intra-op-parallelism-threads": "use --threads N",
    "--map-by": "none is needed: each replica is bound to its share of the cores; use --replicas N --threads N",
    "--mode": "none is needed: this command trains",
    "--model-dir": "use --output-dir DIR",
    "--model-name": "use --model NAME",
    "--mpi-num-processes": "use --replicas N",
    "--mpi-num-processes-per-socket": "use --replicas N, the number on the whole machine",
    "--num-intra-threads": "use --threads N",
    "--num-inter-threads": "none is needed: torch trains with one operator at a time",
    "--resnet-size": "use --model resnet50",
    "--use-bfloat16": "use --precision amp_bf16",
    "--version": "none is needed: timm's resnet50 is v1.5",
}


def describe_unknown(words: Sequence[str], usage: str) -> str:
    """Return what to say of the options among these words that there are not, each with what it is here; empty if none.

    Args:
        words: a command line.
        usage: a text that names the options that there are.
    """
    ours = {"--help", *re.findall(_OPTION, usage)}  # a usage line names its short form alone
    found = [word.partition("=")[0] for word in words if re.match(_OPTION, word)]
    return "; ".join(_answer(word, ours) for word in found if word not in ours)


def _answer(word: str, ours: Collection[str]) -> str:
    dashed = word.replace("_", "-")
    if dashed in FOREIGN:
        return f"{word}: {FOREIGN[dashed]}"
    if dashed in ours:
        return f"{word}: use {dashed}"
    near = get_close_matches(dashed, ours, n=1, cutoff=0.75)
    return f"{word}: there is no such option" + (f"; did you mean {near[0]}?" if near else "")
