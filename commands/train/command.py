"""`visionmark train --model NAME --data DIR …` trains, evaluates, and keeps weights, checkpoint, log and record."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from commands.train.arguments import TrainingOrder, read_order
from harness.data import UnreadableImage
from harness.files import write_whole
from harness.host.cores import allot, take
from harness.jobs.spawn import JobFailed
from harness.jobs.torchrun import Together, placements, run_together
from harness.jobs.training_line import TrainingLine
from harness.measure.training import TrainingError, alone, train
from harness.measure.training.checkpoint import NAME
from harness.proof import Contradiction
from models.tasks import WrongAnswers

RECORD = "record.json"
FAILED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str]) -> int:
    """Train.

    Returns:
        The exit status: 0; 1 if the run failed, or ended without the threshold that was asked of it; 130 if it was
        interrupted. A wrong command line ends the process with 2.
    """
    asked = read_order(arguments)
    line = TrainingLine()
    folder = Path(asked.recipe.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record = _trained(asked, line)
        if record is None:
            line.tell(f"done; the weights and the record are on the machine of replica 0, in {folder} there")
            return 0
        write_whole(folder / RECORD, json.dumps(record, indent=1) + "\n")
    except (TrainingError, Contradiction, WrongAnswers, UnreadableImage, JobFailed) as error:
        line.tell(f"visionmark train: {error}")
        return FAILED
    except OSError as error:
        line.tell(f"visionmark train: {folder}: {error.strerror or error}")
        return FAILED
    except KeyboardInterrupt:
        is_there = (folder / NAME).exists()
        how = "--resume goes on from the checkpoint" if is_there else "there is no checkpoint yet"
        line.tell(f"visionmark train: interrupted; {how} in {folder}")
        return INTERRUPTED
    print(describe(record, folder))
    return 0 if record["stop_threshold"] is None or record["is_reached"] else FAILED


def _trained(asked: TrainingOrder, line: TrainingLine) -> dict[str, Any] | None:
    if asked.replicas * asked.nodes > 1:
        together = Together(asked.replicas, asked.nodes, asked.rendezvous, asked.max_restarts)
        work = {"recipe": asked.recipe.as_dict(), "resumes": asked.resumes}
        places = placements(allot().cores, asked.replicas, asked.threads)
        return run_together("harness.jobs.training_rank", work, together, places)
    take(allot(threads=asked.threads))
    return train(asked.recipe, asked.spec, alone(), line.show, line.tell, resumes=asked.resumes)


def describe(record: dict[str, Any], folder: Path) -> str:
    """Return what a user wants to know of a run, a line each."""
    lines = [
        f"{record['case']}: {record['steps']} steps of {record['global_batch']} images, loss "
        f"{record['first_losses_mean']:.4f} (first 4) to {record['last_losses_mean']:.4f} (last 4)"
    ]
    if record["images_per_second"] is not None:
        lines.append(f"{record['images_per_second']:.2f} images/s from files, {record['wall_s']:.1f} s")
    if record["replicas"] > 1:
        lines.append(
            f"{record['replicas']} replicas: {record['scaling']:.2f} times one of them, "
            f"{record['communication_pct']:.0f}% of a step is averaging, "
            f"gradients {record['gradient_agreement']:.1e} from their mean"
        )
    before = [one for one in record["evaluations"] if one["step"] == 0]
    if before:
        lines.append(f"top-1 before: {_right(before[0])}")
    if record.get("evaluation"):
        lines.append(f"top-1 after: {_right(record['evaluation'])}, on {record['evaluated_on']}")
    if record["stop_threshold"] is not None:
        reached = f"reached after {record['time_to_threshold_s']:.1f} s" if record["is_reached"] else "not reached"
        lines.append(f"threshold {record['stop_threshold']:g}: {reached}")
    return "\n".join([*lines, f"weights, checkpoint, curve, MLPerf log and record are in {folder}"])


def _right(found: dict[str, Any]) -> str:
    share = f"{found['top1_pct']:.2f}% ({found['top1_low_pct']:.2f} to {found['top1_high_pct']:.2f})"
    return f"{share}, {found['right']} of {found['images']}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
