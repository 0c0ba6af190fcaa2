"""A case that is ready to be measured: its runner, what getting ready cost, and the proof of its label."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from harness.cases import GENERATED, Case
from harness.engines import Evidence, InspectedRunner
from harness.proof.contradictions import Contradiction
from models.catalog import ModelSpec
from models.tasks import Agreement, WrongAnswers


@dataclass(frozen=True)
class Cost:
    """What getting ready took, apart from every number that is timed.

    Attributes:
        load_s: making the module and its weights.
        compile_s: placing, exporting, compiling.
        first_inference_s: the first batch after that.
        warmup_s: all warm-up rounds.
        warmup_rounds: how many there were.
        warmup_steady: whether the last of them no longer got faster.
        batch_s: what one batch took at the end of warm-up.
        peak_memory_bytes: the highest while the case was built and warmed up, None where it cannot be told.
    """

    load_s: float
    compile_s: float
    first_inference_s: float
    warmup_s: float
    warmup_rounds: int
    warmup_steady: bool
    batch_s: float
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Proof:
    """What shows that the case is what its label says, or denies it.

    Attributes:
        evidence: what one profiled step showed.
        problems: where evidence or answers deny the label; empty when the label is proven.
        agreement: of the answers that were checked before timing, None where they could not be compared.
        pending_pct: share of a step that went on after `synchronize`.
        compilations: graphs compiled until the end of getting ready.
        identity: weights and preprocessing; two numbers compare only where these agree.
    """

    evidence: Evidence
    problems: Sequence[Contradiction | WrongAnswers]
    agreement: Agreement | None
    pending_pct: float
    compilations: int
    identity: dict[str, Any]


@dataclass
class Prepared:
    """A case ready to be measured.

    Attributes:
        case: the label.
        spec: the catalogue row.
        runner: compiled and warm.
        batches: different inputs, placed as the runner takes them, for rounds to rotate through.
        cost: what getting ready took.
        proof: what shows that the label is true.
        held: what has to be let go when the case is closed, in its order.
    """

    case: Case
    spec: ModelSpec
    runner: InspectedRunner
    batches: Sequence[Any]
    cost: Cost
    proof: Proof
    held: ExitStack = field(default_factory=ExitStack)

    def require_proof(self) -> None:
        """Raise what denies the label, if anything does.

        Raises:
            Contradiction: something else ran than the label says.
            WrongAnswers: the answers are not the model's.
        """
        __tracebackhide__ = True
        problems = self.proof.problems
        if problems:
            kind = type(problems[0])
            raise kind(f"{self.case}: " + "; ".join(str(problem) for problem in problems))

    def require_label(self) -> None:
        """Raise what denies the label, for a measurement that judges the answers itself.

        Raises:
            Contradiction: something else ran than the label says, or ranges are not those of the data.
        """
        __tracebackhide__ = True
        denied = [str(problem) for problem in self.proof.problems if isinstance(problem, Contradiction)]
        quantisation = self.proof.evidence.quantisation
        if quantisation is not None and quantisation.calibration["source"] == GENERATED:
            denied.append("its ranges are those of generated images, so its accuracy means nothing: give --data")
        if denied:
            raise Contradiction(f"{self.case}: " + "; ".join(denied))

    def require_no_recompilation(self) -> None:
        """Raise if a graph was compiled since the case was made ready, for then a timed round compiled.

        Raises:
            Contradiction: naming how many.
        """
        __tracebackhide__ = True
        more = self.runner.compilations() - self.proof.compilations
        if more:
            raise Contradiction(f"{self.case}: {more} graphs were compiled inside the timed rounds")

    def record(self) -> dict[str, Any]:
        """What a reader needs beside a number: case, cost, evidence and identity, fit for JSON."""
        cost, proof = self.cost, self.proof
        peak = cost.peak_memory_bytes
        return {
            "case": str(self.case),
            **self.case.flat(),
            "load_s": cost.load_s,
            "compile_s": cost.compile_s,
            "first_inference_s": cost.first_inference_s,
            "warmup_s": cost.warmup_s,
            "warmup_rounds": cost.warmup_rounds,
            "warmup_steady": cost.warmup_steady,
            "peak_memory_mib": None if peak is None else peak / 2**20,
            "unique_batches": len(self.batches),
            "evidence": {
                **proof.evidence.as_dict(),
                "answers_sqnr_db": None if proof.agreement is None else proof.agreement.sqnr_db,
                "pending_after_synchronize_pct": proof.pending_pct,
            },
            "identity": proof.identity,
        }

    def close(self) -> None:
        """Let go of everything that the case held."""
        self.batches = ()
        self.held.close()
