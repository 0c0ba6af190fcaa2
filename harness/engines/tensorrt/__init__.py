"""The engine `tensorrt`: the exported module as a strongly typed TensorRT network, built for one batch size.

In a strongly typed network all number formats are those of the file, so TensorRT cannot choose one that contradicts the
label. The library is optional: without it, or without an NVIDIA GPU, the engine gives that as the reason why it cannot
run.
"""

from __future__ import annotations

import gc
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.artefacts import Artefact, Artefacts, key_of, sources_of
from harness.cases import PRECISIONS, Case
from harness.devices import Device
from harness.engines.evidence import Evidence, LayerTime, Quantisation
from harness.engines.onnx.export import FILE_NAME, INPUT_NAME, export_key, exported_onnx, import_exporter
from harness.engines.onnx.quantise import quantised_onnx
from harness.engines.tensorrt.bf16 import write_bf16
from harness.engines.tensorrt.layers import Layer, layers_of, work_of
from harness.engines.tensorrt.plan import TensorRtError, build_plan
from harness.engines.tensorrt.stream import CudaStream
from harness.engines.torch.runner import input_dtype
from harness.host.cores import asked_threads
from harness.host.environment import fpmath_mode
from models.tasks import Outputs, output_names

PLAN_NAME = "model.plan"
# Weights and workspace are TensorRT's own memory, which torch's allocator does not see.
HAS_OWN_ALLOCATOR = True
_DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.float32,
}


def absent() -> str | None:
    """Return None, or the reason why the library is not installed, with how to install it."""
    missing = [name for name in ("tensorrt", "onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        return (
            f"{', '.join(missing)} not installed: on a machine with an NVIDIA GPU, "
            f"pip install -r requirements/engines.txt -r requirements/tensorrt.txt"
        )
    return None


def supports(device: Device, precision: str) -> str | None:
    """See `Engine.supports`: NVIDIA GPUs; fp32, tf32, fp16, bf16 and int8."""
    if device.kind != "cuda":
        return "tensorrt runs on NVIDIA GPUs: use --device cuda"
    if precision.startswith("amp_"):
        return f"tensorrt has no autocast: use {', '.join(_DTYPES)}"
    return absent()


def import_libraries(precision: str) -> None:
    """See `harness.engines.import_libraries`."""
    import_module("tensorrt")
    import_exporter(precision)


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
) -> TensorRtRunner:
    """See `Engine.build`. The plan is cached, and reused only with the same GPU, driver and library version."""
    import tensorrt

    half = case.precision == "fp16"
    placed, images = (module.half(), example.to(input_dtype(example, case))) if half else (module, example)
    calibration = artefacts.calibration().record() if PRECISIONS[case.precision].calibrated else None
    key = key_of(
        "tensorrt plan",
        placed,
        libraries=("onnx", "onnxscript", "onnxruntime"),
        sources=sources_of(__file__),
        export=export_key(placed, images, case.model),
        tensorrt=tensorrt.__version__,  # from the library: the package's name depends on CUDA
        precision=case.precision,
        calibration=calibration,
        shape=list(example.shape),
        device=device.describe(),
    )

    def make(folder: Path) -> None:
        if calibration is None:
            exported = exported_onnx(placed, images, case.model, artefacts)
        else:
            exported = quantised_onnx(placed, images, case.model, artefacts, symmetric=True)
        source = exported.folder / FILE_NAME
        if case.precision == "bf16":
            write_bf16(source, folder / FILE_NAME)
            source = folder / FILE_NAME
        artefacts.report("building the TensorRT plan")
        plan = build_plan(source, tuple(example.shape), tf32=PRECISIONS[case.precision].tf32)
        (folder / PLAN_NAME).write_bytes(plan)

    plan = artefacts.cache.obtain(key, make)
    return TensorRtRunner(plan, output_names(module), tuple(example.shape), case, device, calibration)


