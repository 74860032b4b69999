"""Contenders in turns, round by round, so that other work of the machine affects all of them; ratios count."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from worker.commands.bench.measure import Figures


@dataclass(slots=True)
class Rounds:
    """Figures of each contender, one per round."""

    found: dict[str, list[Figures]] = field(default_factory=dict)

    def speeds(self, name: str) -> list[float]:
        """Events per second, round by round."""
        return [figures.events_per_s for figures in self.found[name]]

    def cpu_us(self, name: str) -> float:
        """Median of the processor time per event."""
        return statistics.median(figures.cpu_us for figures in self.found[name])

    def ratios(self, name: str, base: str) -> list[float]:
        """How much faster than ``base``, in the same round."""
        return [a / b for a, b in zip(self.speeds(name), self.speeds(base), strict=True)]

    def as_json(self, name: str, base: str) -> dict[str, list[float]]:
        """Round by round."""
        return {
            "events_per_s": self.speeds(name),
            f"/ {base}": self.ratios(name, base),
            "cpu_us": [figures.cpu_us for figures in self.found[name]],
        }


def measure(runs: Mapping[str, Callable[[], Figures]], rounds: int) -> Rounds:
    """Run all of them in turns; each run is one contender at one job."""
    result = Rounds({name: [] for name in runs})
    for _ in range(rounds):
        for name, run in runs.items():
            result.found[name].append(run())
    return result


def middle(values: Iterable[float], digits: int = 2) -> str:
    """Median and spread, as text."""
    every = sorted(values)
    return f"{statistics.median(every):,.{digits}f} ({every[0]:,.{digits}f}–{every[-1]:,.{digits}f})"
