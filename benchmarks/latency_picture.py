"""Latency as a picture: percentiles by rate, one panel per client; one hop beside null pipelines and workers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from benchmarks.pictures import BLUE, GREY, GRID, INK, LOG_MARGIN, ORANGE, PALE, STYLE, picture
from benchmarks.tables import PERCENTILES, Latency, rates_of

COLOURS = {"at_least_once": BLUE, "exactly_once": ORANGE}  # grey: no delivery
MARKS = (("o", PALE), ("D", "white"), ("^", "white"))  # p50, p99, p99.9
WAY_IN, EDGES_IN, PANEL_IN = 0.6, 1.0, 2.7  # width of one way at one rate, and of the margins; height of a panel
RATE_GAP = 0.7  # between two rates, in ways
BELOW_PT = (-4, -19)  # names of ways, rates
LABEL_GAP = 0.065  # between two labels, one above the other, as a share of the axis


def ranges(found: Sequence[Latency], file: Path) -> None:
    """A line from p50 to p99.9 for each way at each rate."""
    clients = {one.client: [each for each in found if each.client == one.client] for one in found}
    rates, ways = rates_of(found), max(map(len, clients.values()))
    every = [value for one in found for at in one.ms.values() for values in at.values() for value in values]
    across = len(rates) * (ways + RATE_GAP)
    size = (EDGES_IN + WAY_IN * across, PANEL_IN * len(clients))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(len(clients), 1, figsize=size, squeeze=False)
        with picture(file, figure):
            figure.subplots_adjust(0.08, 0.1, 0.99, 0.95, hspace=0.42)
            for axes, (client, own) in zip(panels[:, 0], clients.items(), strict=True):
                axes.set_yscale("log")
                axes.set(xlim=(-0.5 - RATE_GAP / 2, across - 0.5 - RATE_GAP / 2), xticks=[])
                axes.set_ylim(min(every) / LOG_MARGIN, max(every) * LOG_MARGIN)
                axes.set_title(client, loc="left", fontsize=10.5, color=INK)
                axes.grid(axis="y", color=GRID, linewidth=0.6)
                axes.set_axisbelow(True)
                axes.set_ylabel("latency, ms (log scale)")
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                for place, rate in enumerate(rates):
                    _rate(axes, place * (ways + RATE_GAP), rate, own)
            _legend(panels[0][0], [name for name in COLOURS if any(name in one.name for one in found)])


def _rate(axes: Any, left: float, rate: int, found: Sequence[Latency]) -> None:
    _below(axes, left + (len(found) - 1) / 2, f"{rate:,} events/s", BELOW_PT[1], INK)
    for place, one in enumerate(found):
        if rate in one.ms:
            colour = COLOURS.get(one.name.rpartition(", ")[2], GREY)
            _below(axes, left + place, one.name.partition(", ")[0].removeprefix("one "), BELOW_PT[0], colour)
            _range(axes, left + place, [one.ms[rate][p] for p in PERCENTILES], colour)


def _below(axes: Any, x: float, text: str, points: int, colour: str) -> None:
    place = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
    axes.annotate(text, (x, 0), (0, points), ha="center", va="top", color=colour, **place)


def _range(axes: Any, x: float, percentiles: Sequence[Sequence[float]], colour: str) -> None:
    """Rounds as dots, medians as marks with their numbers on the right."""
    middles = [statistics.median(values) for values in percentiles]
    axes.vlines(x, middles[0], middles[-1], color=colour, linewidth=1, alpha=0.6, zorder=2)
    lowest = 0.0
    to_axes, back = axes.transData + axes.transAxes.inverted(), axes.transAxes + axes.transData.inverted()
    for middle, values, (mark, fill) in zip(middles, percentiles, MARKS, strict=True):
        inside = colour if fill == PALE else fill
        axes.scatter([x] * len(values), values, 7, color=colour, alpha=0.5, linewidth=0, zorder=3)
        axes.plot([x], [middle], mark, color=colour, markersize=6, markerfacecolor=inside, zorder=4)
        across, up = to_axes.transform((x, middle))
        lowest = max(up, lowest + LABEL_GAP)
        at = back.transform((across, lowest))[1]
        axes.annotate(f"{middle:,.1f}", (x, at), (6, 0), textcoords="offset points", va="center", fontsize=9)


def _legend(axes: Any, deliveries: Sequence[str]) -> None:
    lines = [Line2D([], [], color=COLOURS[name], linewidth=2.5, label=name) for name in deliveries]
    marks = [
        Line2D([], [], linewidth=0, marker=mark, color=PALE, markerfacecolor=fill, label=f"p{float(p):g}")
        for (mark, fill), p in zip(MARKS, PERCENTILES, strict=True)
    ]
    small: dict[str, Any] = {"markersize": 3, "markeredgewidth": 0, "alpha": 0.6}
    dots = Line2D([], [], linewidth=0, marker="o", color=PALE, label="each round", **small)
    handles = [*lines, *marks, dots]
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(handles), frameon=False, borderpad=0,
        columnspacing=1.2, handlelength=1.2, handletextpad=0.4,
    )  # fmt: skip