class TensorRtRunner:
    """Runs one execution context on its own CUDA stream. The outputs use the same memory for all batches."""

    def __init__(
        self,
        artefact: Artefact,
        names: tuple[str, ...],
        shape: tuple[int, ...],
        case: Case,
        device: Device,
        calibration: dict[str, Any] | None,
    ) -> None:
        """Load the plan.

        Args:
            artefact: the cached files, which contain the plan.
            names: the names of the outputs.
            shape: the shape of the input.
            case: the label.
            device: the device to run on.
            calibration: the images that the model was quantised on, None if it is not quantised.

        Raises:
            TensorRtError: the plan cannot be loaded.
        """
        import tensorrt

        self._artefact = artefact
        self._shape = shape
        self._case = case
        self._device = device
        self._calibration = calibration
        self._dtype = _DTYPES[case.precision]
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine((artefact.folder / PLAN_NAME).read_bytes())
        if self._engine is None:
            raise TensorRtError(
                f"the plan in {artefact.folder} cannot be loaded; TensorRT's words are on standard error"
            )
        self._stream = CudaStream(device.index)
        self._names = names
        self._context, self._outputs = self._new_context()

    def _new_context(self) -> tuple[Any, list[torch.Tensor]]:
        """Return a new execution context for the input shape, and the tensors that it writes its outputs to."""
        context = self._engine.create_execution_context()
        context.set_input_shape(INPUT_NAME, self._shape)
        outputs = []
        for name in self._names:
            output = self._device.put(torch.empty(tuple(context.get_tensor_shape(name)), dtype=self._dtype))
            context.set_tensor_address(name, output.data_ptr())
            outputs.append(output)
        return context, outputs

    def put(self, images: torch.Tensor) -> torch.Tensor:
        """See `Runner.put`. The images are copied in the contiguous layout; the runner's stream waits for the copy."""
        dtype = input_dtype(images, self._case)
        placed = self._device.put(images.to(dtype, copy=True, memory_format=torch.contiguous_format))
        self._stream.wait_for_default()
        return placed

    def submit(self, batch: torch.Tensor) -> list[torch.Tensor]:
        """See `Runner.submit`."""
        self._execute(self._context, batch)
        return self._outputs

    def _execute(self, context: Any, batch: torch.Tensor) -> None:
        context.set_tensor_address(INPUT_NAME, batch.data_ptr())
        self._stream.keep(batch)
        if not context.execute_async_v3(self._stream.handle):
            raise TensorRtError(f"{self._case}: TensorRT could not start; its own words are on standard error")

    def synchronize(self) -> None:
        """See `Runner.synchronize`."""
        self._device.synchronize()

    def fetch(self, output: list[torch.Tensor]) -> Outputs:
        """See `Runner.fetch`."""
        self._device.synchronize()
        # copies, because the next step overwrites the same memory
        return Outputs(self._names, (np.array(tensor.float().cpu().numpy()) for tensor in output))

    def evidence(self, batch: torch.Tensor) -> Evidence:
        """See `Inspector.evidence`.

        The layers and formats come from TensorRT's inspector, applied to the engine that is measured. The times come
        from a second context of the same engine, because a context that had a profiler stays slower.
        """
        layers = self._inspect()
        times_ms = self._profile(batch)
        work = work_of(layers, times_ms)
        matrix = [layer for layer in layers if layer.is_matrix_work]
        floating = tuple(layer.name for layer in matrix if layer.dtype != "int8")
        return Evidence(
            engine="tensorrt",
            dtype_share_pct=work.share_pct,
            matrix_ops=work.count,
            clock=work.clock,
            parameter_devices={str(self._outputs[0].device): len(layers)},
            parameter_dtypes=dict(Counter(layer.dtype for layer in matrix)),
            short_formats={"tensorrt": any(layer.dtype == "tf32" for layer in layers)},
            fpmath_mode=fpmath_mode(),
            memory_format="tensorrt's own",
            threads={"intra_op": torch.get_num_threads(), "inter_op": 1, "asked": asked_threads()},
            quantisation=None
            if self._calibration is None
            else Quantisation(len(matrix) - len(floating), floating, self._calibration),
            notes={
                "artefact": self._artefact.state,
                "layers": len(layers),
                "kernels": dict(Counter(layer.kernel for layer in matrix)),
                "conditions": self._device.conditions(),
            },
            layers=tuple(
                LayerTime(layer.name, layer.kind, 1e3 * times_ms.get(layer.name, 0.0), layer.is_matrix_work)
                for layer in layers
            ),
            busy_us=1e3 * sum(times_ms.values()),
        )

    def _inspect(self) -> list[Layer]:
        import tensorrt

        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        return layers_of(inspector.get_engine_information(tensorrt.LayerInformationFormat.JSON))

    def _profile(self, batch: torch.Tensor) -> dict[str, float]:
        """Return the time of each layer in milliseconds, from the second step of a context with a profiler."""
        import tensorrt

        class Times(tensorrt.IProfiler):  # type: ignore[misc]  # the library calls back a subclass, nothing else
            def __init__(self) -> None:
                tensorrt.IProfiler.__init__(self)
                self.ms: dict[str, float] = {}

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                self.ms[layer_name] = ms

        times = Times()
        context, outputs = self._new_context()
        context.profiler = times
        for _ in range(2):
            self._execute(context, batch)
            self._device.synchronize()
        del outputs  # kept alive until here, because the context wrote to them
        return times.ms

    def compilations(self) -> int:
        """See `Inspector.compilations`. The plan is built only once, for one static shape."""
        return 0

    def close(self) -> None:
        """See `Runner.close`."""
        self._context = self._engine = self._runtime = None
        self._outputs = []
        gc.collect()
