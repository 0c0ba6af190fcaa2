"""Which plugin of OpenVINO drives a device, on a mock of OpenVINO's core."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.cases import Case
from harness.engines import openvino
from harness.engines.openvino.plugin import Plugin, plugin_of

INTEGRATED, FIRST, SECOND = ("86800000000000000000000000000000"[:-1] + digit for digit in "123")


class FakeTensor:
    """A tensor of a GPU's memory."""

    def __init__(self, place, element_type, shape):
        self.place, self.array = place, np.full(tuple(shape), np.nan, element_type.to_dtype())

    def get_device_name(self):
        return self.place

    def copy_from(self, source_tensor):
        self.array[:] = source_tensor.data


class FakeContext:
    def __init__(self, name):
        self.name = name

    def create_tensor(self, type, shape, properties):
        assert properties == {}, "plain memory of the device"
        return FakeTensor(self.name, type, shape)


class FakeCore:
    """Devices by OpenVINO's names, with their UUIDs; None where the driver does not tell one."""

    def __init__(self, **uuids):
        self.uuids = {name.replace("_", "."): uuid for name, uuid in uuids.items()}
        self.available_devices = ["CPU", *self.uuids]

    def get_property(self, device_name, property):
        assert property == "DEVICE_UUID"
        if self.uuids[device_name] is None:
            raise RuntimeError("Property DEVICE_UUID not found")
        return self.uuids[device_name]

    def get_default_context(self, device_name):
        assert device_name in self.uuids, "the plugin of the processor has no context"
        return FakeContext(device_name)


def xpu(index, uuid):
    return SimpleNamespace(
        kind="xpu",
        name=f"xpu:{index}",
        index=index,
        is_host=False,
        describe=lambda: {"name": "a card", "uuid": uuid},
    )


CPU = SimpleNamespace(kind="cpu", name="cpu", index=0, is_host=True)


@pytest.mark.parametrize(
    ("core", "device", "name", "found_by"),
    [
        (FakeCore(), CPU, "CPU", "name"),
        (FakeCore(GPU=FIRST), xpu(0, FIRST), "GPU", "uuid"),
        (FakeCore(GPU=None), xpu(0, FIRST), "GPU", "order"),
        (FakeCore(GPU=FIRST), xpu(0, None), "GPU", "order"),
        (FakeCore(GPU_0=INTEGRATED, GPU_1=FIRST, GPU_2=SECOND), xpu(0, FIRST), "GPU.1", "uuid"),
        (FakeCore(GPU_0=INTEGRATED, GPU_1=FIRST, GPU_2=SECOND), xpu(2, INTEGRATED), "GPU.0", "uuid"),
        (FakeCore(GPU_0=FIRST, GPU_1=None), xpu(1, SECOND), "GPU.1", "order"),
        (FakeCore(GPU="0" * 32), xpu(0, FIRST), "GPU", "order"),
    ],
)
def test_a_device_is_found_by_its_uuid_else_by_its_order(core, device, name, found_by):
    assert plugin_of(device, core) == Plugin(name, found_by)


@pytest.mark.parametrize(
    ("core", "device", "words"),
    [
        (FakeCore(), xpu(0, FIRST), "openvino finds no GPU, only CPU"),
        (FakeCore(GPU=None), xpu(1, SECOND), "openvino finds no GPU.1, only CPU, GPU"),
        (FakeCore(GPU=INTEGRATED), xpu(0, FIRST), "openvino does not find xpu:0"),
    ],
)
def test_a_device_that_openvino_lacks_is_a_reason(core, device, words, monkeypatch):
    assert words in plugin_of(device, core).reason
    monkeypatch.setattr(openvino, "_core", lambda: core)
    monkeypatch.setattr(openvino, "absent", lambda: None)
    assert words in openvino.supports(device, "fp32")


def test_a_single_gpu_is_supported(monkeypatch):
    monkeypatch.setattr(openvino, "_core", lambda: FakeCore(GPU=FIRST))
    monkeypatch.setattr(openvino, "absent", lambda: None)
    assert openvino.supports(xpu(0, FIRST), "fp16") is None


def test_a_compiled_model_calls_a_single_gpu_by_its_number():
    assert Plugin("GPU").ran("GPU.0")
    assert Plugin("GPU").ran("GPU")
    assert Plugin("GPU.1").ran("GPU.1")
    assert not Plugin("GPU").ran("GPU.1")
    assert not Plugin("GPU.1").ran("CPU")


class FakeRequest:
    """Keeps what is bound to the input, by its name."""

    def __init__(self):
        self.bound = []

    def wait(self):
        pass

    def start_async(self):
        pass

    def set_tensor(self, name, tensor):
        self.bound.append((name, tensor))


class FakePort:
    """An input or an output of a graph."""

    def __init__(self):
        self.names = set()

    def get_tensor(self):
        return self

    def set_names(self, names):
        self.names = names


@pytest.mark.parametrize("name", ["GPU", "GPU.1"])
def test_images_lie_in_the_memory_of_the_gpu_before_the_clock_starts(name, monkeypatch):
    """OpenVINO copies a tensor of the host's in every inference, which no other engine's time has in it."""
    pytest.importorskip("openvino")
    core = FakeCore(GPU=FIRST) if name == "GPU" else FakeCore(GPU_0=INTEGRATED, GPU_1=FIRST)
    request = FakeRequest()
    monkeypatch.setattr(openvino, "_core", lambda: core)
    compiled = SimpleNamespace(create_infer_request=lambda: request)
    monkeypatch.setattr(openvino, "_compile", lambda graph, case, device, profiled: compiled)
    graph = SimpleNamespace(inputs=[FakePort()], outputs=[FakePort()])
    case = Case("m", "xpu", "fp16", 2, "openvino")
    runner = openvino.OpenVinoRunner(graph, ("logits",), case, xpu(0, FIRST), "made", None)
    images = torch.rand(2, 3, 4, 4)
    batch = runner.put(images)
    assert batch.get_device_name() == name
    assert np.array_equal(batch.array, images.numpy())
    runner.submit(batch)
    ((bound, tensor),) = request.bound
    assert tensor is batch
    assert graph.inputs[0].names == {bound}


def test_the_mock_has_the_methods_of_the_real_core():
    real = pytest.importorskip("openvino")
    assert isinstance(real.Core.available_devices, property)
    for method, words in (
        (real.Core.get_property, "device_name: str, property: str)"),
        (real.Core.get_default_context, "device_name: str) -> openvino._pyopenvino.RemoteContext"),
        (real.RemoteContext.create_tensor, "Type, shape: openvino._pyopenvino.Shape, properties: "),
        (real.RemoteTensor.copy_from, "source_tensor: openvino._pyopenvino.Tensor) -> None"),
        (real.RemoteTensor.get_device_name, "-> str"),
        (real.InferRequest.set_tensor, "name: str, tensor: openvino._pyopenvino.RemoteTensor) -> None"),
        (real.InferRequest.set_tensor, "name: str, tensor: openvino._pyopenvino.Tensor) -> None"),
    ):
        assert words in method.__doc__, method.__name__
