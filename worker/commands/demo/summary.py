"""The outcome in words: plain lines for a file, a pipe, or the terminal once the page is gone.

Rule of this file: figures in, lines out.
"""

from __future__ import annotations

from typing import NamedTuple

from worker.commands.demo.motions import RATE_HZ, RECORDINGS
from worker.commands.demo.score import LATENCY_SAMPLES, Scoreboard, Summary, median_of


class Pace(NamedTuple):
    """How fast it is played, and how fast it goes at the moment."""

    watches: int
    speed: float
    elapsed_s: float = 0.0
    sent_per_s: float = 0.0
    answered_per_s: float = 0.0

    @property
    def wanted_per_s(self) -> float:
        """Events per second that are played: this is not the worker's maximum."""
        return self.watches * RATE_HZ * self.speed

    @property
    def words(self) -> str:
        """Where the rate comes from."""
        return f"{self.watches} watches × {RATE_HZ} Hz × {self.speed:g}"


def since_words(step: float | None) -> str:
    """A step, and the seconds of the watch's time that have passed by then."""
    return "—" if step is None else f"step {step:g} ({step / RATE_HZ:.1f} s)"


def share_words(part: int, whole: int) -> str:
    """``39 of 40 (97.5 %)``, or a dash when there is nothing to divide by."""
    return f"{part:,} of {whole:,} ({100 * part / whole:.1f} %)" if whole else "—"


def latency_words(latency_ms: float | None) -> str:
    """Whole milliseconds."""
    return "—" if latency_ms is None else f"{latency_ms:,.0f} ms"


def progress_line(board: Scoreboard, pace: Pace) -> str:
    """One line every few seconds where there is no terminal."""
    summary = board.summary()
    return (
        f"{pace.elapsed_s:5.1f} s  sent {summary.events:,} ({pace.sent_per_s:,.0f}/s)  "
        f"answered {summary.outputs:,} ({pace.answered_per_s:,.0f}/s)  "
        f"behind {board.lag_events:,} events, {latency_words(summary.latency_ms)}  "
        f"right at the end {share_words(summary.right, summary.finished)}"
    )


def verdict(summary: Summary) -> str:
    """Whether each event got exactly one output, in order."""
    if summary.exact:
        return "exactly one output per event, in order"
    faults = [
        (summary.missing, "missing"),
        (summary.surplus, "too many"),
        (summary.disordered, "out of order"),
    ]
    return "NOT one output per event: " + ", ".join(f"{count:,} {words}" for count, words in faults if count)


def summary_lines(summary: Summary, pace: Pace) -> list[str]:
    """The whole outcome, in lines of at most 80 columns up to a hundred million events."""
    rate = summary.outputs / summary.seconds if summary.seconds else 0.0
    early = [f"{step}: {100 * right / asked:.0f} %" for step, (right, asked) in summary.accuracy_at.items() if asked]
    return [
        f"{summary.events:,} events, {summary.outputs:,} outputs: {verdict(summary)}",
        f"{summary.seconds:,.1f} s, {rate:,.0f} events/s (asked for: {pace.words} = {pace.wanted_per_s:,.0f}/s)",
        f"{latency_words(summary.latency_ms)} from event sent to output read (median, latest {LATENCY_SAMPLES:,})",
        f"{summary.finished:,} sequences finished, played from the {RECORDINGS} recordings of the TEST part",
        f"right at the last step: {share_words(summary.right, summary.finished)}",
        f"right, and right from then on, since {since_words(median_of(summary.since))} (median)",
        f"right after step {', '.join(early) or '—'}",
        "",
        f"{'class':<10} {'finished':>8} {'right':>8}  right since (median)",
        *(
            f"{label:<10} {score.finished:>8,} {score.right:>8,}  {since_words(median_of(score.since))}"
            for label, score in summary.classes.items()
        ),
    ]
