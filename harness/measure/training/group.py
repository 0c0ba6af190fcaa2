"""The processes that train one model together. Alone, or as a process group of torch's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch


@dataclass(frozen=True)
class Group:
    """This process among those that train together.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
        place: where the tensors lie that are summed, as torch names it: `cpu` or `cuda:0`.
    """

    rank: int = 0
    size: int = 1
    place: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this process writes what all of them have in common."""
        return self.rank == 0

    def sum(self, numbers: Sequence[int]) -> list[int]:
        """Return the sums of whole numbers over all processes, the same in each of them."""
        total = torch.tensor(list(numbers), dtype=torch.int64, device=self.place)
        if self.size > 1:
            torch.distributed.all_reduce(total)
        return [int(one) for one in total.tolist()]

    def gather(self, value: Any) -> list[Any]:
        """Return the value of each process, by rank, in each of them."""
        found = [value] * self.size
        if self.size > 1:
            torch.distributed.all_gather_object(found, value)
        return found

    def share(self, value: Any) -> Any:
        """Return the value that the first process gives."""
        held = [value]
        if self.size > 1:
            torch.distributed.broadcast_object_list(held, 0)
        return held[0]

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            torch.distributed.barrier()

    def same_buffers(self, module: torch.nn.Module) -> None:
        """Give every process the first one's buffers, such as the running statistics of batch norms."""
        if self.size > 1:
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, 0)

    def averaging(self, module: torch.nn.Module) -> torch.nn.Module:
        """Return a module around this one that averages the gradients of all processes in the backward pass."""
        if self.size == 1:
            return module
        # buffers are shared where they count, before an evaluation and a checkpoint, and not in every step
        parallel = torch.nn.parallel.DistributedDataParallel
        named = signature(parallel).parameters
        # the older name of the same switch, which later versions of torch deprecate
        switch: dict[str, Any] = {
            "forward_sync_buffers" if "forward_sync_buffers" in named else "broadcast_buffers": False
        }
        return parallel(module, **switch)


def alone() -> Group:
    """Return the group of a process that trains by itself."""
    return Group()
