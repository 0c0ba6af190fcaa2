"""From a case to a runner that is loaded, compiled, warm, proven and right. Nothing here is timed as a result."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from harness.case import Case
from harness.devices import open_device
from harness.engines import Runner, open_engine
from harness.evidence import MOST_PENDING_PCT, Contradiction, Evidence, contradictions
from harness.parity import Logits, WrongAnswers, describe_wrong, reference_logits, sqnr_db
from harness.precision import PRECISIONS
from harness.rounds import SPAN, is_steady
from harness.saved import SavedModel
from harness.supplies import GENERATED, Supplies, default_supplies
from models.build import Built, build_module
from models.catalog import ModelSpec
from models.preprocess import generated_images, normalise, preprocessing_identity

Report = Callable[[str], None]

WARMUP_LEAST_S = 0.5  # caches, clocks and thread pools take time, not rounds
WARMUP_CAP_S = 10.0
WARMUP_CAP_ROUNDS = 2000
# Images whose answers are checked before anything is timed.
CHECKED_IMAGES = 8
# Images of a parity measurement.
PARITY_IMAGES = 32


@dataclass(frozen=True)
class Preparation:
    """What it cost to get ready, apart from every timed number."""

    load_s: float
    compile_s: float
    first_inference_s: float
    warmup_s: float
    warmup_rounds: int
    warmup_steady: bool


@dataclass
class Prepared:
    """A case ready to be measured.

    Attributes:
        case: the label.
        spec: the catalogue row.
        runner: warm.
        batches: different inputs, placed as the runner takes them, for rounds to rotate through.
        batch_s: what one batch took at the end of warm-up.
        preparation: what getting ready cost.
        evidence: what one profiled step showed.
        problems: where evidence or answers deny the label; empty when proven.
        sqnr_db: of the answers checked before timing, None where they could not be compared.
        pending_pct: share of a step that went on after `synchronize`.
        peak_memory_bytes: at the highest while this case was built and warmed up.
        compilations: graphs compiled so far.
        references: of this model and these weights.
        classes: how many the model tells apart.
        identity: weights and preprocessing; two numbers compare only where these agree.
        resources: what has to be let go, in its order.
    """

    case: Case
    spec: ModelSpec
    runner: Runner
    batches: Sequence[Any]
    batch_s: float
    preparation: Preparation
    evidence: Evidence
    problems: Sequence[Contradiction | WrongAnswers]
    sqnr_db: float | None
    pending_pct: float
    peak_memory_bytes: int | None
    compilations: int
    references: References
    classes: int
    identity: dict[str, Any]
    resources: ExitStack

    def require_proof(self) -> None:
        """Raise what denies the label, if anything does.

        Raises:
            Contradiction: something else ran than the label says.
            WrongAnswers: the answers are not the model's.
        """
        __tracebackhide__ = True
        if self.problems:
            kind = type(self.problems[0])
            raise kind(f"{self.case}: " + "; ".join(str(problem) for problem in self.problems))

    def require_label(self) -> None:
        """Raise what denies the label, if anything does; for a measurement that judges the answers itself.

        Raises:
            Contradiction: something else ran than the label says, or ranges are not those of the data.
        """
        __tracebackhide__ = True
        denied = [str(problem) for problem in self.problems if isinstance(problem, Contradiction)]
        quantisation = self.evidence.quantisation
        if quantisation is not None and quantisation.calibration["source"] == GENERATED:
            denied.append("its ranges are those of generated images, so its accuracy means nothing: give --data")
        if denied:
            raise Contradiction(f"{self.case}: " + "; ".join(denied))

    def require_no_recompilation(self) -> None:
        """Raise if a graph was compiled since warm-up, for then a timed round compiled.

        Raises:
            Contradiction: naming how many.
        """
        __tracebackhide__ = True
        more = self.runner.compilations() - self.compilations
        if more:
            raise Contradiction(f"{self.case}: {more} graphs were compiled inside the timed rounds")

    def close(self) -> None:
        """Let go of everything that the case held."""
        self.batches = ()
        self.resources.close()


class References:
    """Reference logits of one model, computed when first asked for: fp32, CPU, eager.

    The images are generated and the same for every case, so one model's cases share them.
    """

    def __init__(self, spec: ModelSpec, weights: str | Path) -> None:
        """Remember what to build; nothing is built yet."""
        self._spec = spec
        self._weights = weights
        self._logits: dict[int, Logits] = {}

    def logits(self, count: int, module: torch.nn.Module | None = None) -> Logits:
        """Reference logits [count, classes] of the first images.

        Args:
            count: how many.
            module: the module as built, to save building it again.
        """
        held = max(self._logits, default=0)
        if held < count:
            if module is None:
                module = build_module(self._spec, self._weights).module
            self._logits = {count: reference_logits(module, input_images(self._spec, count))}
            held = count
        return self._logits[held][:count]


def input_images(spec: ModelSpec, count: int) -> torch.Tensor:
    """Generated images fp32 [count, 3, size, size], normalised as the model's weights expect."""
    return normalise(generated_images(count, spec.input.size), spec.input)


def rotation(batch: int) -> int:
    """How many different batches rounds rotate through: fewer where each holds many images already."""
    return 4 if batch <= 32 else 2


