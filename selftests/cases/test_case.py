"""The case and its id, which can be read back."""

from dataclasses import replace

import pytest

from harness.cases import PRECISIONS, Case, Grid
from harness.cases.case import NoCase
from harness.devices import device_names
from harness.engines import engine_names
from models.catalog import load_catalog

PLAIN = Case("fbnetc_100", "cpu", "bf16", 32, "compile")


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (PLAIN, "fbnetc_100-cpu-bf16-bs32-compile"),
        (replace(PLAIN, device="cuda:1", streams=4), "fbnetc_100-cuda:1-bf16-bs32-compile-x4"),
        (replace(PLAIN, streams=2, replicas=2), "fbnetc_100-cpu-bf16-bs32-compile-x2-r2"),
        (replace(PLAIN, settings=("u8", "d128")), "fbnetc_100-cpu-bf16-bs32-compile-d128-u8"),
        (replace(PLAIN, replicas=3, settings=("u8",)), "fbnetc_100-cpu-bf16-bs32-compile-r3-u8"),
        (Case("timm:vit_base_patch16_clip_224.openai", "xpu", "amp_fp16", 1, "onnxruntime"), None),
        (Case("timm:odd-cpu-fp32-bs1-eager", "cpu", "int8", 8, "openvino"), None),
    ],
)
def test_an_id_is_read_back_as_its_case(case, text):
    assert text is None or str(case) == text
    assert Case.parse(str(case)) == case


def test_every_cell_of_the_whole_matrix_is_read_back():
    axes = tuple(load_catalog()), device_names(), tuple(PRECISIONS), (1, 128), engine_names()
    grid = Grid(*axes, streams=(1, 2), replicas=(1, 2))
    cases = list(grid.cases())
    assert len(cases) > 5000
    assert all(Case.parse(str(case)) == case for case in cases)
    assert len({str(case) for case in cases}) == len(cases)


def test_settings_are_sorted_and_each_counts_once():
    made = replace(PLAIN, settings=("u8", "d128", "u8"))
    assert made.settings == ("d128", "u8")
    assert made == replace(PLAIN, settings=("d128", "u8"))
    assert made != PLAIN
    assert made.flat()["settings"] == "d128 u8"


@pytest.mark.parametrize("word", ["x4", "r2", "U8", "8bit", "two words", "a-b", ""])
def test_a_setting_that_could_not_be_read_back_is_refused(word):
    with pytest.raises(NoCase, match="cannot be a setting"):
        replace(PLAIN, settings=(word,))


@pytest.mark.parametrize(
    "text",
    ["", "fbnetc_100", "m-cpu-fp32-bs0-eager", "m-cpu-fp99-bs1-eager", "m-cpu-fp32-bs1", "m-cpu-fp32-bs1-eager-"],
)
def test_what_is_no_id_is_refused(text):
    with pytest.raises(NoCase, match="is no case"):
        Case.parse(text)


@pytest.mark.parametrize("settings", [(), ("u8",)])
@pytest.mark.parametrize("model", ["cpu", "m-x2"])
def test_the_reference_is_fp32_on_the_cpu_eager_whatever_the_batch(model, settings):
    assert Case(model, "cpu", "fp32", 7, "eager", settings=settings).is_reference is (settings == ())
    for other in ({"device": "cuda"}, {"precision": "bf16"}, {"engine": "trace"}):
        assert not replace(Case(model, "cpu", "fp32", 7, "eager"), **other).is_reference
