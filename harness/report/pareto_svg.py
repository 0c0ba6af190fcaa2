"""Draws a choice as an SVG: throughput against error, with the Pareto front and the chosen row marked.

matplotlib draws it: it has been maintained for twenty years, needs no browser and no network, and writes an SVG whose
text stays text, so that a case can be searched for in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.report.choice import Eligibility, error_of, fastest, pareto_front, tied
from harness.report.record_rows import Record

WIDTH_INCHES, HEIGHT_INCHES = 9.0, 5.5


def plotted(rows: Sequence[Record], eligible: Mapping[str, Eligibility]) -> dict[str, tuple[float, float]]:
    """Return the error and the images per second of each case whose row has both.

    For the error, less is better; see `choice.error_of`.
    """
    points = {}
    for row in rows:
        error = error_of(row, eligible[row["case"]])
        speed = row.get("throughput", {}).get("images_per_second")
        if error is not None and speed is not None:
            points[row["case"]] = (error, speed)
    return points


def draw(path: Path, groups: Sequence[Sequence[Record]], eligible: Mapping[str, Eligibility]) -> None:
    """Write the picture, with one panel for each group of rows.

    Args:
        path: the SVG file to write.
        groups: groups of rows, each of one model, device and batch size.
        eligible: whether each case may be chosen.
    """
    import matplotlib

    # this asks for no display, and leaves the process's own settings as they are
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES * len(groups)), layout="constrained")
    FigureCanvasSVG(figure)
    for index, rows in enumerate(groups, start=1):
        _panel(figure.add_subplot(len(groups), 1, index), rows, eligible)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "visionmark"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def _panel(axes: Any, rows: Sequence[Record], eligible: Mapping[str, Eligibility]) -> None:
    points = plotted(rows, eligible)
    basis = next((found for row in rows if (found := eligible[row["case"]].basis) != "parity"), None)
    front = pareto_front(points)
    best = fastest(rows, eligible, "throughput")
    ties = [row["case"] for row in tied(rows, eligible, "throughput")]
    of = rows[0]
    axes.set_title(f"{of['model']} on {of['device']}, batch {of['batch']}")
    axes.set_ylabel("images/s")
    # with either label, the least wrong rows are on the left
    axes.set_xlabel(f"{basis} lost against fp32, points" if basis else "SQNR against fp32, dB (less to the right)")
    x_of = {case: error if basis else -error for case, (error, _) in points.items()}
    if front:
        axes.plot(
            [x_of[case] for case in front],
            [points[case][1] for case in front],
            color="tab:red",
            linewidth=1,
            zorder=1,
            label="Pareto front",
            gid="pareto-front",
        )
    for case, (_, speed) in points.items():
        passes = eligible[case].passes
        is_best = best is not None and case == best["case"]
        axes.scatter(
            x_of[case],
            speed,
            marker="*" if is_best else "o",
            s=180 if is_best else 40,
            facecolors=("tab:red" if case in front else "tab:blue") if passes else "none",
            edgecolors="tab:red" if case in front else "tab:blue" if passes else "grey",
            zorder=2,
            gid=f"{'best' if is_best else 'front' if case in front else 'row'}:{case}",
        )
        row = next(row for row in rows if row["case"] == case)
        axes.annotate(
            f"{row['precision']} {row['engine']}" + ("" if passes else " (fails)") + (" (tie)" if case in ties else ""),
            (x_of[case], speed),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=8,
        )
    if not basis:
        axes.invert_xaxis()
    axes.set_ylim(bottom=0)
    axes.margins(x=0.15)
    axes.grid(visible=True, alpha=0.3)
    if front:
        axes.legend(loc="best", fontsize=8)
