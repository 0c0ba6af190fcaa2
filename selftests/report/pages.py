"""Files of results for the tests of the page, with records as large as real ones."""

import json

CASE = "fbnetc_100-cpu-fp32-bs1-eager"
ENVIRONMENT = {
    "machine": {"node": "one", "system": "Linux", "memory_mib": 8192},
    "devices": {"cpu": {"name": "A processor", "cores_usable": 2}},
    "threads": {"intra_op": 2},
    "libraries": {"torch": "2.14.1", "timm": "1.0.31"},
}
EVIDENCE = {
    "engine": "eager",
    "dtype_share_pct": {"fp32": 99.5},
    "matrix_ops": 66,
    "parameter_devices": {"cpu": 197},
    "threads": {"intra_op": 2, "inter_op": 2},
    "fallbacks": {},
    "quantisation": None,
    "notes": {"layout": {"chosen": "channels_last", "why": "known to win for convolutional networks on CPUs"}},
    "answers_sqnr_db": 97.93838276826223,
}
METRIC = {"min": 1852.62890625, "max": 1910.3984375, "mean": 1877.22265625, "stdev": 16.750193960101154, "units": "MiB"}
TELEMETRY = {"samples": 12, "metrics": {f"sensor {index}": METRIC for index in range(28)}}
NUMBERS = {
    "latency": {
        "p50_ms": 13.88,
        "p50_low_ms": 13.77,
        "p50_high_ms": 14.27,
        "rounds": 138,
        "p99_ms": None,
        "p99_missing_rounds": 230,
    },
    "throughput": {
        "images_per_second": 71.05,
        "images_per_second_low": 69.4,
        "images_per_second_high": 72.7,
        "windows": 5,
    },
    "parity": {"sqnr_db": 105.2, "sqnr_floor_db": 60.0},
    "served": {"protocol": "grpc", "mode": "sync", "clients": 1, "images_per_second": 50.5, "p50_ms": 19.8},
}


def record(measurement, *, case=CASE, rounds_s=(), **changes):
    """A benchmark of pytest-benchmark's file with a record of this measurement, whose fields `changes` replace."""
    model, device, precision, batch, engine = (case.split("-") + ["cpu", "fp32", "bs1", "eager"])[:5]
    info = {
        "measurement": measurement,
        **NUMBERS.get(measurement, {}),
        "case": case,
        "model": model,
        "device": device,
        "precision": precision,
        "batch": int(batch.removeprefix("bs")) if batch.removeprefix("bs").isdigit() else 1,
        "engine": engine,
        "settings": "",
        "compile_s": 0.25,
        "peak_memory_mib": 812.5,
        "evidence": {**EVIDENCE, "engine": engine},
        "identity": {"weights": "random", "weights_sha256": "d1385082", "preprocessing": {"size": 224}},
        "telemetry": TELEMETRY,
        **changes,
    }
    return {"group": measurement, "name": case, "extra_info": info, "stats": {"data": list(rounds_s)}}


def file_of(*benchmarks, schema=3, datetime="2026-11-26T00:03:21+00:00"):
    """The content of a file of results."""
    return {
        "benchmarks": list(benchmarks),
        "datetime": datetime,
        "visionmark": {"schema": schema, "command": ["-k", "fbnetc_100"], "environment": ENVIRONMENT},
    }


def write(folder, name, content):
    """Write a file of results and return its path."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
