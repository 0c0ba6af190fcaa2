"""Answers of a classifier in the self-tests: as plain arrays of logits, and back."""

from __future__ import annotations

from harness.proof.reference import reference_outputs
from models.tasks import Outputs


def as_outputs(logits):
    """What a runner's `fetch` gives of such logits."""
    return Outputs(("logits",), (logits,))


def reference_logits(module, images):
    """The reference's logits [n, classes]."""
    return reference_outputs(module, images)["logits"]


def run_logits(runner, images, batch):
    """The runner's logits of the images, in batches."""
    return Outputs.join([runner.fetch(runner.submit(runner.put(chunk))).copy() for chunk in images.split(batch)])[
        "logits"
    ]
