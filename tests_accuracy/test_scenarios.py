"""Does LoadGen's accuracy mode say what test_imagenet says?"""

import pytest

from harness.measure.loadgen.scenarios import classes_by_loadgen


@pytest.mark.any_batch
@pytest.mark.parametrize("scenario", ["offline"])
def test_accuracy_through_loadgen(scenario, readable_sample, prepared, labelled_samples, direct_answers, terms, phase):
    """The class of every image, and so the top-1, through LoadGen and straight from the files."""
    prepared.require_label()
    found = classes_by_loadgen(scenario, prepared, labelled_samples, terms, phase)
    right = {index: int(top[0]) for index, top in enumerate(direct_answers.top)}
    different = {index: (right[index], found.get(index)) for index in right if right[index] != found.get(index)}
    assert not different, f"{len(different)} of {len(right)} images get another class through LoadGen: {different}"
    assert len(found) == len(readable_sample.images)
