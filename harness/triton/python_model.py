"""Runs an ONNX file behind Triton's Python backend; it is copied into the model repository as `model.py`.

It runs in the serving environment, with nothing of this project beside it. It reports what it runs as a metric of the
server, `visionmark_session`, so that a client can read what was loaded rather than what was asked for.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of the model, which has one ONNX Runtime session."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the session as the model's configuration says."""
        config = json.loads(args["model_config"])
        parameters = {name: entry["string_value"] for name, entry in config.get("parameters", {}).items()}
        self._input = config["input"][0]["name"]
        self._outputs = [output["name"] for output in config["output"]]
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters["intra_op_thread_count"])
        options.inter_op_num_threads = 1
        # A thread that spins takes a core from the thread that answers the next request.
        options.add_session_config_entry("session.intra_op.allow_spinning", parameters["allow_spinning"])
        on_gpu = args["model_instance_kind"] == "GPU"
        providers: list[Any] = ["CPUExecutionProvider"]
        if on_gpu:
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(args["model_instance_device_id"])}))
        self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self._tell(args["model_name"], path, int(parameters["intra_op_thread_count"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests of one batch that the server formed.

        All images go through the session in one run, and the outputs are split again in the order of the requests.
        """
        inputs = [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        images = inputs[0] if len(inputs) == 1 else np.concatenate(inputs)
        arrays = self._session.run(self._outputs, {self._input: images})
        responses = []
        begin = 0
        for one in inputs:
            end = begin + len(one)
            answer = [
                pb_utils.Tensor(name, array[begin:end]) for name, array in zip(self._outputs, arrays, strict=True)
            ]
            responses.append(pb_utils.InferenceResponse(output_tensors=answer))
            begin = end
        return responses

    def _tell(self, model: str, path: Path, threads: int) -> None:
        """Publish what was loaded as a metric of the server."""
        self._family = pb_utils.MetricFamily(
            name="visionmark_session",
            description="What a served model's session is; the labels tell, the value is 1",
            kind=pb_utils.MetricFamily.GAUGE,
        )
        self._metric = self._family.Metric(
            labels={
                "model": model,
                "engine": "onnxruntime",
                "version": onnxruntime.__version__,
                "providers": ",".join(self._session.get_providers()),
                "intra_op_threads": str(threads),
                "input_type": self._session.get_inputs()[0].type,
                "numpy": np.__version__,
                "sha256": _sha256(path),
            }
        )
        self._metric.set(1)


def _sha256(graph: Path) -> str:
    """Return the hash of the graph and, where they lie beside it, of its weights after it."""
    digest = hashlib.sha256()
    for path in (graph, graph.with_name(graph.name + ".data")):
        if path.exists():
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
