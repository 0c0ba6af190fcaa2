"""What the self-tests of serving share: a real server, and a linear model whose right answers are known."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from harness.cases import Case
from harness.triton import server as server_module
from harness.triton.export import Exported
from harness.triton.installation import NoServer, find_installation, require_trustworthy
from harness.triton.ports import LOOPBACK
from harness.triton.repository import ModelFiles
from harness.triton.server import attach_server, start_server
from models.catalog import InputSpec, ModelSpec
from selftests.inside import ROOT

SIZE, CLASSES, IMAGES = 8, 10, 16
CASE = Case("linear", "cpu", "fp32", 1, "onnxruntime")


def installation_or_skip():
    try:
        return find_installation(None, ROOT)
    except NoServer as reason:
        pytest.skip(str(reason))


@contextmanager
def foreign(**more):
    """A server as somebody else runs it, whose load API wants no token."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_module, "_restrictions", lambda token: [])
        context = running(**more)
        server = context.__enter__()
    try:
        yield server
    finally:
        context.__exit__(None, None, None)


def attached_to(server):
    """The same server as one that is attached to."""
    return attach_server(LOOPBACK, *(int(address.rpartition(":")[2]) for address in vars(server.endpoint).values()))


@contextmanager
def running(**more):
    """A server of its own, killed at the end."""
    installation = installation_or_skip()
    scratch = Path(tempfile.mkdtemp(prefix="visionmark-selftest-"))
    server = start_server(installation, require_trustworthy(installation), scratch, **more)
    try:
        yield server
    finally:
        server.stop(fast=True)
        shutil.rmtree(scratch, ignore_errors=True)


def linear_model(folder, name="linear", **changes):
    """A served case that answers `flattened images @ weight`, as `export_case` makes one of a real model."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((3 * SIZE * SIZE, CLASSES), dtype=np.float32)
    file = Path(folder) / "model.onnx"
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
    images = random.standard_normal((IMAGES, 3, SIZE, SIZE), dtype=np.float32)
    labels = tuple(f"class_{n}" for n in range(CLASSES))
    settings = {
        "model": name,
        "file": file,
        "size": (SIZE, SIZE),
        "labels": labels,
        "max_batch": 8,
        "threads": 1,
    } | changes
    return Exported(
        case=CASE,
        spec=ModelSpec(name, "timm", name, None, InputSpec((SIZE, SIZE), 1.0, "bicubic", (0, 0, 0), (1, 1, 1))),
        artefact=ModelFiles(**settings),
        batches=[image[None] for image in images],
        reference=images.reshape(IMAGES, -1) @ weight,
        export_s=0.0,
        identity={"weights": "random"},
        module=torch.nn.Identity(),
    )


def left_behind(prefix):
    """What still runs or lies about of a server whose shared memory has that prefix."""
    found = [str(path) for path in Path("/dev/shm").glob(f"{prefix}*")]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if prefix in command:
                found.append(f"{entry.name}: {command[:1000]}")
    return found


def wait_until_gone(prefix, seconds=6.0):
    """What is left behind after so long."""
    until = time.monotonic() + seconds
    while (found := left_behind(prefix)) and time.monotonic() < until:
        time.sleep(0.05)
    return found
