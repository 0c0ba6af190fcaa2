"""The layout of images and weights: what is known, what a trial tells, and what the record says."""

from types import SimpleNamespace

import pytest
import torch

from harness.artefacts import default_artefacts
from harness.cases import Case
from harness.devices import open_device
from harness.engines import open_engine
from harness.engines.torch import runner as torch_runner
from harness.engines.torch.layout import CHANNELS_LAST, CONTIGUOUS, Layout, known_layout, timed_layout
from harness.engines.torch.profiler import memory_format
from harness.engines.torch.runner import lay_out
from harness.proof import input_images
from models.build import build_module
from models.catalog import find_spec, load_catalog
from selftests.inside import TINY

SPEC = find_spec(TINY, load_catalog())
CASE = Case(TINY, "cpu", "fp32", 2, "eager")


class Clock:
    """A clock that only the steps move on."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s

    def step(self, name, *seconds, log=None):
        left = list(seconds)

        def run():
            self.now_s += left.pop(0) if len(left) > 1 else left[0]
            if log is not None:
                log.append(name)

        return run


def convolutions():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3), torch.nn.Linear(4, 2))


@pytest.mark.parametrize(("last_s", "contiguous_s", "name"), [(1, 2, CHANNELS_LAST), (2, 1, CONTIGUOUS)])
def test_the_faster_layout_wins_and_the_reason_tells_both(last_s, contiguous_s, name):
    clock = Clock()
    steps = {
        CHANNELS_LAST: clock.step(CHANNELS_LAST, last_s * 1e-3),
        CONTIGUOUS: clock.step(CONTIGUOUS, contiguous_s * 1e-3),
    }
    found = timed_layout(steps, clock)
    assert found.name == name
    assert found.why == (
        f"the faster of 10 eager rounds each: channels_last {last_s}.000 ms, contiguous {contiguous_s}.000 ms"
    )


def test_the_search_for_kernels_and_one_slow_round_do_not_decide():
    clock = Clock()
    steps = {
        CHANNELS_LAST: clock.step(CHANNELS_LAST, 0.5, 0.1, 0.9, 0.001),
        CONTIGUOUS: clock.step(CONTIGUOUS, 0.002),
    }
    assert timed_layout(steps, clock).name == CHANNELS_LAST


def test_the_layouts_take_turns_and_a_slow_trial_is_short():
    clock, log = Clock(), []
    steps = {name: clock.step(name, 5.0, log=log) for name in (CHANNELS_LAST, CONTIGUOUS)}
    assert "of 3 eager rounds" in timed_layout(steps, clock).why
    timed = log[4:]
    assert timed == [CONTIGUOUS, CHANNELS_LAST, CHANNELS_LAST, CONTIGUOUS, CONTIGUOUS, CHANNELS_LAST]


def test_only_convolutional_networks_on_the_host_are_known_to_win():
    assert known_layout(convolutions(), is_host=True).name == CHANNELS_LAST
    assert known_layout(convolutions(), is_host=False) is None
    linear = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4), torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    assert known_layout(linear, is_host=True) is None
    assert "no convolution" in known_layout(torch.nn.Linear(4, 4), is_host=False).why


@pytest.mark.parametrize("winner", [CHANNELS_LAST, CONTIGUOUS])
def test_on_an_accelerator_a_trial_decides_for_module_and_images(winner, monkeypatch):
    """The host stands in for the accelerator."""
    device = open_device("cpu")
    calls = []
    accelerator = SimpleNamespace(
        **{"kind": "cpu", "index": 0, "is_host": False, "put": device.put, "synchronize": device.synchronize},
        release=lambda: calls.append("release"),
        reset_peak_memory=lambda: calls.append("reset"),
    )
    seen = {}

    def trial(steps):
        for name, step in steps.items():
            step()
            seen[name] = step
        return Layout(winner, "a trial")

    monkeypatch.setattr(torch_runner, "timed_layout", trial)
    module = build_module(SPEC).module
    layout = lay_out(module, input_images(SPEC, 2), CASE, accelerator)
    assert set(seen) == {CHANNELS_LAST, CONTIGUOUS}
    assert memory_format(module) == layout.name == winner
    assert calls == ["release", "reset"], "the trial's memory is not the row's"
    batch = torch_runner.put(input_images(SPEC, 2), CASE, accelerator, layout)
    assert batch.is_contiguous(memory_format=layout.memory_format)


@pytest.mark.parametrize("engine", ["eager", "trace", "script", pytest.param("compile", marks=pytest.mark.slow)])
def test_the_record_says_which_layout_and_why(engine, monkeypatch):
    monkeypatch.setattr(torch_runner, "known_layout", lambda module, is_host: Layout(CONTIGUOUS, "as this test says"))
    images, device = input_images(SPEC, 2), open_device("cpu")
    case = Case(TINY, "cpu", "fp32", 2, engine)
    opened = open_engine(engine)
    runner = opened.build(build_module(SPEC).module, images, case, device, default_artefacts(SPEC))
    evidence = runner.evidence(runner.put(images))
    files = opened.save(runner) if hasattr(opened, "save") else None
    runner.close()
    assert evidence.memory_format == "contiguous"
    assert evidence.notes["layout"] == {"chosen": "contiguous", "why": "as this test says"}
    if files is not None:
        loaded = opened.load(files, build_module(SPEC).module, case, device)
        assert loaded.layout == Layout(CONTIGUOUS, "as it was saved")
        assert memory_format(loaded.module) == CONTIGUOUS
        loaded.close()


@pytest.mark.parametrize("name", [CHANNELS_LAST, CONTIGUOUS])
def test_a_batch_shares_no_memory_with_its_images(name):
    layout = Layout(name)
    images = input_images(SPEC, 2).to(memory_format=layout.memory_format)
    assert torch_runner.put(images, CASE, open_device("cpu"), layout).data_ptr() != images.data_ptr()
