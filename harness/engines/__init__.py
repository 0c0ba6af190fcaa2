"""Owns the engines, a package each: building, proving, saving. Must not know data sets, clocks or what is measured.

A new engine needs a package in this folder and a line in the register below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from harness.artefacts import Artefacts
from harness.cases import U8, WHOLE, Case
from harness.cases.setting import bulk_workers, option_of
from harness.devices import Device
from harness.engines import aot, eager, ipex, onnxruntime, openvino, poptorch, script, tensorrt, trace
from harness.engines import compile as compile_
from harness.engines.evidence import Evidence
from harness.engines.protocol import Engine, Fed, InspectedRunner, Runner, Saving, Training
from harness.engines.two_stage import TwoStageRunner, build_two_stage, load_two_stage, save_two_stage
from models.detectors import TwoStage

__all__ = [
    "Evidence",
    "Fed",
    "InspectedRunner",
    "Runner",
    "absent",
    "build",
    "cannot_save",
    "cannot_train",
    "copies_in_submit",
    "engine_names",
    "import_libraries",
    "load",
    "open_training",
    "save",
    "shows_memory",
    "unsupported",
]

# The register of engines. Every module that has the functions of the protocol `Engine` is an engine.
_ENGINES: dict[str, Engine] = {
    "eager": eager,
    "trace": trace,
    "script": script,
    "compile": compile_,
    "aot": aot,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ipex": ipex,
    "tensorrt": tensorrt,
    "poptorch": poptorch,
}


def engine_names() -> tuple[str, ...]:
    """Return the names of the engines in the register."""
    return tuple(_ENGINES)


def open_engine(name: str) -> Engine:
    """Return the engine of this name.

    Raises:
        ValueError: no engine has that name.
    """
    if name not in _ENGINES:
        raise ValueError(f"no engine {name!r}; there are {', '.join(_ENGINES)}")
    return _ENGINES[name]


def build(module: nn.Module, example: Tensor, case: Case, device: Device, artefacts: Artefacts) -> InspectedRunner:
    """Build a module on the engine of the case, or each network of a module of two stages. See `Engine.build`."""
    engine = open_engine(case.engine)
    if isinstance(module, TwoStage):
        return build_two_stage(engine.build, module, example, case, device, artefacts)
    return engine.build(module, example, case, device, artefacts)


def absent(name: str) -> str | None:
    """Return None, or the reason why the library of an engine is not installed.

    An engine that needs a library of its own has a function `absent`; for all others the result is None.
    """
    reason = getattr(open_engine(name), "absent", None)
    return None if reason is None else reason()


def unsupported(case: Case, device: Device) -> str | None:
    """Return None, or the reason why this case cannot run. The device's reason comes before the engine's."""
    engine = open_engine(case.engine)
    return device.supports(case.precision) or engine.supports(device, case.precision) or _unsupported_settings(case)


def _unsupported_settings(case: Case) -> str | None:
    """Return None, or which setting the engine of a case does not have.

    Every engine takes bytes, and runs in the workers of a bulk run. One that runs detectors whole has a function
    `runs_whole`, one with further settings a function `supports_settings`, both of the case.
    """
    if WHOLE in case.settings and (reason := _cannot_be_whole(case)):
        return reason
    further = [word for word in case.settings if word not in (U8, WHOLE) and not bulk_workers([word])]
    if not further:
        return None
    supports: Callable[[Case], str | None] | None = getattr(open_engine(case.engine), "supports_settings", None)
    if supports is not None:
        return supports(case)
    return f"{case.engine} has no setting {further[0]}, which is of engine poptorch: drop {option_of(further[0])}"


def _cannot_be_whole(case: Case) -> str | None:
    """Return None, or why the engine of a case does not run detectors whole, with suppression inside."""
    engine = open_engine(case.engine)
    runs: Callable[[Case], str | None] | None = getattr(engine, "runs_whole", None)
    if runs is not None:
        return runs(case)
    able = ", ".join(one for one in _ENGINES if hasattr(_ENGINES[one], "runs_whole"))
    why = getattr(engine, "WHY_NOT_WHOLE", "it has no operator for the suppression of boxes")
    return f"{case.engine} runs no detector whole: {why}; use --engine {able}, or drop {option_of(WHOLE)}"


def import_libraries(name: str, precision: str) -> None:
    """Import what an engine needs for building in a precision, so that the time of building holds no import.

    An engine that imports libraries only when it builds has a function of this name that takes the precision.
    """
    load: Callable[[str], None] | None = getattr(open_engine(name), "import_libraries", None)
    if load is not None:
        load(precision)


def copies_in_submit(name: str) -> bool:
    """Return whether a submit of this engine copies its input from the host, wherever `put` has put it.

    Such a submit is one blocking call, which holds the interpreter's lock until its answer is on the host.
    """
    return bool(getattr(open_engine(name), "COPIES_IN_SUBMIT", False))


def shows_memory(name: str, device: Device) -> bool:
    """Return whether the device can tell how much memory the models of an engine take.

    On the host the operating system tells it of every library. On an accelerator the device asks torch's allocator,
    which does not see the memory of an engine that states `HAS_OWN_ALLOCATOR`.
    """
    return device.is_host or not getattr(open_engine(name), "HAS_OWN_ALLOCATOR", False)


def cannot_save(name: str) -> str | None:
    """Return None, or the reason why the prepared model of an engine cannot be saved to a file."""
    engine = open_engine(name)
    if isinstance(engine, Saving):
        return None
    why = getattr(engine, "WHY_NOT_SAVED", "nothing is known to keep")
    able = ", ".join(one for one in _ENGINES if isinstance(_ENGINES[one], Saving))
    return f"{name} saves no model: {why}; there are {able}"


def open_saving(name: str) -> Saving:
    """Return the engine of this name, which can save and load prepared models.

    Raises:
        ValueError: no engine has that name, or the engine cannot save models.
    """
    engine = open_engine(name)
    if not isinstance(engine, Saving):
        raise ValueError(cannot_save(name))
    return engine


def save(name: str, runner: InspectedRunner) -> dict[str, bytes]:
    """Return the files of a runner that the engine of this name built, of each network of two. See `Saving.save`."""
    saving = open_saving(name)
    return save_two_stage(saving, runner) if isinstance(runner, TwoStageRunner) else saving.save(runner)


def load(files: Mapping[str, bytes], module: nn.Module, case: Case, device: Device) -> InspectedRunner:
    """Return a runner of what `save` saved, of the engine of the case. See `Saving.load`."""
    saving = open_saving(case.engine)
    if isinstance(module, TwoStage):
        return load_two_stage(saving, files, module, case, device)
    return saving.load(files, module, case, device)


def cannot_train(name: str, device: Device, precision: str) -> str | None:
    """Return None, or the reason why an engine does not train models on a device in a precision."""
    engine = open_engine(name)
    if isinstance(engine, Training):
        return engine.trains(device, precision)
    able = ", ".join(one for one in _ENGINES if isinstance(_ENGINES[one], Training))
    return f"{name} is for inference and trains no model: use --engine {able}"


def open_training(name: str) -> Training:
    """Return the engine of this name, which can train.

    Raises:
        ValueError: no engine has that name, or the engine cannot train.
    """
    engine = open_engine(name)
    if not isinstance(engine, Training):
        raise ValueError(f"{name} is for inference and trains no model")
    return engine
