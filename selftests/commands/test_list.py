"""`visionmark list`: every cell of the matrix runs or has a reason, which is the one that collection gives."""

from __future__ import annotations

import json

import pytest

from commands.__main__ import main
from commands.list import cells_of, render
from harness.cases import PRECISIONS
from harness.engines import engine_names
from models.catalog import Gap, load_catalog
from selftests.inside import run_here


def listed(capsys, *arguments):
    assert main(["list", "--device", "cpu", *arguments]) == 0
    return capsys.readouterr().out


def test_each_declared_gap_is_listed_with_its_reason(capsys):
    catalog = load_catalog()
    text = listed(capsys)
    gaps = [gap for spec in catalog.values() for gap in spec.gaps if gap.device in (None, "cpu")]
    assert gaps
    for gap in gaps:
        assert f"{gap.kind}: {gap.reason}" in text


def test_each_cell_that_does_not_run_says_why(capsys):
    cells = json.loads(listed(capsys, "--json"))["cells"]
    assert len(cells) == len(load_catalog()) * len(engine_names()) * len(PRECISIONS)
    assert all(cell["runs"] == (not cell["reason"]) == (not cell["kind"]) for cell in cells)
    assert {cell["runs"] for cell in cells} == {True, False}


def test_a_gap_of_another_kind_is_told_as_that():
    spec = load_catalog()["resnet50"]
    gaps = (Gap("notyet", "planted", engine="trace"), Gap("never", "of no use", engine="script"))
    specs = {"resnet50": spec, "other": type(spec)(**{**vars(spec), "name": "other", "gaps": gaps})}
    cells = list(cells_of(specs, ["cpu"], ["eager", "trace", "script"], ["fp32"]))
    assert [(cell.model, cell.engine, cell.kind) for cell in cells if not cell.runs] == [
        ("other", "trace", "notyet"),
        ("other", "script", "never"),
    ]
    text = render(cells)
    assert "a (1): notyet: planted" in text
    assert "b (1): never: of no use" in text
    assert "4 of 6 run" in text


def test_the_reasons_are_those_of_collection(capsys, tmp_path):
    """What pytest would skip or expect to fail is what is listed, with the same words."""
    axes = ("--model", "ssd_mobilenet_v1,resnet18", "--precision", "all")
    cells = json.loads(listed(capsys, *axes, "--json"))["cells"]
    path = tmp_path / "cases.json"
    outcome = run_here(
        *("tests_perf/test_latency.py", *axes, "--engine", "all", "--batch-size", "1", "--device", "cpu"),
        *("--collect-only", "-q", "-p", "fixtures.one_case"),
        variables={"VISIONMARK_CASES_FILE": str(path)},
    )
    assert outcome.code == 0, outcome.text
    found = {
        (one["parts"]["model"], one["parts"]["engine"], one["parts"]["precision"]): one["never"] or one["gap"]
        for one in json.loads(path.read_text())["tests"]
    }
    told = {
        (cell["model"], cell["engine"], cell["precision"]): None
        if cell["runs"]
        else (cell["reason"] if cell["kind"] == "unsupported" else f"{cell['kind']}: {cell['reason']}")
        for cell in cells
    }
    assert told == found
    assert {reason is None for reason in told.values()} == {True, False}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "resnet5O"], "no model 'resnet5O' in the catalogue (did you mean"),
        (["--engine", "egaer"], "--engine 'egaer' is none of eager,"),
        (["--precision", "fp8"], "--precision 'fp8' is none of fp32,"),
        (["--device", "ipu"], "no ipu device ("),
        (["--device", "tpu"], "no device 'tpu'"),
    ],
)
def test_what_is_named_and_is_not_there_is_a_usage_error(capsys, arguments, words):
    assert main(["list", *arguments]) == 4
    assert words in capsys.readouterr().err
