"""What getting a case ready costs: each time holds what its name says, and the memory is that of the model alone."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from types import SimpleNamespace

import pytest

import models.build
from harness.artefacts import ArtefactCache, Artefacts, generated_calibration
from harness.cases import Case
from harness.devices import open_device
from harness.engines import _ENGINES, eager, shows_memory
from harness.proof import References, preparation, prepare
from models.catalog import find_spec, load_catalog
from selftests.inside import ROOT, TINY, clean_environment

SPEC = find_spec(TINY, load_catalog())
CASE = Case(TINY, "cpu", "fp32", 2, "eager")


class Noting:
    """Passes everything on, and notes the calls of some methods under names of their own."""

    def __init__(self, inner, events, **noted):
        self._inner, self._events, self._noted = inner, events, noted

    def __getattr__(self, name):
        if name in self._noted:
            self._events.append(self._noted[name])
        return getattr(self._inner, name)


def noting(function, events, name):
    def noted(*arguments):
        events.append(name)
        return function(*arguments)

    return noted


@pytest.fixture
def events(monkeypatch):
    """What is done while a case is prepared, in order."""
    done = []
    device = Noting(open_device("cpu"), done, reset_peak_memory="reset", peak_memory="peak")
    monkeypatch.setattr(preparation, "open_device", lambda name: device)
    monkeypatch.setattr(models.build, "make_alive", noting(models.build.make_alive, done, "alive"))
    monkeypatch.setattr(models.build, "_create", noting(models.build._create, done, "create"))
    monkeypatch.setattr(models.build, "state_sha256", noting(models.build.state_sha256, done, "hash"))

    def build(*arguments):
        done.append("build")
        return Noting(eager.build(*arguments), done, evidence="evidence")

    engine = SimpleNamespace(
        supports=eager.supports, build=build, import_libraries=lambda precision: done.append("import")
    )
    monkeypatch.setitem(_ENGINES, "eager", engine)
    return done


@pytest.fixture
def artefacts(tmp_path):
    return Artefacts(ArtefactCache(tmp_path), lambda: generated_calibration(SPEC))


def prepare_noting(events, artefacts):
    references = Noting(References(SPEC, "random"), events, outputs="reference")
    return prepare(CASE, SPEC, "random", references, artefacts=artefacts)


def test_peak_memory_is_that_of_building_and_running_alone(events, artefacts):
    """The reference, the making of random weights and the profiled copy of the model come before or after its watch."""
    ready = prepare_noting(events, artefacts)
    ready.close()
    order = [event for event in events if event in ("alive", "reference", "reset", "build", "peak", "evidence")]
    assert order == ["alive", "reference", "reset", "build", "peak", "evidence"]


@pytest.mark.slow
def test_memory_that_the_device_does_not_see_is_not_told(events, artefacts, monkeypatch):

    def peak_mib():
        ready = prepare_noting(events, artefacts)
        ready.close()
        return ready.record()["peak_memory_mib"]

    monkeypatch.setattr(_ENGINES["eager"], "HAS_OWN_ALLOCATOR", True, raising=False)
    assert peak_mib() > 0, "the processor sees the memory of every library"
    accelerator = SimpleNamespace(is_host=False)
    monkeypatch.setattr(preparation, "shows_memory", lambda name, device: shows_memory(name, accelerator))
    assert peak_mib() is None


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "tensorrt"])
def test_engines_with_memory_of_their_own_say_so(name):
    assert not shows_memory(name, SimpleNamespace(is_host=False))
    assert shows_memory(name, SimpleNamespace(is_host=True))
    assert shows_memory("compile", SimpleNamespace(is_host=False))


def test_each_time_holds_what_its_name_says(events, artefacts, monkeypatch):
    """The clock moves by a second whenever it is read, so a time of 1 s has no other clock inside."""
    ticks = count()

    def clock():
        events.append("tick")
        return float(next(ticks))

    monkeypatch.setattr(preparation, "perf_counter", clock)
    monkeypatch.setattr(models.build, "perf_counter", clock)
    monkeypatch.setattr(preparation, "import_source", lambda spec: events.append("import"))
    ready = prepare_noting(events, artefacts)
    ready.close()
    inside = {"import_s": [], "load_s": [], "alive_s": [], "compile_s": []}
    spans = " ".join(event for event in events if event not in ("reset", "peak", "evidence")).split("tick")
    for name, span in zip(inside, spans[1::2], strict=False):
        inside[name] = span.split()
    assert inside == {
        "import_s": ["import", "import"],
        "load_s": ["create"],
        "alive_s": ["alive"],
        "compile_s": ["build"],
    }
    assert [ready.record()[name] for name in inside] == [1.0] * 4
    assert "hash" in events


# Prepares a case and prints the packages of which building it was the first to import anything.
IMPORTED = """
import sys
import fixtures.plugin
from harness.cases import Case
from harness.engines import _ENGINES
from harness.proof import References, prepare
from models.catalog import find_spec, load_catalog

name, engine, precision = sys.argv[1:]
build = _ENGINES[engine].build

def packages():
    return {module.partition(".")[0] for module in sys.modules}

found = []

def watched(*arguments):
    before = packages()
    runner = build(*arguments)
    found.extend(packages() - before)
    return runner

_ENGINES[engine].build = watched
spec = find_spec(name, load_catalog())
prepare(Case(name, "cpu", precision, 2, engine), spec, "random", References(spec, "random")).close()
print("IMPORTED", *sorted(set(found)))
"""


# Libraries whose import takes long, in any engine.
SLOW_LIBRARIES = {"nncf", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "openvino", "sympy", "timm", "torchvision"}


@pytest.mark.parametrize(
    "engine",
    [pytest.param("compile", marks=pytest.mark.slow), pytest.param("onnxruntime", marks=pytest.mark.slow), "openvino"],
)
def test_building_imports_no_library(engine, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, TINY, engine, "fp32"],
        cwd=ROOT,
        env={**clean_environment(), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    imported = done.stdout.rpartition("IMPORTED")[2].split()
    assert not SLOW_LIBRARIES & set(imported), imported
