"""A mock of PopTorch and of IPUs, for machines without them. It proves nothing about an IPU.

It has the parts of the real package that the device and the engine use, with the parameters of the real package
(`poptorch_signatures.json`, read from its sources; a test compares). A program is the module on the processor.
"""

from __future__ import annotations

import copy
import ctypes
import enum
import hashlib
import json
import os
import warnings
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import torch
from torch import nn

__version__ = "0 (mock)"
# What a test may set: how many IPUs there are, which are taken, how long a call lasts, what the chip can hold, and what
# a program does wrong.
machine = SimpleNamespace(ipus=4, taken=0, hold_s=0.0, most_images=10_000, sabotage=frozenset())


def reset():
    """Put the machine back to four free IPUs."""
    vars(machine).update(ipus=4, taken=0, hold_s=0.0, most_images=10_000, sabotage=frozenset())
    _hooks.clear()


class Error(Exception):
    pass


class RecoverableError(Error):
    recovery_action = "IPU_RESET"


class UnrecoverableError(Error):
    pass


class OutputMode(enum.IntEnum):
    Final = 0
    EveryN = 1
    All = 2
    Sum = 3
    Default = 4


class OverlapMode(enum.Enum):
    NoOverlap = "no_overlap"
    OverlapAccumulationLoop = "overlap_accumulation_loop"
    OverlapDeviceIterationLoop = "overlap_device_iteration_loop"


class ShardedExecution:
    def __init__(self, *args):
        self.args = args


class _Part:
    def __init__(self, options):
        self._options = options


class _PrecisionOptions(_Part):
    def setPartialsType(self, dtype):
        if dtype not in (torch.half, torch.float):
            raise ValueError("Unsupported type")
        return self._options._set("partials", "half" if dtype == torch.half else "float")

    def enableStochasticRounding(self, enabled):
        return self._options._set("stochastic_rounding", enabled)


class _DistributedOptions(_Part):
    def disable(self):
        return self._options._set("processes", 1)


class _TensorLocationOptions(_Part):
    def numIOTiles(self, num_tiles):
        assert 32 <= num_tiles <= 192 and num_tiles % 2 == 0, "numIOTiles must be an even number between 32 and 192."
        return self._options._set("io_tiles", num_tiles)


class _PopartOptions(_Part):
    def set(self, key, value):
        return self._options._set(f"popart {key}", value)


class Options:
    def __init__(self):
        self._frozen = False
        processes = int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))
        self._values = {"device_iterations": 1, "replication_factor": 1, "output_mode": OutputMode.All}
        self._values |= {"use_model": bool(os.environ.get("POPTORCH_IPU_MODEL")), "processes": processes}
        self._values |= {"cache": os.environ.get("POPTORCH_CACHE_DIR"), "synthetic": False}
        self._values |= json.loads(os.environ.get("POPTORCH_DEFAULT_OPTIONS") or "{}")

    Precision = property(_PrecisionOptions)
    Distributed = property(_DistributedOptions)
    TensorLocations = property(_TensorLocationOptions)
    _Popart = property(_PopartOptions)

    def _set(self, name, value):
        if self._frozen:
            raise AttributeError("Can't modify frozen Options")
        if name == "replication_factor" and "replicas" in machine.sabotage:
            value = 1
        if name == "partials" and "partials" in machine.sabotage:
            value = "float"
        self._values[name] = value
        return self

    def _count(self, name, value):
        assert isinstance(value, int) and not isinstance(value, bool), f"Unexpected type {type(value)} for {name}"
        return self._set(name, value)

    def deviceIterations(self, device_iterations):
        return self._count("device_iterations", device_iterations)

    def replicationFactor(self, replication_factor):
        return self._count("replication_factor", replication_factor)

    def useIpuId(self, ipu_id):
        return self._count("ipu_id", ipu_id)

    def outputMode(self, output_mode, output_return_period=None):
        assert output_mode != OutputMode.EveryN or output_return_period, "EveryN needs a period"
        return self._set("output_mode", OutputMode(output_mode))

    def enableExecutableCaching(self, path):
        return self._set("cache", path)

    def enableSyntheticData(self, enabled):
        return self._set("synthetic", enabled)

    def enableProfiling(self, profile_dir=None):
        return self._set("profile", profile_dir)

    def setExecutionStrategy(self, strategy):
        return self._set("strategy", type(strategy).__name__)

    def showCompilationProgressBar(self, show=True):
        return self._set("progress", show)

    def toDict(self):
        return dict(self._values)

    def clone(self):
        other = Options()
        other._values = dict(self._values)
        return other


