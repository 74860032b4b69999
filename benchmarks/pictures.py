"""Pictures of the suite as SVG: medians as bars, every round as a dot, the numbers beside them.

Rule: the same figures give the same bytes. A white card, so that they read the same on light and dark pages.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch, Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter

from benchmarks.tables import Row, base_title, ratio

INK, PALE, GRID = "#24292f", "#57606a", "#d8dee4"
BLUE, GREY, ORANGE = "#2f6db5", "#6e7781", "#c2571a"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",  # DejaVu Sans comes with matplotlib: the same layout everywhere
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": PALE,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
PAD_IN = 0.18
ROW_IN, FOOT_IN, PLOT_IN = 0.38, 0.45, 3.6
SPEED_AT, RATIO_AT = 1.36, 1.92  # right edges of the columns of numbers, in widths of the plot
LOG_MARGIN = 1.6
FLAME_IN, LAYER_IN = 10.0, 0.24  # width; height of one call
NARROWEST = 0.0015  # share of the whole below which nothing is drawn
LETTER_PAD_IN = 0.08
LEAST_LETTERS = 3  # of a name that is shortened
STAGE_COLOURS = ("#9ecae1", "#a1d99b", "#fdd49e", "#fc9272", "#bcbddc", "#fa9fb5", "#c7b299", "#ece37f", "#eef0f2")


@contextmanager
def picture(file: Path, figure: Figure) -> Iterator[None]:
    """Whatever is drawn inside is written to ``file``."""
    yield
    figure.savefig(
        file, format="svg", bbox_inches="tight", pad_inches=PAD_IN, facecolor="white", metadata={"Date": None}
    )
    plt.close(figure)


def bars(rows: Sequence[Row], file: Path, *, log: bool = False) -> None:
    """Ratios of contenders to their base, one row each."""
    every = [each for row in rows for each in row.ratios]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(PLOT_IN, FOOT_IN + ROW_IN * len(rows)))
        with picture(file, figure):
            figure.subplots_adjust(0, FOOT_IN / figure.get_figheight(), 1, 1)
            if log:
                axes.set_xscale("log")
                axes.set_xlim(min(every) / LOG_MARGIN, max(every) * LOG_MARGIN)
            else:
                axes.set_xlim(0, 1.05 * max(every))
            for place, row in enumerate(rows):
                _bar(axes, place, row)
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.set_yticks(range(len(rows)), [row.name for row in rows])
            axes.tick_params(axis="y", length=0)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
            axes.set_xlabel(f"events/s relative to: {base_title(rows)}" + ", log scale" * log)
            axes.annotate(
                "bar: median, dot: a round", (0, 1), (0, 4), "axes fraction", textcoords="offset points", color=PALE
            )
            for at, title in ((SPEED_AT, "events/s"), (RATIO_AT, "ratio (lowest–highest)")):
                axes.annotate(
                    title, (at, 1), (0, 4), "axes fraction", textcoords="offset points", ha="right", color=PALE
                )


def _bar(axes: Any, place: int, row: Row) -> None:
    colour = GREY if row.name == row.base else BLUE
    middle = statistics.median(row.ratios)
    axes.barh(place, middle, 0.62, color=colour, alpha=0.35, linewidth=0, zorder=2)
    axes.vlines(middle, place - 0.31, place + 0.31, color=colour, linewidth=2, zorder=3)
    axes.scatter(row.ratios, [place] * len(row.ratios), 13, color=colour, edgecolor="white", linewidth=0.5, zorder=4)
    across = axes.get_yaxis_transform()
    speed = f"{statistics.median(row.speeds):,.0f}"
    axes.text(SPEED_AT, place, speed, transform=across, ha="right", va="center_baseline")
    ratios = "1" if row.name == row.base else ratio(row.ratios)
    axes.text(RATIO_AT, place, ratios, transform=across, ha="right", va="center_baseline")


@dataclass(frozen=True, slots=True)
class Box:
    """One call in an icicle: ``left`` and ``width`` as shares of the whole, ``depth`` 0 at the top."""

    depth: int
    left: float
    width: float
    name: str
    module: str
    stage: str


def icicle(boxes: Sequence[Box], shares: Mapping[str, float], file: Path) -> None:
    """Calls below their callers, as wide as their share of the time, coloured by stage; ``shares`` of each stage."""
    colours = dict(zip(shares, STAGE_COLOURS, strict=True))
    drawn = [box for box in boxes if box.width >= NARROWEST]
    layers = 1 + max(box.depth for box in drawn)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(FLAME_IN, LAYER_IN * layers))
        with picture(file, figure):
            figure.subplots_adjust(0, 0, 1, 1)
            axes.set(xlim=(0, 1), ylim=(layers, 0))
            axes.axis("off")
            for box in drawn:
                across: dict[str, Any] = {"facecolor": colours[box.stage], "edgecolor": "white", "linewidth": 0.6}
                axes.add_patch(Rectangle((box.left, box.depth), box.width, 1, **across))
                if text := _fitting(box):
                    axes.text(box.left + LETTER_PAD_IN / 2 / FLAME_IN, box.depth + 0.5, text, va="center", fontsize=9)
            handles = [Patch(color=colours[name], label=f"{name} {100 * part:.0f} %") for name, part in shares.items()]
            axes.legend(
                handles=handles,
                loc="upper left", bbox_to_anchor=(0, -0.1 / layers), ncols=5, frameon=False, borderpad=0,
                handlelength=1, columnspacing=1.4,
            )  # fmt: skip


def _fitting(box: Box) -> str:
    """As much of the name as fits."""
    font = FontProperties()
    shortened = [f"{box.name[:end]}…" for end in range(len(box.name) - 1, LEAST_LETTERS - 1, -1)]
    for text in (f"{box.name} · {box.module}", box.name, *shortened):
        inches = TextPath((0, 0), text, size=9, prop=font).get_extents().width / 72
        if inches + LETTER_PAD_IN <= box.width * FLAME_IN:
            return text
    return ""
