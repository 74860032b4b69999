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
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter

from bench.tables import PERCENTILES, Latency, Row, base_title, rates_of, ratio

INK, PALE, GRID = "#24292f", "#57606a", "#d8dee4"
BLUE, GREY, ORANGE = "#2f6db5", "#6e7781", "#c2571a"
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "bench",
    "font.family": "sans-serif",  # comes with matplotlib: the same everywhere
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
LATENCY_IN = (8.2, 2.9)  # one client
FLAME_IN, LAYER_IN = 10.0, 0.24  # width; height of one call
NARROWEST = 0.0015  # of the whole: what is not drawn
LETTER_PAD_IN = 0.08
LEAST_LETTERS = 3  # of a name that is shortened
STAGE_COLOURS = ("#9ecae1", "#a1d99b", "#fdd49e", "#fc9272", "#bcbddc", "#fa9fb5", "#c7b299", "#ece37f", "#eef0f2")
PLACES = (-0.26, 0.0, 0.26)  # of hop and deliveries about their rate
LABEL_GAP = 0.065  # between two labels one above the other, as a part of the axis


@contextmanager
def _picture(file: Path, figure: Figure) -> Iterator[None]:
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
        with _picture(file, figure):
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


def latency(found: Sequence[Latency], file: Path) -> None:
    """Percentiles over the rate, one panel per client; one hop beside the deliveries."""
    clients = list(dict.fromkeys(one.client for one in found))
    rates = rates_of(found)
    width, height = LATENCY_IN
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(clients), 1, figsize=(width, height * len(clients)), sharex=True, sharey=True, squeeze=False
        )
        with _picture(file, figure):
            figure.subplots_adjust(0.1, 0.1, 0.98, 0.95, hspace=0.28)
            panels[0][0].set_yscale("log")
            for axes, client in zip(panels[:, 0], clients, strict=True):
                axes.set_title(client, loc="left", fontsize=10.5, color=INK)
                axes.grid(axis="y", color=GRID, linewidth=0.6)
                axes.set_axisbelow(True)
                axes.set_ylabel("latency, ms (log scale)")
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.set_xticks(range(len(rates)), [f"{rate:,} events/s" for rate in rates])
                axes.tick_params(axis="x", length=0)
                axes.set_xlim(-0.5, len(rates) - 0.38)
            every = [value for one in found for at in one.ms.values() for values in at.values() for value in values]
            panels[0][0].set_ylim(min(every) / LOG_MARGIN, max(every) * LOG_MARGIN)
            for axes, client in zip(panels[:, 0], clients, strict=True):
                _panel(axes, [one for one in found if one.client == client], rates)
            _legend(panels[0][0])


def _panel(axes: Any, found: Sequence[Latency], rates: Sequence[int]) -> None:
    for one, offset, colour in zip(found, PLACES, (GREY, BLUE, ORANGE), strict=False):
        for place, rate in enumerate(rates):
            if rate in one.ms:
                _range(axes, place + offset, [one.ms[rate][p] for p in PERCENTILES], colour)
        name = one.name.partition(",")[0] if one.name.startswith("one hop") else one.name.rpartition(", ")[2]
        highest = max(one.ms[rates[0]][PERCENTILES[-1]]) if rates[0] in one.ms else 1.0
        axes.annotate(
            name, (offset, highest), (0, 7), textcoords="offset points", ha="center", va="bottom", color=colour
        )


def _range(axes: Any, x: float, percentiles: Sequence[Sequence[float]], colour: str) -> None:
    """From p50 to p99.9 as a line; rounds as dots, medians as marks with their numbers to the right."""
    middles = [statistics.median(values) for values in percentiles]
    axes.vlines(x, middles[0], middles[-1], color=colour, linewidth=1, alpha=0.6, zorder=2)
    lowest = 0.0
    to_axes, back = axes.transData + axes.transAxes.inverted(), axes.transAxes + axes.transData.inverted()
    for middle, values, mark in zip(middles, percentiles, MARKS, strict=True):
        axes.scatter([x] * len(values), values, 7, color=colour, alpha=0.5, linewidth=0, zorder=3)
        axes.plot([x], [middle], mark, color=colour, markersize=6, markerfacecolor=FILLS[mark] or colour, zorder=4)
        across, up = to_axes.transform((x, middle))
        lowest = max(up, lowest + LABEL_GAP)
        at = back.transform((across, lowest))[1]
        axes.annotate(f"{middle:,.1f}", (x, at), (6, 0), textcoords="offset points", va="center", fontsize=9)


MARKS = ("o", "D", "^")  # p50, p99, p99.9
FILLS = {"o": "", "D": "white", "^": "white"}


def _legend(axes: Any) -> None:
    marks = [
        Line2D(
            [],
            [],
            linewidth=0,
            marker=mark,
            color=PALE,
            markersize=6,
            markerfacecolor=FILLS[mark] or PALE,
            label=f"p{float(p):g}",
        )
        for mark, p in zip(MARKS, PERCENTILES, strict=True)
    ]
    marks.append(
        Line2D(
            [], [], linewidth=0, marker="o", color=PALE, markersize=3, markeredgewidth=0, alpha=0.6, label="each round"
        )
    )
    axes.legend(
        handles=marks,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=4,
        handletextpad=0,
        columnspacing=1.2,
        frameon=False,
        borderpad=0,
    )


@dataclass(frozen=True, slots=True)
class Box:
    """One call in an icicle: ``left`` and ``width`` as parts of the whole, ``depth`` 0 at the top."""

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
        with _picture(file, figure):
            figure.subplots_adjust(0, 0, 1, 1)
            axes.set(xlim=(0, 1), ylim=(layers, 0))
            axes.axis("off")
            for box in drawn:
                across = {"facecolor": colours[box.stage], "edgecolor": "white", "linewidth": 0.6}
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
    """As much of its name as there is room for."""
    font = FontProperties()
    shortened = [f"{box.name[:end]}…" for end in range(len(box.name) - 1, LEAST_LETTERS - 1, -1)]
    for text in (f"{box.name} · {box.module}", box.name, *shortened):
        inches = TextPath((0, 0), text, size=9, prop=font).get_extents().width / 72
        if inches + LETTER_PAD_IN <= box.width * FLAME_IN:
            return text
    return ""
