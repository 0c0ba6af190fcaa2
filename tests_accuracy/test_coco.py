"""How well do the objects that a detector finds match those in annotated images, beside the same weights in fp32?"""

import pytest

from harness.host.cores import usable_cores
from harness.measure.detection import measure_objects


@pytest.mark.any_batch(8)
@pytest.mark.task("detect")
def test_coco(annotated, prepared, reference_found, options, decoders, timed, share_done, phase_done, conclude_objects):
    """COCO's AP and AP50 against their floors, and AP against the reference on the same images."""
    prepared.require_label()
    clock, gate, cores = timed, options.gate, usable_cores()
    conclude_objects(
        measure_objects(prepared, annotated, reference_found, gate, decoders, cores, clock, share_done, phase_done)
    )
