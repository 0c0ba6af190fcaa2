"""Detectors of two stages: two networks on one engine, and what is between them; what denies their label."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.artefacts import Calibration, default_artefacts
from harness.cases import Case
from harness.devices import open_device
from harness.engines import Evidence, Fed, build, engine_names, load, open_engine, save, unsupported
from harness.engines.evidence import Quantisation
from harness.engines.staged_evidence import merged
from harness.engines.two_stage import build_two_stage, region_calibration, regions_of
from harness.proof.answers import check_answers, in_common, judged, own_answers
from harness.proof.contradictions import contradictions
from harness.proof.reference import reference_outputs
from models.catalog import load_catalog
from models.detectors.two_stage import extents, filled
from models.tasks import Outputs, WrongAnswers, task_of
from selftests.detectors import COUNT, small_images, small_two_stage

SPEC = load_catalog()["fasterrcnn_fbnetv3a"]
TASK = task_of(SPEC)
CPU = open_device("cpu")
QUICK = ("eager", "trace", "script", "onnxruntime", "openvino")
IMAGES = 4


@pytest.fixture(scope="module")
def images():
    return small_images(IMAGES)


@pytest.fixture(scope="module")
def reference(images):
    return reference_outputs(small_two_stage(), images)


def case_of(engine, precision="fp32", batch=2):
    return Case("fasterrcnn_fbnetv3a", "cpu", precision, batch, engine)


def fed_answers(runner, images, reference, batch=2):
    batches = [runner.put(chunk) for chunk in images.split(batch)]
    return own_answers(runner, judged(runner, batches, reference, batch))


@pytest.mark.parametrize("engine", [name for name in engine_names() if name in QUICK])
def test_both_networks_answer_as_the_reference_where_it_looked(engine, images, reference):
    case = case_of(engine)
    if reason := unsupported(case, CPU):
        pytest.skip(reason)
    runner = build(small_two_stage(), images[:2], case, CPU, default_artefacts(SPEC))
    assert isinstance(runner, Fed)
    agreement = check_answers(TASK, case, fed_answers(runner, images, reference), reference)
    assert set(agreement.heads_sqnr_db) == {"objectness", "anchor_codes", "logits", "codes"}
    assert agreement.sqnr_db > 80
    evidence = runner.evidence(runner.put(images[:2]))
    assert contradictions(case, CPU, evidence) == []
    assert set(evidence.notes["stages_ms"]) == {"features", "between", "heads"}
    assert min(evidence.notes["stages_ms"].values()) > 0
    runner.close()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_both_networks_are_quantised_and_what_is_between_is_not(engine, images, reference):
    case = case_of(engine, "int8")
    if reason := unsupported(case, CPU):
        pytest.skip(reason)
    calibration = Calibration("generated", 8, 1, "0" * 64, lambda: small_images(8, seed=1))
    artefacts = replace(default_artefacts(SPEC), calibration=lambda: calibration)
    runner = build(small_two_stage(), images[:2], case, CPU, artefacts)
    agreement = check_answers(TASK, case, fed_answers(runner, images, reference), reference)
    evidence = runner.evidence(runner.put(images[:2]))
    assert evidence.quantisation.operators > 50
    assert agreement.sqnr_db > 4
    runner.close()


@pytest.mark.parametrize("engine", ["eager", "trace", "openvino"])
def test_both_networks_are_saved_and_loaded(engine, images, reference):
    case = case_of(engine)
    if reason := unsupported(case, CPU):
        pytest.skip(reason)
    runner = build(small_two_stage(), images[:2], case, CPU, default_artefacts(SPEC))
    files = save(engine, runner)
    wanted = fed_answers(runner, images, reference)
    runner.close()
    assert {name.partition("/")[0] for name in files} == {"features", "heads"}
    loaded = load(files, small_two_stage(), case, CPU)
    for one, other in zip(wanted, fed_answers(loaded, images, reference), strict=True):
        for name in one.names:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-4)
    assert contradictions(case, CPU, loaded.evidence(loaded.put(images[:2]))) == []
    loaded.close()
    swapped = {{"features": "heads", "heads": "features"}[name.partition("/")[0]] + "/" + name.partition("/")[2]: one
               for name, one in files.items()}  # fmt: skip
    with pytest.raises((RuntimeError, ValueError)):
        fed_answers(load(swapped, small_two_stage(), case, CPU), images, reference)


def eager(module, images):
    return build(module, images[:2], case_of("eager"), CPU, default_artefacts(SPEC))


def test_heads_of_another_detector_are_found_out_though_the_features_are_right(images, reference):
    module = small_two_stage()
    module.heads = small_two_stage(seed=1).heads
    runner = eager(module, images)
    with pytest.raises(WrongAnswers, match=r"objectness 1\d\d\.\d dB.*the head (logits|codes)"):
        check_answers(TASK, case_of("eager"), fed_answers(runner, images, reference), reference)


def test_a_map_that_is_not_the_features_is_found_out_though_all_they_answer_is_right(images, reference):
    """What the first network answers says nothing of the map that it hands over; the answers of the second one do."""
    module = small_two_stage()

    class OtherMap(torch.nn.Module):
        output_names = module.features.output_names

        def __init__(self, features):
            super().__init__()
            self.features = features

        def forward(self, images):
            objectness, codes, maps = self.features(images)
            return objectness, codes, maps.flip(1)

    module.features = OtherMap(module.features)
    runner = eager(module, images)
    with pytest.raises(WrongAnswers, match=r"objectness 1\d\d\.\d dB.*the head (logits|codes)"):
        check_answers(TASK, case_of("eager"), fed_answers(runner, images, reference), reference)


def test_a_network_that_looks_elsewhere_cannot_be_compared_row_by_row_and_is_fed(images, reference):
    """One proposal dropped from the front: every row that follows is another one."""
    runner = eager(small_two_stage(), images)
    batch = runner.put(images[:2])
    places = reference["proposals"][:2]
    moved = Outputs(("proposals",), (np.roll(places, 1, axis=1),))
    rolled = runner.fetch(runner.submit(runner.fed(batch, moved))).copy()
    agreement = TASK.compare(reference.first(2), rolled)
    assert agreement.heads_sqnr_db["logits"] < 4 < 80 < agreement.heads_sqnr_db["objectness"]
    own = runner.fetch(runner.submit(batch)).copy()
    np.testing.assert_allclose(own["proposals"], places, atol=1e-3)
    fed = runner.fetch(runner.submit(runner.fed(batch, Outputs(("proposals",), (places,)))))
    assert TASK.compare(reference.first(2), fed).sqnr_db > 80


def test_a_batch_without_a_reference_of_its_own_is_fed_with_another_ones(images, reference):
    runner = eager(small_two_stage(), images)
    batches = [runner.put(chunk) for chunk in torch.cat([images, images]).split(2)]
    fed = judged(runner, batches, reference.first(3), 2)
    assert torch.equal(fed[2].proposals, torch.from_numpy(reference["proposals"][[1, 2]]))
    compared, found = in_common(reference.first(3), own_answers(runner, fed))
    assert len(compared) == len(found) == 3


def test_what_is_proposed_is_counted_and_nothing_proposed_is_no_measurement(reference):
    assert TASK.findings(reference, reference)["proposals_per_image"] == [COUNT] * IMAGES
    heads = {name: reference[name] for name in reference.names}
    heads["proposals"] = np.zeros_like(heads["proposals"])
    nothing = Outputs(heads.keys(), heads.values())
    with pytest.raises(WrongAnswers, match="no object is found|nothing is proposed"):
        TASK.findings(reference, nothing)


def test_boxes_without_an_area_fill_up_the_number_and_find_nothing(reference):
    boxes = torch.tensor([[0.0, 0, 4, 4], [1, 1, 2, 2]])
    assert filled(boxes, 3).tolist() == [*boxes.tolist(), [0, 0, 0, 0]]
    assert filled(boxes, 1).tolist() == boxes[:1].tolist()
    heads = {name: reference[name].copy() for name in reference.names}
    heads["proposals"][:, 1:] = 0
    heads["logits"][:, :, -1] = -100
    one = {len(found) for found in TASK.decode(Outputs(heads.keys(), heads.values()))}
    assert max(one) <= 80, "one box for each class of the one proposal"


def test_how_much_of_the_input_an_image_takes_is_read_off_its_zeros():
    images = torch.zeros(2, 3, 6, 8)
    images[0, :, :4, :5] = -1.5
    images[1, 1] = 0.25
    assert extents(images).tolist() == [[4, 5], [6, 8]]


def test_regions_to_calibrate_on_are_those_of_the_calibration_images_and_of_these_weights():
    calibration = Calibration("generated", 3, 1, "0" * 64, lambda: small_images(3, seed=1))
    module = small_two_stage()
    regions = region_calibration(module, calibration)
    assert regions.sha256 != calibration.sha256
    assert regions.sha256 == region_calibration(small_two_stage(), calibration).sha256
    assert regions.sha256 != region_calibration(small_two_stage(seed=1), calibration).sha256
    assert torch.equal(regions.load(), regions_of(module, small_images(3, seed=1)))


class Built:
    """A runner of which only whether it is closed matters."""

    is_closed = False

    def close(self):
        self.is_closed = True


def test_a_first_network_that_cannot_be_built_leaves_no_second_one_open(images):
    made = []

    def fails(module, *rest):
        if made:
            raise RuntimeError("no kernel")
        made.append(Built())
        return made[0]

    with pytest.raises(RuntimeError, match="no kernel"):
        build_two_stage(fails, small_two_stage(), images[:2], case_of("eager"), CPU, default_artefacts(SPEC))
    assert made[0].is_closed


def evidence_of(**more):
    return Evidence(
        **{
            "engine": "eager",
            "dtype_share_pct": {"bf16": 100.0},
            "matrix_ops": 4,
            "clock": "operator",
            "parameter_devices": {"cpu": 3},
            "parameter_dtypes": {"bfloat16": 3},
            "short_formats": {},
            "fpmath_mode": None,
            "memory_format": "channels_last",
            "threads": {},
            **more,
        }
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"dtype_share_pct": {"fp32": 99.0, "bf16": 1.0}}, "convolution and matrix time was 99.0% fp32"),
        (
            {"engine": "a graph that dynamo captured"},
            "eager for the features, a graph that dynamo captured for the heads",
        ),
        ({"matrix_ops": 0}, "no convolution or matrix product at all"),
        ({"parameter_devices": {"cuda:0": 1}}, "1 on cuda:0"),
        ({"fallbacks": {"Conv on CPU": 1}}, "nodes fell back"),
        ({"denials": ("ran on the host",)}, ": ran on the host"),
        ({"threads": {"asked": 2, "intra_op": 7}}, "7 (intra_op)"),
    ],
)
@pytest.mark.parametrize("is_second", [True, False])
def test_either_network_can_deny_the_label(more, words, is_second):
    pair = [evidence_of(), evidence_of(**more)]
    both = merged(*(pair if is_second else pair[::-1]), "bf16", {})
    told = "; ".join(contradictions(case_of("eager", "bf16"), CPU, both))
    if not is_second:
        words = words.replace(
            "eager for the features, a graph that dynamo captured for the heads", "a graph that dynamo"
        )
    assert words in told


def test_both_networks_have_to_be_quantised():
    some, none = Quantisation(9, ("stem",), {"source": "generated"}), Quantisation(0, (), {"source": "generated"})
    case = case_of("eager", "int8")
    pair = [evidence_of(quantisation=one, dtype_share_pct={"int8": 100.0}) for one in (some, none)]
    assert "quantised nothing" in "; ".join(contradictions(case, CPU, merged(*pair, "int8", {})))
    both = merged(pair[0], pair[0], "int8", {})
    assert both.quantisation.operators == 18
    assert contradictions(case, CPU, both) == []
    missing = merged(pair[0], evidence_of(dtype_share_pct={"int8": 100.0}), "int8", {})
    assert "nothing tells what was quantised" in "; ".join(contradictions(case, CPU, missing))


def test_compiled_graphs_of_one_network_outlive_the_building_and_closing_of_another(monkeypatch):
    """Compiling forgets what was compiled before; of a detector, both networks are compiled and open at once."""
    engine = open_engine("compile")
    forgotten = []
    monkeypatch.setattr(engine, "forget_graphs", lambda: forgotten.append(1))
    first, second = engine._Opened(), engine._Opened()
    engine._OPEN.add(first)
    engine._OPEN.add(second)
    engine._closed(second)
    assert forgotten == []
    engine._closed(first)
    assert forgotten == [1]
