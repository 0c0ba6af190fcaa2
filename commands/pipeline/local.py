"""Runs the pipeline as processes of this machine, without a cluster and without containers.

kfp's runner of processes refuses container components, though what they are is a command and its arguments. It is told
not to refuse them, within this process, which does nothing else. The image, the claims, the node and the limits of a
task mean nothing here, and kfp says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from commands.pipeline.asked import WrongParameter
from commands.pipeline.compiling import load_pipeline
from harness.files import CHECKOUT

FAILED = 1


def run_here(parameters: Sequence[str], folder: Path, **made: Any) -> int:
    """Run the pipeline and return 0 if it passed, or 1.

    Args:
        parameters: `NAME=VALUE` for the pipeline's parameters that are not to have their defaults.
        folder: where the artifacts are kept.
        **made: as for `load_pipeline`.

    Raises:
        WrongParameter: there is no such parameter, or kfp is not installed.
    """
    given = {}
    for parameter in parameters:
        name, is_pair, value = parameter.partition("=")
        if not is_pair:
            raise WrongParameter(f"{parameter!r} is no NAME=VALUE")
        given[name] = value
    pipeline = load_pipeline(**made)
    known = pipeline.component_spec.inputs or {}
    if unknown := sorted(set(given) - set(known)):
        raise WrongParameter(f"no parameter {', '.join(unknown)}: there are {', '.join(known)}")
    values = {name: _typed(name, value, known[name].type) for name, value in given.items()}
    from kfp import local
    from kfp.local.subprocess_task_handler import SubprocessTaskHandler

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder.resolve()), raise_on_error=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    before = Path.cwd()
    os.chdir(CHECKOUT)
    try:
        with (
            patch.object(SubprocessTaskHandler, "validate_not_container_component", lambda *_: None),
            patch.object(SubprocessTaskHandler, "validate_image", lambda *_: None),
            patch.dict(os.environ, {"PATH": path}),
        ):
            pipeline(**values)
    except RuntimeError as error:
        print(f"visionmark pipeline run: {error}", file=sys.stderr)
        return FAILED
    finally:
        os.chdir(before)
    print(f"the pipeline passed; its artifacts are in {folder}")
    return 0


def _typed(name: str, value: str, kind: str) -> str | int | bool:
    """Return a parameter's value as its type, which the text on a command line has not."""
    if kind == "Boolean":
        if value.lower() not in ("true", "false"):
            raise WrongParameter(f"{name} {value!r} is neither true nor false")
        return value.lower() == "true"
    if kind == "Integer":
        if not value.isdecimal():
            raise WrongParameter(f"{name} {value!r} is no whole number")
        return int(value)
    if kind != "String":
        raise WrongParameter(f"{name} cannot be given here: it means nothing without a cluster")
    return value
