"""CONTRIBUTING's recipes, tried as a newcomer would: a new engine and a new device in a copy of the checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from selftests.inside import ROOT, TINY, clean_environment

ENGINE = '''
"""The engine toy: the module called as it is, on the host."""

from collections import Counter

import torch

from harness.devices import place_of
from harness.engines.evidence import Evidence
from harness.engines.torch.profiler import matrix_work, profile_step
from models.tasks import Outputs, output_names


def supports(device, precision):
    if device.kind not in ("cpu", "toy"):
        return "toy runs on cpu and toy"
    return None if precision == "fp32" else "toy computes in fp32"


def build(module, example, case, device, artefacts):
    return ToyRunner(module, device)


class ToyRunner:
    def __init__(self, module, device):
        self.module, self.device = module, device

    def put(self, images):
        return self.device.put(images.clone())

    def submit(self, batch):
        with torch.inference_mode():
            return self.module(batch)

    def synchronize(self):
        self.device.synchronize()

    def fetch(self, output):
        return Outputs(output_names(self.module), (output.numpy(),))

    def evidence(self, batch):
        work = matrix_work(profile_step(lambda: self.submit(batch), None))
        parameters = list(self.module.parameters())
        return Evidence(
            engine="toy",
            dtype_share_pct=work.share_pct,
            matrix_ops=work.count,
            clock=work.clock,
            parameter_devices={place_of(self.device): len(parameters)},
            parameter_dtypes=dict(Counter(str(one.dtype).removeprefix("torch.") for one in parameters)),
            short_formats=self.device.short_formats(),
            fpmath_mode=None,
            memory_format="contiguous",
            threads={"intra_op": torch.get_num_threads(), "inter_op": 1},
        )

    def compilations(self):
        return 0

    def close(self):
        self.module = None
'''

DEVICE = '''
"""The device toy: the host under another name."""

from contextlib import contextmanager


class Toy:
    kind = "toy"
    name = "toy"
    is_host = True
    index = 0

    def __init__(self, index=None):
        if index is not None:
            raise ValueError("there is one toy")

    def available(self):
        return None

    def supports(self, precision):
        return None if precision == "fp32" else "toy computes in fp32"

    @contextmanager
    def settings(self, precision):
        yield

    def short_formats(self):
        return {}

    def synchronize(self):
        pass

    def put(self, batch):
        return batch

    def reset_peak_memory(self):
        pass

    def peak_memory(self):
        return None

    def release(self):
        pass

    def describe(self):
        return {"name": "a toy"}
'''
PACKAGES = ("models", "harness", "fixtures", "commands", "tests_perf", "tests_accuracy")


def add_line(path, after, line):
    """The one line of the register, and the import that it needs."""
    text = path.read_text()
    assert text.count(after) == 1, f"{path.name} has no register as CONTRIBUTING describes it"
    path.write_text(text.replace(after, f"{after}\n    {line}"))


@pytest.fixture
def copy(tmp_path):
    """The checkout with a toy engine and a toy device: two new files, two lines."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("conftest.py", "pytest.ini"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / "harness" / "engines" / "toy").mkdir()
    (tmp_path / "harness" / "engines" / "toy" / "__init__.py").write_text(ENGINE)
    (tmp_path / "harness" / "devices" / "toy.py").write_text(DEVICE)
    engines, devices = (tmp_path / "harness" / room / "__init__.py" for room in ("engines", "devices"))
    add_line(engines, "_ENGINES: dict[str, Engine] = {", '"toy": toy,')
    add_line(devices, "_DEVICES: dict[str, Callable[[int | None], Device]] = {", '"toy": Toy,')
    engines.write_text(engines.read_text().replace("import eager,", "import toy, eager,"))
    devices.write_text(
        devices.read_text().replace(
            "from harness.devices.xpu import Xpu",
            "from harness.devices.toy import Toy\nfrom harness.devices.xpu import Xpu",
        )
    )
    return tmp_path


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--model", TINY, *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_new_engine_and_a_new_device_are_measured_and_proven(copy):
    done = run(
        copy,
        *("tests_perf", "tests_accuracy", "--device", "cpu,toy", "--engine", "toy,eager", "--precision", "fp32,bf16"),
        *("--batch-size", "2", "--max-test-duration", "0.1", "--benchmark-json", "out.json", "-k", "latency or parity"),
    )
    assert done.returncode == 0, done.stdout
    rows = [row["extra_info"] for row in json.loads((copy / "out.json").read_text())["benchmarks"]]
    proven = {row["case"]: row["evidence"]["engine"] for row in rows if row["measurement"] == "latency"}
    assert proven == {
        f"{TINY}-cpu-fp32-bs2-toy": "toy",
        f"{TINY}-cpu-fp32-bs2-eager": "eager",
        f"{TINY}-cpu-bf16-bs2-eager": "eager",
        f"{TINY}-toy-fp32-bs2-toy": "toy",
    }
    assert "eager runs where torch does, on cpu, cuda, xpu, and not on toy" in done.stdout
    assert "toy (a toy)" in done.stdout


def test_what_a_new_engine_must_have_is_missed_by_name(copy):
    """The sabotage: an engine that proves nothing of itself."""
    path = copy / "harness" / "engines" / "toy" / "__init__.py"
    path.write_text(path.read_text().replace('engine="toy"', 'engine="eager"'))
    done = run(copy, "tests_perf/test_latency.py", "--device", "toy", "--engine", "toy", "--precision", "fp32")
    assert done.returncode == 1, done.stdout
    assert "label says engine toy, but eager ran" in done.stdout
