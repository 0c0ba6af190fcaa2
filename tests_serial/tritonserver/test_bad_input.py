"""Is a wrong request refused with words that tell what was wrong, and does the model go on answering?"""

import re

import pytest

from harness.triton.mistakes import MISTAKES
from harness.triton.served import ask_first


@pytest.mark.one_model
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_bad_input(served, mistake):
    """The refusal names the mistake, and the next request is answered as ever."""
    assert re.search(mistake.words, mistake.send(served), re.S)
    served.require_own_answers(ask_first(served))
