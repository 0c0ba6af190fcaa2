"""`visionmark pipeline compile | run | measure | verdict`.

`compile` writes the YAML that Kubeflow takes, and `run` runs the same pipeline as processes of this machine. `measure`
and `verdict` are what the tasks of the pipeline call in their image, which needs no kfp.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from commands.pipeline.asked import WrongParameter
from commands.pipeline.compiling import compile_pipeline
from commands.pipeline.measuring import measure
from commands.pipeline.verdict import verdict

USAGE_ERROR = 4


def main(arguments: Sequence[str]) -> int:
    """Run one of the four and return its exit status: 0, 1 if the run failed, 4 for a wrong parameter."""
    name, *rest = list(arguments) or ["--help"]
    try:
        if name == "measure":
            return measure(rest)
        if name == "verdict":
            return verdict(rest)
        return _at_the_desk(name, rest)
    except WrongParameter as error:
        print(f"visionmark pipeline {name}: {error}", file=sys.stderr)
        return USAGE_ERROR


def _at_the_desk(name: str, rest: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="visionmark pipeline", allow_abbrev=False, description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    compiled = kinds.add_parser("compile", help="write the pipeline's YAML")
    compiled.add_argument("--output", type=Path, default=Path("visionmark-pipeline.yaml"), metavar="FILE")
    run = kinds.add_parser("run", help="run the pipeline as processes of this machine")
    run.add_argument("--output-dir", type=Path, default=Path("results/pipeline"), metavar="DIR")
    run.add_argument("parameters", nargs="*", metavar="NAME=VALUE", help="parameters of the pipeline")
    for one in (compiled, run):
        one.add_argument("--data-claim", default="", help="the claim that is mounted at /data")
        one.add_argument("--results-claim", default="", help="the claim that is mounted at /results")
        one.add_argument("--timeout", type=int, default=7200, metavar="S", help="how long measure may take")
        one.add_argument("--image", default="visionmark:cpu", help="the default of docker_image")
    asked = parser.parse_args([name, *rest])
    made = {"data_claim": asked.data_claim, "results_claim": asked.results_claim}
    made |= {"timeout_s": asked.timeout, "image": asked.image}
    if asked.kind == "compile":
        compile_pipeline(asked.output, **made)
        print(f"the pipeline is in {asked.output}")
        return 0
    from commands.pipeline.local import run_here

    return run_here(asked.parameters, asked.output_dir, **made)


__all__ = ["main"]
