"""How long does training take, and does it train?"""


def test_training(training, keep):
    """A run of `visionmark train` on labelled images: to its threshold, steps or epochs, then evaluated."""
    measured, facts = training()
    keep(measured, facts)
    measured.require_training()
