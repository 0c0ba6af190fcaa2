"""How many images a second from the encoded file to its class."""

import pytest

from harness.host.cores import usable_cores
from harness.measure.end_to_end import measure_end_to_end

pytestmark = pytest.mark.data_mode("real")


def test_end_to_end(image_files, data_name, prepared, passes, decoders, timed, record, skips_unreadable):
    """Image files read, decoded, preprocessed as the weights were trained, and classified."""
    prepared.require_proof()
    record(
        measure_end_to_end(
            prepared, image_files, data_name, passes, decoders, usable_cores(), timed, skips_unreadable=skips_unreadable
        )
    )
