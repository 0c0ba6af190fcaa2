"""The engine `openvino`: the module converted to OpenVINO's graph and compiled for a CPU or an Intel GPU.

One inference request runs at a time. The library is optional: where it is not installed, the engine gives that as the
reason why it cannot run.
"""

from __future__ import annotations

import gc
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.artefacts import Artefacts
from harness.cases import PRECISIONS, Case
from harness.devices import Device, place_of
from harness.engines.arrays import in_fp32
from harness.engines.evidence import Evidence, LayerTime, Quantisation, shares
from harness.engines.openvino.graph import converted, quantised, read_graph
from harness.engines.openvino.plugin import plugin_of, put_on
from harness.host.cores import asked_threads, current, give_back_cores
from harness.host.environment import fpmath_mode
from models.tasks import Outputs, output_names

# A precision is set as OpenVINO's execution precision. The amp_ precisions are missing, because autocast is a feature
# of torch. Operators that int8 leaves in floating point run in fp32.
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_DTYPES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "u8": "int8", "i8": "int8"}
_GRAPH, _WEIGHTS, _CALIBRATION = "model", "weights", "calibration"
_INPUT = "images"
# On an Intel GPU its memory is OpenVINO's own, which torch's allocator does not see.
HAS_OWN_ALLOCATOR = True
# Beginnings of node types: a quantised classifier, for example, is a FullyConnectedQuantizedLegacy.
_MATRIX_NODES = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul", "Deconvolution")


def absent() -> str | None:
    """Return None, or the reason why the library is not installed, with how to install it."""
    if find_spec("openvino") is None:
        return "openvino is not installed: pip install -r requirements/engines.txt"
    return None


def supports(device: Device, precision: str) -> str | None:
    """See `Engine.supports`: CPUs and Intel GPUs; fp32, bf16, fp16 and int8."""
    if device.kind not in ("cpu", "xpu"):
        return "openvino runs on CPUs and Intel GPUs: use --device cpu or xpu"
    if reason := absent():
        return reason
    if precision not in _HINTS:
        return f"openvino has no autocast: use {', '.join(_HINTS)}"
    if PRECISIONS[precision].calibrated and find_spec("nncf") is None:
        return "openvino quantises by nncf, which is not installed: pip install -r requirements/engines.txt"
    return plugin_of(device, _core()).reason


def import_libraries(precision: str) -> None:
    """See `harness.engines.import_libraries`."""
    import_module("openvino.frontend.pytorch.ts_decoder")
    if PRECISIONS[precision].calibrated:
        import_module("nncf")


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
) -> OpenVinoRunner:
    """See `Engine.build`. The converted, and for int8 quantised, graph is kept in the cache for the next run."""
    is_calibrated = PRECISIONS[case.precision].calibrated
    artefact = (quantised if is_calibrated else converted)(module, example, case.model, artefacts)
    graph = read_graph(artefact, _core(), example.shape)
    calibration = artefacts.calibration().record() if is_calibrated else None
    return OpenVinoRunner(graph, output_names(module), case, device, artefact.state, calibration)


