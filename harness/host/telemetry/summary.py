"""Summarises a window's samples in its record: statistics with units, energy and throttling."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path
from typing import Any

from harness.host.telemetry import CLOCK, WALL

# A shorter window would be shorter than the update step of some counters.
LEAST_ENERGY_S = 1.0
MARGIN_S = 0.05


def summarise(file: Path, begun_s: float, ended_s: float) -> dict[str, Any]:
    """Return the record of one window.

    Args:
        file: the CSV file of its samples; `sources.json` beside it says what is missing.
        begun_s: when the window began, in seconds on the clock that all processes share.
        ended_s: when the window ended, in seconds on the same clock.
    """
    with file.open(newline="", encoding="utf-8") as opened:
        rows = [row for row in csv.DictReader(opened)]
    about = json.loads((file.parent / "sources.json").read_text(encoding="utf-8"))
    # the first sample is taken on hearing `start` and the last on hearing `stop`, a moment after the window's ends
    within = [row for row in rows if begun_s - MARGIN_S <= float(row[CLOCK]) <= ended_s + MARGIN_S]
    columns = [name for name in (within[0] if within else {}) if name not in (CLOCK, WALL)]
    series = {name: [float(row[name]) for row in within if row[name]] for name in columns}
    metrics = {
        name.partition(" (")[0]: {**_statistics(values), "units": name.partition(" (")[2].rstrip(")")}
        for name, values in series.items()
        if values and not name.endswith(("(J)", "(count)", "(flag)"))
    }
    return {
        "collector": "visionmark",
        "window_s": ended_s - begun_s,
        "interval_s": about["interval_s"],
        "samples": len(within),
        "metrics": metrics,
        "energy": _energy(within, series, ended_s - begun_s, about["missing"]),
        "throttled": _throttled(series),
        "not_measured": about["missing"],
    }


def _statistics(values: list[float]) -> dict[str, float]:
    return {
        "min": min(values),
        "max": max(values),
        "mean": statistics.fmean(values),
        "stdev": statistics.pstdev(values),
    }


def with_images(record: dict[str, Any], images: int | None) -> dict[str, Any]:
    """Return the record with the energy per image, if the record has an energy and there were images."""
    energy = record.get("energy")
    if not energy or "joules" not in energy or not images:
        return record
    return {**record, "energy": {**energy, "joules_per_image": sum(energy["joules"].values()) / images}}


def _energy(
    rows: list[dict[str, str]], series: dict[str, list[float]], window_s: float, missing: dict[str, str]
) -> dict[str, Any]:
    """Return the joules by counter, scaled from the samples' span to the window, or the reason why there are none.

    This is device energy from software counters. MLPerf's power is measured at the wall and is something else.
    """
    counters = {name: values for name, values in series.items() if name.endswith("(J)") and len(values) > 1}
    if not counters:
        why = [reason for name, reason in missing.items() if "energy" in name]
        return {"not_measured": "; ".join(why) or "no counter of energy here"}
    if window_s < LEAST_ENERGY_S:
        return {"not_measured": f"the window of {window_s:.2f} s is too short: the counters need {LEAST_ENERGY_S:g} s"}
    span_s = float(rows[-1][CLOCK]) - float(rows[0][CLOCK])
    joules = {name.partition(" (")[0]: (v[-1] - v[0]) * window_s / span_s for name, v in counters.items()}
    return {"joules": joules, "counters": "software counters of the devices named, not wall power"}


def _throttled(series: dict[str, list[float]]) -> dict[str, bool]:
    """Return for each device whether its clocks were held back in the window, empty if no sensor tells."""
    found = {}
    for name, values in series.items():
        column, _, unit = name.partition(" (")
        if column.endswith("throttled") and values:
            device = column.removesuffix(" throttled")
            found[device] = values[-1] > values[0] if unit == "count)" else any(values)
    return found
