"""Reading deploy/kubeflow/pipeline.py and compiling it. kfp is imported here and in `local`, and in no image."""

from __future__ import annotations

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from commands.pipeline.asked import WrongParameter
from harness.files import CHECKOUT

SOURCE = CHECKOUT / "deploy" / "kubeflow" / "pipeline.py"


def load_pipeline(**made: Any) -> Any:
    """Return the pipeline, made with these values; see `pipeline` in its source.

    Raises:
        WrongParameter: kfp or kfp-kubernetes is not installed.
    """
    if find_spec("kfp") is None or find_spec("kfp.kubernetes") is None:
        raise WrongParameter("no kfp, kfp-kubernetes: pip install -r requirements/pipeline.txt")
    spec = spec_from_file_location("visionmark_kubeflow_pipeline", SOURCE)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pipeline(**made)


def compile_pipeline(output: Path, **made: Any) -> None:
    """Write the YAML of the pipeline, which is the same for the same kfp.

    Raises:
        WrongParameter: kfp is not installed, or the file cannot be written.
    """
    made_pipeline = load_pipeline(**made)
    from kfp.compiler import Compiler

    if output.suffix not in (".yaml", ".yml"):
        raise WrongParameter(f"--output {output}: Kubeflow takes a file that ends with .yaml")
    try:
        Compiler().compile(made_pipeline, str(output))
    except OSError as error:
        raise WrongParameter(f"--output {output}: {error.strerror}; give a file that can be written") from None
