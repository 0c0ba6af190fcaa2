"""How many images a second a training step takes, and how long each step."""

from harness.measure.training_step import measure_training_step


def test_training_step(step, duration, timed, keep):
    """Forward pass, backward pass and optimiser step, inputs on the device; loss and gradients proven beforehand."""
    step.require_proof()
    keep(measure_training_step(step, duration, timed), step.record())
