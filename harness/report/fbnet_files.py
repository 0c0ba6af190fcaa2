"""Makes the FBNet sample's result files from the same records as the JSON report.

The files are `results.yaml`, `results.json` and `results_N.json`. Nothing is measured or averaged here; a value that
the records do not have is null.
"""

from __future__ import annotations

import getpass
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from harness.report.record_rows import Record

SCHEMA = "visionmark 1"
GENERATED = "generated"
# The measurements of a run over files, in the order in which one stands for the case.
_OF_FILES = ("accuracy", "end_to_end", "bulk")
_PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "amp_bf16": "bfloat16", "amp_fp16": "float16"}
_JIT = {"eager": "none"}
_STATISTICS = ("avg", "min", "max", "stdev")


def results_yaml(records: Sequence[Record]) -> str:
    """Return the text of `results.yaml`: throughput, latency and top-1 accuracy of one case."""
    metrics = _metrics(records, None)
    rows = (
        ("throughput", "throughput", "img/s"),
        ("latency", "latency", "ms"),
        ("accuracy", "accuracy-top1", "percents"),
    )
    results = []
    for key, metric, unit in rows:
        value = metrics[metric]["avg"]
        results.append({"key": key, "value": None if value is None else round(value, 6), "unit": unit})
    return yaml.safe_dump({"results": results}, sort_keys=False)


def results_json(
    records: Sequence[Record],
    environment: Mapping[str, Any],
    *,
    status: str,
    link: str | None,
    stream: int | None = None,
) -> dict[str, Any]:
    """Return the contents of `results.json`, or of `results_N.json` for one stream.

    Args:
        records: the records of one case, at least one.
        environment: the machine and its software.
        status: `passed` or `failed`, for the tests of the case.
        link: where the weights come from, None if that is not known.
        stream: the number of the stream, counted from 1, or None for all streams together.
    """
    case = records[0]
    accuracies = [record["data"] for record in records if record["measurement"] == "accuracy"]
    metrics: dict[str, Any] = {**_metrics(records, stream), **_counts(records, stream)}
    if stream is None:
        metrics["status"] = status
    return {
        "schema": SCHEMA,
        "config": {
            "workload": {
                "type": "inference",
                "model": {
                    "name": case["model"],
                    "link": link,
                    "streams": case.get("streams", 1) * case.get("replicas", 1),
                    "precision": _PRECISIONS.get(case["precision"], case["precision"]),
                    "batch-size": case["batch"],
                    "device": case["device"],
                    "amp": str(case["precision"].startswith("amp_")).lower(),
                    "jit": _JIT.get(case["engine"], case["engine"]),
                    "dummy": str(_inputs(records) == GENERATED).lower(),
                    "framework": f"torch {environment['libraries'].get('torch')}",
                },
            },
            "system": _system(environment),
        },
        "results": {
            "metadata": {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "tester": _tester()},
            "metrics": metrics,
            "inputs": {"speed": _inputs(records), "accuracy": accuracies[0] if accuracies else None},
        },
    }


def _system(environment: Mapping[str, Any]) -> dict[str, Any]:
    software = {"libraries": environment["libraries"], "system": environment["machine"]["system"]}
    hardware = {**environment["machine"], "devices": environment["devices"], "threads": environment["threads"]}
    if Path("/.dockerenv").exists():
        docker = {"node": environment["machine"]["node"], "variables": environment["variables"]}
        return {"docker0": {"baremetal": {"hardware": hardware}, "docker": docker, "software": software}}
    return {"baremetal0": {"software": software, "hardware": hardware}}


def _tester() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container whose user has no name
        return None


