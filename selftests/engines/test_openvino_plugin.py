"""Which plugin of OpenVINO drives a device, on a mock of OpenVINO's core."""

from types import SimpleNamespace

import pytest

from harness.engines import openvino
from harness.engines.openvino.plugin import Plugin, plugin_of

INTEGRATED, FIRST, SECOND = ("86800000000000000000000000000000"[:-1] + digit for digit in "123")


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


def test_the_mock_has_the_methods_of_the_real_core():
    real = pytest.importorskip("openvino").Core
    assert isinstance(real.available_devices, property)
    assert "device_name: str, property: str)" in real.get_property.__doc__
