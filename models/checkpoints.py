"""Files of weights: which set of weights a file holds, and whether they are those of a module.

What is read is what the libraries' own loaders read: timm's choice among the sets of a checkpoint, wrappers' prefixes
removed, and what older versions of torch did not write filled in. Everything that was done to the file is told.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

KEYS_SHOWN = 3
# The prefixes of DistributedDataParallel, torch.compile, timm's averaged model and Lightning's training modules.
_WRAPPERS = ("module.", "_orig_mod.", "ema_model.", "model.")
# Which set timm's loader takes by default, in this order: averaged weights go before raw ones.
_AVERAGED = ("state_dict_ema", "model_ema")
_SETS = (*_AVERAGED, "state_dict", "model")
# How often a wrapper that averages weights has done so, which torch keeps beside them.
_AVERAGING = frozenset({"n_averaged"})
_COUNTER = ".num_batches_tracked"
# The beginnings of the names of heads that serve training alone; builders drop them once weights are loaded.
_TRAINING_HEADS = ("AuxLogits.", "aux1.", "aux2.")
_TENSORS_ALONE = "nothing but tensors is loaded: save the model's state_dict() and give that file"
_POINTERS = (b"version https://", b"/annex/objects/")


class WeightsError(RuntimeError):
    """Weights cannot be had or are not this model's; the message says what to do."""


def load_file(module: nn.Module, path: Path, model: str) -> str:
    """Load a file of weights into the module, strictly, and return what the file held and what was done to it.

    Args:
        module: the module, which is changed in place.
        path: a file that torch saved, or one of safetensors.
        model: how messages call the model.

    Raises:
        WeightsError: if there is no such file, if it holds no weights, or if they are of another model.
    """
    if not path.is_file():
        raise WeightsError(f"no file {path}; give --weights FILE, random or pretrained")
    checkpoint = _read(path)
    notes = []
    chosen = next((name for name in _SETS if checkpoint.get(name) is not None), None)
    if chosen is not None:
        others = [name for name in _SETS if name != chosen and checkpoint.get(name) is not None]
        kind = "averaged weights" if chosen in _AVERAGED else "weights"
        notes.append(f"the {kind} of {chosen}" + (f", not those of {', '.join(others)}" if others else ""))
    found = checkpoint if chosen is None else checkpoint[chosen]
    if isinstance(found, nn.Module):
        found = found.state_dict()
    if not isinstance(found, Mapping) or not any(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(f"{path} holds no state dict; save the model's state_dict() and give that file")
    wanted = module.state_dict()
    state, more = _fitted({name: value for name, value in found.items() if isinstance(value, Tensor)}, wanted)
    wrong = _mismatches(wanted, state)
    if wrong:
        raise WeightsError(f"{path} holds no weights of {model}: {'; '.join(wrong)}")
    module.load_state_dict(state, strict=True)
    return "; ".join([*notes, *more]) or "a state dict"


def _read(path: Path) -> Mapping[str, object]:
    """Return what the file holds. Both libraries tell a damaged file by exceptions of their own."""
    with path.open("rb") as file:
        head = file.read(max(map(len, _POINTERS)))
    if not head:
        raise WeightsError(f"{path} is empty; fetch it again")
    if head.startswith(_POINTERS):
        raise WeightsError(
            f"{path} is a pointer to content that is not fetched; fetch it (git lfs pull, git annex get)"
        )
    try:
        if path.suffix == ".safetensors":
            found = import_module("safetensors.torch").load_file(path)
        else:
            allowing = getattr(torch.serialization, "safe_globals", None)  # not in the torch of Graphcore's SDK
            with allowing([argparse.Namespace]) if allowing else nullcontext():  # the `args` of timm's training runs
                found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # SafetensorError, UnpicklingError, EOFError, …: Exception is all that they share
        # torch's own text speaks of an argument that the user cannot give
        told = f"{type(error).__name__}: {_TENSORS_ALONE}" if "weights_only" in str(error) else first_line(error)
        raise WeightsError(f"{path} is no file of weights, or is damaged ({told})") from None
    if not isinstance(found, Mapping):
        raise WeightsError(f"{path} holds a {type(found).__name__}; save the model's state_dict() and give that file")
    return found


def _fitted(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the state with the names of the module, and what was changed to get it."""
    notes: list[str] = []
    state = {name: value for name, value in found.items() if name not in _AVERAGING}
    while (prefix := next((one for one in _WRAPPERS if _is_wrapped(state, one, wanted)), None)) is not None:
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        notes.append(f"without the prefix {prefix}")
    counters = [name for name in wanted if name.endswith(_COUNTER) and name not in state]
    if counters:  # torch wrote them from 0.4.1 on; only training reads them
        state.update({name: wanted[name] for name in counters})
        notes.append(f"without {len(counters)} num_batches_tracked, as versions of torch before 0.4.1 wrote them")
    heads = [name for name in state if name.startswith(_TRAINING_HEADS) and name not in wanted]
    if heads:
        state = {name: value for name, value in state.items() if name not in heads}
        notes.append(f"less {len(heads)} tensors of heads that serve training alone")
    return state, notes


def _is_wrapped(state: Mapping[str, Tensor], prefix: str, wanted: Mapping[str, Tensor]) -> bool:
    """Return whether the prefix is a wrapper's: at all names of the file, and at none of the module's."""
    return (
        bool(state)
        and all(name.startswith(prefix) for name in state)
        and not any(name.startswith(prefix) for name in wanted)
    )


def first_line(error: Exception) -> str:
    """Return the type of an error and the first line of its text."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _mismatches(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Return the missing, unexpected and differently shaped keys, each kind counted and the first few named."""
    kinds = {
        "missing": [key for key in wanted if key not in found],
        "unexpected": [key for key in found if key not in wanted],
        "of another shape": [
            f"{key} {tuple(found[key].shape)} for {tuple(tensor.shape)}"
            for key, tensor in wanted.items()
            if key in found and found[key].shape != tensor.shape
        ],
    }
    return [
        f"{len(keys)} keys {kind}: {', '.join(keys[:KEYS_SHOWN])}{', …' if len(keys) > KEYS_SHOWN else ''}"
        for kind, keys in kinds.items()
        if keys
    ]
