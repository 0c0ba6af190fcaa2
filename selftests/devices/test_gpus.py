"""The devices cuda and xpu on mocks of torch's interfaces, held against the real signatures."""

import inspect
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from harness.devices import open_device
from harness.devices.copies import CopyStream

KINDS = {"cuda": torch.cuda, "xpu": torch.xpu}


class FakeBackend:
    """The part of torch.cuda and torch.xpu that the devices use; keeps what was called, in order."""

    def __init__(self):
        self.calls, self.is_initialised, self.selected, self.streams = [], False, 0, []

    def init(self):
        self.calls.append("init")
        self.is_initialised = True

    @contextmanager
    def device(self, device):
        self.selected, before = device, self.selected
        yield
        self.selected = before

    def reset_peak_memory_stats(self, device=None):
        assert self.is_initialised, "Invalid device argument 0: did you call init?"
        self.calls.append(f"reset {device}")

    def Stream(self, device=None, priority=0):  # noqa: N802  # as torch names it
        self.streams.append(FakeStream(self, f"copies of {device}"))
        return self.streams[-1]

    @contextmanager
    def stream(self, stream):
        self.calls.append(f"on {stream.name}")
        yield
        self.calls.append(f"off {stream.name}")

    def current_stream(self, device=None):
        return FakeStream(self, f"computing on {device}")


class FakeStream:
    def __init__(self, backend, name):
        self.backend, self.name = backend, name

    def wait_stream(self, stream):
        self.backend.calls.append(f"{self.name} waits for {stream.name}")


class FakeTensor:
    """A tensor on the host or on a GPU that keeps what is done to it."""

    def __init__(self, calls, place="cpu", pinned=False):
        self.calls, self.device, self.pinned = calls, SimpleNamespace(type=place.partition(":")[0]), pinned

    def copy_(self, source):
        self.calls.append("staged")
        return self

    def to(self, place, non_blocking=False):
        self.calls.append(f"to {place}, pinned {self.pinned}, non-blocking {non_blocking}")
        return FakeTensor(self.calls, place)

    def record_stream(self, stream):
        self.calls.append(f"kept for {stream.name}")


@pytest.mark.parametrize("backend", KINDS.values(), ids=KINDS)
def test_the_mock_takes_what_torch_takes(backend):
    for name in ("reset_peak_memory_stats", "current_stream", "stream"):
        mocked = inspect.signature(getattr(FakeBackend, name)).parameters
        assert list(mocked)[1:] == list(inspect.signature(getattr(backend, name)).parameters), name
    assert list(inspect.signature(backend.init).parameters) == []
    assert list(inspect.signature(backend.device).parameters) == ["device"]
    assert list(inspect.signature(backend.Stream.__new__).parameters)[1:3] == ["device", "priority"]
    assert list(inspect.signature(backend.Stream.wait_stream).parameters) == ["self", "stream"]
    assert "bool? pin_memory" in str(torch.ops.aten.empty_like.default._schema)
    assert "bool non_blocking" in str(torch.ops.aten.to.device._schema)
    assert callable(torch.Tensor.record_stream)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_pinned_and_on_a_stream_of_its_own(kind, monkeypatch):
    backend = FakeBackend()

    def empty_like(tensor, pin_memory):
        return FakeTensor(backend.calls, pinned=pin_memory)

    monkeypatch.setattr(torch, "empty_like", empty_like)
    copies = CopyStream(backend, f"{kind}:1", 1)
    for _ in range(2):
        backend.calls.clear()
        copies.put(FakeTensor(backend.calls))
        assert backend.calls == [
            "staged",
            "on copies of 1",
            f"to {kind}:1, pinned True, non-blocking True",
            "off copies of 1",
            "computing on 1 waits for copies of 1",
            "kept for computing on 1",
        ]
    assert len(backend.streams) == 1, "one stream serves all copies"


