"""A mock of TensorRT and of an NVIDIA GPU, for machines without one. It proves nothing about a GPU.

It has the parts of the real package that the engine uses, with the parameters that the package documents
(`tensorrt_signatures.json`, read from the docstrings of the real bindings; a test compares). A plan is the ONNX file
itself, and running it is ONNX Runtime's CPU provider on the very addresses that were bound.
"""

from __future__ import annotations

import ctypes
import enum
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

__version__ = "0 (mock)"
WORDS = {1: "Float", 10: "Half", 16: "BFloat16"}


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(enum.IntEnum):
    TF32 = 7


class ProfilingVerbosity(enum.IntEnum):
    LAYER_NAMES_ONLY = 0
    DETAILED = 1


class LayerInformationFormat(enum.IntEnum):
    ONELINE = 0
    JSON = 1


class Logger:
    ERROR = 1

    def __init__(self, min_severity=2):
        pass


class INetworkDefinition:
    def __init__(self, flags):
        self.flags, self.path = flags, None


class IOptimizationProfile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, input, min, opt, max):
        self.shapes[input] = (min, opt, max)


class IBuilderConfig:
    def __init__(self):
        self.flags, self.profiles = {BuilderFlag.TF32}, []  # TF32 is on by default, as in the real one
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY

    def set_flag(self, flag):
        self.flags.add(flag)

    def clear_flag(self, flag):
        self.flags.discard(flag)

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        return len(self.profiles) - 1


class Builder:
    def __init__(self, logger):
        assert isinstance(logger, Logger)

    def create_network(self, flags=0):
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return INetworkDefinition(flags)

    def create_builder_config(self):
        return IBuilderConfig()

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        told = {
            "tf32": BuilderFlag.TF32 in config.flags,
            "detailed": config.profiling_verbosity == ProfilingVerbosity.DETAILED,
            "shapes": config.profiles[0].shapes,
        }
        _require_symmetric(onnx.load(network.path).graph)
        return json.dumps(told).encode() + b"\n" + Path(network.path).read_bytes()


def _require_symmetric(graph):
    """As the real one: pairs of int8 around zero, and none on an int32 bias."""
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = values[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()


class OnnxParser:
    num_errors = 1

    def __init__(self, network, logger):
        self.network = network

    def parse_from_file(self, model):
        try:
            onnx.load(model)
        except Exception:  # whatever a broken file makes of itself
            return False
        self.network.path = model
        return True

    def get_error(self, index):
        return f"error {index}: no ONNX file"


class Runtime:
    def __init__(self, logger):
        pass

    def deserialize_cuda_engine(self, serialized_engine):
        head, _, model = serialized_engine.partition(b"\n")
        return ICudaEngine(json.loads(head), model) if model else None


class ICudaEngine:
    def __init__(self, told, model):
        self.told, self.model, self.graph = told, model, onnx.load_from_string(model).graph

    def create_execution_context(self, strategy=0):
        return IExecutionContext(self)

    def create_engine_inspector(self):
        return EngineInspector(self)

    def layers(self):
        word = WORDS[self.graph.input[0].type.tensor_type.elem_type]
        quantised = {node.output[0] for node in self.graph.node if node.op_type == "DequantizeLinear"}
        kernel = "sm80_xmma_fprop_implicit_gemm_" + ("tf32f32_tf32f32_f32" if self.told["tf32"] else "x_nhwckrsc")
        for node in self.graph.node:
            is_work = node.op_type in ("Conv", "Gemm")
            is_int8 = is_work and set(node.input[:2]) <= quantised
            yield {
                "Name": node.name,
                "LayerType": {"Conv": "CaskConvolution", "Gemm": "CaskGemmMatrixMultiply"}.get(
                    node.op_type, "PointWise"
                ),
                "Inputs": [{"Name": "x", "Format/Datatype": "Int8" if is_int8 else word}],
                "TacticName": kernel if is_work and not is_int8 else "",
            }


class EngineInspector:
    def __init__(self, engine):
        self.engine, self.execution_context = engine, None

    def get_engine_information(self, format):
        assert format == LayerInformationFormat.JSON
        layers = list(self.engine.layers())
        return json.dumps({"Layers": layers if self.engine.told["detailed"] else [layer["Name"] for layer in layers]})


class IProfiler:
    def __init__(self):
        pass

    def report_layer_time(self, layer_name, ms):
        raise NotImplementedError


class IExecutionContext:
    def __init__(self, engine):
        self.engine, self.shapes, self.addresses, self.profiler = engine, {}, {}, None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(engine.model, options, providers=["CPUExecutionProvider"])

    def set_input_shape(self, name, shape):
        low, _, high = self.engine.told["shapes"][name]
        assert all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))
        self.shapes[name] = shape
        return True

    def get_tensor_shape(self, name):
        (shape,) = self.shapes.values()
        output = self.session.get_outputs()[0]
        assert output.name == name
        return (shape[0], output.shape[1])

    def set_tensor_address(self, name, memory):
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle):
        assert stream_handle == FakeStream.HANDLE
        source, target = self.session.get_inputs()[0], self.session.get_outputs()[0]
        images = _at(self.addresses[source.name], self.shapes[source.name], source.type)
        (logits,) = self.session.run(None, {source.name: images})
        _at(self.addresses[target.name], logits.shape, target.type)[:] = logits
        if self.profiler is not None:
            for layer in self.engine.layers():
                self.profiler.report_layer_time(layer["Name"], 0.5)
        return True


def _at(address, shape, kind):
    """The memory at an address as an array."""
    dtype = np.dtype({"tensor(float)": np.float32, "tensor(float16)": np.float16}[kind])
    memory = (ctypes.c_byte * (int(np.prod(shape)) * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype=dtype).reshape(shape)


class FakeStream:
    """A stream beside torch's default one, on the host."""

    HANDLE = 7
    waited = 0
    kept = ()

    def __init__(self, index):
        assert index == FakeGpu.index
        self.handle = self.HANDLE

    def wait_for_default(self):
        type(self).waited += 1

    def keep(self, batch):
        type(self).kept += (batch.data_ptr(),)


class FakeGpu:
    """What the engine asks of a GPU, on the host."""

    kind, index, name, is_host = "cuda", 0, "cuda", False

    def supports(self, precision):
        return None

    @contextmanager
    def settings(self, precision):
        yield

    def short_formats(self):
        return {}

    def conditions(self):
        return {"power_limit_w": 700.0}

    def synchronize(self):
        pass

    def put(self, batch):
        return batch

    def describe(self):
        return {"name": "no GPU"}
