"""Reading ONNX Runtime's profile: which nodes ran, on which provider, in which format and for how long."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.engines.evidence import LayerTime, shares

_MATRIX_NODE = re.compile(r"Conv(?!ert)|Gemm|MatMul|Attention")
_DTYPES = {
    "float": "fp32",
    "double": "fp64",
    "float16": "fp16",
    "bfloat16": "bf16",
    "uint8": "int8",
    "int8": "int8",
}
_KERNEL_TIME = "_kernel_time"
# ONNX Runtime's names of the types that a shape has.
_WHOLE = {"int64", "int32"}


@dataclass(frozen=True)
class Node:
    """One node that ran.

    Attributes:
        name: the name in the optimised graph.
        operator: the type, such as `Conv` or `QLinearConv`.
        provider: the execution provider that ran the node.
        inputs: the type of each input, as ONNX Runtime writes it.
        outputs: the type of each output, as ONNX Runtime writes it.
        time_us: the wall time of the kernel in microseconds.
        threads: the number of threads in the profile, including the calling one; 0 where the profile names none.
    """

    name: str
    operator: str
    provider: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    time_us: int
    threads: int

    @property
    def is_matrix_work(self) -> bool:
        """Whether the node is a convolution or a matrix product."""
        return bool(_MATRIX_NODE.search(self.operator))

    @property
    def dtype(self) -> str:
        """The number format in which the node computes, which is that of its first input."""
        return _DTYPES.get(self.inputs[0], "unknown") if self.inputs else "unknown"

    @property
    def is_shape_work(self) -> bool:
        """Whether the node computes with shapes and not with images.

        All its outputs are integers, or they are the outcome of comparing integers.
        """
        written = set(self.outputs)
        compares = written == {"bool"} and set(self.inputs) <= _WHOLE | {"bool"}
        return compares or (bool(written) and written <= _WHOLE)


def read_nodes(path: Path) -> list[Node]:
    """Return the nodes of a profile, in the order in which they ran.

    Source: onnxruntime documentation, "Profiling tools"; the record of a node is its `_kernel_time` event.
    """
    events: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return [
        Node(
            name=event["name"].removesuffix(_KERNEL_TIME),
            operator=event["args"]["op_name"],
            provider=event["args"]["provider"],
            inputs=_types(event["args"]["input_type_shape"]),
            outputs=_types(event["args"]["output_type_shape"]),
            time_us=event["dur"],
            threads=_threads(event["args"].get("thread_scheduling_stats", {})),
        )
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL_TIME)
    ]


def dtype_shares(nodes: Iterable[Node]) -> dict[str, float]:
    """Return the percentage of the time in convolutions and matrix products for each dtype, largest first."""
    time_us: Counter[str] = Counter()
    for node in nodes:
        if node.is_matrix_work:
            time_us[node.dtype] += node.time_us
    return shares(time_us)


def operand_dtype(nodes: Iterable[Node]) -> str | None:
    """Return the format of the operands of every convolution and matrix product, None where it is not one."""
    found = {node.dtype for node in nodes if node.is_matrix_work}
    return found.pop() if len(found) == 1 else None


def node_times(nodes: Iterable[Node]) -> tuple[LayerTime, ...]:
    """Return the time of each node. They run one after the other."""
    return tuple(LayerTime(node.name, node.operator, node.time_us, node.is_matrix_work) for node in nodes)


def fallbacks(nodes: Iterable[Node], provider: str) -> dict[str, int]:
    """Return the number of nodes that another provider ran, by `operator on provider`.

    Nodes that compute with shapes do not count, because ONNX Runtime keeps them on the host on purpose.
    """
    return dict(
        Counter(
            f"{node.operator} on {node.provider}"
            for node in nodes
            if node.provider != provider and not node.is_shape_work
        )
    )


def _types(described: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(name for entry in described for name in entry)


def _threads(statistics: dict[str, Any]) -> int:
    return 1 + len(statistics.get("sub_threads") or {}) if statistics else 0
