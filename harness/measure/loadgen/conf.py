"""LoadGen's own `mlperf.conf`: the official seeds and bounds of MLPerf's models, and whether a run was under them.

The library has the file compiled in. `TestSettings.FromConfig` reads it for a model and a scenario, whatever path it is
given, if the type of the file is 0. With type 1 it would read a user's file beside it, but only once in a process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The names of the scenarios here, and those that the library and the file have for them.
LIBRARY_NAMES = {
    "single_stream": "SingleStream",
    "multi_stream": "MultiStream",
    "offline": "Offline",
    "server": "Server",
}
# MLPerf's one model for the classification of images.
MLPERF_MODEL = "resnet50"
# What a row says whose run took nothing from the file.
OWN_TERMS = "visionmark"
_SEEDS = ("qsl", "sample_index", "schedule")
_COMPILED_IN = 0


class OtherTerms(RuntimeError):
    """A run that was to be under MLPerf's terms had others, by LoadGen's own log."""


@dataclass(frozen=True)
class Conf:
    """Whose part of `mlperf.conf` a run takes.

    Attributes:
        model: the name of the model in the file.
        note: for a row whose model is another one, that MLPerf has no terms for it; otherwise empty.
    """

    model: str
    note: str = ""


@dataclass(frozen=True)
class OfficialTerms:
    """What `mlperf.conf` says of a model in a scenario.

    Attributes:
        min_s: the least duration in seconds.
        min_queries: the least number of queries, or of samples in the offline scenario.
        bound_s: the latency bound of the server scenario in seconds.
        loaded: the number of samples that are held in memory.
        seeds: the seeds of the order in which samples are loaded (`qsl`) and asked for (`sample_index`), and of the
            times at which queries are sent (`schedule`).
    """

    min_s: float
    min_queries: int
    bound_s: float
    loaded: int
    seeds: Mapping[str, int]


def conf_for(model: str) -> Conf:
    """Return the terms for a model of the catalogue: those of MLPerf's model, with a note if it is another one."""
    if model.rpartition(":")[2] == MLPERF_MODEL:
        return Conf(MLPERF_MODEL)
    return Conf(MLPERF_MODEL, f"MLPerf has none for {model}")


def apply_conf(settings: Any, conf: Conf, scenario: str) -> None:
    """Read the file into LoadGen's settings.

    Raises:
        OtherTerms: the library did not read it.
    """
    code = settings.FromConfig("", conf.model, LIBRARY_NAMES[scenario], _COMPILED_IN)
    if code != 0 or not all(getattr(settings, f"{name}_rng_seed") for name in _SEEDS):
        raise OtherTerms(
            f"this LoadGen has no mlperf.conf compiled in (FromConfig returned {code}): install mlcommons-loadgen 5 "
            "or later, or leave out --mlperf"
        )


def official_terms(conf: Conf, scenario: str) -> OfficialTerms:
    """Return the terms as the library itself reads them from its file.

    Raises:
        OtherTerms: the library did not read it.
    """
    import mlperf_loadgen

    settings = mlperf_loadgen.TestSettings()
    apply_conf(settings, conf, scenario)
    return OfficialTerms(
        min_s=settings.min_duration_ms / 1e3,
        min_queries=int(settings.min_query_count),
        bound_s=settings.server_target_latency_ns / 1e9,
        loaded=int(settings.performance_sample_count_override),
        seeds={name: int(getattr(settings, f"{name}_rng_seed")) for name in _SEEDS},
    )


def seeds_of(values: Mapping[str, Any]) -> dict[str, int]:
    """Return the seeds that a run had, from the values of its detail log."""
    keys = {name: f"effective_{name}_rng_seed" for name in _SEEDS}
    return {name: int(values[key]) for name, key in keys.items() if key in values}


def require_official(values: Mapping[str, Any], conf: Conf, scenario: str) -> None:
    """Check in the values of a detail log that the run had the official seeds.

    Raises:
        OtherTerms: it had others.
    """
    seeds, official = seeds_of(values), official_terms(conf, scenario).seeds
    other = [f"{name} {seeds.get(name)}, not {seed}" for name, seed in official.items() if seeds.get(name) != seed]
    if other:
        raise OtherTerms(
            f"the run was to have the seeds of mlperf.conf for {conf.model}, but LoadGen logged {'; '.join(other)}. "
            "Leave out --mlperf for a run with seeds of its own"
        )


def describe_terms(values: Mapping[str, Any], conf: Conf | None, scenario: str) -> str:
    """Say under which terms a run was: `visionmark`, or MLPerf's with every setting in which it departed from them.

    Args:
        values: the values of the run's detail log.
        conf: whose part of `mlperf.conf` the run took, or None.
        scenario: a key of `LIBRARY_NAMES`.
    """
    if conf is None:
        return OWN_TERMS
    official = official_terms(conf, scenario)
    found = [f"mlperf {conf.model} conf", *([conf.note] if conf.note else [])]
    least_s, most_s = values["effective_min_duration_ms"] / 1e3, values["effective_max_duration_ms"] / 1e3
    queries = values["effective_min_sample_count" if scenario == "offline" else "effective_min_query_count"]
    bound_ns, loaded = values["effective_target_latency_ns"], values["effective_performance_sample_count"]
    if least_s < official.min_s:
        found.append(f"at least {least_s:g} s, not {official.min_s:g} s")
    if 0 < most_s < official.min_s:
        found.append(f"at most {most_s:g} s")
    if queries < official.min_queries:
        found.append(f"at least {queries} queries, not {official.min_queries}")
    if scenario == "server" and round(bound_ns) != round(official.bound_s * 1e9):
        found.append(f"bound {bound_ns / 1e6:g} ms, not {official.bound_s * 1e3:g} ms")
    if loaded < official.loaded:
        found.append(f"{loaded} samples in memory, not {official.loaded}")
    return "; ".join(found)
