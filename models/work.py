"""What one forward pass computes and moves: floating-point operations and tensor elements, counted from shapes alone.

Nothing is computed: the module's tensors are replaced by tensors of torch's `meta` device, which have shapes and no
values. It must not know devices, number formats or how long anything takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.detectors import TwoStage

Formula = Callable[..., int]


@dataclass(frozen=True)
class LayerWork:
    """A convolution or a matrix product of a forward pass.

    Attributes:
        operator: torch's name of the operator, such as `convolution`.
        flops: the floating-point operations, a multiplication and an addition counted as two.
        elements: the elements of its inputs, its weights and its output, each counted once.
    """

    operator: str
    flops: int
    elements: int


@dataclass(frozen=True)
class Work:
    """The convolutions and matrix products of one forward pass of one batch.

    Attributes:
        layers: the convolutions and matrix products, in the order in which they run.
        weight_elements: the number of elements of all parameters.
    """

    layers: tuple[LayerWork, ...]
    weight_elements: int

    @property
    def flops(self) -> int:
        """The floating-point operations of the batch."""
        return sum(layer.flops for layer in self.layers)

    @property
    def elements(self) -> int:
        """The elements that the layers read and write, if everything that is between them is fused into them."""
        return sum(layer.elements for layer in self.layers)

    @property
    def working_elements(self) -> int:
        """The elements that are in use again and again: all weights, and the largest layer's input and output."""
        return self.weight_elements + max((layer.elements for layer in self.layers), default=0)


@dataclass(frozen=True)
class Uncounted:
    """The work of a module cannot be counted, for this reason."""

    reason: str


def work_of(module: torch.nn.Module, example: torch.Tensor) -> Work | Uncounted:
    """Count the convolutions and matrix products of a forward pass. The module and the example are not changed.

    The FLOPs of an operator are those of torch's own formulas, for which a grouped convolution costs what its groups
    do. Bias, normalisation, activation and pooling have none there.

    Args:
        module: the module, in evaluation mode.
        example: one batch as the module takes it, [n, 3, h, w], of which only the shape and the type are used.

    Returns:
        The work, or the reason why it cannot be counted.

    Source: torch.utils.flop_counter.
    """
    from torch.utils.flop_counter import flop_registry

    if isinstance(module, TwoStage):
        return Uncounted("of a detector of two stages, an engine runs two networks, and a step is more than both")
    state = {name: tensor.to("meta") for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    recorder = _Recorder(flop_registry)
    try:
        with recorder, torch.no_grad():
            torch.func.functional_call(module, state, (torch.empty_like(example, device="meta"),))
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:  # a network that looks at values
        return Uncounted(f"its shapes depend on values: {str(error).strip().partition(chr(10))[0]}")
    if not recorder.layers:
        return Uncounted("no convolution or matrix product was seen in it")
    return Work(tuple(recorder.layers), sum(parameter.numel() for parameter in module.parameters()))


class _Recorder(TorchDispatchMode):
    """Notes every operator for which torch has a formula of its FLOPs."""

    def __init__(self, formulas: Mapping[Any, Formula]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._formulas = formulas
        self.layers: list[LayerWork] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        formula = self._formulas.get(func.overloadpacket)
        if formula is None:
            with self:  # an operator that is made of others shows them here, and these are counted
                made_of = func.decompose(*args, **named)
            return func(*args, **named) if made_of is NotImplemented else made_of
        result = func(*args, **named)
        flops = int(formula(*args, **named, out_val=result))
        elements = sum(tensor.numel() for tensor in (*args, result) if isinstance(tensor, torch.Tensor))
        self.layers.append(LayerWork(func.overloadpacket.__name__, flops, elements))
        return result