def prepare(
    case: Case,
    spec: ModelSpec,
    weights: str | Path,
    references: References,
    report: Report = lambda phase: None,
    supplies: Supplies | None = None,
    saved: SavedModel | None = None,
) -> Prepared:
    """Build, compile, warm up, profile and check one case. What fails on the way leaves nothing behind.

    Args:
        case: what to prepare.
        spec: its catalogue row.
        weights: `random`, `pretrained` or a file.
        references: of this model and these weights.
        report: told what is being done, for a progress line.
        supplies: artefacts and calibration images; None for the user's cache and generated images.
        saved: the prepared model to load in place of building it.

    Raises:
        OtherModel: `saved` has other weights.
    """
    device = open_device(case.device)
    with ExitStack() as stack:
        stack.callback(device.release)
        stack.callback(gc.collect)
        stack.enter_context(device.settings(tf32=PRECISIONS[case.precision].tf32))
        device.reset_peak_memory()

        report("loading")
        began = perf_counter()
        built = build_module(spec, weights)
        load_s = perf_counter() - began
        images = input_images(spec, max(CHECKED_IMAGES, case.batch * rotation(case.batch)))
        reference = references.logits(CHECKED_IMAGES, built.module)

        report("placing" if case.engine == "eager" else "compiling")
        began = perf_counter()
        supplied = replace(supplies or default_supplies(spec), report=report)
        if saved is None:
            runner = open_engine(case.engine).build(built.module, images[: case.batch], case, device, supplied)
        else:
            saved.require_weights(built.weights_sha256)
            runner = saved.load(built.module, case, device)
            runner.submit(runner.put(images[: case.batch]))
        stack.callback(runner.close)
        runner.synchronize()
        compile_s = perf_counter() - began
        batches = [runner.put(chunk) for chunk in images.split(case.batch) if len(chunk) == case.batch]

        report("warming up")
        began = perf_counter()
        runner.submit(batches[0])
        runner.synchronize()
        first_inference_s = perf_counter() - began
        rounds_s = _warm_up(runner, batches)

        report("profiling one step")
        evidence = runner.evidence(batches[0])
        problems: list[Contradiction | WrongAnswers] = [
            Contradiction(text) for text in contradictions(case, device, evidence)
        ]
        report("checking answers")
        pending = pending_pct(runner, batches)
        if pending > MOST_PENDING_PCT:
            problems.append(
                Contradiction(
                    f"synchronize() returned before the work was done: {pending:.0f}% of a step's time passed after "
                    f"it, so no time measured around it is the step's"
                )
            )
        checked: float | None = None
        try:
            checked = check_answers(case, runner, batches, reference)
        except WrongAnswers as wrong:
            problems.append(wrong)
        return Prepared(
            case=case,
            spec=spec,
            runner=runner,
            batches=batches,
            batch_s=statistics.median(rounds_s[-SPAN:]),
            preparation=Preparation(
                load_s, compile_s, first_inference_s, sum(rounds_s), len(rounds_s), is_steady(rounds_s)
            ),
            evidence=evidence,
            problems=problems,
            sqnr_db=checked,
            pending_pct=pending,
            peak_memory_bytes=device.peak_memory(),
            compilations=runner.compilations(),
            references=references,
            classes=reference.shape[1],
            identity=identity_of(spec, built),
            resources=stack.pop_all(),
        )


def identity_of(spec: ModelSpec, built: Built) -> dict[str, Any]:
    """Which weights and which preprocessing: two numbers compare only where these agree."""
    return {
        "weights": built.weights,
        "weights_sha256": built.weights_sha256,
        "source": f"{spec.source}:{spec.arch}" + (f".{spec.weights}" if spec.weights else ""),
        "preprocessing": preprocessing_identity(spec),
    }


def _warm_up(runner: Runner, batches: Sequence[Any]) -> list[float]:
    """Rounds in seconds, until they no longer get faster or the cap is reached."""
    rounds_s: list[float] = []
    elapsed_s = 0.0
    while len(rounds_s) < WARMUP_CAP_ROUNDS and elapsed_s < WARMUP_CAP_S:
        if elapsed_s >= WARMUP_LEAST_S and is_steady(rounds_s):
            break
        began = perf_counter()
        runner.submit(batches[len(rounds_s) % len(batches)])
        runner.synchronize()
        rounds_s.append(perf_counter() - began)
        elapsed_s += rounds_s[-1]
    return rounds_s


def pending_pct(runner: Runner, batches: Sequence[Any], rounds: int = 5) -> float:
    """Share of a step that was still running when `synchronize` returned, in percent: median of the rounds.

    Fetching needs the finished output. What the first fetch takes beyond a second one of the same output is time
    that `synchronize` should have waited.
    """
    shares = []
    for index in range(rounds):
        began = perf_counter()
        output = runner.submit(batches[index % len(batches)])
        runner.synchronize()
        synchronised = perf_counter()
        runner.fetch(output)
        fetched = perf_counter()
        runner.fetch(output)
        again = perf_counter()
        pending = max(0.0, (fetched - synchronised) - (again - fetched))
        shares.append(100 * pending / (fetched - began))
    return statistics.median(shares)


def answers(runner: Runner, batches: Sequence[Any], count: int) -> Logits:
    """The runner's logits for the first images of the batches, in their order: [count, classes]."""
    found: list[Logits] = []
    for batch in batches:
        found.append(runner.fetch(runner.submit(batch)))
        if sum(map(len, found)) >= count:
            break
    return np.concatenate(found)[:count]


def check_answers(case: Case, runner: Runner, batches: Sequence[Any], reference: Logits) -> float:
    """SQNR in dB of the runner's answers to the batches' first images.

    Raises:
        WrongAnswers: below the floor of the precision.
    """
    logits = answers(runner, batches, len(reference))
    compared = reference[: len(logits)]
    measured = sqnr_db(compared, logits)
    floor = PRECISIONS[case.precision].sqnr_floor_db
    if measured < floor:
        raise WrongAnswers(
            f"answers are {measured:.1f} dB from the fp32 reference, the floor of {case.precision} is {floor:.0f} dB: "
            f"{describe_wrong(compared, logits)}"
        )
    return measured
