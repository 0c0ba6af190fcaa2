"""The settings of a case: words at the end of its id, and the command-line option that each stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Bytes in, normalised on the device.
U8 = "u8"

# A detector whole, with decoding and suppression inside what the engine runs.
WHOLE = "whole"
# Partial sums of convolutions and matrix products in half precision.
HALF_PARTIALS = "hp"
# `d128`: 128 batches in one submit. `io64`: 64 tiles for input and output. `split:layer1+layer3.0`: pipeline stages.
# `w4`: a bulk run by 4 workers.
_WORKERS = re.compile(r"w([1-9]\d*)")
_ITERATIONS, _IO_TILES, _SPLITS = re.compile(r"d([1-9]\d*)"), re.compile(r"io([1-9]\d*)"), re.compile(r"split:(.+)")
# Engines that replicate a model over several devices themselves, in one process and one submit.
REPLICATING_ENGINES = ("poptorch",)

# For each setting that is a whole word, the options on the command line that select it.
_WORDS = {U8: "--eight-bit-io", WHOLE: "--whole-model", HALF_PARTIALS: "--half-partial"}
_NUMBERS = ((_ITERATIONS, "--device-iterations"), (_IO_TILES, "--num-io-tiles"), (_WORKERS, "--bulk-workers"))


def option_of(word: str) -> str:
    """Return the command-line options that select a setting.

    Raises:
        ValueError: there is no such setting.
    """
    if word in _WORDS:
        return _WORDS[word]
    for pattern, option in _NUMBERS:
        if match := pattern.fullmatch(word):
            return f"{option} {match[1]}"
    if match := _SPLITS.fullmatch(word):
        return f"--pipeline-splits {match[1].replace('+', ' ')}"
    raise ValueError(f"there is no setting {word!r}")


def is_setting(word: str) -> bool:
    """Return whether there is a setting of that name."""
    try:
        option_of(word)
    except ValueError:
        return False
    return True


def device_iterations(settings: Iterable[str]) -> int:
    """Return how many batches one submit runs."""
    return _number(_ITERATIONS, settings) or 1


def bulk_workers(settings: Iterable[str]) -> int:
    """Return how many workers share out the images of a bulk run; 0 for a case that is no bulk run's."""
    return _number(_WORKERS, settings) or 0


def io_tiles(settings: Iterable[str]) -> int:
    """Return how many tiles are set apart for input and output; 0 for none."""
    return _number(_IO_TILES, settings) or 0


def pipeline_splits(settings: Iterable[str]) -> tuple[str, ...]:
    """Return the layers at which a pipeline's further stages begin; empty for one stage."""
    found = [match[1] for word in settings if (match := _SPLITS.fullmatch(word))]
    return tuple(found[0].split("+")) if found else ()


def _number(pattern: re.Pattern[str], settings: Iterable[str]) -> int | None:
    found = [int(match[1]) for word in settings if (match := pattern.fullmatch(word))]
    return found[0] if found else None