_hooks = {}


def registerPreCompileHook(hook):
    handle = SimpleNamespace(remove=lambda: _hooks.pop(id(handle), None))
    _hooks[id(handle)] = hook
    return handle


def inferenceModel(model, options=None):
    options = options or Options()
    options._frozen = True
    return PoplarExecutor(model, options)


def BeginBlock(layer_to_call, user_id=None, ipu_id=None):
    if "_block" in vars(layer_to_call):
        raise Error("a module can only have one block")
    layer_to_call._block = ipu_id
    return layer_to_call


def removeBlocks(module):
    for layer in module.modules():
        vars(layer).pop("_block", None)


def set_overlap_for_input(input_tensors, mode):
    return input_tensors


def set_overlap_for_output(output_tensors, mode):
    return output_tensors


def ipuHardwareIsAvailable(num_ipus=1):
    return num_ipus <= machine.ipus and not os.environ.get("POPTORCH_IPU_MODEL")


def ipuHardwareVersion():
    assert machine.ipus, "no IPU"
    return 2


class PoplarExecutor:
    def __init__(self, model, options):
        self._model, self.options = model, options
        self._module = self._ipus = None
        self._counters, self._shape, self._ir = {}, None, ""

    def compile(self, *args, **kwargs):
        if self._module is not None:
            warnings.warn("compile ignored", stacklevel=2)
            return
        (batch,) = args
        values = self.options.toDict()
        stages = 1 + sum("_block" in vars(layer) for layer in self._model.modules())
        if values["device_iterations"] < stages:
            raise Error("deviceIterations must be at least the number of stages")
        ipus = stages * values["replication_factor"]
        if ipus & (ipus - 1) or ipus > 64:
            raise Error(f"{ipus} is no power of two")
        if machine.taken + ipus > machine.ipus:
            raise Error(f"Failed to acquire {ipus} IPU(s)")
        if len(batch) > machine.most_images:
            if values.get("profile") and "unreported" not in machine.sabotage:
                profile = Path(values["profile"]) / "inference" / "profile.pop"
                profile.parent.mkdir(parents=True, exist_ok=True)
                profile.write_text("the memory of each tile")
            raise Error("Out of memory on tile 0: 700000 bytes used but tiles only have 638976 bytes")
        for hook in list(_hooks.values()):
            hook()
        if not batch.is_contiguous():
            warnings.warn("an input that is not contiguous is copied", stacklevel=2)
        self._module = _uploaded(self._model)
        self._shape, self._dtype = batch.shape, batch.dtype
        machine.taken += ipus
        self._ipus = ipus
        self._ir = self._compiled(batch, values)

    def _compiled(self, batch, values):
        kept = {name: str(value) for name, value in values.items() if name not in ("cache", "ipu_id")}
        shapes = [(name, tuple(one.shape), str(one.dtype)) for name, one in self._model.state_dict().items()]
        text = json.dumps([str(self._model), shapes, kept, list(batch.shape), __version__], default=str)
        if values["cache"] is None:
            return _ir(self._module, batch[:1], values)
        path = Path(values["cache"]) / f"{hashlib.sha256(text.encode()).hexdigest()}.popef"
        if path.exists():
            return "unavailable (Cached executable)"
        path.write_text(__version__)
        return _ir(self._module, batch[:1], values)

    def __call__(self, *args, **kwargs):
        if self._module is None:
            self.compile(*args)
        (batch,) = args
        values = self.options.toDict()
        steps = values["device_iterations"] * values["replication_factor"]
        assert len(batch) % steps == 0, "Invalid batch dimension"
        if batch.shape != self._shape:
            raise Error(f"Shape mismatch for x: expected {self._shape} but got {batch.shape}")
        if batch.dtype != self._dtype:
            raise Error(f"Data type mismatch for x: expected {self._dtype} but got {batch.dtype}")
        if machine.hold_s:
            ctypes.PyDLL(None).usleep(int(machine.hold_s * 1e6))  # the lock is held, as the real call does
        answers, stamps = [], {name: [[]] for name in ("input", "input_complete", "output", "output_complete")}
        for chunk in batch.chunk(steps):
            for name in ("input", "input_complete"):
                stamps[name][0].append(perf_counter())
            answers.append(self._module(chunk))
            for name in ("output", "output_complete"):
                stamps[name][0].append(perf_counter())
        if "swapped" in machine.sabotage:
            answers[0], answers[1] = answers[1], answers[0]
        if "stale" not in machine.sabotage or not self._counters:
            self._counters = stamps
        if values["synthetic"] or "synthetic" in machine.sabotage:
            self._counters = {name: [[]] for name in stamps}
            return torch.randn_like(torch.cat(answers))
        return answers[-1] if values["output_mode"] == OutputMode.Final else torch.cat(answers)

    def _debugGetPopartIR(self):
        return self._ir

    def getPerfCounters(self):
        return self._counters or {name: [[]] for name in ("input", "input_complete", "output", "output_complete")}

    def getLatency(self):
        counters = self.getPerfCounters()
        times = [b - a for a, b in zip(counters["input"][0], counters["output_complete"][0], strict=True)]
        return (min(times), max(times), sum(times) / len(times)) if times else (0.0, 0.0, 0.0)

    def isAttachedToDevice(self):
        return self._ipus is not None

    def isCompiled(self):
        return self._module is not None

    def detachFromDevice(self):
        if self._ipus is None:
            raise Error("Device is not attached")
        machine.taken -= self._ipus
        self._ipus = None

    def destroy(self):
        if self._ipus is not None:
            self.detachFromDevice()
        self._module = None


