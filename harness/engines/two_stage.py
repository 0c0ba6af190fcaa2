"""A detector of two stages on any engine: two runners of it, and between them what chooses the proposals.

Each network has fixed shapes, so that an engine runs and quantises it like any other. The arithmetic of boxes, which no
engine is to quantise, is between them, in fp32 on the host.
"""

from __future__ import annotations

import hashlib
import statistics
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch

from harness.artefacts import Artefacts, Calibration
from harness.cases import PRECISIONS, Case
from harness.devices import Device
from harness.engines.evidence import Evidence
from harness.engines.protocol import InspectedRunner, Saving
from harness.engines.staged_evidence import merged
from models.build import state_sha256
from models.detectors import TwoStage
from models.detectors.two_stage import ANCHOR_CODES, HEADS, MAPS, OBJECTNESS, PROPOSALS, by_image, extents
from models.tasks import Outputs

Build = Callable[[torch.nn.Module, torch.Tensor, Case, Device, Artefacts], InspectedRunner]

# How many regions of each calibration image the ranges of the second network are taken from, evenly over the proposals.
CALIBRATION_REGIONS = 16
# How many of the latest steps tell how long each part of a step takes.
_STEPS = 100
_PARTS = ("features", "between", "heads")


def build_two_stage(
    build: Build, module: TwoStage, example: torch.Tensor, case: Case, device: Device, artefacts: Artefacts
) -> TwoStageRunner:
    """Build both networks of a detector by an engine. See `Engine.build`.

    The second network is built first, because its example and its calibration are regions that the first one proposes
    in fp32, and an engine may change the network that it takes over.

    Args:
        build: builds one network.
        module: the detector.
        example: see `Engine.build`.
        case: see `Engine.build`.
        device: see `Engine.build`.
        artefacts: see `Engine.build`.
    """
    regions = regions_of(module, example)
    supplied = replace(artefacts, calibration=lambda: region_calibration(module, artefacts.calibration()))
    heads = build(module.heads, regions, case, device, supplied)
    try:
        features = build(module.features, example, case, device, artefacts)
    except BaseException:
        heads.close()
        raise
    return TwoStageRunner(features, heads, module, PRECISIONS[case.precision].work)


def save_two_stage(saving: Saving, runner: TwoStageRunner) -> dict[str, bytes]:
    """Return the files of both networks, in a folder each. See `Saving.save`."""
    return {
        f"{name}/{file}": content
        for name, network in runner.networks.items()
        for file, content in saving.save(network).items()
    }


def load_two_stage(
    saving: Saving, files: Mapping[str, bytes], module: TwoStage, case: Case, device: Device
) -> TwoStageRunner:
    """Return a runner of both networks that `save_two_stage` saved. See `Saving.load`."""
    opened: list[InspectedRunner] = []
    try:
        for name, network in (("features", module.features), ("heads", module.heads)):
            own = {file.partition("/")[2]: content for file, content in files.items() if file.startswith(f"{name}/")}
            opened.append(saving.load(own, network, case, device))
    except BaseException:
        for one in opened:
            one.close()
        raise
    features, heads = opened
    return TwoStageRunner(features, heads, module, PRECISIONS[case.precision].work)


def regions_of(module: TwoStage, images: torch.Tensor) -> torch.Tensor:
    """Return the regions that a detector proposes in images, fp32 [n * count, channels, side, side], on the host."""
    with torch.no_grad():
        objectness, codes, maps = module.features(images)
        found = module.between.propose(objectness, codes, extents(images))
        return module.between.regions(maps, found)


