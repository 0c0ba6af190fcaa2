"""How many labelled photographs does the model get right, and is it as good as the same weights in fp32 on the CPU?"""

import pytest

from harness.host.cores import usable_cores
from harness.measure.accuracy import measure_accuracy


@pytest.mark.any_batch
@pytest.mark.task("classify")
def test_imagenet(sample, prepared, reference, options, decoders, timed, share_done, conclude):
    """Top-1 and top-5 on the data set against their floors, and top-1 against the reference on the same images."""
    prepared.require_label()
    conclude(measure_accuracy(prepared, sample, reference, options.gate, decoders, usable_cores(), timed, share_done))