def _uploaded(model):
    """The module with its parameters as they lie in memory, whatever their layout, as the real one uploads them."""
    made = copy.deepcopy(model)
    for parameter in made.parameters():
        flat = parameter.detach().as_strided((parameter.numel(),), (1,)).clone()
        parameter.data = flat.view(parameter.shape)
    return made


def _ir(module, image, values):
    """The graph as PopART serialises it: texts only, and the later half in a graph of its own."""
    operators, stage, handles = [], [0], []
    words = {torch.float16: "FLOAT16", torch.float32: "FLOAT", torch.uint8: "UINT8"}

    def begin(layer, args):
        stage[0] = vars(layer).get("_block", stage[0])

    def note(layer, args, answer):
        kind = "Conv" if isinstance(layer, nn.Conv2d) else "MatMul"
        weight = layer.weight if kind == "Conv" else layer.weight.T
        attribute = {"partialsType[0]" if kind == "Conv" else "partialsType": values["partials"]}
        if kind == "MatMul":
            attribute["partialsType"] = f"MatMulPartialsType::{values['partials'].upper()}"
        number = len(operators)
        inputs = [
            {"name": f"t{number}_{place}", "shape": str(list(one.shape)), "type": words[one.dtype], "index": str(place)}
            for place, one in enumerate((args[0], weight))
        ]
        operators.append(
            {
                "type": kind,
                "name": f"op{number}",
                "inputs": inputs,
                "outputs": [{"name": f"out{number}", "index": "0"}],
                "attributes": {**attribute, "__pipeline_stage": str(stage[0])},
            }
        )

    for layer in module.modules():
        handles.append(layer.register_forward_pre_hook(begin))
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            handles.append(layer.register_forward_hook(note))
    with torch.no_grad():
        module(image)
    for handle in handles:
        handle.remove()
    half = len(operators) // 2
    return json.dumps({"maingraph": operators[:half], "subgraph_0": operators[half:]})
