"""Does each client get the model's own answer to the very image it sent?"""

import pytest

from harness.triton.measure import ask_once


@pytest.mark.clients(8)
def test_answers(served, traffic):
    """Many different images, sent concurrently, are each answered as in process, in the order asked."""
    served.require_own_answers(ask_once(served, traffic))