@pytest.mark.parametrize("kind", KINDS)
def test_the_device_copies_by_that_stream(kind, monkeypatch):
    device = open_device(f"{kind}:1")
    monkeypatch.setattr(CopyStream, "put", lambda self, batch: (self._backend, self._place, self._index, batch))
    assert device.put("batch") == (KINDS[kind], f"{kind}:1", 1, "batch")


def test_xpu_is_initialised_by_its_settings(monkeypatch):
    backend, device = FakeBackend(), open_device("xpu:1")
    for name in ("init", "device", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.xpu, name, getattr(backend, name))
    before = torch.get_float32_matmul_precision()
    with device.settings("fp32"):
        device.reset_peak_memory()
        assert backend.selected == 1, "libraries other than torch use the current device"
    assert backend.calls == ["init", "reset 1"]
    assert (backend.selected, torch.get_float32_matmul_precision()) == (0, before)


@pytest.mark.parametrize(
    ("given", "digits"),
    [
        (bytes(range(16)), "000102030405060708090a0b0c0d0e0f"),
        (list(range(16)), "000102030405060708090a0b0c0d0e0f"),
        ("00010203-0405-0607-0809-0A0B0C0D0E0F", "000102030405060708090a0b0c0d0e0f"),
        ("no uuid", None),
        (None, None),
    ],
)
def test_an_xpu_tells_its_uuid(given, digits, monkeypatch):
    card = SimpleNamespace(name="a card", total_memory=2**30, gpu_eu_count=512, driver_version="1.6", uuid=given)
    monkeypatch.setattr(torch.xpu, "get_device_properties", lambda device=None: card)
    assert open_device("xpu").describe()["uuid"] == digits


class FakeNvml:
    """The part of pynvml that is used. One of its functions is not there for every GPU."""

    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        pass

    def __init__(self):
        self.is_open = False

    def nvmlInit(self):  # noqa: N802  # as NVML names them
        self.is_open = True

    def nvmlShutdown(self):  # noqa: N802
        self.is_open = False

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        assert uuid == "GPU-12ab"
        return "gpu"

    def nvmlDeviceGetPowerManagementLimit(self, handle):  # noqa: N802
        return 350_000

    def nvmlDeviceGetApplicationsClock(self, handle, type):  # noqa: N802
        assert type == self.NVML_CLOCK_SM
        return 1410

    def nvmlDeviceGetMigMode(self, device):  # noqa: N802
        raise self.NVMLError("not supported")


def test_a_cuda_row_tells_what_its_label_does_not(monkeypatch):
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: SimpleNamespace(uuid="12ab"))
    found = open_device("cuda").conditions()
    assert found["power_limit_w"] == 350.0
    assert found["application_clock_mhz"] == 1410
    assert found["is_mig_enabled"] is None
    assert not nvml.is_open
    for text, detaches in (("1", True), ("0", False)):
        monkeypatch.setenv("TEARDOWN_CUPTI", text)
        assert open_device("cuda").conditions()["tracing_detaches"] is detaches
    names = [f"allow_{dtype}_reduced_precision_reduction" for dtype in ("fp16", "bf16")]
    before = [getattr(torch.backends.cuda.matmul, name) for name in names]
    assert [found[name] for name in names] == before
    try:
        for name in names:
            setattr(torch.backends.cuda.matmul, name, False)
        assert not any(open_device("cuda").conditions()[name] for name in names)
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(torch.backends.cuda.matmul, name, value)


def test_the_mock_of_nvml_has_its_signatures():
    pynvml = pytest.importorskip("pynvml")
    for name in [name for name in vars(FakeNvml) if name.startswith("nvml")]:
        real = list(inspect.signature(getattr(pynvml, name)).parameters)
        assert list(inspect.signature(getattr(FakeNvml, name)).parameters)[1:] == real, name
    assert FakeNvml.NVML_CLOCK_SM == pynvml.NVML_CLOCK_SM
