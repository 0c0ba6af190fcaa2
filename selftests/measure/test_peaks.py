"""The peaks of a machine: each proven to be of its format, and kept for exactly the machine that they are of."""

import json
import sys
from dataclasses import replace
from itertools import count

import pytest
import torch

from harness.artefacts import ArtefactCache
from harness.devices import open_device
from harness.engines import _ENGINES
from harness.host import cores
from harness.measure.peaks import measuring
from harness.measure.peaks.kept import Peaks, digest_of, file_of, identity_of, keep_peaks, kept_peaks
from harness.measure.peaks.measuring import Refused, Rounds, measure_copies, measure_peaks, measure_probe
from harness.measure.peaks.probes import DEPTH, LADDERS, Probe, climbing
from models.work import work_of
from selftests.measure.test_bounds import PEAKS

TINY_PROBES = (Probe("conv3x3", 16, 4, 2), Probe("conv1x1", 16, 4, 2), Probe("product", 32, 1, 4))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Short rounds and no waiting for a steady or a quiet machine: these tests judge no time."""
    monkeypatch.setattr(measuring, "LEAST_S", 0.0)
    monkeypatch.setattr(measuring, "shares_of", lambda before, after: {"runqueue_wait_pct": 1.0})
    monkeypatch.setattr(measuring, "warm_up", lambda runner, batches: [1.0] * 6)


@pytest.mark.parametrize("probe", [*TINY_PROBES, *(probe for ladder in LADDERS for probe in ladder)], ids=str)
def test_a_probe_computes_what_it_says(probe):
    with torch.device("meta"):
        counted = work_of(probe.module(), torch.empty(probe.batch, probe.channels, probe.side, probe.side))
    assert counted.flops == probe.flops and len(counted.layers) == DEPTH


def test_a_ladder_goes_from_small_to_large_and_has_convolutions_of_batch_32():
    for ladder in LADDERS:
        assert [probe.flops for probe in ladder] == sorted(probe.flops for probe in ladder)
    assert any(probe.batch == 32 for ladder in LADDERS for probe in ladder if probe.kind == "conv3x3")


def test_a_slow_machine_ends_before_what_would_take_long():
    ladder, rates = LADDERS[0], {}
    seen = []
    for probe in climbing(ladder, 0.4, rates):
        seen.append(probe)
        rates[probe] = 1e11
    assert seen == [probe for probe in ladder if probe.flops / 1e11 <= 0.4 or probe == ladder[0]]
    assert 1 <= len(seen) < len(ladder)


@pytest.mark.parametrize("probe", TINY_PROBES, ids=lambda probe: probe.kind)
def test_a_peak_has_the_evidence_of_its_format(probe, tmp_path):
    found = measure_probe(open_device("cpu"), "fp32", "eager", probe, tmp_path, fake_clock(0.5))
    assert found.denial() is None and found.evidence["dtype_share_pct"] == {"fp32": 100.0}
    assert found.evidence["matrix_ops"] == DEPTH
    assert found.tflops == pytest.approx(probe.flops / 0.5 / 1e12)
    assert (found.rounds, found.warmup_rounds, found.warmup_steady) == (measuring.LEAST_ROUNDS, 6, True)


def fake_clock(step_s):
    ticks = count()
    return lambda: next(ticks) * step_s


def test_a_probe_that_computes_in_another_format_is_no_peak(tmp_path, monkeypatch):
    """The sabotage: an engine that is asked for bf16 and computes in fp32."""
    if reason := open_device("cpu").supports("bf16"):
        pytest.skip(reason)
    eager = _ENGINES["eager"]

    class Lying:
        supports = staticmethod(eager.supports)

        @staticmethod
        def build(module, example, case, device, artefacts):
            return eager.build(module, example, replace(case, precision="fp32"), device, artefacts)

    monkeypatch.setitem(_ENGINES, "eager", Lying)
    found = measure_probe(open_device("cpu"), "bf16", "eager", TINY_PROBES[0], tmp_path)
    assert isinstance(found, Refused) and "label says bf16" in found.reason and "fp32" in found.reason
    peaks = measure_peaks(open_device("cpu"), ["bf16"], ["eager"], ladders=[TINY_PROBES[:1]], footprints_mib=())
    assert peaks.peaks == {} and "label says bf16" in peaks.tried[0]["reason"]


def test_an_engine_that_leaves_layers_out_is_no_peak(tmp_path, monkeypatch):
    """The sabotage: four layers are asked for, and one is run."""
    monkeypatch.setattr(Probe, "module", lambda probe: torch.nn.Conv2d(16, 16, 3, padding=1).eval())
    found = measure_probe(open_device("cpu"), "fp32", "eager", TINY_PROBES[0], tmp_path)
    assert isinstance(found, Refused) and "1 convolutions or products ran, not 4" in found.reason


def test_the_highest_rate_is_the_peak_and_all_that_was_tried_is_kept(monkeypatch):
    rates = {"conv3x3": 2.0, "conv1x1": 3.0, "product": 1.0}

    def measured(device, precision, engine, probe, folder):
        assert isinstance(ArtefactCache(folder), ArtefactCache)
        return replace(PEAKS.peaks["fp32"], tflops=rates[probe.kind], probe=probe.kind)

    monkeypatch.setattr(measuring, "measure_probe", measured)
    ladders = [(probe,) for probe in TINY_PROBES]
    found = measure_peaks(open_device("cpu"), ["fp32"], ["eager"], ladders=ladders, footprints_mib=())
    assert (found.peaks["fp32"].probe, found.peaks["fp32"].tflops) == ("conv1x1", 3.0)
    assert [one["tflops"] for one in found.tried] == [2.0, 3.0, 1.0]
    rates["conv3x3"], rates["conv1x1"] = 1.0, 1.0
    again = measure_peaks(open_device("cpu"), ["fp32"], ["eager"], found, ladders=ladders, footprints_mib=())
    assert again.peaks["fp32"].tflops == 3.0, "a peak is the highest rate that was reached"


def test_a_peak_of_a_shared_machine_takes_no_other_ones_place(monkeypatch):
    quiet, shared = PEAKS.peaks["fp32"], replace(PEAKS.peaks["fp32"], tflops=9.0, runqueue_wait_pct=80.0)
    found = [shared, quiet, shared]
    monkeypatch.setattr(measuring, "measure_probe", lambda *_: found.pop(0))
    ladders = [(probe,) for probe in TINY_PROBES]
    peaks = measure_peaks(open_device("cpu"), ["fp32"], ["eager"], ladders=ladders, footprints_mib=())
    assert peaks.peaks["fp32"] == quiet and peaks.has("fp32")
    assert not replace(peaks, peaks={"fp32": shared}).has("fp32"), "it would never be measured again"


def test_what_a_device_cannot_do_is_tried_and_has_a_reason():
    found = measure_peaks(open_device("cpu"), ["tf32"], ["eager"], ladders=[TINY_PROBES], footprints_mib=())
    assert found.peaks == {} and "tf32" in found.tried[0]["reason"]


def test_the_fastest_round_counts_and_the_spread_is_told():
    rounds = Rounds((1.0, 1.1, 1.2, 5.0))
    assert (rounds.fastest_s, rounds.median_s) == (1.0, pytest.approx(1.15))
    assert rounds.spread_pct == pytest.approx(400.0)


def test_copying_counts_what_is_read_and_what_is_written():
    (found,) = measure_copies(open_device("cpu"), [8], clock=fake_clock(0.001))
    assert found.footprint_mib == 8 and found.gb_per_second == pytest.approx(8 * 2**20 / 1e6)


def test_peaks_are_found_again_and_those_of_other_threads_are_not(tmp_path, monkeypatch):
    """The sabotage is the last line but one: the file of two threads under the name of one."""
    identity = identity_of(open_device("cpu"))
    kept = replace(PEAKS, identity=identity)
    keep_peaks(tmp_path, kept)
    found = kept_peaks(tmp_path, identity_of(open_device("cpu")))
    assert found.peaks["fp32"].tflops == 1.0 and found.copies == PEAKS.copies
    other = {**identity, "threads": identity["threads"] + 1}
    assert kept_peaks(tmp_path, other) is None
    file_of(tmp_path, identity).rename(file_of(tmp_path, other))
    assert kept_peaks(tmp_path, other) is None


@pytest.mark.parametrize("changed", ["threads", "cpus", "torch", "node", "device", "description", "version"])
def test_whatever_changes_a_machine_changes_its_identity(changed):
    identity = identity_of(open_device("cpu"))
    assert changed in identity
    assert digest_of({**identity, changed: "other"}) != digest_of(identity)


def test_the_identity_has_the_threads_that_are_in_use(monkeypatch):
    here = cores.current()
    monkeypatch.setattr(sys.modules["harness.host.cores.allotment"], "_taken", replace(here, threads=here.threads + 3))
    assert identity_of(open_device("cpu"))["threads"] == here.threads + 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"identity": {}}', "null"])
def test_a_file_that_cannot_be_read_is_no_peak(text, tmp_path):
    identity = identity_of(open_device("cpu"))
    path = keep_peaks(tmp_path, Peaks(identity))
    path.write_text(text)
    assert kept_peaks(tmp_path, identity) is None


def test_what_is_kept_is_plain_json(tmp_path):
    path = keep_peaks(tmp_path, PEAKS)
    assert json.loads(path.read_text())["peaks"]["fp32"]["evidence"]["dtype_share_pct"] == {"fp32": 100.0}
