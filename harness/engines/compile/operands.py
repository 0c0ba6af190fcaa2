"""In which format the operands of a compiled network's convolutions are, as the graph says that inductor compiled.

A CUDA graph is replayed without torch's operators, so that only the names of the kernels are left to tell formats, and
cuDNN's kernels for depthwise convolutions do not tell theirs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._inductor.custom_graph_pass import CustomGraphPass

_FORMATS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64"}


class ConvolutionFormats(CustomGraphPass):
    """Reads the graphs that inductor compiles, after its own passes, and changes none of them."""

    def __init__(self) -> None:
        """Begin with no graph read."""
        self._found: set[str] = set()

    def __call__(self, graph: torch.fx.Graph) -> None:
        """Note the format of the first operand of every convolution."""
        for node in graph.nodes:
            if node.op == "call_function" and "convolution" in str(node.target) and node.all_input_nodes:
                images = node.all_input_nodes[0].meta.get("val")
                is_tensor = isinstance(images, torch.Tensor)
                self._found.add(_FORMATS.get(images.dtype, "unknown") if is_tensor else "unknown")

    def uuid(self) -> Any:
        """Return what stands for this pass in the key of inductor's cache: it changes no graph."""
        return b"visionmark: formats of convolutions"

    def of_all(self) -> str | None:
        """Return the one format of all convolutions; None where there are several, or no graph was read."""
        return next(iter(self._found)) if len(self._found) == 1 else None
