"""The engine `ipex`: Intel Extension for PyTorch on the CPU. Operators fuse after `ipex.optimize`, trace and freeze.

The extension ended with version 2.8 and works only with torch 2.8, so it has an environment of its own
(`make setup-ipex`). In other environments the engine names this as the reason why it is absent.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch

from harness.artefacts import Artefacts
from harness.cases import PRECISIONS, Case
from harness.devices import Device
from harness.engines.evidence import MatrixWork, shares
from harness.engines.torch.layout import CHANNELS_LAST, Layout
from harness.engines.torch.library_log import executed_primitives
from harness.engines.torch.profiler import Event, innermost_matrix_ops
from harness.engines.torch.runner import StepFindings, TorchRunner, autocast, put
from harness.engines.torch.scripts import executed_engine, forget_scripts

MODULE = "intel_extension_for_pytorch"
_PRECISIONS = ("fp32", "bf16", "fp16", "amp_bf16", "amp_fp16")
# The namespaces of the extension's operators.
_OWN_OPS = ("ipex_prepack::", "torch_ipex::", "ipex::")
# MKL's matrix product, which is not a oneDNN primitive; its name states its format.
_SGEMM = "sgemm"
# The least percentage of the time in convolutions and matrix products that the extension's own operators must take.
_LEAST_OWN_PCT = 90.0


def absent() -> str | None:
    """Return None, or the reason why the extension is not installed, with how to install it."""
    if find_spec(MODULE) is None:
        return (
            "ipex needs Intel Extension for PyTorch and torch 2.8, an environment of its own: make setup-ipex, "
            "then .venv-ipex/bin/python -m pytest --engine ipex"
        )
    return None


def supports(device: Device, precision: str) -> str | None:
    """See `Engine.supports`: CPUs only.

    The extension's build for Intel GPUs is not on the package index, and torch.xpu has taken its place.
    """
    if device.kind != "cpu":
        return "ipex is measured on the CPU; Intel GPUs run through native torch.xpu: use --engine eager or compile"
    if precision not in _PRECISIONS:
        return f"ipex is measured in {', '.join(_PRECISIONS)}: for int8 use compile, openvino or onnxruntime"
    return absent()


def import_libraries(precision: str) -> None:
    """See `harness.engines.import_libraries`."""
    import_module(MODULE)


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
) -> TorchRunner:
    """See `Engine.build`. The extension folds batch norms in fp32 and casts the weights itself, under autocast too."""
    precision = PRECISIONS[case.precision]
    dtype = getattr(torch, precision.autocast or precision.weights)
    with warnings.catch_warnings(), torch.no_grad(), autocast(case, device):
        warnings.simplefilter("ignore")  # torch deprecates tracing, and the extension warns that it has ended
        extension = import_module(MODULE)
        laid_out = module.to(memory_format=torch.channels_last)
        optimised: torch.nn.Module = extension.optimize(laid_out, dtype=dtype, inplace=True)
        batch = put(example, case, device)
        frozen = torch.jit.freeze(torch.jit.trace(optimised, batch, check_trace=False))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        for _ in range(3):  # the profiling executor specialises and fuses the graph in its first calls
            frozen(batch)
    return TorchRunner(
        frozen,
        optimised,
        case,
        device,
        prove=lambda events: _prove(frozen, events),
        autocasts=False,
        on_close=forget_scripts,
        work=executed_work,
        layout=Layout(CHANNELS_LAST, "known to win for convolutional networks on CPUs"),
    )


def _prove(frozen: torch.jit.ScriptModule, events: list[Event]) -> StepFindings:
    """Find out from a profile whether the extension's own operators took most of the time of the matrix work."""
    time_us: Counter[str] = Counter()
    own: Counter[str] = Counter()
    for op in innermost_matrix_ops(events):
        is_own = op["name"].startswith(_OWN_OPS)
        time_us["own" if is_own else "other"] += op["dur"]
        own[op["name"]] += is_own
    share = shares(time_us).get("own", 0.0)
    if share >= _LEAST_OWN_PCT and isinstance(frozen, torch.jit.ScriptModule):
        engine = "ipex"
    elif isinstance(frozen, torch.jit.ScriptModule):
        engine = f"a trace with {share:.0f}% of its time in ipex's operators"
    else:
        engine = executed_engine(frozen, events)
    return StepFindings(engine, notes={"ipex_share_pct": share, "ipex_operators": {k: n for k, n in own.items() if n}})


def executed_work(step: Callable[[], None], events: list[Event]) -> MatrixWork:
    """Return the matrix work of one step, with the formats from oneDNN's log.

    The log is needed because the extension's operators show no format in torch's profile. MKL's sgemm is not in the log
    and counts as fp32, as its name says, with its time from the profile.
    """
    time_us: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for primitive in executed_primitives(step):
        time_us[primitive.dtype] += round(primitive.time_us)
        counts[primitive.dtype] += 1
    for op in innermost_matrix_ops(events):
        if _SGEMM in op["name"]:
            time_us["fp32"] += round(op["dur"])
            counts["fp32"] += 1
    return MatrixWork(shares(time_us), dict(counts), "operator")
