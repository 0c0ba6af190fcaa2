"""A prepared model saved and loaded: the same answers, and never in place of another."""

from __future__ import annotations

import json
import zipfile

import pytest

from harness.artefacts.saved_model import read_saved
from selftests.inside import TINY, run_here


def run(engine, *more, precision="fp32", batch="2"):
    return run_here(
        *("tests_perf/test_latency.py", "tests_accuracy/test_parity.py", "--model", TINY, "--device", "cpu"),
        *("--engine", engine, "--precision", precision, "--batch-size", batch, "--max-test-duration", "0.1", *more),
    )


@pytest.mark.parametrize(
    ("engine", "precision"),
    [
        ("eager", "bf16"),
        pytest.param("trace", "amp_bf16", marks=pytest.mark.slow),
        pytest.param("script", "fp32", marks=pytest.mark.slow),
        pytest.param("openvino", "fp32", marks=pytest.mark.slow),
        ("openvino", "int8"),
    ],
)
def test_a_saved_model_is_loaded_with_its_proof(engine, precision, tmp_path):
    path, out = tmp_path / "model", tmp_path / "out.json"
    saved = run(engine, f"--save={path}", precision=precision)
    assert saved.code == 0, saved.text
    loaded = run(engine, f"--load={path}", f"--benchmark-json={out}", precision=precision)
    assert loaded.code == 0, loaded.text
    assert "2 passed" in loaded.text
    rows = [bench["extra_info"] for bench in json.loads(out.read_text())["benchmarks"]]
    assert {row["evidence"]["engine"] for row in rows} == {engine}
    if engine in ("trace", "script"):
        assert rows[0]["evidence"]["notes"]["loaded"] is True


def relabel(path, **changes):
    """The same file with another label: what a file of another model looks like."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    label = {**json.loads(parts.pop("visionmark.json")), **changes}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("visionmark.json", json.dumps(label))
        for name, data in parts.items():
            archive.writestr(name, data)


def test_another_model_is_never_loaded(tmp_path):
    path = tmp_path / "model"
    assert run("eager", f"--save={path}").code == 0
    assert read_saved(path).label["engine"] == "eager"
    for arguments, words in (
        ({"precision": "bf16"}, "holds precision fp32, not bf16"),
        ({"batch": "4"}, "holds batch 2, not 4"),
        ({"batch": "2,4"}, "is of one case, and 2 are selected"),
    ):
        outcome = run("eager", f"--load={path}", **arguments)
        assert outcome.code == 4, outcome.text
        assert words in outcome.text
    assert "holds engine eager, not trace" in run("trace", f"--load={path}").text
    relabel(path, weights_sha256="0" * 64)
    other = run("eager", f"--load={path}")
    assert other.code == 1, other.text
    assert "holds weights (--weights) 000" in other.text
    relabel(path, format=0)
    assert run("eager", f"--load={path}").code == 4


@pytest.mark.slow
def test_weights_inside_are_the_files_own(tmp_path):
    """A label that lies about what is in the file is found out by the answers."""
    path, donor = tmp_path / "model", tmp_path / "donor"
    assert run("trace", f"--save={path}").code == 0
    with zipfile.ZipFile(path) as archive:
        label = json.loads(archive.read("visionmark.json"))
    outcome = run_here(
        *("tests_perf/test_latency.py", "--model", "timm:test_efficientnet_gn", "--device", "cpu", "--engine", "trace"),
        *("--precision", "fp32", "--batch-size", "2", "--max-test-duration", "0.1", f"--save={donor}"),
    )
    assert outcome.code == 0, outcome.text
    relabel(donor, **label)
    wrong = run("trace", f"--load={donor}")
    assert wrong.code == 1
    assert "resemble no image's" in wrong.text or "are permuted" in wrong.text, wrong.text


def test_what_cannot_be_saved_says_why(tmp_path):
    assert "inductor keeps what it compiled" in run("compile", f"--save={tmp_path / 'model'}").text
    assert "no such file" in run("eager", f"--load={tmp_path / 'none'}").text


@pytest.mark.slow
def test_a_file_of_an_int8_model_without_its_calibration_is_not_proven(tmp_path):
    path, cut = tmp_path / "model", tmp_path / "cut"
    assert run("openvino", f"--save={path}", precision="int8").code == 0
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(cut, "w") as copy:
        assert "calibration" in archive.namelist()
        for name in archive.namelist():
            if name != "calibration":
                copy.writestr(name, archive.read(name))
    loaded = run("openvino", f"--load={cut}", precision="int8")
    assert loaded.code == 1, loaded.text
    assert "nothing tells what was quantised" in loaded.text
