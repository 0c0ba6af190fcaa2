"""Does each client get the model's own answer to the very image it sent?"""

import pytest

from harness.triton.mistakes import label_of
from harness.triton.photographs import compare_photographs
from harness.triton.served import ask_once


@pytest.mark.clients(8)
def test_answers(served, traffic):
    """Many different images, sent concurrently, are each answered as in process, in the order asked."""
    served.require_own_answers(ask_once(served, traffic))


def test_labels(labelled_served):
    """The server's own name for its likeliest class is the label of the model's."""
    likeliest = int(labelled_served.exported.reference[0].argmax())
    assert label_of(labelled_served) == labelled_served.exported.artefact.labels[likeliest]


def test_photographs(served, photographs, decoders, timed, phase, record_served):
    """Every photograph of the data set, or generated file, gets the class, or the heads, that it gets in process."""
    record_served(compare_photographs(served, photographs, decoders, timed, phase))
