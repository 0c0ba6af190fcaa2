"""The engine `onnxruntime`: the exported module on one provider, with inputs and outputs bound to device memory.

The library is optional: where it is not installed, the engine gives that as the reason why it cannot run.
"""

from __future__ import annotations

import gc
import tempfile
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.artefacts import Artefact, Artefacts
from harness.cases import PRECISIONS, WHOLE, Case
from harness.devices import Device, place_of
from harness.engines.arrays import in_fp32
from harness.engines.evidence import Evidence, Quantisation
from harness.engines.onnx.export import BATCH_NAME, FILE_NAME, INPUT_NAME, OPSET, exported_onnx, import_exporter
from harness.engines.onnx.quantise import quantised_onnx
from harness.engines.onnx.whole import whole_onnx
from harness.engines.onnxruntime.profiler import Node, dtype_shares, fallbacks, node_times, operand_dtype, read_nodes
from harness.engines.torch.layer_times import busy_us, layer_times
from harness.engines.torch.profiler import matrix_work, profile_step
from harness.engines.torch.runner import PROFILER_ACTIVITIES, input_dtype
from harness.host.cores import asked_threads, give_back_cores
from harness.host.environment import fpmath_mode
from models.tasks import Outputs

# Maps each device on which ONNX Runtime is used to the provider that runs there.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
# On a GPU its memory is ONNX Runtime's own, which torch's allocator does not see.
HAS_OWN_ALLOCATOR = True
WHY_NOT_SAVED = "its ONNX file is kept in --cache-dir"

_PRECISIONS = {"CPUExecutionProvider": ("fp32", "int8"), "CUDAExecutionProvider": ("fp32", "tf32", "fp16")}
_REASONS = {
    (
        "CPUExecutionProvider",
        "fp16",
    ): "onnxruntime's CPU kernels compute fp16 models in fp32: use fp32",
    (
        "CUDAExecutionProvider",
        "int8",
    ): "onnxruntime's CUDA kernels compute int8 models in fp32: use fp16",
}
_PROFILED_RUNS = 3
# The severity that ONNX Runtime logs from: what ends the process. Its errors reach the caller as exceptions, and in the
# log are also the many plans that cuDNN tries and cannot use while it looks for the fastest.
_FATAL = 4


def supports(device: Device, precision: str) -> str | None:
    """See `Engine.supports`: the formats in which the kernels of each provider actually compute."""
    provider = PROVIDERS.get(device.kind)
    if provider is None:
        return "onnxruntime runs on CPUs and NVIDIA GPUs here: use --device cpu or cuda, or --engine openvino"
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: pip install -r requirements/engines.txt"
    if precision.startswith("amp_"):
        return f"onnxruntime has no autocast: use {', '.join(_PRECISIONS[provider])}"
    if precision == "bf16":
        return f"ONNX has no bf16 convolution in operator set {OPSET}: use {_PRECISIONS[provider][-1]}"
    if precision not in _PRECISIONS[provider]:
        return _REASONS[provider, precision]
    return _missing_provider(provider)


def runs_whole(case: Case) -> str | None:
    """Return None, or the reason why a detector with suppression inside cannot run. See `harness.engines`."""
    if case.precision == "fp32":
        return None
    return (
        f"onnxruntime runs whole detectors in fp32 alone, and not in {case.precision}: a quantiser takes the "
        f"arithmetic of boxes for layers, and no suppression is computed in short formats"
    )


def _missing_provider(provider: str) -> str | None:
    import onnxruntime

    present = onnxruntime.get_available_providers()
    if provider in present:
        return None
    return f"this onnxruntime has no {provider}, only {', '.join(present)}: pip install onnxruntime-gpu in its place"


