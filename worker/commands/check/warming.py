"""What ``worker check`` says of ``state.warm``: how long a start with it takes."""

from __future__ import annotations

from collections.abc import Sequence

from worker.commands.check.capacity import StepTime
from worker.config.sections import Config

RATE = 1000  # events a second that a worker is taken to get: theirs follows from it


def told_warming(config: Config, step_times: Sequence[StepTime]) -> str | None:
    """One line; None without ``state.warm``. ``step_times``: empty for tasks that write texts."""
    warm = config.state.warm
    if warm is None:
        return None
    begin = f"state.warm: {warm} of each partition's log are replayed before it is answered: "
    if not step_times:
        return f"{begin}it takes as long as writing the texts of these records did"
    fastest = max(step.events_per_second for step in step_times)
    if warm.time is None:
        assert warm.events is not None, warm
        return f"{begin}at least {_seconds(warm.events / fastest)} for each partition (the model alone, here)"
    return (
        f"{begin}at least {_seconds(warm.time.ms / 1000 * RATE / fastest)} for every {RATE:,} events/s that the worker "
        "gets (the model alone, here)"
    )


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"
