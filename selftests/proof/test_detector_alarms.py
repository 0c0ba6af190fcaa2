"""Alarms that ring for detectors, in the product's own tests; and what a sound run of them records."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from harness.engines import eager
from models.tasks import Outputs
from selftests.detectors import TINY_DETECTOR
from selftests.inside import Replacing, run_here

TESTS = ("tests_perf/test_latency.py", "tests_perf/test_throughput.py", "tests_accuracy/test_parity.py")


def product_run(build, *arguments, tests=TESTS, precision="fp32", batch="4", model=TINY_DETECTOR):
    return run_here(
        *tests,
        *("--model", model, "--engine", "eager", "--precision", precision, "--batch-size", batch, "--device", "cpu"),
        *("--max-test-duration", "0.2", *arguments),
        plugin=Replacing("eager", build),
    )


def assert_rings(outcome, *words):
    assert outcome.code == 1, outcome.text
    assert "3 failed" in outcome.text
    for word in words:
        assert word in outcome.text, outcome.text
    assert "visionmark ==" not in outcome.text, "a row was printed that was not proven"


@dataclass
class Changed:
    """A true runner whose images or answers are changed."""

    runner: Any
    images: Any = staticmethod(lambda images: images)
    heads: Any = staticmethod(lambda heads: heads)

    def __getattr__(self, name):
        return getattr(self.runner, name)

    def put(self, images):
        return self.runner.put(self.images(images))

    def fetch(self, output):
        found = self.runner.fetch(output)
        heads = self.heads({name: found[name] for name in found.names})
        return Outputs(heads.keys(), heads.values())


def with_changes(**changes):
    return lambda *arguments: Changed(eager.build(*arguments), **changes)


SABOTAGES = {
    "colours swapped": (
        with_changes(images=lambda images: images.flip(1)),
        ["resembles no image's"],
    ),
    "other images": (
        with_changes(images=lambda images: images.roll(1, 0)),
        ["8 of 8 images get another image's answer"],
    ),
    "a box head of zeros": (
        with_changes(heads=lambda heads: heads | {"codes": 0 * heads["codes"]}),
        ["logits 1", "the head codes gives nothing but zeros"],
    ),
    "boxes with x and y swapped": (
        with_changes(heads=lambda heads: heads | {"codes": heads["codes"][..., [1, 0, 3, 2]]}),
        ["logits 1", "the head codes resembles no image's"],
    ),
    "rows shifted": (
        with_changes(heads=lambda heads: heads | {"logits": np.roll(heads["logits"], 1, axis=1)}),
        ["codes 1", "logits"],
    ),
    "a head that is missing": (
        with_changes(heads=lambda heads: {"logits": heads["logits"]}),
        ["head codes", "no output 'codes'; there are logits"],
    ),
}


# What the others do to the heads, `selftests/models/test_detect.py` does in no time.
QUICK = ("colours swapped", "a box head of zeros")


@pytest.mark.parametrize(
    "sabotage", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in SABOTAGES]
)
def test_a_detector_that_answers_wrong_rings(sabotage):
    build, words = SABOTAGES[sabotage]
    assert_rings(product_run(build), *words)


def test_a_sound_detector_is_measured_and_its_heads_and_objects_are_recorded(tmp_path):
    path = tmp_path / "out.json"
    tests = (*TESTS, "tests_perf/test_end_to_end.py")
    asked = ("--dummy", "--num-inputs", "8", "--max-test-duration", "60")  # so long that nothing is cut short
    outcome = product_run(eager.build, *asked, "--benchmark-json", str(path), tests=tests)
    assert outcome.code == 0, outcome.text
    assert "4 passed" in outcome.text
    rows = {one["extra_info"]["measurement"]: one["extra_info"] for one in json.loads(path.read_text())["benchmarks"]}
    for row in rows.values():
        evidence = row["evidence"]
        assert set(evidence["heads_sqnr_db"]) == {"codes", "logits"}
        assert evidence["answers_sqnr_db"] == min(evidence["heads_sqnr_db"].values()) > 80
        assert len(evidence["detections_per_image"]) == 8
        assert evidence["matched_pct"] > 99
    end_to_end = rows["end_to_end"]
    assert end_to_end["images"] == 8
    assert end_to_end["top1_pct"] is None
    assert end_to_end["answer_images_per_second"] > end_to_end["model_images_per_second"]
    assert rows["parity"]["top1_agreement_pct"] > 99


@pytest.mark.slow
def test_suppression_is_inside_the_clock_of_end_to_end(monkeypatch):
    """Decoding that fails fails the measurement, which it could not if it came after the clock or not at all."""
    from models.tasks.detect import Detect

    def fails(self, outputs, sizes=None):
        if sizes is not None:
            raise RuntimeError(f"{len(sizes)} images of {sizes[0]}")
        return decode(self, outputs)

    decode = Detect.decode
    monkeypatch.setattr(Detect, "decode", fails)
    outcome = product_run(eager.build, "--dummy", "--num-inputs", "4", tests=("tests_perf/test_end_to_end.py",))
    assert outcome.code == 1
    assert "RuntimeError: 4 images of (" in outcome.text


@pytest.mark.slow
def test_a_detector_that_lags_under_load_rings():
    class Lags(Changed):
        before = None

        def submit(self, batch):
            before, self.before = self.before, self.runner.submit(batch)
            return self.before if before is None or not self.is_examined else before

        is_examined = False

        def compilations(self):
            self.is_examined = True
            return self.runner.compilations()

    outcome = product_run(lambda *arguments: Lags(eager.build(*arguments)), tests=TESTS[:2])
    assert outcome.code == 1
    assert "is wrong: it is" in outcome.text
    assert "under load the engine drops work or overwrites outputs" in outcome.text


@pytest.mark.parametrize("alias", ["ssd-mobilenet", "faster_rcnn", "rfcn"])
def test_what_documents_call_a_detector_names_a_row(alias):
    rows = {"ssd-mobilenet": "ssd_mobilenet_v1", "faster_rcnn": "fasterrcnn_resnet50_fpn", "rfcn": "rfcn_resnet101"}
    outcome = run_here(*("--collect-only", "-q", "tests_perf/test_latency.py", "--model", alias, "--device", "cpu"))
    assert f"[{rows[alias]}-cpu-" in outcome.text, outcome.text


@pytest.mark.slow
def test_a_detector_of_two_stages_is_saved_and_loaded(tmp_path):
    """A quick neighbour is in `test_two_stage.py`."""
    arguments = (
        *TESTS[:1],
        *("--model", "fasterrcnn_fbnetv3a", "--engine", "eager", "--precision", "fp32", "--batch-size", "1"),
        *("--device", "cpu", "--max-test-duration", "0.2"),
    )
    for option in ("--save", "--load"):
        outcome = run_here(*arguments, option, str(tmp_path / "model"))
        assert outcome.code == 0, outcome.text


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_a_whole_detector_is_proven_by_boxes_that_match(scale, tmp_path):
    """A quick neighbour is `test_whole.py`."""
    path = tmp_path / "out.json"
    plugin = Replacing("eager", with_changes(heads=lambda heads: heads | {"boxes": heads["boxes"] * scale}))
    plugin.runs_whole = lambda case: None
    outcome = run_here(
        *TESTS[:1],
        *("--model", "ssdlite320_mobilenet_v3_large", "--engine", "eager", "--precision", "fp32", "--batch-size", "1"),
        *("--device", "cpu", "--max-test-duration", "0.2", "--whole-model", "--benchmark-json", str(path)),
        plugin=plugin,
    )
    if scale != 1:
        assert outcome.code == 1 and "of the objects match" in outcome.text, outcome.text
        return
    assert outcome.code == 0, outcome.text
    (row,) = (one["extra_info"] for one in json.loads(path.read_text())["benchmarks"])
    assert row["case"].endswith("-eager-whole") and row["evidence"]["matched_pct"] > 95
