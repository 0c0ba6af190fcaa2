"""Intel Extension for PyTorch on the CPU: `ipex.optimize`, traced and frozen, which is how it fuses.

It ended with version 2.8 and takes torch 2.8 alone, so it has an environment of its own (`make setup-ipex`); elsewhere
the engine gives that as its reason.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch

from harness.artefacts import Artefacts
from harness.cases import Case
from harness.cases.precision import PRECISIONS
from harness.devices import Device
from harness.engines.evidence import MatrixWork, shares
from harness.engines.ipex.onednn_log import executed_primitives
from harness.engines.torch.profiler import Event, innermost_matrix_ops
from harness.engines.torch.runner import StepFindings, TorchRunner, autocast, put
from harness.engines.torch.scripts import executed_engine, forget_scripts

MODULE = "intel_extension_for_pytorch"
_PRECISIONS = ("fp32", "bf16", "fp16", "amp_bf16", "amp_fp16")
# How the extension names its operators.
_OWN_OPS = ("ipex_prepack::", "torch_ipex::", "ipex::")
# MKL's, which is no primitive of oneDNN and says its format in its name.
_SGEMM = "sgemm"
# Least share of convolution and matrix time in its own operators, in percent.
_LEAST_OWN_PCT = 90.0


def absent() -> str | None:
    """None, or the reason why the extension is not here, with the way to it."""
    if find_spec(MODULE) is None:
        return (
            "ipex needs Intel Extension for PyTorch and torch 2.8, an environment of its own: make setup-ipex, "
            "then .venv-ipex/bin/python -m pytest --engine ipex"
        )
    return None


def supports(device: Device, precision: str) -> str | None:
    """CPUs. Its build for Intel GPUs is not on the package index, and torch.xpu has taken its place."""
    if device.kind != "cpu":
        return "ipex is measured on the CPU; Intel GPUs run through native torch.xpu: use --engine eager or compile"
    if precision not in _PRECISIONS:
        return f"ipex is measured in {', '.join(_PRECISIONS)}: for int8 use compile, openvino or onnxruntime"
    return absent()


def build(
    module: torch.nn.Module, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
) -> TorchRunner:
    """See `Engine.build`. The extension folds batch norms in fp32 and casts the weights itself, under autocast too."""
    precision = PRECISIONS[case.precision]
    dtype = getattr(torch, precision.autocast or precision.weights)
    with warnings.catch_warnings(), torch.no_grad(), autocast(case, device):
        warnings.simplefilter("ignore")  # it traces, which torch deprecates, and says that it has come to its end
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
    )


def _prove(frozen: torch.jit.ScriptModule, events: list[Event]) -> StepFindings:
    """Whether the operators that did the work are the extension's own, by their time in the profile."""
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
    """Formats as oneDNN logged them, for the extension's operators show none in torch's profile.

    What is MKL's sgemm is fp32, by its name, for the time that the profile gives it.
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
