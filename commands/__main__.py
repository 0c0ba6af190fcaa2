"""Runs `visionmark SUBCOMMAND …`, or `python -m commands SUBCOMMAND …` where the package is not installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

# For each subcommand, its module, which has `main(arguments) -> exit status`, and what it does.
SUBCOMMANDS = {
    "best": ("commands.best.command", "measure a model on every engine and precision, keep the fastest that is right"),
    "compare": ("commands.compare", "say of two runs, row by row, which is faster, and how sure that is"),
    "list": ("commands.list", "what can run here: models, engines and precisions, and why the others cannot"),
    "manifests": ("commands.manifests.command", "check Kubernetes manifests: the schemas, and what they miss"),
    "peaks": ("commands.peaks", "measure what this machine can do at most in each format, and keep it"),
    "pipeline": ("commands.pipeline.command", "compile or run the Kubeflow pipeline; its tasks call it too"),
    "recover": ("commands.recover", "make a JSON file of the journal of a run that was killed"),
    "report": ("commands.report", "make one page of files of results, with every row, its evidence and pictures"),
    "run": (
        "commands.run.command",
        "many cases, none of which takes another with it: supervised here, or over a cluster",
    ),
    "train": ("commands.train.command", "train a model on labelled images, in one process or several"),
    "telemetry": ("commands.telemetry", "the collector that samples the machine while something is measured"),
}
USAGE_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status, or 2 if there is no such subcommand."""
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(_usage())
        return 0
    if name not in SUBCOMMANDS:
        print(f"visionmark: no subcommand {name!r}\n{_usage()}", file=sys.stderr)
        return USAGE_ERROR
    status: int = import_module(SUBCOMMANDS[name][0]).main(rest)
    return status


def _usage() -> str:
    lines = [f"  {name:<12}{text}" for name, (_, text) in SUBCOMMANDS.items()]
    return "usage: visionmark SUBCOMMAND …; measurements are pytest runs\n" + "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
