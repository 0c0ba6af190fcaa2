"""Owns the engines, a package each: building, proving, saving. Must not know data sets, clocks or what is measured.

A new engine is a package here and a line in the register.
"""

from __future__ import annotations

from harness.cases import Case
from harness.devices import Device
from harness.engines import compile as compile_
from harness.engines import eager, ipex, onnxruntime, openvino, script, tensorrt, trace
from harness.engines.evidence import Evidence, Quantisation
from harness.engines.protocol import Engine, InspectedRunner, Inspector, Runner, Saving

__all__ = [
    "Engine",
    "Evidence",
    "InspectedRunner",
    "Inspector",
    "Quantisation",
    "Runner",
    "absent",
    "cannot_save",
    "engine_names",
    "open_engine",
    "open_saving",
    "unsupported",
]

# The register. A module with the functions of `Engine` is an engine.
_ENGINES: dict[str, Engine] = {
    "eager": eager,
    "trace": trace,
    "script": script,
    "compile": compile_,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ipex": ipex,
    "tensorrt": tensorrt,
}


def engine_names() -> tuple[str, ...]:
    """The engines in the register."""
    return tuple(_ENGINES)


def open_engine(name: str) -> Engine:
    """The engine of that name.

    Raises:
        ValueError: no engine has that name.
    """
    if name not in _ENGINES:
        raise ValueError(f"no engine {name!r}; there are {', '.join(_ENGINES)}")
    return _ENGINES[name]


def absent(name: str) -> str | None:
    """None, or the reason why an engine's library is not here. An engine with a library of its own has `absent`."""
    reason = getattr(open_engine(name), "absent", None)
    return None if reason is None else reason()


def unsupported(case: Case, device: Device) -> str | None:
    """None, or the reason why this case cannot run. The device's reason comes before the engine's."""
    return device.supports(case.precision) or open_engine(case.engine).supports(device, case.precision)


def cannot_save(name: str) -> str | None:
    """None, or the reason why an engine's prepared model is not kept in a file."""
    engine = open_engine(name)
    if isinstance(engine, Saving):
        return None
    why = getattr(engine, "WHY_NOT_SAVED", "nothing is known to keep")
    able = ", ".join(one for one in _ENGINES if isinstance(_ENGINES[one], Saving))
    return f"{name} saves no model: {why}; there are {able}"


def open_saving(name: str) -> Saving:
    """The engine of that name, for saving and loading.

    Raises:
        ValueError: it cannot.
    """
    engine = open_engine(name)
    if not isinstance(engine, Saving):
        raise ValueError(cannot_save(name))
    return engine
