"""Reads the graph that PopART compiled, which PopTorch gives as JSON: formats, partial sums and pipeline stages.

Every value in it is a text. Repeated parts are subgraphs of their own, so that all graphs are read.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from harness.engines.evidence import shares

# What PopTorch says in place of a graph.
UNAVAILABLE = "unavailable"
# What the clock of the evidence is called: the graph has no times, and the shares are those of multiply-adds.
CLOCK = "compiled graph"
_MATRIX_TYPES = ("Conv", "MatMul", "Gemm")
_FORMATS = {"FLOAT16": "fp16", "FLOAT": "fp32", "UINT8": "uint8", "FLOAT8": "fp8"}


class NoGraph(ValueError):
    """There is no graph to read, so that nothing tells what was compiled."""


@dataclass(frozen=True)
class CompiledGraph:
    """What the graph says.

    Attributes:
        share_pct: the percentage of multiply-adds in each format, the largest first.
        matrix_ops: the number of convolutions and matrix products.
        partials: the number of them that sum in each format, `half`, `float`, or `unset`.
        stages: the numbers of the pipeline stages, in order.
        types: the number of operators of each type.
    """

    share_pct: dict[str, float]
    matrix_ops: int
    partials: dict[str, int]
    stages: tuple[int, ...]
    types: dict[str, int]


def read_compiled_graph(text: str) -> CompiledGraph:
    """Return what the text of `_debugGetPopartIR` says.

    Raises:
        NoGraph: it says that there is no graph, or is something else.
    """
    if text.startswith(UNAVAILABLE):
        raise NoGraph(f"PopTorch says of the compiled graph: {text}")
    try:
        graphs: dict[str, list[dict[str, Any]]] = json.loads(text)
        operators = [operator for graph in graphs.values() for operator in graph]
        types = Counter(str(operator["type"]) for operator in operators)
        matrix = [operator for operator in operators if operator["type"] in _MATRIX_TYPES]
        shapes = _shapes(operators)
        work: Counter[str] = Counter()
        for operator in matrix:
            work[_format(operator)] += _multiply_adds(operator, shapes)
        stages = {int(text) for one in operators if (text := one["attributes"].get("__pipeline_stage"))}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise NoGraph(f"the compiled graph cannot be read ({type(error).__name__}: {error})") from None
    partials = Counter(_partials(operator) for operator in matrix)
    return CompiledGraph(shares(work), len(matrix), dict(partials), tuple(sorted(stages)), dict(types))


def _shapes(operators: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Return the shape of each tensor that some operator reads; what an operator makes carries none."""
    return {str(one["name"]): _numbers(one["shape"]) for operator in operators for one in operator["inputs"]}


def _numbers(text: object) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", str(text))]


def _format(operator: dict[str, Any]) -> str:
    told = str(operator["inputs"][0]["type"])
    return _FORMATS.get(told, told.lower())


def _multiply_adds(operator: dict[str, Any], shapes: dict[str, list[int]]) -> int:
    """Return the multiply-adds of a convolution or matrix product; an output that nothing reads counts as its input."""
    data, weights = (_numbers(one["shape"]) for one in operator["inputs"][:2])
    if operator["type"] != "Conv":
        return math.prod(data) * (weights[-1] if weights else 1)
    made = shapes.get(str(operator["outputs"][0]["name"]), data)
    return data[0] * math.prod(weights) * math.prod(made[2:])


def _partials(operator: dict[str, Any]) -> str:
    """Return in which format an operator sums: `half`, `float` or `unset`."""
    found = [str(value) for name, value in operator["attributes"].items() if name.startswith("partialsType")]
    return found[0].rpartition("::")[2].lower() if found else "unset"