def save(runner: OpenVinoRunner) -> dict[str, bytes]:
    """See `Saving.save`. The files are the graph, its weights, and for int8 which images it was calibrated on."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(runner.graph, path, compress_to_fp16=False)
        files = {_GRAPH: path.read_bytes(), _WEIGHTS: path.with_suffix(".bin").read_bytes()}
    if runner.calibration is not None:
        files[_CALIBRATION] = json.dumps(runner.calibration).encode()
    return files


def load(files: Mapping[str, bytes], module: torch.nn.Module, case: Case, device: Device) -> OpenVinoRunner:
    """See `Saving.load`. A file of an int8 model without its calibration is loaded, and its label is then denied."""
    graph = _core().read_model(files[_GRAPH], files[_WEIGHTS])
    calibration = json.loads(files[_CALIBRATION]) if _CALIBRATION in files else None
    return OpenVinoRunner(graph, output_names(module), case, device, "loaded", calibration)


@cache
def _core() -> Any:
    """Return OpenVINO's core, which finds devices and compiles models.

    The process has only one, because it is needed for each case that pytest collects.
    """
    import openvino

    return openvino.Core()


def _compile(graph: Any, case: Case, device: Device, *, profiled: bool) -> Any:
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[case.precision],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "PERF_COUNT": profiled,
    }
    if device.is_host:  # as many threads as for every other engine
        give_back_cores()  # it keeps to the affinity of the thread that compiles
        settings["INFERENCE_NUM_THREADS"] = asked_threads()
        cores = current().cores
        settings["ENABLE_HYPER_THREADING"] = asked_threads() > len(cores) or all(len(one.cpus) == 1 for one in cores)
        if not _fuses(graph):
            settings["SNIPPETS_MODE"] = "DISABLE"
    return _core().compile_model(graph, plugin_of(device, _core()).name, settings)


def _fuses(graph: Any) -> bool:
    """Return whether the CPU plugin may fuse elementwise operators into code of its own, which it calls snippets.

    With a group norm that is added to something, version 2026.4.1 ends with SIGSEGV as it does.
    """
    return all(one.get_type_name() != "GroupNormalization" for one in graph.get_ops())


class OpenVinoRunner:
    """Runs one compiled model with one inference request."""

    def __init__(
        self,
        graph: Any,
        names: tuple[str, ...],
        case: Case,
        device: Device,
        artefact: str,
        calibration: dict[str, Any] | None,
    ) -> None:
        """Compile the graph for the case.

        Args:
            graph: OpenVINO's graph, with one static input shape.
            names: the names of the outputs, in order.
            case: the label.
            device: the device to run on.
            artefact: whether the graph was made, cached or loaded, for the record.
            calibration: the images that the graph was quantised on, None if it is not quantised.
        """
        self._artefact = artefact
        self._calibration = calibration
        self.has_own_threads = device.is_host
        for output, name in zip(graph.outputs, names, strict=True):
            output.get_tensor().set_names({name})
        graph.inputs[0].get_tensor().set_names({_INPUT})
        self._names = names
        self._graph = graph
        self._case = case
        self._device = device
        self._compiled = _compile(graph, case, device, profiled=False)
        self._request = self._compiled.create_infer_request()

    @property
    def graph(self) -> Any:
        """OpenVINO's graph that was compiled."""
        return self._graph

    @property
    def calibration(self) -> dict[str, Any] | None:
        """The images that the graph was quantised on, None if it is not quantised."""
        return self._calibration

    def put(self, images: torch.Tensor) -> Any:
        """See `Runner.put`. The images are copied, because a tensor with shared memory does not keep them alive.

        On a GPU they are copied to its memory here: it would copy a tensor of the host's again in every inference.
        """
        import openvino

        host = openvino.Tensor(np.ascontiguousarray(images.numpy()), shared_memory=False)
        return host if self._device.is_host else put_on(host, plugin_of(self._device, _core()), _core())

    def submit(self, batch: Any) -> Any:
        """See `Runner.submit`."""
        self._request.wait()
        self._request.set_tensor(_INPUT, batch)  # by its name, the only way for a tensor of a GPU's memory
        self._request.start_async()
        return self._request

    def synchronize(self) -> None:
        """See `Runner.synchronize`."""
        self._request.wait()

    def fetch(self, output: Any) -> Outputs:
        """See `Runner.fetch`."""
        output.wait()
        return Outputs(self._names, (in_fp32(output.get_tensor(name).data) for name in self._names))

    def evidence(self, batch: Any) -> Evidence:
        """See `Inspector.evidence`.

        The times come from a second compiled model with performance counters; the evidence says so if its execution
        precisions differ.
        """
        twin = _compile(self._graph, self._case, self._device, profiled=True)
        request = twin.create_infer_request()
        request.set_tensor(_INPUT, batch)
        request.infer()
        request.infer()
        profile = request.get_profiling_info()
        nodes = [node for node in profile if node.node_type.startswith(_MATRIX_NODES)]
        time_us: Counter[str] = Counter()
        for node in nodes:
            time_us[_executed_dtype(node.exec_type)] += round(node.real_time.total_seconds() * 1e6)
        floating = [node.node_name for node in nodes if _executed_dtype(node.exec_type) != "int8"]
        agrees = runtime_precisions(twin) == runtime_precisions(self._compiled)
        plugin = plugin_of(self._device, _core())
        placed = [place_of(self._device) if plugin.ran(name) else name for name in self._executed_on()]
        return Evidence(
            engine="openvino" if agrees else "openvino whose profiled twin differs from it",
            dtype_share_pct=shares(time_us),
            matrix_ops=len(nodes),
            clock="operator" if self._device.is_host else "kernel",
            parameter_devices=dict(Counter(placed)),
            parameter_dtypes=dict(
                Counter(o.get_element_type().get_type_name() for o in self._graph.get_ops() if _is_constant(o))
            ),
            short_formats={},
            fpmath_mode=fpmath_mode(),
            memory_format="openvino's own",
            threads={
                "intra_op": int(self._compiled.get_property("INFERENCE_NUM_THREADS")) if self._device.is_host else 0,
                "streams": int(self._compiled.get_property("NUM_STREAMS")),
                "asked": asked_threads(),
            },
            quantisation=None
            if self._calibration is None
            else Quantisation(len(nodes) - len(floating), tuple(floating), self._calibration),
            notes={
                "artefact": self._artefact,
                "plugin": {"name": plugin.name, "found_by": plugin.found_by},
                "images_on": "host" if self._device.is_host else batch.get_device_name(),
                "conditions": self._device.conditions(),
                "fuses_elementwise": _fuses(self._graph),
                "pins_threads": self._device.is_host and bool(self._compiled.get_property("ENABLE_CPU_PINNING")),
                "kernels": dict(Counter(node.exec_type for node in nodes)),
                "runtime_precisions": runtime_precisions(self._compiled),
            },
            layers=(layers := _layer_times(profile)),
            busy_us=sum(layer.time_us for layer in layers),
        )

    def compilations(self) -> int:
        """See `Inspector.compilations`. The graph is compiled only once, for one static shape."""
        return 0

    def close(self) -> None:
        """See `Runner.close`."""
        self._request = self._compiled = self._graph = None
        gc.collect()

    def _executed_on(self) -> list[str]:
        names: list[str] = self._compiled.get_property("EXECUTION_DEVICES")
        return names


def runtime_precisions(compiled: Any) -> dict[str, int]:
    """Return how many convolutions and matrix products of a compiled model's runtime graph have each precision."""
    found: Counter[str] = Counter()
    for op in compiled.get_runtime_model().get_ordered_ops():
        info = op.get_rt_info()
        if info["layerType"].astype(str).startswith(_MATRIX_NODES):
            found[info["runtimePrecision"].astype(str)] += 1
    return dict(found)


def _layer_times(profile: Any) -> tuple[LayerTime, ...]:
    """Return the time of each node that ran. They run one after the other."""
    timed = ((node, node.real_time.total_seconds() * 1e6) for node in profile)
    return tuple(
        LayerTime(node.node_name, node.node_type, time_us, node.node_type.startswith(_MATRIX_NODES))
        for node, time_us in timed
        if time_us > 0
    )


def _executed_dtype(kernel: str) -> str:
    """Return the format at the end of a kernel's name, such as bf16 for `brgconv_avx512_amx_1x1_bf16`."""
    return _DTYPES.get(kernel.rpartition("_")[2].lower(), "unknown")


def _is_constant(op: Any) -> bool:
    return bool(op.get_type_name() == "Constant" and len(op.get_output_shape(0)) > 1)
