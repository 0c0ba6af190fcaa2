"""Summarises a window's samples in its record: statistics with units, energy and throttling."""

from __future__ import annotations

import csv
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.host.telemetry import CLOCK, WALL
from harness.host.telemetry.own import OwnDevice, sampled_names

# A shorter window would be shorter than the update step of some counters.
LEAST_ENERGY_S = 1.0
# The last sample is taken on hearing `stop`, at most this many seconds after the window's end.
MARGIN_S = 0.05
# The values of a column with their times in seconds.
Series = dict[str, list[tuple[float, float]]]


def summarise(
    file: Path,
    begun_s: float,
    ended_s: float,
    devices: Sequence[OwnDevice] = (),
    variables: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """Return the record of one window.

    Args:
        file: the CSV file of its samples; `sources.json` beside it says what was sampled and what is missing.
        begun_s: when the window began, in seconds on the clock that all processes share.
        ended_s: when the window ended, in seconds on the same clock.
        devices: the devices of the case, whose energy and throttling are given; empty for all of the machine.
        variables: the environment of the process that runs the case.
    """
    with file.open(newline="", encoding="utf-8") as opened:
        rows = [row for row in csv.DictReader(opened)]
    about = json.loads((file.parent / "sources.json").read_text(encoding="utf-8"))
    within = [row for row in rows if begun_s <= float(row[CLOCK]) <= ended_s + MARGIN_S]
    columns = [name for name in (within[0] if within else {}) if name not in (CLOCK, WALL)]
    series = {name: [(float(row[CLOCK]), float(row[name])) for row in within if row[name]] for name in columns}
    metrics = {
        name.partition(" (")[0]: {
            **_statistics([value for _, value in values]),
            "units": name.partition(" (")[2].rstrip(")"),
        }
        for name, values in series.items()
        if values and not name.endswith(("(J)", "(count)", "(flag)"))
    }
    sampled: dict[str, str] = about.get("devices", {})
    own, unknown = sampled_names(devices, sampled, variables)
    missing = {**about["missing"], **unknown}
    if not devices:
        own = frozenset(map(_device, columns))
    energy: dict[str, Any] = {"not_measured": "; ".join(unknown.values())}
    if not unknown:
        energy = _energy(series, own if devices else None, ended_s - begun_s, missing)
    if "joules" in energy:
        energy["devices"] = {_device(name): sampled.get(_device(name), "") for name in energy["joules"]}
    return {
        "collector": "visionmark",
        "window_s": ended_s - begun_s,
        "interval_s": about["interval_s"],
        "samples": len(within),
        "metrics": metrics,
        "energy": energy,
        "throttled": {device: held for device, held in _throttled(series).items() if device in own},
        "not_measured": missing,
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


def _device(column: str) -> str:
    """Return the device that a column is of. The counter of the whole board stands for the processor's."""
    word = column.partition(" ")[0]
    return "cpu" if word == "psys" else word


def _energy(series: Series, own: frozenset[str] | None, window_s: float, missing: Mapping[str, str]) -> dict[str, Any]:
    """Return the joules by counter, scaled from the samples' span to the window, or the reason why there are none.

    If one of the devices of the case has no counter, there is no energy: the sum of the others would not be the whole.
    This is device energy from software counters. MLPerf's power is measured at the wall and is something else.

    Args:
        series: the values of each column.
        own: the devices of the case, None for all of the machine.
        window_s: the length of the window in seconds.
        missing: what could not be measured, and why.
    """
    counters = {
        name.partition(" (")[0]: values
        for name, values in series.items()
        if name.endswith("(J)") and len(values) > 1 and (own is None or _device(name) in own)
    }
    counters = {name: values for name, values in counters.items() if name not in missing}
    without = sorted((own or frozenset()) - {_device(name) for name in counters})
    if without or not counters:
        why = [reason for name, reason in missing.items() if "energy" in name and (own is None or _device(name) in own)]
        return {
            "not_measured": "; ".join(why) or f"no counter of energy here{' of ' * bool(without)}{', '.join(without)}"
        }
    if window_s < LEAST_ENERGY_S:
        return {"not_measured": f"the window of {window_s:.2f} s is too short: the counters need {LEAST_ENERGY_S:g} s"}
    joules = {}
    for name, values in counters.items():
        (first_s, first), (last_s, last) = values[0], values[-1]
        joules[name] = (last - first) * window_s / (last_s - first_s)
    return {"joules": joules, "counters": "software counters of the devices named, not wall power"}


def _throttled(series: Series) -> dict[str, bool]:
    """Return for each device whether its clocks were held back in the window, empty if no sensor tells."""
    found = {}
    for name, timed in series.items():
        column, _, unit = name.partition(" (")
        values = [value for _, value in timed]
        if column.endswith("throttled") and values:
            device = column.removesuffix(" throttled")
            found[device] = values[-1] > values[0] if unit == "count)" else any(values)
    return found