def _speeds(records: Sequence[Record], stream: int | None) -> tuple[Record | None, Record | None]:
    """Return the records that hold the throughput and the latency, None where there is none.

    They are those of the speed tests. Without one, a run over files gives both, and its latency is the mean interval
    between two batches, as the sample's in this mode.
    """
    kinds = {record["measurement"]: record for record in records}
    if (several := kinds.get("streams")) is not None:
        one = several if stream is None else several["each"][stream - 1]
        return one, one
    if "throughput" in kinds or "latency" in kinds:
        return kinds.get("throughput"), kinds.get("latency")
    found = [kinds[kind] for kind in _OF_FILES if kind in kinds]
    if not found:
        return None, None
    files = found[0]
    interval_ms = files.get("mean_batch_interval_ms")
    if interval_ms is None:
        interval_ms = 1e3 * files["batch"] / files["images_per_second"]
    return files, {**files, "mean_ms": interval_ms}


def _inputs(records: Sequence[Record]) -> str | None:
    """Return what the speed was measured on: `generated`, as the inputs of the speed tests always are, or the data."""
    found = next((record for record in _speeds(records, None) if record is not None), None)
    if found is None:
        return None
    return str(found["data"]) if found["measurement"] in _OF_FILES else GENERATED


def _metrics(records: Sequence[Record], stream: int | None) -> dict[str, dict[str, Any]]:
    """Return the four measured metrics in the sample's units, with their variation within the run."""
    rate, requests = _speeds(records, stream)
    accuracy: Record = next((record for record in records if record["measurement"] == "accuracy"), {})
    return {
        "throughput": _statistics(
            rate, "images/s", "images_per_second", *(f"{name}_images_per_second" for name in _STATISTICS[1:])
        ),
        "accuracy-top1": _alone(accuracy.get("top1", {}).get("pct"), "%"),
        "accuracy-top5": _alone(accuracy.get("top5", {}).get("pct"), "%"),
        "latency": _statistics(requests, "ms", "mean_ms", "min_ms", "max_ms", "stdev_ms"),
    }


def _statistics(record: Record | None, units: str, *keys: str) -> dict[str, Any]:
    values = [None if record is None else record.get(key) for key in keys]
    return {**dict(zip(_STATISTICS, values, strict=True)), "units": units}


def _alone(value: float | None, units: str) -> dict[str, Any]:
    """Return the metric of one number that stands for the whole set: its deviation was not measured."""
    return {"avg": value, "min": value, "max": value, "stdev": None, "units": units}


def _counts(records: Sequence[Record], stream: int | None) -> dict[str, dict[str, Any]]:
    """Return how many batches and images were really run and timed, per stream and in all."""
    kinds = {record["measurement"]: record for record in records}
    case = records[0]
    size = case["batch"]
    rate, requests = _speeds(records, stream)
    warm = [case.get("warmup_rounds", 0)]
    if "streams" in kinds:
        each, prepared = kinds["streams"]["each"], kinds["streams"]["each_prepared"]
        batches = [one["batches"] for one in (each if stream is None else [each[stream - 1]])]
        warm = [one["warmup_rounds"] for one in (prepared if stream is None else [prepared[stream - 1]])]
    elif rate is not None and rate.get("measurement") in _OF_FILES:
        passes = int(rate.get("passes") or 1)  # each ends with a batch that may be smaller
        batches = [passes * math.ceil(math.ceil(rate["images"] / passes) / size)]
    else:
        batches = [rate["batches"] if rate is not None else requests["rounds"] if requests is not None else 0]
    images = [count * size for count in batches]
    unique = max(min(count, case.get("unique_batches", 0)) for count in batches)
    unique_images = unique * size
    if rate is not None and rate.get("measurement") in _OF_FILES:  # its last batch may be smaller
        images = [rate["images"]]
        unique_images = int(rate.get("unique_images") or rate["images"])
        unique = -(-unique_images // size)
    return {
        "total-batches-tested-per-stream": _over(batches, "count"),
        "total-images-tested-per-stream": _over(images, "count"),
        "uniq-batches-tested": {"total": unique},
        "uniq-images-tested": {"total": unique_images},
        "warmup-batches": {"total": sum(warm)},
    }


def _over(values: Sequence[int], units: str) -> dict[str, Any]:
    mean = sum(values) / len(values)
    stdev = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
    return {"avg": mean, "min": min(values), "max": max(values), "stdev": stdev, "units": units}
