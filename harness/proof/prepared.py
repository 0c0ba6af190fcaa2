"""A case that is ready to be measured: its runner, the cost of preparing it, and the proof of its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from harness.cases import GENERATED, Case
from harness.engines import Evidence, InspectedRunner
from harness.proof.contradictions import Contradiction
from models.catalog import ModelSpec
from models.tasks import Agreement, Outputs, WrongAnswers
from models.work import Uncounted, Work


@dataclass(frozen=True)
class Cost:
    """What preparing a case cost. None of it is part of a measured number.

    Attributes:
        import_s: the seconds for importing the libraries of model and engine, about 0 where they were loaded before.
        download_s: the seconds for fetching published weights from the network, 0 for other weights.
        load_s: the seconds for creating the module and loading its weights.
        alive_s: the seconds for making random weights alive, 0 for other weights; see `models.build.make_alive`.
        compile_s: the seconds for placing, exporting and compiling.
        first_inference_s: the seconds for the first batch after compiling.
        warmup_s: the seconds for all warm-up rounds together.
        warmup_rounds: the number of warm-up rounds.
        warmup_steady: whether the last warm-up rounds were getting neither faster nor slower.
        batch_s: the seconds for one batch at the end of warm-up.
        peak_memory_bytes: the peak memory while the engine built the model and warmed it up, or None where it cannot
            be told. The reference, the making of random weights and the profiling are not in it.
    """

    import_s: float
    download_s: float
    load_s: float
    alive_s: float
    compile_s: float
    first_inference_s: float
    warmup_s: float
    warmup_rounds: int
    warmup_steady: bool
    batch_s: float
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Proof:
    """The findings that confirm or deny that a case is what its label says.

    Attributes:
        evidence: what one profiled step showed.
        problems: the points in which evidence or answers deny the label; empty if the label is proven.
        agreement: how well the answers agree with the reference; None if they do not, or cannot be compared.
        pending_pct: the percentage of a step's time that passed after `synchronize` had returned.
        compilations: the number of graphs that were compiled until the end of preparation.
        identity: the weights and the preprocessing; two numbers are comparable only if these agree.
        answers: the runner's own answers to each batch, one batch at a time, for the check of answers under load.
        findings: what else the task tells of the answers; see `models.tasks.Task.findings`.
    """

    evidence: Evidence
    problems: Sequence[Contradiction | WrongAnswers]
    agreement: Agreement | None
    pending_pct: float
    compilations: int
    identity: dict[str, Any]
    answers: Sequence[Outputs]
    findings: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Prepared:
    """A case that is ready to be measured.

    Attributes:
        case: the label.
        spec: the catalogue row of the model.
        runner: the compiled and warmed-up model.
        batches: different input batches, placed on the device, which the rounds cycle through.
        cost: what preparing the case cost.
        proof: the findings that confirm or deny the label.
        input_bytes_per_image: the bytes of one image as `submit` reads it, None if the engine does not tell.
        work: what one submit computes and moves, or why that cannot be counted.
        held: releases, in the right order, everything that the case holds.
    """

    case: Case
    spec: ModelSpec
    runner: InspectedRunner
    batches: Sequence[Any]
    cost: Cost
    proof: Proof
    input_bytes_per_image: float | None = None
    work: Work | Uncounted = Uncounted("nothing was counted")
    held: ExitStack = field(default_factory=ExitStack)

    def require_proof(self) -> None:
        """Check that nothing denies the label.

        Raises:
            Contradiction: something other than what the label says ran.
            WrongAnswers: the answers disagree with the reference.
        """
        __tracebackhide__ = True
        problems = self.proof.problems
        if problems:
            kind = type(problems[0])
            raise kind(f"{self.case}: " + "; ".join(str(problem) for problem in problems))

    def require_label(self) -> None:
        """Check that the evidence does not deny the label, for a measurement that judges the answers itself.

        Raises:
            Contradiction: something other than what the label says ran, or int8 was calibrated on generated images.
        """
        __tracebackhide__ = True
        denied = [str(problem) for problem in self.proof.problems if isinstance(problem, Contradiction)]
        quantisation = self.proof.evidence.quantisation
        if quantisation is not None and quantisation.calibration["source"] == GENERATED:
            denied.append("its ranges are those of generated images, so its accuracy means nothing: give --data")
        if denied:
            raise Contradiction(f"{self.case}: " + "; ".join(denied))

    def require_no_recompilation(self) -> None:
        """Check that no graph was compiled since the case was prepared, which would have been in a timed round.

        Raises:
            Contradiction: graphs were compiled; the message gives their number.
        """
        __tracebackhide__ = True
        more = self.runner.compilations() - self.proof.compilations
        if more:
            raise Contradiction(f"{self.case}: {more} graphs were compiled inside the timed rounds")

    def record(self) -> dict[str, Any]:
        """Return what a reader needs beside a number, JSON-serialisable: case, cost, evidence and identity."""
        cost, proof = self.cost, self.proof
        peak = cost.peak_memory_bytes
        heads = {} if proof.agreement is None else proof.agreement.heads_sqnr_db
        gains = {} if proof.agreement is None else proof.agreement.heads_gain
        return {
            "case": str(self.case),
            **self.case.flat(),
            "import_s": cost.import_s,
            "download_s": cost.download_s,
            "load_s": cost.load_s,
            "alive_s": cost.alive_s,
            "compile_s": cost.compile_s,
            "first_inference_s": cost.first_inference_s,
            "warmup_s": cost.warmup_s,
            "warmup_rounds": cost.warmup_rounds,
            "warmup_steady": cost.warmup_steady,
            "peak_memory_mib": None if peak is None else peak / 2**20,
            "unique_batches": len(self.batches),
            "input_bytes_per_image": self.input_bytes_per_image,
            "evidence": {
                **proof.evidence.as_dict(),
                "answers_sqnr_db": None if proof.agreement is None else proof.agreement.sqnr_db,
                "pending_after_synchronize_pct": proof.pending_pct,
                **({"heads_sqnr_db": dict(heads), "heads_gain": dict(gains)} if heads else {}),
                **proof.findings,
            },
            "identity": proof.identity,
        }

    def close(self) -> None:
        """Release everything that the case holds."""
        self.batches = ()
        self.held.close()
