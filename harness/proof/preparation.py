"""Preparing a case: its runner is loaded, compiled, warmed up, profiled and checked. No result is timed here."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from harness.artefacts import Artefacts, KeptWeights, default_artefacts
from harness.artefacts.saved_model import SavedModel
from harness.cases import Case
from harness.devices import Device, open_device
from harness.engines import Fed, InspectedRunner, build, import_libraries, load, shows_memory
from harness.progress import ReportPhase, no_report
from harness.proof.answers import CHECKED_IMAGES, check_answers, in_common, judged, own_answers
from harness.proof.contradictions import MOST_PENDING_PCT, Contradiction, contradictions
from harness.proof.inputs import case_artefacts, case_batches, case_module, input_contradictions, nbytes_of
from harness.proof.parts import check_parts, check_rows, reference_of_first
from harness.proof.prepared import Cost, Prepared, Proof
from harness.proof.reference import References
from harness.proof.waiting import pending_pct
from harness.proof.warmup import SPAN, is_steady, warm_up
from models.build import Built, build_module, import_source
from models.catalog import ModelSpec
from models.preprocess import preprocessing_identity
from models.tasks import Agreement, Outputs, WrongAnswers, task_of
from models.work import work_of

# Above this number of images in one submit there is one batch alone: a second would take gigabytes.
MOST_ROTATED = 4096


def prepare(
    case: Case,
    spec: ModelSpec,
    weights: str | Path,
    references: References,
    report: ReportPhase = no_report,
    artefacts: Artefacts | None = None,
    saved: SavedModel | None = None,
) -> Prepared:
    """Build, compile, warm up, profile and check one case. If a step fails, everything made so far is released.

    A label that the checks deny raises nothing here: `Prepared.require_proof` raises it.

    Args:
        case: the case to prepare.
        spec: the catalogue row of its model.
        weights: `random`, `pretrained` or the path of a file.
        references: the reference's answers with these weights.
        report: called with a description of each step, for a progress line.
        artefacts: the cache and the calibration; None for the user's cache and generated images.
        saved: a prepared model to load instead of building one.

    Raises:
        OtherModel: `saved` was made from other weights.
    """
    device = open_device(case.device)
    with ExitStack() as held:
        held.callback(device.release)
        held.callback(gc.collect)
        held.enter_context(device.settings(case.precision))

        report("loading")
        began = perf_counter()
        import_source(spec)
        import_libraries(case.engine, case.precision)
        import_s = perf_counter() - began
        given = artefacts or default_artefacts(spec)
        built = build_module(spec, weights, kept=KeptWeights(given.cache))
        inputs = case_batches(case, spec, CHECKED_IMAGES, rotation(case.images))
        reference = references.outputs(CHECKED_IMAGES, built.module)
        module = case_module(case, spec, built.module)
        work = work_of(module, inputs[0])

        report("placing" if case.engine == "eager" else "compiling")
        gc.collect()
        device.release()  # what the reference and the random weights needed is no memory of the case
        device.reset_peak_memory()
        began = perf_counter()
        if saved is None:
            supplied = replace(case_artefacts(case, spec, given), report=report)
            runner = build(module, inputs[0], case, device, supplied)
        else:
            saved.require_weights(built.weights_sha256)
            runner = load(saved.files(), module, case, device)
            runner.submit(runner.put(inputs[0]))
        held.callback(runner.close)
        runner.synchronize()
        compile_s = perf_counter() - began
        batches = [runner.put(batch) for batch in inputs]

        report("warming up")
        began = perf_counter()
        runner.submit(batches[0])
        runner.synchronize()
        first_inference_s = perf_counter() - began
        rounds_s = warm_up(runner, batches)
        # before the profile, because some engines profile a second copy of the model
        peak_memory_bytes = device.peak_memory() if shows_memory(case.engine, device) else None

        proof = _prove(case, spec, device, runner, batches, reference, identity_of(spec, built), report)
        cost = Cost(
            import_s=import_s,
            download_s=built.download_s,
            load_s=built.load_s,
            alive_s=built.alive_s,
            compile_s=compile_s,
            first_inference_s=first_inference_s,
            warmup_s=sum(rounds_s),
            warmup_rounds=len(rounds_s),
            warmup_steady=is_steady(rounds_s),
            batch_s=statistics.median(rounds_s[-SPAN:]),
            peak_memory_bytes=peak_memory_bytes,
        )
        copied = nbytes_of(batches[0])
        per_image = None if copied is None else copied / case.images
        return Prepared(case, spec, runner, batches, cost, proof, per_image, work, held.pop_all())


def _prove(
    case: Case,
    spec: ModelSpec,
    device: Device,
    runner: InspectedRunner,
    batches: Sequence[Any],
    reference: Outputs,
    identity: dict[str, Any],
    report: ReportPhase,
) -> Proof:
    """Profile one step, then check that `synchronize` waits and that the answers are right."""
    report("profiling one step")
    evidence = runner.evidence(batches[0])
    problems: list[Contradiction | WrongAnswers] = [
        Contradiction(text) for text in contradictions(case, device, evidence)
    ]
    problems += [Contradiction(text) for text in input_contradictions(case, spec, batches[0])]
    report("checking answers")
    pending = pending_pct(runner, batches)
    if pending > MOST_PENDING_PCT:
        problems.append(
            Contradiction(
                f"synchronize() returned before the work was done: {pending:.0f}% of a step's time passed after "
                f"it, so no time measured around it is the step's"
            )
        )
    own = own_answers(runner, batches)
    agreement: Agreement | None = None
    findings: dict[str, Any] = {}
    task = task_of(spec)
    try:
        fed = own
        if isinstance(runner, Fed):
            fed = own_answers(runner, judged(runner, batches, reference, case.images))
        agreement = check_answers(task, case, fed, reference_of_first(case, reference))
        check_parts(task, case, own, reference)
        check_rows(task, case, runner, spec, reference)
        findings = task.findings(*in_common(reference, own))
    except WrongAnswers as wrong:
        problems.append(wrong)
    return Proof(evidence, problems, agreement, pending, runner.compilations(), identity, own, findings)


def rotation(images: int) -> int:
    """Return the number of different batches that the rounds cycle through, which is lower for large batches."""
    return 4 if images <= 32 else 2 if images <= MOST_ROTATED else 1


def identity_of(spec: ModelSpec, built: Built) -> dict[str, Any]:
    """Return the identity of weights and preprocessing. Two numbers are comparable only if their identities agree."""
    return {
        "weights": built.weights,
        "weights_sha256": built.weights_sha256,
        "weights_set": built.weights_set,
        "source": f"{spec.source}:{spec.arch}" + (f".{spec.weights}" if spec.weights else ""),
        "preprocessing": preprocessing_identity(spec),
    }
