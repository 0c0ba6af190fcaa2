"""The evidence of a step of two networks: what each ran, as the evidence of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from harness.engines.evidence import Evidence, Quantisation


def merged(features: Evidence, heads: Evidence, work: str, times_ms: Mapping[str, float]) -> Evidence:
    """Return the evidence of a step of both networks, which denies a label where that of either does.

    Args:
        features: the evidence of the first network.
        heads: the evidence of the second network.
        work: the number format that the precision promises.
        times_ms: how long each part of a step takes, in milliseconds.
    """
    both = {"features": features, "heads": heads}
    least = min(both.values(), key=lambda one: one.dtype_share_pct.get(work, 0.0))
    engines = {name: one.engine for name, one in both.items()}
    idle = [name for name, one in both.items() if not one.matrix_ops]
    return replace(
        features,
        engine=features.engine
        if features.engine == heads.engine
        else ", ".join(f"{engine} for the {name}" for name, engine in engines.items()),
        dtype_share_pct=least.dtype_share_pct,
        matrix_ops=0 if idle else features.matrix_ops + heads.matrix_ops,
        clock=features.clock if features.clock == heads.clock else "operator",
        parameter_devices=_sums(features.parameter_devices, heads.parameter_devices),
        parameter_dtypes=_sums(features.parameter_dtypes, heads.parameter_dtypes),
        short_formats={
            name: any(one.short_formats.get(name, False) for one in both.values())
            for name in (*features.short_formats, *heads.short_formats)
        },
        threads=_threads(features.threads, heads.threads),
        denials=tuple(f"{name}: {denial}" for name, one in both.items() for denial in one.denials),
        graphs=_sum(features.graphs, heads.graphs),
        graph_breaks=_sum(features.graph_breaks, heads.graph_breaks),
        fallbacks=_sums(features.fallbacks, heads.fallbacks),
        quantisation=_quantisation(features.quantisation, heads.quantisation),
        notes={
            **features.notes,
            "stages": {
                name: {"dtype_share_pct": one.dtype_share_pct, "matrix_ops": one.matrix_ops, "notes": one.notes}
                for name, one in both.items()
            },
            "stages_ms": dict(times_ms),
        },
        layers=(),  # a step is more than the two networks
        busy_us=None,
    )


def _sums(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))


def _threads(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Return of each pool the number that is not the one that was asked for, if either network has such a one."""
    asked = one.get("asked")
    return {**other, **one, **{name: count for name, count in other.items() if count != asked}}


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _quantisation(one: Quantisation | None, other: Quantisation | None) -> Quantisation | None:
    """Return what was quantised of both networks; nothing, if either was not."""
    if one is None or other is None:
        return None
    operators = one.operators + other.operators if one.operators and other.operators else 0
    return Quantisation(operators, (*one.float_layers, *other.float_layers), one.calibration)
