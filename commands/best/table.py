"""Renders the table of `make best`: every row with its proof and verdict, the chosen rows, and what gave no row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from commands.cells import number, percentile, rate
from harness.report.choice import OBJECTIVES, Eligibility, fastest, tied
from harness.report.journal import Missing
from harness.report.record_rows import Record, disagreement
from harness.report.remarks import remarks

TABLE_WIDTH = 180
HEADINGS = (
    *("best", "case", "images/s", "p50 ms", "p99 ms", "peak MiB", "compile s", "SQNR dB", "top-1, AP % (lost)"),
    *("evidence", "gate"),
)
WORDS = ("best", "case", "evidence", "gate")
# What a line that is shorter than the whole table has no room for.
WIDE_ALONE = ("peak MiB", "compile s", "evidence")
_MARKS = {"latency": "L", "throughput": "T"}


def render_best(
    groups: Sequence[Sequence[Record]],
    eligible: Mapping[str, Eligibility],
    is_colour: bool,
    width: int = TABLE_WIDTH,
) -> str:
    """Return the table as text, with one section per model, device and batch size.

    Args:
        groups: groups of rows, each of one model, device and batch size.
        eligible: whether each case may be chosen.
        is_colour: whether the terminal shows colours.
        width: the characters of a line. In a narrow table every cell may take several lines, and some columns
            are left out.
    """
    is_wide = width >= TABLE_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [heading for heading in HEADINGS if is_wide or heading not in WIDE_ALONE]
    for heading in shown:
        table.add_column(
            heading,
            justify="left" if heading in WORDS else "right",
            no_wrap=is_wide and heading != "gate",
            overflow="fold",
        )
    for rows in groups:
        marked = {aim: fastest(rows, eligible, aim) for aim in OBJECTIVES}
        ties = {aim: [row["case"] for row in tied(rows, eligible, aim)] for aim in OBJECTIVES}
        for row in rows:
            marks = [_MARKS[aim] for aim, best in marked.items() if best is not None and best["case"] == row["case"]]
            equal = [f"{_MARKS[aim]}=" for aim, cases in ties.items() if row["case"] in cases]
            cells = dict(zip(HEADINGS, ["+".join([*marks, *equal]), *_cells(row, eligible[row["case"]])], strict=True))
            table.add_row(*(cells[heading] for heading in shown), style="bold" if marks else None)
        table.add_section()
    console = Console(
        width=width, force_terminal=is_colour, color_system="standard" if is_colour else None, highlight=False
    )
    with console.capture() as capture:
        console.print(table)
        console.print(
            "L, T: the least latency (p50) and the most throughput of the rows that pass their gate. L=, T=: a tie, "
            "because its 95% interval overlaps that of the best."
        )
        if not is_wide:
            console.print(f"Left out at {width} characters a line: {', '.join(WIDE_ALONE)}. table.txt has them.")
    return capture.get().rstrip()


def render_missing(missing: Sequence[Missing]) -> str:
    """Return what gave no row: each failure with its reason, and the number of skips for each reason."""
    lines = [f"{one.outcome} {one.case}: {one.error}: {one.reason}" for one in missing if one.outcome != "skipped"]
    reasons = Counter(one.reason for one in missing if one.outcome == "skipped")
    lines += [f"skipped {count}: {reason}" for reason, count in reasons.most_common()]
    return "\n".join(lines)


def _cells(row: Record, standing: Eligibility) -> list[str]:
    evidence = row["evidence"]
    dtype, share = next(iter(evidence["dtype_share_pct"].items()), ("nothing", 0.0))
    scores = [row.get("accuracy", {}).get("top1"), row.get("coco", {}).get("ap")]
    score = next((one["pct"] for one in scores if one is not None), None)
    lost = "" if standing.top1_loss_points is None else f" ({standing.top1_loss_points:+.2f})"
    return [
        row["case"],
        rate(row),
        percentile(row, "p50"),
        percentile(row, "p99"),
        number(row["peak_memory_mib"], 0),
        number(row["compile_s"], 1),
        number(row.get("parity", {}).get("sqnr_db"), 1),
        "" if score is None else f"{score:.2f}{lost}",
        f"{evidence['engine']}, {dtype} {share:.0f}%",
        "; ".join([*(standing.reasons or ["passes"]), *filter(None, [disagreement(row)]), *remarks(row)]),
    ]