def import_libraries(precision: str) -> None:
    """See `harness.engines.import_libraries`."""
    # beside the severity of a session there is that of the process: it warns of each place in a GPU's memory
    import_module("onnxruntime").set_default_logger_severity(_FATAL)
    import_exporter(precision)


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
) -> OnnxRuntimeRunner:
    """See `Engine.build`. The exported, and for int8 quantised, file is kept in the cache for the next run."""
    dtype = getattr(torch, PRECISIONS[case.precision].weights)
    placed = module.to(dtype)
    if WHOLE in case.settings:
        artefact = whole_onnx(placed, example, case.model, artefacts)
    elif PRECISIONS[case.precision].calibrated:
        artefact = quantised_onnx(placed, example, case.model, artefacts)
    else:
        artefact = exported_onnx(placed, example.to(input_dtype(example, case)), case.model, artefacts)
    return OnnxRuntimeRunner(artefact, len(example), case, device, artefacts)


class OnnxRuntimeRunner:
    """Runs one session. Its outputs are bound to the same memory for all batches; the input is bound for each batch."""

    def __init__(self, artefact: Artefact, batch: int, case: Case, device: Device, artefacts: Artefacts) -> None:
        """Open the session."""
        self._artefact = artefact
        self._batch = batch
        self._case = case
        self._device = device
        self._calibration = artefacts.calibration().record() if PRECISIONS[case.precision].calibrated else None
        self.has_own_threads = device.is_host
        self._session = self._open(None)
        self._names = tuple(output.name for output in self._session.get_outputs())
        self._bind()

    def _open(self, profile: Path | None) -> Any:
        """Open a session of the file. With `profile`, it writes a profile of each node to a file with that prefix."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        give_back_cores()  # its threads have the affinity of the one that opens the session
        options.intra_op_num_threads = asked_threads()  # as many threads as for every other engine
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        options.add_free_dimension_override_by_name(BATCH_NAME, self._batch)  # the graph is optimised for this size
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        provider = PROVIDERS[self._device.kind]
        settings: dict[str, Any] = {}
        if provider == "CUDAExecutionProvider":
            settings = {
                "device_id": self._device.index,
                "use_tf32": int(PRECISIONS[self._case.precision].tf32),
                "cudnn_conv_algo_search": "EXHAUSTIVE",
            }
        return onnxruntime.InferenceSession(
            str(self._artefact.folder / FILE_NAME), options, providers=[(provider, settings)]
        )

    def _bind(self) -> None:
        """Allocate memory on the device for every output, once, and bind the outputs to it."""
        import onnxruntime

        self._binding = self._session.io_binding()
        self._outputs: list[Any] = []
        for output in self._session.get_outputs():
            place = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                output.shape, _numpy_type(output.type), *self._where()
            )
            self._binding.bind_ortvalue_output(output.name, place)
            self._outputs.append(place)
        self._run_options = onnxruntime.RunOptions()
        if not self._device.is_host:  # `submit` may return first: `synchronize` waits
            self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def _where(self) -> tuple[str, int]:
        return self._device.kind, self._device.index

    def put(self, images: torch.Tensor) -> Any:
        """See `Runner.put`. The images are copied, because a value on the host shares the array's memory."""
        import onnxruntime

        wanted = _numpy_type(self._session.get_inputs()[0].type)
        # torch casts on all threads, and numpy on one
        owned = images.to(getattr(torch, wanted.__name__), copy=True, memory_format=torch.contiguous_format)
        return onnxruntime.OrtValue.ortvalue_from_numpy(owned.numpy(), *self._where())

    def submit(self, batch: Any) -> Any:
        """See `Runner.submit`."""
        self._binding.bind_ortvalue_input(INPUT_NAME, batch)
        self._session.run_with_iobinding(self._binding, self._run_options)
        return self._outputs

    def synchronize(self) -> None:
        """See `Runner.synchronize`."""
        self._device.synchronize()

    def fetch(self, output: Any) -> Outputs:
        """See `Runner.fetch`."""
        self._device.synchronize()
        return Outputs(self._names, (in_fp32(value.numpy()) for value in output))

    def evidence(self, batch: Any) -> Evidence:
        """See `Inspector.evidence`.

        The nodes come from a second session of the same file that writes a profile; the evidence says so if its nodes
        were assigned to providers differently. On a GPU the profile holds only the time of a node's launch, so the
        formats come from the kernels that torch's profiler sees in this process.
        """
        nodes, is_twin = self._profile_twin(batch)
        share, count, clock = dtype_shares(nodes), sum(node.is_matrix_work for node in nodes), "operator"
        layers = node_times(nodes)
        ran_us = sum(layer.time_us for layer in layers)
        by_kernel: dict[str, Any] = {}
        if not self._device.is_host:
            activity = PROFILER_ACTIVITIES[self._device.kind]
            events = profile_step(lambda: self._step(batch), activity)
            work, layers, ran_us = matrix_work(events, operand_dtype(nodes)), layer_times(events), busy_us(events)
            share, count, clock, by_kernel = work.share_pct, work.count, work.clock, work.notes()
        provider = PROVIDERS[self._device.kind]
        used = self._session.get_provider_options()[provider]
        floating = [node.name for node in nodes if node.is_matrix_work and node.dtype != "int8"]
        return Evidence(
            engine="onnxruntime" if is_twin else "onnxruntime whose profiled twin differs from it",
            dtype_share_pct=share,
            matrix_ops=count,
            clock=clock,
            parameter_devices={place_of(self._device): sum(node.provider == provider for node in nodes)},
            parameter_dtypes=_initialisers(self._artefact.folder / FILE_NAME),
            short_formats={"onnxruntime": used["use_tf32"] == "1"} if "use_tf32" in used else {},
            fpmath_mode=fpmath_mode(),
            memory_format="onnxruntime's own",
            threads={
                "intra_op": max((node.threads for node in nodes), default=0) or 1,
                "inter_op": 1,
                "asked": asked_threads(),
            },
            fallbacks=fallbacks(nodes, provider),
            quantisation=None
            if self._calibration is None
            else Quantisation(
                operators=sum(node.is_matrix_work for node in nodes) - len(floating),
                float_layers=tuple(floating),
                calibration=self._calibration,
            ),
            notes={
                **by_kernel,
                "artefact": self._artefact.state,
                "providers": dict(Counter(node.provider for node in nodes)),
                "operators": dict(Counter(node.operator for node in nodes if node.is_matrix_work)),
                "conditions": self._device.conditions(),
            },
            layers=layers,
            busy_us=ran_us,
        )

    def _profile_twin(self, batch: Any) -> tuple[list[Node], bool]:
        """Profile a second session. Returns the nodes of one warm step, and whether providers got the same nodes."""
        with tempfile.TemporaryDirectory() as folder:
            twin = self._open(Path(folder) / "profile")
            binding = twin.io_binding()
            binding.bind_ortvalue_input(INPUT_NAME, batch)
            for name in self._names:
                binding.bind_output(name, *self._where())
            for _ in range(_PROFILED_RUNS):
                twin.run_with_iobinding(binding)
            nodes = read_nodes(Path(twin.end_profiling()))
            is_twin = _assignment(twin) == _assignment(self._session)
        return nodes[-(len(nodes) // _PROFILED_RUNS) :], is_twin  # only the last run, which allocates no memory

    def _step(self, batch: Any) -> None:
        self.submit(batch)
        self.synchronize()

    def compilations(self) -> int:
        """See `Inspector.compilations`. The graph is compiled only once, for one static shape."""
        return 0

    def close(self) -> None:
        """See `Runner.close`."""
        self._binding = self._session = None
        self._outputs.clear()
        gc.collect()


def _assignment(session: Any) -> list[tuple[str, int]]:
    """Return the providers in a session's graph, and the number of nodes that each was assigned."""
    found: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        found[part.ep_name] += len(part.get_nodes())
    return sorted(found.items())


def _numpy_type(described: str) -> type[np.generic]:
    """Return the numpy type for an ONNX Runtime type such as `tensor(float16)`."""
    types: dict[str, type[np.generic]] = {
        "tensor(float)": np.float32,
        "tensor(float16)": np.float16,
        "tensor(int64)": np.int64,
        "tensor(uint8)": np.uint8,
    }
    return types[described]


def _initialisers(path: Path) -> dict[str, int]:
    """Return the number of weight tensors of each type in the file, without those of one dimension, such as biases."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return dict(
        Counter(
            onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name
            for tensor in graph.initializer
            if len(tensor.dims) > 1
        )
    )