def region_calibration(module: TwoStage, calibration: Calibration) -> Calibration:
    """Return a calibration of the second network on regions of the images on which the first one is calibrated."""

    def load() -> torch.Tensor:
        step = max(1, module.between.count // CALIBRATION_REGIONS)
        found = [regions_of(module, image[None])[::step][:CALIBRATION_REGIONS] for image in calibration.load()]
        return torch.cat(found)

    mixed = f"{calibration.sha256} {state_sha256(module.features)} {CALIBRATION_REGIONS}".encode()
    return replace(calibration, sha256=hashlib.sha256(mixed).hexdigest(), load=load)


@dataclass(frozen=True)
class StagedBatch:
    """A batch of images for both stages.

    Attributes:
        images: the images, as the runner of the first network takes them.
        extents: the height and width that each image takes of the input, int64 [n, 2].
        proposals: where the second stage looks, fp32 [n, count, 4]; None for where the first one proposes.
    """

    images: Any
    extents: torch.Tensor
    proposals: torch.Tensor | None = None


class TwoStageRunner:
    """Runs the first network, chooses proposals and cuts out their regions, and runs the second network on them."""

    def __init__(self, features: InspectedRunner, heads: InspectedRunner, module: TwoStage, work: str) -> None:
        """Take the runners of both networks.

        Args:
            features: the runner of the first network.
            heads: the runner of the second network.
            module: the detector.
            work: the number format that the precision promises.
        """
        self._features, self._heads = features, heads
        self._between, self._names = module.between, module.output_names
        self._work = work
        self._times_s: dict[str, deque[float]] = {part: deque(maxlen=_STEPS) for part in _PARTS}

    @property
    def networks(self) -> dict[str, InspectedRunner]:
        """The runner of each network by its name."""
        return {"features": self._features, "heads": self._heads}

    def put(self, images: torch.Tensor) -> StagedBatch:
        """See `Runner.put`."""
        return StagedBatch(self._features.put(images), extents(images))

    def fed(self, batch: StagedBatch, reference: Outputs) -> StagedBatch:
        """Return the same batch with the second stage looking where the reference's does. See `Fed`."""
        return replace(batch, proposals=torch.from_numpy(reference[PROPOSALS]))

    def submit(self, batch: StagedBatch) -> tuple[Outputs, torch.Tensor, Any]:
        """See `Runner.submit`. It waits for the first network; the second may still run."""
        first, proposals, regions = self._first_stage(batch)
        began = perf_counter()
        second = self._heads.submit(regions)
        self._heads.synchronize()
        self._note("heads", perf_counter() - began)
        return first, proposals, second

    def _first_stage(self, batch: StagedBatch) -> tuple[Outputs, torch.Tensor, Any]:
        """Return what the first network answers, the proposals, and their regions as the second network takes them."""
        began = perf_counter()
        output = self._features.submit(batch.images)
        self._features.synchronize()
        first = self._features.fetch(output)
        seen = perf_counter()
        with torch.inference_mode():
            objectness, codes, maps = (torch.from_numpy(first[name]) for name in (OBJECTNESS, ANCHOR_CODES, MAPS))
            proposals = batch.proposals
            if proposals is None:
                proposals = self._between.propose(objectness, codes, batch.extents)
            regions = self._heads.put(self._between.regions(maps, proposals))
        self._note("features", seen - began)
        self._note("between", perf_counter() - seen)
        return first, proposals, regions

    def _note(self, part: str, seconds: float) -> None:
        self._times_s[part].append(seconds)

    def synchronize(self) -> None:
        """See `Runner.synchronize`."""
        self._heads.synchronize()

    def fetch(self, output: tuple[Outputs, torch.Tensor, Any]) -> Outputs:
        """See `Runner.fetch`."""
        first, proposals, second = output
        found = self._heads.fetch(second)
        logits, codes = (by_image(torch.from_numpy(found[name]), len(first)).numpy() for name in HEADS)
        return Outputs(self._names, (first[OBJECTNESS], first[ANCHOR_CODES], proposals.numpy(), logits, codes))

    def evidence(self, batch: StagedBatch) -> Evidence:
        """See `Inspector.evidence`. The formats are those of the network that ran less in the promised one."""
        features = self._features.evidence(batch.images)
        _, _, regions = self._first_stage(batch)
        heads = self._heads.evidence(regions)
        times_ms = {part: 1e3 * statistics.median(times) for part, times in self._times_s.items() if times}
        return merged(features, heads, self._work, times_ms)

    def compilations(self) -> int:
        """See `Inspector.compilations`."""
        return self._features.compilations() + self._heads.compilations()

    def close(self) -> None:
        """See `Runner.close`."""
        self._heads.close()
        self._features.close()
