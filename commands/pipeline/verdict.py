"""The task `verdict`: fails where the measured run failed, once its numbers are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from commands.pipeline.asked import WrongParameter
from commands.pipeline.summary import markdown


def verdict(arguments: Sequence[str]) -> int:
    """Print the numbers and return 0 if the run passed, else 1.

    Args:
        arguments: the exit status of the run, and the file of its results.

    Raises:
        WrongParameter: the file holds no results, or they are of another exit status.
    """
    if len(arguments) != 2:
        raise WrongParameter("give the exit code of the run and the file of its results")
    text, name = arguments
    try:
        kept = json.loads(Path(name).read_text(encoding="utf-8"))
        records, status = kept["records"], kept["exit_code"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WrongParameter(f"{name}: no results of a run ({type(error).__name__}: {error})") from None
    if text != str(status) or not records:
        raise WrongParameter(f"{name} has {len(records)} rows and the exit code {status}, and the task said {text}")
    print(markdown(records, status), flush=True)
    return 0 if status == 0 else 1
